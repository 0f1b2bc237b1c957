"""Poses of photos by structure from motion (COLMAP through pycolmap), with settings for two to twenty photos."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, List, Literal, Optional, Sequence, Tuple

from fewshot_ns.data.capture.colmap_worker import STEP
from fewshot_ns.data.capture.photos import Photo
from fewshot_ns.data.capture.poses import CapturedPoses, copy_model, read_colmap_poses
from fewshot_ns.utils.files import replacing_folder, write_json
from fewshot_ns.utils.hashing import digest, file_hash
from fewshot_ns.utils.json_files import LIST, OBJECT, SWITCH, TEXT, checked, read_json_object
from fewshot_ns.utils.processes import CommandError

CameraModel = Literal["auto", "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"]
LENS_MIN_PHOTOS = 6
"""Photos from which the lens's distortion can be told from the scene's shape."""
FOCAL_MIN_PHOTOS = 4
"""Photos from which the focal length of EXIF is refined; three fit many focal lengths equally well."""
UNKNOWN_FOCAL = 1.2
"""Focal length in longer sides of the photo where EXIF says none, COLMAP's own guess; of a phone it is .7 to .8."""
DRAWS = 3
"""How often each kind of settings is tried while photos are left over."""
DATABASE = "database.db"
MATCHED = "matched.txt"
KEPT = "registered"
"""Folder of finished registrations, each in a folder named after its key."""
RECORD = "registration.json"
_ENTRIES = {
    **dict.fromkeys(("attempt", "version"), TEXT),
    "features": OBJECT,
    **dict.fromkeys(("pairs", "flat"), LIST),
    "refined_focal": SWITCH,
}
"""What the record holds."""
_VERSION = 1
"""Part of the keys; a change of what is kept, or of how photos are registered, makes others."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Matching:
    """How hard COLMAP tries."""

    name: str
    peak_threshold: float
    guided: bool
    min_inliers: int
    init_inliers: int
    init_angle: float


ATTEMPTS = (
    Matching("usual", 0.0067, False, 15, 30, 16.0),
    Matching("usual, small baseline", 0.0067, False, 15, 30, 4.0),
    Matching("faint features, guided", 0.002, True, 12, 20, 4.0),
)
"""From strict to permissive; the next one is tried where photos are left over."""


@dataclass(frozen=True)
class Registration:
    """What structure from motion gave."""

    poses: Optional[CapturedPoses]
    """Cameras of the photos that were registered; None where no two were."""
    model: Optional[Path]
    """Folder of the COLMAP model."""
    attempt: str
    """Name of the settings that it was found by."""
    features: Dict[str, int]
    """Features of each photo."""
    pairs: Tuple[Tuple[str, str, int], ...]
    """Verified matches of each pair of photos."""
    refined_focal: bool
    """Whether the focal length was fitted to the photos."""
    version: str
    """pycolmap's."""
    flat: FrozenSet[Tuple[str, str]] = frozenset()
    """Pairs of photos whose matches one homography explains: they were taken from one place, or show one plane."""


def register_photos(
    photos: Sequence[Photo],
    images: Path,
    work: Path,
    camera_model: CameraModel = "auto",
    threads: int = 1,
    seed: int = 0,
    say: Optional[Say] = None,
    force: bool = False,
) -> Registration:
    """Finds the poses of photos, or gives those that an earlier call has found for the same photos and settings.

    COLMAP draws at random and in parallel: a second call would find slightly other poses.

    Args:
        photos: Two or more.
        images: Folder that they are in.
        work: Folder for the database and the models, which stay.
        camera_model: COLMAP's; auto: SIMPLE_RADIAL from six photos of a camera on, else SIMPLE_PINHOLE.
        threads: CPU threads.
        seed: Of RANSAC.
        say: Told what is being done.
        force: Whether everything is done anew.

    Raises:
        ValueError: fewer than two photos, or pycolmap is not installed.
        CommandError: COLMAP itself failed.
    """
    if len(photos) < 2:
        raise ValueError(f"{images}: expected at least two different photos, found {len(photos)}")
    say = say or (lambda text: None)
    content = digest(*(part for photo in photos for part in (photo.name, file_hash(images / photo.name))))
    key = digest(_VERSION, content, json.dumps(camera_groups(photos, camera_model)), ATTEMPTS, DRAWS, seed)
    kept = work / KEPT / key
    earlier = None if force else _read_kept(kept)
    if earlier is not None:
        say("poses: found before")
        return earlier
    if importlib.util.find_spec("pycolmap") is None:
        raise ValueError(
            "finding poses needs pycolmap, which is not installed: pip install 'fewshot-ns[photos]', or give poses by "
            "--poses (a COLMAP model, or an .npz with extrinsics and intrinsics)"
        )
    if force and work.is_dir():
        for folder in work.iterdir():
            if folder.name != KEPT:
                shutil.rmtree(folder)
    best: Optional[Registration] = None
    # With few photos much hangs on the pair that is placed first, which is drawn.
    for attempt, draw in product(ATTEMPTS, range(DRAWS)):
        found = _attempt(attempt, photos, images, work, camera_model, threads, seed + draw, say, content)
        if best is None or _count(found) > _count(best):
            best = found
        if _count(best) == len(photos):
            break
    assert best is not None
    return _keep(best, kept)


