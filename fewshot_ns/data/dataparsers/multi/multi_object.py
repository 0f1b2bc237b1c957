"""Many scenes of one or more objects with a `transforms.json` each: pixelNeRF's two-chairs set."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping, Type

import numpy as np
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParser, MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.multi.scene_views import SceneViews
from fewshot_ns.data.dataparsers.single.unread_keys import unread_files
from fewshot_ns.data.files.images import image_size
from fewshot_ns.data.files.inside import lies_inside, outside_words
from fewshot_ns.data.files.scene_folder import MOVED_SCENE
from fewshot_ns.data.files.transforms_camera import check_lens
from fewshot_ns.data.files.transforms_json import frame_poses, read_transforms
from fewshot_ns.data.records.scene import SceneEntry, SceneError
from fewshot_ns.utils.shown_values import shown

NEAR, FAR = 4.0, 9.0
"""Published sampling range."""
TRANSFORMS = "transforms.json"
_UNREAD = {
    "mask": "training across scenes takes whole photos",
    "depth": "training across scenes takes no depth",
}
"""Files that scenes of other formats have, and why they are of no use here."""


@dataclass
class MultiObjectDataParserConfig(MultiSceneDataParserConfig):
    """Folders train, val and test with scenes anywhere below, each with a transforms.json."""

    _target: Type = field(default_factory=lambda: MultiObjectDataParser)
    """Parser class to instantiate."""
    image_ending: str = "_obj.png"
    """What follows the frame's name in the name of its image; `.png` reads NeRF's own renderings."""
    allow_outside: bool = False
    """Whether images that a scene's transforms.json names may lie outside of the scene's folder."""

    def __setstate__(self, saved: Mapping[str, Any]) -> None:
        """Keeps the images of a run that an earlier version trained."""
        vars(self).update({"allow_outside": True, **saved})


class MultiObjectDataParser(MultiSceneDataParser):
    """Parser of the multi-object set. Scenes are named by their folders below the split's; there are no categories."""

    config: MultiObjectDataParserConfig

    def _list_scenes(self, split: str) -> Iterator[SceneEntry]:
        folder = Path(os.path.abspath(self.config.data)) / split
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: expected a folder of scenes (--data), found nothing; {MOVED_SCENE}")
        scenes, without = [], []
        for path, folders, files in os.walk(folder):
            folders.sort()
            if TRANSFORMS in files:
                scenes.append(Path(path))
            elif not folders and not any(Path(path).is_relative_to(scene) for scene in scenes[-1:]):
                without.append(os.path.relpath(path, folder))
        if scenes and without:
            shown_names = ", ".join(shown(name) for name in without[:3])
            CONSOLE.print(
                f"[bold yellow]{escape(str(folder))}: {len(without)} folders without {TRANSFORMS} are left out "
                f"({escape(shown_names)}{', ...' if len(without) > 3 else ''})[/bold yellow]",
                soft_wrap=True,
            )
        for scene in scenes:
            name = folder.name if scene == folder else scene.relative_to(folder).as_posix()
            yield SceneEntry(name, "", scene, split)

    def _read_views(self, entry: SceneEntry) -> SceneViews:
        path = entry.folder / TRANSFORMS
        meta = read_transforms(path)
        poses = frame_poses(meta["frames"], path)
        try:
            check_lens(meta, path)
        except ValueError as error:
            raise SceneError(str(error)) from error
        angle = meta.get("camera_angle_x")
        if not isinstance(angle, (int, float)) or not 0.0 < angle < np.pi:
            raise SceneError(f"{path}: expected 'camera_angle_x' between 0 and pi, found {shown(angle)}")
        images = tuple(self._image_of(path, number, frame["file_path"]) for number, frame in enumerate(meta["frames"]))
        width = image_size(images[0])[1]
        return SceneViews(
            images=images,
            camera_to_worlds=poses[:, :3],
            focal=np.full((len(images), 2), 0.5 * width / np.tan(0.5 * angle)),
            near=NEAR,
            far=FAR,
            remarks=unread_files((meta, *meta["frames"]), path, entry.folder, _UNREAD),
        )

    def _image_of(self, path: Path, number: int, name: str) -> Path:
        if not self.config.allow_outside and not lies_inside(path.parent, name):
            raise SceneError(f"{path}, frame {number}: {outside_words(path.parent, name)}")
        # The frames are named as for NeRF, with or without an ending; the images have the object's own.
        stem = Path(name)
        stem = stem.with_suffix("") if stem.suffix.lower() in (".png", ".jpg", ".jpeg") else stem
        return path.parent / stem.with_name(stem.name + self.config.image_ending)
