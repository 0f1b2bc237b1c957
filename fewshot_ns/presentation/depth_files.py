"""Depth for other programs: planar depth as 16-bit PNG in millimetres and as EXR in metres, with what it means.

Each format has a folder of its own, in which `depth.json` says how numbers become lengths: this package reads such a
folder as it reads any of depth maps (`--depth-dir`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from fewshot_ns.cameras.poses import homogeneous
from fewshot_ns.data.depth.encoding import write_incomplete_note, write_note
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.utils.files import replacing

DepthFileFormat = Literal["png", "exr"]
STEPS_PER_METRE = 1000.0
"""Steps of a PNG per metre: millimetres."""
MOST_STEPS = 65535
"""Largest number of a 16-bit PNG."""
FEW_STEPS = 200
"""Depths of fewer steps are off by more than a quarter of a per cent when they are rounded."""


@dataclass(frozen=True)
class FileWorld:
    """How the world of a scene's files becomes the world of its cameras."""

    transform: npt.NDArray[np.float64]
    """(3, 4), before scaling."""
    scale: float
    """World units per unit of the files."""
    metres_per_unit: float = 1.0
    """Metres in a unit of the files."""

    def to_files(self, camera_to_world: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(4, 4) the OpenGL pose (3, 4) of a camera in the world and the units of the files."""
        own = homogeneous(camera_to_world[None])[0]
        own[:3, 3] /= self.scale
        return np.linalg.inv(homogeneous(self.transform[None])[0]) @ own


@dataclass(frozen=True)
class PlanarDepth:
    """Depth of one view."""

    name: str
    """Path of its file without suffix, in the folder of its kind."""
    depth: npt.NDArray[np.float32]
    """(H, W) along the viewing axis, world units; 0 where nothing is known."""
    about: Dict[str, Any]
    """What depth.json says of it."""


@dataclass(frozen=True)
class WrittenDepth:
    """What a folder of maps could hold of the depths."""

    folder: Path
    """The folder."""
    beyond: float
    """Share of the known pixels that a PNG cannot hold, which are written as 0."""
    median_steps: float
    """Median of its numbers, where they are not 0."""


def planar_depth(outputs: Dict[str, Tensor], camera: Cameras, min_accumulation: float) -> npt.NDArray[np.float32]:
    """Depth along the viewing axis of what a model rendered.

    Args:
        outputs: `depth` (H, W, 1), distance from the camera's centre in world units, and `accumulation` (H, W, 1).
        camera: (1,) that it was rendered for.
        min_accumulation: where less is seen, there is no depth.

    Returns:
        (H, W) in world units; 0 where there is none.
    """
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    norms = rays.metadata["directions_norm"][..., 0]
    depth = outputs["depth"][..., 0].to(norms) / norms
    seen = (outputs["accumulation"][..., 0].to(norms) >= min_accumulation) & torch.isfinite(depth) & (depth > 0)
    return torch.where(seen, depth, torch.zeros_like(depth)).cpu().numpy().astype(np.float32)


def camera_about(camera: Cameras, world: FileWorld) -> Dict[str, Any]:
    """A camera (1,) in the words of nerfstudio's transforms.json, its pose in the world and units of the files."""
    pose = camera.camera_to_worlds[0].double().cpu().numpy()
    intrinsics = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy}
    sizes = {"w": camera.width, "h": camera.height}
    about: Dict[str, Any] = {name: float(value.item()) for name, value in intrinsics.items()}
    about |= {name: int(value.item()) for name, value in sizes.items()}
    if camera.distortion_params is not None and bool((camera.distortion_params != 0).any()):
        names = ("k1", "k2", "k3", "k4", "p1", "p2")
        about |= dict(zip(names, camera.distortion_params[0].double().tolist(), strict=True))
    return {**about, "transform_matrix": world.to_files(pose).tolist()}