def _keep(found: Registration, folder: Path) -> Registration:
    """Writes what was found for later calls; what found no poses has nothing to lose and may try again."""
    if found.model is None:
        return found
    with replacing_folder(folder) as new:
        copy_model(found.model, new / "model")
        record = {
            "attempt": found.attempt,
            "features": found.features,
            "pairs": [list(pair) for pair in found.pairs],
            "flat": sorted(list(pair) for pair in found.flat),
            "refined_focal": found.refined_focal,
            "version": found.version,
        }
        write_json(new / RECORD, record)
    return replace(found, model=folder / "model")


def _read_kept(folder: Path) -> Optional[Registration]:
    """What an earlier call has found; None where there is nothing, or it is damaged."""
    try:
        record = checked(read_json_object(folder / RECORD), _ENTRIES, RECORD, tuple(_ENTRIES))
        return Registration(
            poses=read_colmap_poses(folder / "model"),
            model=folder / "model",
            attempt=record["attempt"],
            features=record["features"],
            pairs=tuple((first, second, int(count)) for first, second, count in record["pairs"]),
            refined_focal=record["refined_focal"],
            version=record["version"],
            flat=frozenset((first, second) for first, second in record["flat"]),
        )
    except (OSError, ValueError, TypeError, OverflowError):
        return None


def _count(found: Registration) -> int:
    return 0 if found.poses is None else len(found.poses.names)


def camera_groups(photos: Sequence[Photo], camera_model: CameraModel) -> List[Dict[str, Any]]:
    """COLMAP's cameras: names, model and first parameters of the photos that share intrinsics."""
    groups: Dict[str, List[Photo]] = {}
    for photo in photos:
        groups.setdefault(photo.camera, []).append(photo)
    result = []
    for members in groups.values():
        model = camera_model
        if model == "auto":
            model = "SIMPLE_RADIAL" if len(members) >= LENS_MIN_PHOTOS else "SIMPLE_PINHOLE"
        first = members[0]
        focal = first.focal or UNKNOWN_FOCAL * max(first.height, first.width)
        focals = [focal, focal] if model in ("PINHOLE", "OPENCV") else [focal]
        zeros = {"SIMPLE_RADIAL": 1, "RADIAL": 2, "OPENCV": 4}.get(model, 0)
        values = [*focals, first.width / 2, first.height / 2, *([0.0] * zeros)]
        names = [photo.name for photo in members]
        result.append({"names": names, "model": model, "params": ",".join(f"{value:.6f}" for value in values)})
    return result


def _attempt(
    attempt: Matching,
    photos: Sequence[Photo],
    images: Path,
    work: Path,
    camera_model: CameraModel,
    threads: int,
    seed: int,
    say: Say,
    content: str,
) -> Registration:
    groups = camera_groups(photos, camera_model)
    known = all(photo.focal is not None for photo in photos)
    refine = len(photos) >= FOCAL_MIN_PHOTOS or (len(photos) > 2 and not known)
    # Matches do not depend on how photos are registered.
    key = digest(content, json.dumps(groups), str(replace(attempt, name="", init_angle=0, init_inliers=0)))
    folder = work / key
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / MATCHED
    # One for each draw: the best of them is read again when all are done.
    output = folder / f"sparse-{attempt.init_angle:g}-{seed}"
    shutil.rmtree(output, ignore_errors=True)
    answer = run_worker(
        {
            "kind": "register",
            "database": str(folder / DATABASE),
            "images": str(images),
            "output": str(output),
            "groups": groups,
            "matched": note.is_file() and note.read_text("utf8") == key,
            "matched_note": str(note),
            "key": key,
            "seed": seed,
            "threads": threads,
            "max_side": max(max(photo.height, photo.width) for photo in photos),
            "refine_focal": refine,
            "refine_distortion": any(group["model"] not in ("SIMPLE_PINHOLE", "PINHOLE") for group in groups),
            **{name: value for name, value in vars(attempt).items() if name != "name"},
        },
        say,
    )
    models = [Path(entry) for entry in answer["models"]]
    read = [(read_colmap_poses(model), model) for model in models]
    poses, model = max(read, key=lambda entry: (len(entry[0].names), len(entry[0].points)), default=(None, None))
    pairs = tuple((*pair["photos"], int(pair["matches"])) for pair in answer["pairs"])
    flat = frozenset((first, second) for first, second in (pair["photos"] for pair in answer["pairs"] if pair["flat"]))
    return Registration(poses, model, attempt.name, answer["features"], pairs, refine, answer["version"], flat)


def run_worker(job: Dict[str, Any], say: Say) -> Dict[str, Any]:
    """Runs a job of `colmap_worker` and gives its answer.

    Raises:
        CommandError: it failed; the message ends with what COLMAP said last.
    """
    with tempfile.TemporaryDirectory() as folder:
        job_file, answer = Path(folder) / "job.json", Path(folder) / "answer.json"
        job_file.write_text(json.dumps({**job, "answer": str(answer)}), "utf8")
        command = [sys.executable, "-m", "fewshot_ns.data.capture.colmap_worker", str(job_file)]
        last: List[str] = []
        # Nothing is written to its input, whose end tells it that this process has ended.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith(STEP):
                        say(line[len(STEP) :].strip())
                    elif line.strip():
                        last = [*last[-7:], line.rstrip()]
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0 or not answer.is_file():
            raise CommandError(f"COLMAP ended with status {process.returncode}:\n" + "\n".join(last))
        return json.loads(answer.read_text("utf8"))
