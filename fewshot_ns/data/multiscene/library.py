"""The scenes of a dataparser, opened on demand: many of a multi-scene parser, or the one of a single-scene parser."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Dict, List, Literal, Optional, Tuple, Union

from nerfstudio.data.dataparsers.base_dataparser import DataParser
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParser
from fewshot_ns.data.dataparsers.multi.scene_folders import resized_cameras, scene_of_parser
from fewshot_ns.data.dataparsers.multi.scene_remarks import SceneRemarks
from fewshot_ns.data.dataparsers.single.base import FewShotDataParser
from fewshot_ns.data.files.images import same_aspect
from fewshot_ns.data.multiscene.images import SceneImages
from fewshot_ns.data.records.scene import Scene, SceneEntry, SceneError
from fewshot_ns.utils.cache import LRUCache
from fewshot_ns.utils.files import write_json

BadScenePolicy = Literal["stop", "skip"]


class SceneLibrary:
    """Scene table, opened scenes and their images, both kept within bounds.

    Args:
        parser: of many scenes, or of one of this package's single-scene formats.
        scenes: only these scenes, by name; None: all.
        max_image_bytes: decoded images that are kept.
        max_open_scenes: opened scenes that are kept.

    Raises:
        ValueError: a parser of another package.
    """

    def __init__(
        self,
        parser: DataParser,
        scenes: Optional[Tuple[str, ...]] = None,
        max_image_bytes: int = 2 * 1024**3,
        max_open_scenes: int = 1024,
    ) -> None:
        if not isinstance(parser, (MultiSceneDataParser, FewShotDataParser)):
            raise ValueError(
                f"generalizable methods need a dataparser of fewshot_ns, such as srn-data, scene-folder-data or "
                f"llff-data; got {type(parser).__name__}"
            )
        self.parser: Union[MultiSceneDataParser, FewShotDataParser] = parser
        if isinstance(parser, FewShotDataParser):
            parser.least_views = 1
        self.chosen = scenes
        self.images = SceneImages(max_image_bytes)
        self._opened: LRUCache[Scene] = LRUCache(max_open_scenes)
        self._remarks = SceneRemarks()

    @property
    def single(self) -> bool:
        """Whether the parser is of one scene."""
        return isinstance(self.parser, FewShotDataParser)

    @property
    def may_have_evaluation_masks(self) -> bool:
        """Whether scenes may have object masks that only metrics know of."""
        return isinstance(self.parser, FewShotDataParser) or self.parser.may_have_evaluation_masks

    def table(self, split: str) -> Tuple[SceneEntry, ...]:
        """The scenes of a split, or those that were chosen by name, whatever split they are of.

        Raises:
            FileNotFoundError: the dataset is missing.
            ValueError: no scene, or an unknown name.
        """
        if isinstance(self.parser, FewShotDataParser):
            return (self._only_entry(self.parser),)
        if self.chosen is None:
            return self.parser.scene_table(split)
        return tuple(self.parser.find_scene(name, split) for name in self.chosen)

    def first_table(self, *splits: str) -> Tuple[SceneEntry, ...]:
        """The scenes of the first of these splits that the dataset has.

        Raises:
            FileNotFoundError: it has none of them.
            ValueError: the same.
        """
        for split in splits[:-1]:
            try:
                return self.table(split)
            except (FileNotFoundError, ValueError):
                continue
        return self.table(splits[-1])

    def _only_entry(self, parser: FewShotDataParser) -> SceneEntry:
        return SceneEntry(parser.scene_name, "", Path(os.path.abspath(parser.config.data)))

    def find(self, scene_id: str, split: str) -> SceneEntry:
        """The scene of a name.

        Raises:
            ValueError: there is none.
        """
        if isinstance(self.parser, MultiSceneDataParser):
            return self.parser.find_scene(scene_id, split)
        entry = self._only_entry(self.parser)
        if scene_id != entry.scene_id:
            raise ValueError(f"{entry.folder}: expected its only scene {entry.scene_id!r}, got {scene_id!r}")
        return entry

    def active_candidates(self, split: str) -> Tuple[SceneEntry, ...]:
        """Scenes to activate at the start, the first that can be used: none but the one that was named, if any.

        Raises:
            FileNotFoundError: the dataset is missing.
            ValueError: no scene, or an unknown name.
        """
        parser = self.parser
        if isinstance(parser, MultiSceneDataParser) and parser.config.scene is not None and self.chosen is None:
            return (parser.active_entry(split),)
        return self.table(split)

    def open(self, entry: SceneEntry) -> Scene:
        """An opened scene.

        Raises:
            SceneError: a file is missing or damaged, or views differ in size.
        """
        # One folder may hold several scenes, such as one scan under several lights.
        return self._opened.get((entry.scene_id, entry.folder, entry.split), partial(self._open, entry))

    def _open(self, entry: SceneEntry) -> Scene:
        if isinstance(self.parser, MultiSceneDataParser):
            scene = self.parser.open_scene(entry)
        else:
            scene = scene_of_parser(self.parser, entry, told=True)
            self._remarks.tell(scene, others=False)
        return of_one_size(scene)


def of_one_size(scene: Scene) -> Scene:
    """A scene whose views are all as large as the smallest, which source views have to be; itself where they are.

    Raises:
        SceneError: the views have different proportions; the message names those of each size.
    """
    sizes: Dict[Tuple[int, int], List[int]] = defaultdict(list)
    for view, (height, width) in enumerate(zip(scene.cameras.height, scene.cameras.width, strict=True)):
        sizes[int(height), int(width)].append(scene.view_indices[view] if scene.view_indices else view)
    if len(sizes) <= 1:
        return scene
    smallest = min(sizes)
    if all(same_aspect(smallest, size) for size in sizes):
        return replace(scene, cameras=resized_cameras(scene.cameras, smallest, scene.image_filenames[0]))
    found = ", ".join(
        f"{width}x{height} (views {' '.join(map(str, views))})" for (height, width), views in sorted(sizes.items())
    )
    *train, last = max(sizes.values(), key=len)
    example = f", such as `--train-indices {' '.join(map(str, train))} --test-indices {last}`" if train else ""
    raise SceneError(
        f"{scene.entry.folder}: expected photos of the same proportions, found {found} pixels; leave the others out by "
        f"the dataparser's name with --train-indices and --test-indices, after all other flags{example}, or crop them"
    )


@dataclass
class BadScenes:
    """Scenes that turned out unusable in the middle of a run."""

    policy: BadScenePolicy = "stop"
    """stop: the first one ends the run; skip: they are named once, counted and left out from then on."""
    reasons: Dict[str, str] = field(default_factory=dict)
    """What is wrong with each, by name."""
    record: Optional[Path] = None
    """File that lists them as soon as there is one; None: no file."""

    def __contains__(self, entry: SceneEntry) -> bool:
        return entry.scene_id in self.reasons

    def note(self, entry: SceneEntry, error: SceneError) -> None:
        """Takes note of a scene.

        Raises:
            SceneError: where the first one ends the run.
        """
        if self.policy == "stop":
            raise SceneError(
                f"scene {entry.scene_id}: {error} (--pipeline.datamanager.on-bad-scene skip leaves such scenes out)"
            ) from error
        if entry.scene_id not in self.reasons:
            self.reasons[entry.scene_id] = str(error)
            CONSOLE.print(
                f"[bold yellow]Scene {entry.scene_id} is left out[/bold yellow] ({len(self.reasons)} so far): {error}",
                soft_wrap=True,
            )
            self._write()

    def record_in(self, path: Path) -> None:
        """From now on the scenes are listed in a file, those that are known already at once."""
        self.record = path
        self._write()

    def _write(self) -> None:
        if self.record is not None and self.reasons:
            write_json(self.record, {"count": len(self.reasons), "reasons": self.reasons})

    def none_usable(self, count: int) -> SceneError:
        """What is raised where each of `count` scenes has been noted."""
        reasons = list(self.reasons.values())
        return SceneError(f"expected a usable scene, found none of {count}; the first: {reasons[0]}")

    def report(self) -> None:
        """Says at the end of a run which scenes were left out."""
        if self.reasons:
            CONSOLE.print(
                f"[bold yellow]{len(self.reasons)} scenes were left out:[/bold yellow] {', '.join(self.reasons)}",
                soft_wrap=True,
            )
