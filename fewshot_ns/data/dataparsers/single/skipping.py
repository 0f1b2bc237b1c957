"""Scenes of which some photos are missing: views of the rule are chosen among those that are there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Optional, Tuple

from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.data.dataparsers.single.base import FewShotDataParser, FewShotDataParserConfig
from fewshot_ns.data.dataparsers.single.left_out import (
    OnMissing,
    among_those_there,
    check_enough_left,
    echo_left_out,
)
from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.views.selection import ViewSelection


@dataclass
class SkippingDataParserConfig(FewShotDataParserConfig):
    """Flags of dataparsers that can go on without some photos."""

    on_missing: Optional[OnMissing] = None
    """Of views whose photo is missing: skip, and say how many, or stop at any of them. Views keep their indices. None
    stops at a missing view in use."""


class SkippingDataParser(FewShotDataParser):
    """Base of dataparsers that can go on without some photos."""

    config: SkippingDataParserConfig
    skips_unasked: bool = False
    """Whether views without a photo are skipped unless the user says stop."""

    def _select(self, scene: SceneFiles) -> ViewSelection:
        """As of every format; where views of the rule have no photo, by the same rule among those that have one."""
        selection = super()._select(scene)
        skips = self.config.on_missing == "skip" or (self.config.on_missing is None and self.skips_unasked)
        if not skips or all(scene.images[view].is_file() for view in selection.views):
            return selection
        protocol = among_those_there(scene.protocol, scene.images)
        if self.config.train_indices is None:
            check_enough_left(protocol, self.least_views, self.config.data)
        return super()._select(replace(scene, protocol=protocol))

    def read_views(self) -> Tuple[SceneFiles, ViewSelection, Cameras]:
        """As of every format; a scene of a set stops at a missing view in use, since nobody reads a line per scene."""
        # Photos for nerfstudio's own methods are read by this too, in a scene that has been told of.
        if not self.config.camera_sized_files:
            self.skips_unasked = False
        return super().read_views()

    def _echo(self, scene: SceneFiles, *chosen: Any) -> None:
        super()._echo(scene, *chosen)
        echo_left_out(self.config.data, scene.left_out, len(scene.images))
