"""The camera path of a transforms.json, brought into the world of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fewshot_ns.data.files.transforms_camera import StatedCamera

RECORD_NAME = "dataparser_transforms.json"
"""File that nerfstudio writes into the folder of a run."""


@dataclass(frozen=True)
class Optics:
    """Size and focal length of one frame."""

    width: float
    """Pixels."""
    height: float
    """Pixels."""
    focal: float
    """Focal length down the image, pixels."""
    aspect: float
    """That across the image, as a multiple of it."""
    off_centre: float
    """How far the principal point is off the middle, pixels."""


def path_of_transforms(
    file: Path, run: Path, fps: float, width: Optional[int] = None, height: Optional[int] = None
) -> Tuple[Dict[str, Any], List[str]]:
    """The frames of a file in its order, as the dictionary that `ns-render camera-path` reads.

    Args:
        file: transforms.json; its `applied_transform` and `applied_scale` are undone, as the run's transform expects.
        run: config.yml of the run.
        fps: frames per second.
        width: of the video in pixels; None: as the file's images, or after `height`.
        height: of the video in pixels; None: as the file's images, or after `width`.

    Returns:
        The path, and in words what of the cameras a camera path cannot hold.

    Raises:
        FileNotFoundError: no such file, or the run's scene is not there.
        ValueError: the file is damaged, or its cameras are not perspective, have a rolling shutter or differ in shape.
    """
    from fewshot_ns.cameras.paths import camera_path_dict
    from fewshot_ns.cameras.poses import check_rotations
    from fewshot_ns.data.files.applied_world import applied_scale
    from fewshot_ns.data.files.images import same_aspect
    from fewshot_ns.data.files.transforms_camera import StatedCamera, bends, check_lens
    from fewshot_ns.data.files.transforms_json import frame_poses, read_transforms

    meta = read_transforms(file)
    # Cameras without photos need no names.
    frames = [{"file_path": f"frame {number}", **frame} for number, frame in enumerate(meta["frames"])]
    names = [str(frame["file_path"]) for frame in frames]
    poses = frame_poses(frames, file)[:, :3]
    check_rotations(poses, names, str(file))
    content = {**meta, "frames": frames}
    check_lens(content, file, of_photos=False)
    stated = [StatedCamera.of_frame(content, number, file) for number in range(len(frames))]
    size = _run_size(run) if any(None in camera.size for camera in stated) else None
    optics = [_optics(file, name, camera, size) for name, camera in zip(names, stated, strict=True)]
    distorted = any(bends(content, number) for number in range(len(frames)))
    first = optics[0]
    for name, own in zip(names, optics, strict=True):
        if not same_aspect((round(own.height), round(own.width)), (round(first.height), round(first.width))):
            raise ValueError(
                f"{file}: expected cameras of one shape, as a video has, found {own.width:g}x{own.height:g} pixels of "
                f"{name} and {first.width:g}x{first.height:g} of {names[0]}"
            )
    if height is None:
        height = round(first.height) if width is None else max(1, round(width * first.height / first.width))
    if width is None:
        width = max(1, round(height * first.width / first.height))
    if min(height, width) < 1:
        raise ValueError(f"--width, --height: expected positive sizes, got {width}x{height}")
    transform, scale = world_of_run(run)
    # nerfstudio puts it into the run's scale once more, though the file's positions have it already.
    moved = into_world(poses, meta.get("applied_transform"), transform, scale / applied_scale(meta, file), file)
    focals = [own.focal * height / own.height for own in optics]
    return camera_path_dict(moved, focals, height, width, fps, is_cycle=False), _losses(optics, distorted)


def world_of_run(run: Path) -> Tuple[npt.NDArray[np.float64], float]:
    """(3, 4) transform from the world of the scene's files to that of the run, and the scale after it.

    Args:
        run: its config.yml. What nerfstudio recorded beside it counts; else what the scene gives.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: they cannot be read.
    """
    from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManagerConfig
    from fewshot_ns.scripts.runs import load_run_config, scene_of_run
    from fewshot_ns.utils.json_files import POSITIVE, checked, numbers, read_json_object

    config, record = load_run_config(run), run.parent / RECORD_NAME
    # Of many scenes the record is of the first that trained, not of the one that is rendered.
    if record.is_file() and not isinstance(config.pipeline.datamanager, MultiSceneDataManagerConfig):
        kinds = {"transform": numbers("a 3x4 transform", (3, 4)), "scale": POSITIVE}
        try:
            content = checked(read_json_object(record), kinds, str(record), tuple(kinds))
        except ValueError as error:
            raise ValueError(f"{record}: expected a 'transform' and a 'scale' ({error})") from error
        return np.array(content["transform"], dtype=np.float64), float(content["scale"])
    outputs, _ = scene_of_run(config)
    return outputs.dataparser_transform.double().numpy(), float(outputs.dataparser_scale)


def into_world(
    poses: npt.NDArray[np.float64],
    applied: Any,
    transform: npt.NDArray[np.float64],
    scale: float,
    file: Path,
) -> npt.NDArray[np.float64]:
    """OpenGL poses (N, 3, 4) of a file in the world of a run.

    Args:
        poses: as stored.
        applied: the file's `applied_transform`, which nerfstudio's record of a run holds as well; None: none.
        transform: (3, 4) rotation and translation.
        scale: of positions, after it.
        file: for messages.

    Raises:
        ValueError: the file's `applied_transform` is no invertible 3x4 matrix.
    """
    from fewshot_ns.cameras.poses import homogeneous

    total = homogeneous(transform[None])[0]
    if applied is not None:
        matrix = np.asarray(applied, dtype=np.float64)
        if matrix.shape not in ((3, 4), (4, 4)) or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise ValueError(f"{file}: expected an invertible 3x4 applied_transform, found one that is not")
        total = total @ np.linalg.inv(homogeneous(matrix[None, :3])[0])
    moved = (total @ homogeneous(poses))[:, :3]
    moved[:, :, 3] *= scale
    return moved


def _optics(file: Path, name: str, camera: StatedCamera, run_size: Optional[Tuple[int, int]]) -> Optics:
    width, height = camera.size if run_size is None else camera.size_at((run_size[1], run_size[0]))
    if width is None or height is None:
        raise ValueError(f"{file}: expected 'w' and 'h' of {name}")
    across, down = (
        0.5 * side / tangent if focal is None and tangent is not None else focal
        for focal, tangent, side in zip(camera.focal, camera.tangents, (width, height), strict=True)
    )
    # A stated focal length counts before an angle.
    focal = camera.focal[1] or camera.focal[0] or down or across
    if focal is None:
        raise ValueError(
            f"{file}: expected fl_x, fl_y, camera_angle_x or camera_angle_y of {name}, positive numbers, found none"
        )
    aspect = (camera.focal[0] or focal) / focal
    centre = [side / 2 if at is None else at for at, side in zip(camera.centre, (width, height), strict=True)]
    read = (aspect * focal / width, focal / height, centre[0] / width, centre[1] / height)
    camera.check_others(read, (round(width), round(height)))
    off = [abs(at - side / 2) for at, side in zip(camera.centre, (width, height), strict=True) if at is not None]
    return Optics(width, height, focal, aspect, max(off, default=0.0))


def _run_size(run: Path) -> Tuple[int, int]:
    """(height, width) of the run's training images."""
    from fewshot_ns.scripts.runs import load_run_config, scene_of_run

    cameras = scene_of_run(load_run_config(run))[0].cameras
    return int(cameras.height[0].item()), int(cameras.width[0].item())


def _losses(optics: List[Optics], distorted: bool) -> List[str]:
    """What a camera path cannot hold: it has one focal length, a centred principal point and no distortion."""
    off = max(own.off_centre for own in optics)
    aspect = max(abs(own.aspect - 1.0) for own in optics)
    said = []
    if off > 0.5:
        said.append(f"principal points are up to {off:.1f} pixels off the centre; a camera path has them there")
    if aspect > 1e-3:
        said.append(f"fl_x differs from fl_y by up to {100 * aspect:.1f} %; a camera path has fl_y alone")
    if distorted:
        said.append("lens distortion is left out; a camera path has none")
    return said
