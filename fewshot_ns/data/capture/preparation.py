"""From photos or a video to a scene with poses, in stages whose results are kept."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from fewshot_ns.data.capture.photos import Photo, gather_photos, warnings_of
from fewshot_ns.data.capture.poses import (
    DEPTH_ANYTHING_3,
    CapturedPoses,
    copy_model,
    depth_anything_3_poses,
    model_folder,
    read_colmap_poses,
    read_poses,
)
from fewshot_ns.data.capture.registration import CameraModel, Registration, Say, register_photos, run_worker
from fewshot_ns.data.capture.scene import IMAGES, TRANSFORMS, write_scene
from fewshot_ns.data.capture.trust import TOO_FEW_POINTS, WHAT_TO_DO, Trust, count_of, judge, why_left_out
from fewshot_ns.utils.files import replacing_folder, write_json
from fewshot_ns.utils.json_files import read_json_object

WORK = "prepare"
"""Folder in the scene of what a later call uses again: upright photos, COLMAP's database and models."""
REPORT = "prepare.json"
MODEL = "sparse/0"
SOURCE = "source"
"""Key of the report that names the folder of photos, or the video."""


@dataclass(frozen=True)
class PrepareOptions:
    """How a scene is made."""

    poses: Optional[str] = None
    max_side: int = 1600
    frames: int = 8
    camera_model: CameraModel = "auto"
    hold_out: int = 0
    threads: int = 1
    device: str = "cpu"
    seed: int = 0
    force: bool = False
    """Whether poses are found anew, and the scene of another capture is replaced."""


@dataclass(frozen=True)
class Prepared:
    """A scene, and how it came to be."""

    scene: Path
    photos: Tuple[Photo, ...]
    poses: CapturedPoses
    trust: Trust
    left_out: Dict[str, str]
    """Why photos have no pose, by name."""
    warnings: Tuple[str, ...]
    focal: str
    """Where the focal length comes from."""