def write_depths(
    folder: Path, kind: DepthFileFormat, depths: Sequence[PlanarDepth], world: FileWorld, **more: Any
) -> WrittenDepth:
    """Writes maps of one format, and depth.json last; until then one that says that they are not complete.

    Args:
        folder: for them alone.
        kind: `png`: 16 bits, millimetres; `exr`: one float32 channel Y, metres. In both 0 is unknown.
        depths: the maps.
        world: units.
        more: what else depth.json says.
    """
    write_incomplete_note(folder, "ns-fewshot render-depth")
    to_metres = world.metres_per_unit / world.scale
    maps: List[Dict[str, Any]] = []
    beyond = known = 0
    steps: List[npt.NDArray[np.uint16]] = []
    for item in depths:
        metres = item.depth.astype(np.float64) * to_metres
        name = f"{item.name}.{kind}"
        if kind == "png":
            stored, lost = to_millimetres(metres)
            write_png(folder / name, stored)
            steps.append(stored[stored > 0])
            beyond += lost
            known += int((metres > 0).sum())
        else:
            write_exr(folder / name, metres.astype(np.float32))
        maps.append({"file": name, **item.about})
    per_metre = STEPS_PER_METRE if kind == "png" else 1.0
    encoding = DepthEncoding("distance", "z_depth", 1.0 / (per_metre * world.metres_per_unit), may_be_empty=True)
    stated = {
        "stored_unit": "millimetre" if kind == "png" else "metre",
        "metres_per_scene_unit": world.metres_per_unit,
        "meaning_in_words": "z_depth: along the viewing axis, from the camera's centre; unit: units of the scene's own "
        "files per stored number; 0: nothing is known; cameras: OpenGL axes, world and units of the scene's own files, "
        "before an applied_transform that they state",
    }
    write_note(folder, encoding, **stated, **more, maps=maps)
    together = np.concatenate(steps) if steps else np.zeros(0)
    return WrittenDepth(folder, beyond / max(known, 1), float(np.median(together)) if together.size else 0.0)


def to_millimetres(metres: npt.NDArray[np.float64]) -> Tuple[npt.NDArray[np.uint16], int]:
    """Depth in metres (H, W) as millimetres, 0 where a 16-bit PNG cannot hold it, and the number of such pixels."""
    steps = np.round(metres * STEPS_PER_METRE)
    lost = (metres > 0) & ((steps > MOST_STEPS) | (steps < 1))
    return np.where(lost, 0.0, steps).astype(np.uint16), int(lost.sum())


def write_png(path: Path, values: npt.NDArray[np.uint16]) -> None:
    """Writes (H, W) uint16 as a PNG."""
    encoded = cv2.imencode(".png", values)[1]
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def write_exr(path: Path, values: npt.NDArray[np.float32]) -> None:
    """Writes (H, W) float32 as the one channel Y of an EXR file, by the library that reads it here."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with replacing(path) as temporary:
        OpenEXR.File(header, {"Y": np.ascontiguousarray(values)}).write(str(temporary))


def map_names(images: Sequence[Path]) -> Tuple[str, ...]:
    """Names of the maps of images: their paths below the folder that they share, without suffix.

    Raises:
        ValueError: two images have one name, as `a.png` and `a.jpg`.
    """
    folders = [image.absolute().parent for image in images]
    shared = folders[0] if folders else Path()
    while any(shared != folder and shared not in folder.parents for folder in folders):
        shared = shared.parent
    names = tuple(image.absolute().relative_to(shared).with_suffix("").as_posix() for image in images)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{shared}: expected one image of each name, found several of {', '.join(twice[:3])}")
    return names


def advice(written: WrittenDepth) -> Optional[str]:
    """What to say of PNGs that do not hold the depths well; None where they do."""
    if written.beyond > 0:
        return (
            f"{written.folder}: {100 * written.beyond:.2g} % of the pixels are beyond what 16 bits of millimetres hold "
            "(65.5 m) and are written as 0; give --metres-per-unit, or take the EXR files"
        )
    if 0 < written.median_steps < FEW_STEPS:
        return (
            f"{written.folder}: half of the depths are below {written.median_steps:.0f} mm, so that rounding shows; "
            "give --metres-per-unit, or take the EXR files"
        )
    return None
