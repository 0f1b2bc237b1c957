"""What nerfstudio's own parser makes of a `transforms.json`: photos, cameras and points in one upright world."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import Nerfstudio, NerfstudioDataParserConfig

from fewshot_ns.data.dataparsers.single.seed_points import GREY, SeedPoints
from fewshot_ns.data.files.ply_header import count_vertices
from fewshot_ns.data.files.scene_folder import Files
from fewshot_ns.data.records.metadata import SEED_COLOURS_KEY, SEED_POINTS_KEY
from fewshot_ns.utils.reading import DAMAGE

SPLITS = ("train", "val", "test")


def pooled_frames(config: NerfstudioDataParserConfig, meta: Dict[str, Any], path: Path, beside: bool) -> PooledFrames:
    """All frames of a file, whatever splits it lists.

    Args:
        config: What nerfstudio's parser is to do; its data and points are set here.
        meta: What it is to read, whose names lead to files and whose splits name frames.
        path: The file of the scene.
        beside: Whether the scene is given as the folder of the file, beside which nerfstudio looks for COLMAP's files.

    Raises:
        FileNotFoundError: the sparse points that it names are not there.
        ValueError: these are damaged, or nerfstudio does not take the content.
    """
    has_points = _names_points(meta, path)
    with _as_nerfstudio_reads(meta, path, beside) as file:
        own = file or path
        data = own.parent if file is None and beside else own
        parser: _Reader = replace(config, _target=_Reader, data=data, load_3D_points=has_points).setup()
        parser.folder, parser.downscale_factor = path.parent, 1
        outputs = []
        try:
            for split in [name for name in SPLITS if meta.get(f"{name}_filenames")] or ["train"]:
                outputs.append(parser.get_dataparser_outputs(split))
                # The points are those of the scene, and read once.
                parser.config.load_3D_points = False
        except DAMAGE as error:
            found = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(
                f"{path}: expected what nerfstudio's parser reads, found that it ends with: {found}"
            ) from error
    frames = PooledFrames.of(outputs)
    if has_points:
        _check_points(frames.points, path.parent / str(meta["ply_file_path"]))
    return frames


class _Reader(Nerfstudio):
    """nerfstudio's parser, for which names of files are relative to `folder` wherever the list of frames lies."""

    folder: Path

    def _get_fname(self, filepath: Path, data_dir: Path, downsample_folder_prefix: str = "images_") -> Path:
        return self.folder / filepath


@contextmanager
def _as_nerfstudio_reads(meta: Dict[str, Any], path: Path, beside: bool) -> Iterator[Optional[Path]]:
    """A file of `meta` for as long as nerfstudio reads it; None where the file itself says the same to nerfstudio.

    Args:
        meta: What nerfstudio is to read.
        path: The file of the scene.
        beside: Whether nerfstudio would look for COLMAP's files beside it.
    """
    try:
        same = json.loads(path.read_text(encoding="utf-8")) == meta
    except ValueError:
        same = False
    if same:
        yield None
        return
    changed = dict(meta)
    if "ply_file_path" in meta:
        changed["ply_file_path"] = os.path.abspath(path.parent / str(meta["ply_file_path"]))
    if beside and (path.parent / "colmap/sparse/0").exists():
        # What nerfstudio takes where it finds COLMAP's files beside a file of its first versions.
        changed.setdefault("applied_transform", [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path.name
        file.write_text(json.dumps(changed), encoding="utf-8")
        yield file


def _names_points(meta: Dict[str, Any], path: Path) -> bool:
    """Whether a file names sparse points, which are there; of a file without points it is as if it named none.

    Raises:
        FileNotFoundError: it names some that are not there.
        ValueError: they are damaged.
    """
    name = meta.get("ply_file_path")
    if not isinstance(name, str) or not name:
        return False
    file = path.parent / name
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: expected the sparse points that {path} names (ply_file_path), found no such file; add it, or "
            "remove the key, and near and far are guessed from the cameras"
        )
    return file.suffix.lower() != ".ply" or count_vertices(file) > 0


def _check_points(points: Optional[npt.NDArray], file: Path) -> None:
    """Checks what was read of the sparse points that a file names.

    Raises:
        ValueError: nothing, or numbers that are not finite.
    """
    if points is None or not len(points):
        raise ValueError(f"{file}: expected sparse points (ply_file_path), found a file of which none can be read")
    bad = int((~np.isfinite(points).all(axis=1)).sum())
    if bad:
        raise ValueError(f"{file}: expected finite sparse points, found {bad} of {len(points)} that are not")


@dataclass
class PooledFrames:
    """All frames of a file, in the order of their names."""

    images: Tuple[Path, ...]
    cameras: Cameras
    depths: Optional[Files]
    masks: Optional[Files]
    points: Optional[npt.NDArray]
    """(P, 3) sparse points in the world of the cameras."""
    colours: Optional[npt.NDArray]
    """(P, 3) uint8 colours of these points, (0, 3) where they have none."""
    transform: npt.NDArray
    scale: float

    def seed_points(self, path: Path) -> Optional[SeedPoints]:
        """The points of the file at `path`, which were read from it; None without any."""
        if self.points is None or self.colours is None:
            return None
        colours = self.colours if len(self.colours) else np.full(self.points.shape, GREY)
        return SeedPoints(self.points.astype(np.float32), colours.astype(np.uint8), path)

    def with_depths(self, depths: Dict[str, Path]) -> PooledFrames:
        """The same with depth maps by photo."""
        return replace(self, depths=tuple(depths.get(str(image)) for image in self.images))

    @classmethod
    def of(cls, outputs: List[DataparserOutputs]) -> PooledFrames:
        """Joins the splits that nerfstudio's parser gives for one file."""
        names = [path for output in outputs for path in output.image_filenames]
        _, first = np.unique([str(path) for path in names], return_index=True)

        def column(values: List[torch.Tensor]) -> torch.Tensor:
            return torch.cat(values)[torch.from_numpy(first)]

        def files(lists: List[Optional[List[Path]]]) -> Optional[Files]:
            flat = [path for entry in lists for path in (entry or [])]
            return tuple(flat[index] for index in first) if len(flat) == len(names) else None

        parts = [output.cameras for output in outputs]
        distortion = [part.distortion_params for part in parts if part.distortion_params is not None]
        distorted = any(bool((entry != 0).any()) for entry in distortion)
        cameras = Cameras(
            camera_to_worlds=column([part.camera_to_worlds for part in parts]),
            fx=column([part.fx for part in parts]),
            fy=column([part.fy for part in parts]),
            cx=column([part.cx for part in parts]),
            cy=column([part.cy for part in parts]),
            width=column([part.width for part in parts]),
            height=column([part.height for part in parts]),
            distortion_params=column(distortion) if distorted else None,
            camera_type=column([part.camera_type for part in parts]),
        )
        points, colours = (outputs[0].metadata.get(key) for key in (SEED_POINTS_KEY, SEED_COLOURS_KEY))
        return cls(
            images=tuple(names[index] for index in first),
            cameras=cameras,
            depths=files([output.metadata.get("depth_filenames") for output in outputs]),
            masks=files([output.mask_filenames for output in outputs]),
            points=None if points is None else points.numpy(),
            colours=None if colours is None else colours.numpy(),
            transform=outputs[0].dataparser_transform.numpy(),
            scale=float(outputs[0].dataparser_scale),
        )
