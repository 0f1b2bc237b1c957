"""What rendering needs of a scene, kept in the folder of a run, so that it renders without the images' files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Type

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.utils.colors import get_color

from fewshot_ns.cameras.checks import check_cameras
from fewshot_ns.cameras.paths import spheric
from fewshot_ns.cameras.poses import check_finite_poses
from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.stored_keys import stored_scene
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata, get_fewshot_metadata
from fewshot_ns.utils.files import write_json
from fewshot_ns.utils.json_files import read_json
from fewshot_ns.utils.shown_values import shown

FILE_NAME = "scene.json"
"""Name of the file in the folder of a run."""
_VERSION = 1
_CAMERA = ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height", "camera_type", "distortion_params")
_INDICES = ("train_indices", "test_indices", "pool_indices")
SYNTHETIC_SIZE, SYNTHETIC_ANGLE = 800, 0.6911112070083618
"""Sides, pixels, and horizontal opening angle, rad, of the cameras of all of NeRF's synthetic scenes."""


def store_scene(folder: Path, splits: Dict[str, DataparserOutputs]) -> Path:
    """Writes cameras, poses and ray geometry of the splits of a scene; no image files.

    Args:
        folder: of the run.
        splits: `train` and `test`.

    Returns:
        The file.
    """
    content: Dict[str, Any] = {"version": _VERSION, "splits": {}}
    for split, outputs in splits.items():
        record = get_fewshot_metadata(outputs.metadata)
        cameras = {name: getattr(outputs.cameras, name) for name in _CAMERA}
        content["splits"][split] = {
            "files": [photo.name for photo in record.photos] or [path.name for path in outputs.image_filenames],
            "cameras": {name: None if value is None else value.tolist() for name, value in cameras.items()},
            "image_indices": list(record.image_indices),
        }
        if split == "train":
            content |= {
                "geometry": asdict(record.geometry),
                "protocol": record.protocol,
                **{name: [int(index) for index in getattr(record, name)] for name in _INDICES},
                "has_alpha": record.has_alpha,
                "length_unit": record.length_unit,
                "poses": record.scene_camera_to_worlds.tolist(),
                "bounds": None if record.scene_bounds is None else record.scene_bounds.tolist(),
                "transform": outputs.dataparser_transform.tolist(),
                "scale": float(outputs.dataparser_scale),
            }
    write_json(folder / FILE_NAME, content)
    return folder / FILE_NAME


def read_stored_scene(path: Path) -> Dict[str, Any]:
    """Content of a file of `store_scene`.

    Raises:
        FileNotFoundError: no such file.
        OSError: it cannot be read.
        ValueError: it is damaged, or of a later version of this package.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the scene of a run, found no such file")
    content = read_json(path)
    version = content.get("version") if isinstance(content, dict) else None
    if version != _VERSION:
        raise ValueError(f"{path}: expected the scene of a run, version {_VERSION}, found version {shown(version)}")
    return stored_scene(content, path)


def synthetic_scene(config: FewShotBlenderDataParserConfig, num_train: int = 8) -> Dict[str, Any]:
    """What is known of any of NeRF's synthetic scenes without its files.

    Args:
        config: its near, far, background and size count.
        num_train: number of training views; their poses are not known, so they stand on a circle.
    """
    side = max(1, SYNTHETIC_SIZE // config.downscale_factor)
    near = 2.0 if config.near is None else config.near
    far = 6.0 if config.far is None else config.far
    poses = torch.from_numpy(spheric(4.0, 30.0, num_train))
    focal = 0.5 * side / float(torch.tan(torch.tensor(0.5 * SYNTHETIC_ANGLE, dtype=torch.float64)))
    same: Dict[str, Any] = {"fx": focal, "fy": focal, "cx": side / 2, "cy": side / 2, "width": side, "height": side}
    cameras: Dict[str, Any] = {name: [[value]] * num_train for name, value in same.items()}
    cameras["camera_type"] = [[CameraType.PERSPECTIVE.value]] * num_train
    cameras |= {"camera_to_worlds": poses.tolist(), "distortion_params": None}
    indices = list(range(num_train))
    split = {"files": ["unknown"] * num_train, "cameras": cameras, "image_indices": indices}
    return {
        "version": _VERSION,
        "splits": {"train": split, "test": split},
        "geometry": asdict(SceneGeometry("metric", near, far, "cone", config.background)),
        "protocol": "unknown",
        **{name: indices for name in _INDICES},
        "has_alpha": True,
        "length_unit": 1.0,
        "poses": poses.tolist(),
        "bounds": None,
        "transform": torch.eye(4)[:3].tolist(),
        "scale": 1.0,
    }


@dataclass
class StoredSceneDataParserConfig(DataParserConfig):
    """A scene without its image files, for rendering alone."""

    _target: Type = field(default_factory=lambda: StoredSceneDataParser)
    """Parser class to instantiate."""
    data: Path = Path(FILE_NAME)
    """File of the scene, or the folder that its images lay in."""
    content: Optional[Dict[str, Any]] = None
    """The scene; None: what the file holds."""


class StoredSceneDataParser(DataParser):
    """Gives cameras and metadata of a stored scene; no files have the names of its images."""

    config: StoredSceneDataParserConfig

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        content = self.config.content or read_stored_scene(self.config.data)
        name = "train" if split == "train" else "test"
        part = content["splits"][name]
        numbers = {key: None if value is None else torch.tensor(value) for key, value in part["cameras"].items()}
        cameras = Cameras(**numbers)  # type: ignore[arg-type]
        check_finite_poses(cameras.camera_to_worlds.numpy(), str(self.config.data), part["files"])
        check_cameras(cameras, part["files"], str(self.config.data))
        geometry = SceneGeometry(**_with_tuples(content["geometry"]))
        bounds = content["bounds"]
        record = FewShotMetadata(
            geometry=geometry,
            protocol=content["protocol"],
            split=name,
            image_indices=tuple(part["image_indices"]),
            train_indices=tuple(content["train_indices"]),
            test_indices=tuple(content["test_indices"]),
            pool_indices=tuple(content["pool_indices"]),
            scene_camera_to_worlds=torch.tensor(content["poses"], dtype=torch.float32),
            scene_bounds=None if bounds is None else torch.tensor(bounds, dtype=torch.float32),
            has_alpha=content["has_alpha"],
            length_unit=content["length_unit"],
        )
        return DataparserOutputs(
            image_filenames=[self.config.data.parent / file for file in part["files"]],
            cameras=cameras,
            alpha_color=get_color(geometry.background),
            scene_box=SceneBox(aabb=torch.tensor([[-1.5, -1.5, -1.5], [1.5, 1.5, 1.5]])),
            metadata={METADATA_KEY: record},
            dataparser_transform=torch.tensor(content["transform"], dtype=torch.float32),
            dataparser_scale=content["scale"],
        )


def _with_tuples(values: Dict[str, Any]) -> Dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
