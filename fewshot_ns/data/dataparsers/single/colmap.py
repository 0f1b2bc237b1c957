"""A COLMAP model beside its photos, as it is: images/ and sparse/0."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Type

import numpy as np
import numpy.typing as npt
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.cameras.poses import flip_camera_axes
from fewshot_ns.data.dataparsers.single.nerfstudio import (
    FewShotNerfstudioDataParser,
    FewShotNerfstudioDataParserConfig,
)
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.files.colmap import SparseModel, find_colmap
from fewshot_ns.data.files.images import list_images
from fewshot_ns.data.files.point_cloud import write_ply

PARAMETERS: Dict[str, Tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fl_x", "fl_y", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"),
}
"""Parameters of COLMAP's camera models that nerfstudio's cameras know, in COLMAP's order."""
IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8", "input", ".")


@dataclass
class FewShotColmapDataParserConfig(FewShotNerfstudioDataParserConfig):
    """A COLMAP model (text or binary) and its photos."""

    _target: Type = field(default_factory=lambda: FewShotColmapDataParser)
    """Parser class to instantiate."""
    images_dir: Optional[Path] = None
    """Folder that the names in the model are relative to, itself relative to the scene; None: the first of images,
    images_2, images_4, images_8, input and the scene's own folder that holds the first photo."""
    colmap_dir: Optional[Path] = None
    """Folder of the model, relative to the scene; None: sparse/0, colmap/sparse/0, sparse, colmap/sparse, colmap."""


class FewShotColmapDataParser(FewShotNerfstudioDataParser):
    """Parser of COLMAP models. Views are sorted by name, and chosen as those of a transforms.json are."""

    config: FewShotColmapDataParserConfig

    def _read_scene(self) -> SceneFiles:
        scene = Path(self.config.data).absolute()
        given = self.config.colmap_dir
        model = find_colmap(scene, None if given is None else scene / given)
        if not model.images:
            raise FileNotFoundError(f"{model.path.parent}: expected COLMAP's cameras and images beside its points")
        images = self._image_folder(scene, model)
        extra = {path.name for path in list_images(images)} - {image.name for image in model.images.values()}
        if extra and images != scene:
            CONSOLE.print(f"{images}: {len(extra)} photos have no pose in {model.path.parent} and are left out")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "transforms.json"
            write_ply(path.with_name("points.ply"), model.positions, model.colours)
            path.write_text(json.dumps(transforms_of_colmap(model, images)), "utf8")
            files = self._scene_of(path, scene)
        # The model says which of the points training views see; a cloud does not.
        return replace(files, seed_points=None, colmap_points=model.path, calibration="the COLMAP model")

    def _image_folder(self, scene: Path, model: SparseModel) -> Path:
        names = sorted(image.name for image in model.images.values())
        chosen = self.config.images_dir
        folders = [scene / name for name in (IMAGE_FOLDERS if chosen is None else (str(chosen),))]
        folder = next((one for one in folders if (one / names[0]).is_file()), folders[0])
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise FileNotFoundError(
                f"{folder}: expected the photos that {model.path.parent} names, found no "
                f"{', '.join(missing[:5])}{more} (--images-dir)"
            )
        return folder


def transforms_of_colmap(model: SparseModel, images: Path) -> Dict[str, Any]:
    """What a transforms.json would say of a model.

    Args:
        model: With cameras and images.
        images: Folder of the photos.

    Raises:
        ValueError: a camera model that nerfstudio's cameras cannot express.
    """
    frames = []
    for image in sorted(model.images.values(), key=lambda image: image.name):
        camera = model.cameras[image.camera_id]
        entry: Dict[str, Any] = {"file_path": str(images / image.name), "w": camera.width, "h": camera.height}
        entry.update(camera_parameters(camera.model, camera.params, f"{model.path.parent}: {image.name}"))
        matrix = np.eye(4)
        rotation = image.qvec2rotmat()
        pose = np.concatenate([rotation.T, (-rotation.T @ image.tvec)[:, None]], axis=1)
        matrix[:3] = flip_camera_axes(pose)
        frames.append({**entry, "transform_matrix": matrix.tolist()})
    return {"camera_model": "OPENCV", "frames": frames, "ply_file_path": "points.ply"}


def camera_parameters(model: str, params: npt.ArrayLike, where: str) -> Dict[str, float]:
    """fl_x, fl_y, cx, cy and distortion of a COLMAP camera, in pixels.

    Args:
        model: COLMAP's name of the model.
        params: Its parameters.
        where: File and photo, for the message.

    Raises:
        ValueError: another model than those of `PARAMETERS`.
    """
    if model not in PARAMETERS:
        raise ValueError(
            f"{where}: expected a camera model out of {', '.join(PARAMETERS)}, found {model}; straighten the photos by "
            "`ns-fewshot prepare --images DIR --poses MODEL` or `colmap image_undistorter`"
        )
    values = {name: float(value) for name, value in zip(PARAMETERS[model], np.asarray(params), strict=True)}
    focal = values.pop("f", None)
    return values if focal is None else {"fl_x": focal, "fl_y": focal, **values}