def prepare_scene(
    source: Path,
    scene: Path,
    options: PrepareOptions,
    say: Say = lambda text: None,
    progress: Optional[Callable[[int, int], None]] = None,
) -> Prepared:
    """Makes a scene of photos.

    Args:
        source: A folder of photos or a video.
        scene: Folder to write; what an earlier call has finished there is used again. It stays as it was where this
            call fails.
        options: How.
        say: Told which stage begins.
        progress: Told how many photos are read, (done, total).

    Raises:
        FileNotFoundError: no photos.
        ValueError: photos that cannot be read, or fewer than two with poses, or next to no points; the message says why
            and what to do. Or the folder holds another scene.
        CommandError: COLMAP failed.
    """
    if (scene / TRANSFORMS).exists() and not (scene / REPORT).exists():
        raise ValueError(
            f"{scene}: expected an empty folder or a scene of this command (--output), found another scene"
        )
    if not options.force:
        check_capture(source, scene)
    work = scene / WORK
    say("reading photos")
    photos = gather_photos(source, work / "photos", options.max_side, options.frames, progress)
    images = work / "photos"
    if len(photos) < 2:
        raise ValueError(f"{source}: expected at least two different photos, found {len(photos)}. {WHAT_TO_DO}")
    registration: Optional[Registration] = None
    model: Optional[Path] = None
    if options.poses is None:
        registration = register_photos(
            photos, images, work / "colmap", options.camera_model, options.threads, options.seed, say, options.force
        )
        poses, model = registration.poses, registration.model
    else:
        say(f"reading poses of {options.poses}")
        poses, model = _given_poses(options, photos, images)
    features = registration.features if registration else {}
    pairs = registration.pairs if registration else ()
    names = () if poses is None else poses.names
    left_out = why_left_out(photos, names, features, pairs) if registration else _without_pose(photos, names)
    if poses is None or len(names) < 2:
        raise ValueError(_no_poses(source, left_out))
    if registration is not None and len(poses.points) < TOO_FEW_POINTS:
        found = f"{len(names)} photos have poses, but share only {count_of(len(poses.points), 'point')}"
        raise ValueError(_no_poses(source, left_out, found))
    if model is not None:
        poses, images, model = _straightened(poses, model, images, work / "straight", say)
    guessed = registration is not None and not registration.refined_focal and any(one.focal is None for one in photos)
    trust = judge(poses, pairs, len(left_out), guessed, registration.flat if registration else frozenset())
    say("writing the scene")
    held_out = names[:: max(1, len(names) // options.hold_out)][: options.hold_out] if options.hold_out else ()
    if options.hold_out and len(names) - len(held_out) < 2:
        raise ValueError(f"--hold-out {options.hold_out}: expected two photos to train on, {len(names)} have poses")
    # The old scene is none from here on, and its report would speak of another one.
    (scene / TRANSFORMS).unlink(missing_ok=True)
    if model is not None:
        with replacing_folder(scene / MODEL) as folder:
            copy_model(model, folder)
    focal = _focal_source(photos, registration)
    prepared = Prepared(scene, photos, poses, trust, left_out, warnings_of(photos, features), focal)
    write_json(scene / REPORT, {**report_of(prepared, registration), SOURCE: str(source.resolve())})
    write_scene(poses, images, scene, held_out)
    return prepared


def check_capture(source: Path, scene: Path) -> None:
    """Makes sure that a scene is of these photos, or not there yet.

    Raises:
        ValueError: it is of others; the message names both.
    """
    other = captured_from(scene)
    if other is not None and other != source.resolve():
        raise ValueError(
            f"{scene}: expected a scene of {source.resolve()} or an empty folder, found one of {other}; give another "
            "folder (--output of prepare, --output-dir of photos), or --force to replace it"
        )


def captured_from(scene: Path) -> Optional[Path]:
    """Folder or video that a scene was made of; None where there is no scene, or its report does not say."""
    try:
        report = read_json_object(scene / REPORT)
        if SOURCE in report:
            return Path(report[SOURCE])
        # Of earlier versions: the folder of the photos; of a frame it may be either that was given.
        folders = {Path(photo["source"]).resolve().parent for photo in report["photos"] if photo["time"] is None}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return next((folder for folder in folders if len(folders) == 1 and folder.is_dir()), None)


def report_of(prepared: Prepared, registration: Optional[Registration]) -> Dict[str, Any]:
    """What a scene came from and how far it can be trusted, for prepare.json."""
    report: Dict[str, Any] = {
        "photos": [asdict(photo) for photo in prepared.photos],
        "poses": prepared.poses.source,
        "registered": list(prepared.poses.names),
        "left_out": prepared.left_out,
        "warnings": list(prepared.warnings),
        "focal": prepared.focal,
        "trust": prepared.trust.as_json(),
    }
    if registration is not None:
        report["colmap"] = {
            "pycolmap": registration.version,
            "settings": registration.attempt,
            "features": registration.features,
            "matches": [list(pair) for pair in registration.pairs],
        }
    return report


def _given_poses(
    options: PrepareOptions, photos: Sequence[Photo], images: Path
) -> Tuple[CapturedPoses, Optional[Path]]:
    names = [photo.name for photo in photos]
    sizes = [(photo.height, photo.width) for photo in photos]
    assert options.poses is not None
    if options.poses == DEPTH_ANYTHING_3:
        return depth_anything_3_poses([images / name for name in names], names, sizes, options.device), None
    path = Path(options.poses)
    taken = [(photo.full_height or photo.height, photo.full_width or photo.width) for photo in photos]
    poses = read_poses(path, names, sizes, taken)
    return _as_gathered(poses, photos, path), model_folder(path) if path.is_dir() else None


def _as_gathered(poses: CapturedPoses, photos: Sequence[Photo], path: Path) -> CapturedPoses:
    """The cameras by the names and at the sizes of the photos as they were written."""
    by_name = {Path(photo.source).name: photo for photo in photos} | {photo.name: photo for photo in photos}
    strangers = [name for name in poses.names if Path(name).name not in by_name]
    if strangers:
        known = sorted(by_name)
        raise ValueError(f"{path}: expected poses of the photos {known}, found {strangers} that are not among them")
    members = [by_name[Path(name).name] for name in poses.names]
    if poses.distorted and any(
        (photo.height, photo.width) != tuple(size) for photo, size in zip(members, poses.sizes, strict=True)
    ):
        raise ValueError(
            f"{path}: expected photos of the size of the model, {poses.sizes[0, 1]}x{poses.sizes[0, 0]}, "
            f"found {members[0].width}x{members[0].height}; a lens is straightened at that size alone (--max-side)"
        )
    intrinsics, observations = poses.intrinsics.copy(), []
    for index, (photo, (height, width)) in enumerate(zip(members, poses.sizes, strict=True)):
        across, down = photo.width / width, photo.height / height
        if abs(across / down - 1) > 0.02:
            raise ValueError(
                f"{path}: expected {photo.name} at {photo.width}x{photo.height} or a multiple, found {width}x{height}"
            )
        intrinsics[index] *= [across, down, across, down]
        if poses.observations:
            numbers, seen = poses.observations[index]
            observations.append((numbers, seen * [across, down]))
    return replace(
        poses,
        names=tuple(photo.name for photo in members),
        sizes=_sizes(members),
        intrinsics=intrinsics,
        observations=tuple(observations),
    )


def _sizes(photos: Sequence[Photo]) -> Any:
    import numpy as np

    return np.array([(photo.height, photo.width) for photo in photos], dtype=np.int64)


def _straightened(
    poses: CapturedPoses, model: Path, images: Path, output: Path, say: Say
) -> Tuple[CapturedPoses, Path, Optional[Path]]:
    """Pinhole cameras and their photos, made by COLMAP where the lens bends; as they are where it does not."""
    if not poses.distorted:
        return poses, images, model
    shutil.rmtree(output, ignore_errors=True)
    run_worker({"kind": "undistort", "output": str(output), "model": str(model), "images": str(images)}, say)
    straight = output / "sparse"
    return read_colmap_poses(straight), output / IMAGES, straight


def _without_pose(photos: Sequence[Photo], names: Sequence[str]) -> Dict[str, str]:
    return {photo.name: "the given poses do not name it" for photo in photos if photo.name not in names}


def _focal_source(photos: Sequence[Photo], registration: Optional[Registration]) -> str:
    tags = sorted({photo.focal_source for photo in photos})
    stated = "EXIF (" + ", ".join(tag for tag in tags if tag) + ")" if any(tags) else "a guess, EXIF says none"
    if registration is None:
        return "the given poses"
    return f"{stated}, refined by the photos" if registration.refined_focal else stated


def _no_poses(source: Path, left_out: Dict[str, str], found: str = "no two photos could be placed in one space") -> str:
    lines: List[str] = [f"  {name}: {reason}" for name, reason in left_out.items()]
    return "\n".join([f"{source}: {found}; there is nothing to train on.", *lines, WHAT_TO_DO])
