"""Which views of a scene condition a generalizable model (source views), and which it renders (target views)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple

import numpy as np
import torch
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from fewshot_ns.data.records.scene import Scene, SceneError
from fewshot_ns.data.views.selection import DTU_BAD_EXPOSURE, DTU_TRAIN_ORDER
from fewshot_ns.data.views.viewlist import Viewlist, read_viewlist
from fewshot_ns.utils.hashing import digest

SourceMode = Literal[
    "views",
    "dtu-1",
    "dtu-3",
    "dtu-6",
    "dtu-9",
    "srn-1",
    "srn-2",
    "viewlist",
    "nearest",
    "nearby",
    "pairs",
    "pool",
    "random",
]
Distance = Literal["l1", "l2", "rotation"]

PRESETS: Dict[str, Tuple[int, ...]] = {
    **{f"dtu-{count}": DTU_TRAIN_ORDER[:count] for count in (1, 3, 6, 9)},
    "srn-1": (64,),
    "srn-2": (64, 104),
}
"""Source views of pixelNeRF's published evaluations."""
_NEAREST_INSTEAD = ("srn-1", "srn-2")
"""Of these the nearest numbers are taken where a scene has fewer views than SRN's test sets, which have 251."""


@dataclass
class SourceViewsConfig:
    """Which views of a scene are source views. Views are numbered as in the scene's own files, from 0."""

    mode: SourceMode = "random"
    """views: those of --views; dtu-1 to dtu-9, srn-1, srn-2: the published ones (of srn the nearest numbers where a
    scene has fewer than 105 views, which is said); viewlist: those that a file lists for
    each object; nearest: the --count views nearest to each target camera; nearby: --count views drawn among the --among
    nearest; pairs: --count views drawn among the first --among that the dataset's own list gives for each target
    (MVSNet-DTU); pool: all of --pool, else all that the scene's protocol trains on; random: --count views, drawn per
    scene."""
    views: Tuple[int, ...] = ()
    """Views of mode views."""
    viewlist: Optional[Path] = None
    """File of mode viewlist, lines '<category> <object> <view> ...'."""
    count: int = 1
    """Number of views of the modes nearest, nearby, pairs and random."""
    among: int = 5
    """Of the modes nearby and pairs: how many of a target's best views are drawn from."""
    distance: Distance = "l2"
    """Of the modes nearest and nearby: l1 or l2 distance of the camera centres; rotation: l2 distance times 1 plus the
    angle between the viewing axes in rad, so that a near camera that looks elsewhere comes later."""
    pool: Tuple[int, ...] = ()
    """Views that nearest, nearby, pool and random choose from; empty: all that the scene allows."""
    seed: int = 0
    """Of the modes nearby, pairs and random: the same seed and scene give the same views."""

    def record(self) -> Dict[str, Any]:
        """What a record of an evaluation says of it: the fields, and the content of the list, which may be edited.

        Raises:
            FileNotFoundError: the viewlist is missing.
        """
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        if self.viewlist is None:
            return fields
        return {**fields, "viewlist": str(self.viewlist), "viewlist_content": digest(self.viewlist.read_bytes())}


@dataclass
class TargetViewsConfig:
    """Which views of a scene are rendered and compared. Views are numbered as in the scene's own files, from 0."""

    views: Tuple[int, ...] = ()
    """Only these views; empty: those of the format's own protocol, else all."""
    exclude: Tuple[int, ...] = ()
    """Views to leave out."""
    exclude_dtu_bad: bool = False
    """Whether to leave out DTU's views of bad exposure (3-7, 16-21, 36-39)."""
    include_sources: bool = False
    """Whether source views are rendered as well."""


class SourceViews:
    """Chooses source views by a config. A viewlist is read once, here.

    Args:
        config: How to choose.

    Raises:
        FileNotFoundError: the viewlist is missing.
        ValueError: the config lacks what its mode needs, or the viewlist is damaged.
    """

    def __init__(self, config: SourceViewsConfig) -> None:
        self.config = config
        self._viewlist: Optional[Viewlist] = None
        self._said = False
        if config.mode == "views" and not config.views:
            raise ValueError("source views of mode 'views' need --views, got none")
        if config.mode == "viewlist":
            if config.viewlist is None:
                raise ValueError("source views of mode 'viewlist' need --viewlist FILE, got none")
            self._viewlist = read_viewlist(config.viewlist)
        if config.mode in ("nearest", "nearby", "pairs", "random") and config.count < 1:
            raise ValueError(f"expected --count of source views to be at least 1, got {config.count}")

    @property
    def depends_on_target(self) -> bool:
        """Whether each target camera has source views of its own."""
        return self.config.mode in ("nearest", "nearby", "pairs")

    def select(
        self,
        scene: Scene,
        target: Optional[Tensor] = None,
        exclude: Sequence[int] = (),
        seed: int = 0,
        target_view: Optional[int] = None,
    ) -> Tuple[int, ...]:
        """Source views of a scene.

        Args:
            scene: An opened scene.
            target: (3, 4) camera-to-world pose of the target view; the modes nearest, nearby and pairs need it.
            exclude: Positions in the scene that nearest, nearby, pairs and random leave out, such as the target's own.
            seed: Beside the config's, for draws that differ from step to step.
            target_view: Position of the target in the scene, for the modes nearby and pairs; for a camera that is not
                one of the scene's, these take the nearest views.

        Returns:
            Positions in the scene (not the files' own numbers where the two differ); nearest first, random ones sorted,
            listed ones as listed.

        Raises:
            SceneError: the scene lacks a listed view, is not in the viewlist, has too few views or no list of pairs.
            ValueError: mode nearest, nearby or pairs without a target.
        """
        config = self.config
        if config.mode == "pairs" and target_view is not None:
            paired = self._paired(scene, target_view, exclude)
            return self._drawn(scene, paired, seed, target_view)
        if self.depends_on_target:
            if target is None:
                raise ValueError(f"source views of mode {config.mode!r} need a target camera, got none")
            candidates = self._candidates(scene, exclude)
            apart = camera_distances(scene.cameras.camera_to_worlds[candidates], target, config.distance)
            order = [candidates[int(position)] for position in torch.argsort(apart, stable=True)]
            if config.mode == "nearby" and target_view is not None:
                return self._drawn(scene, order[: max(config.among, config.count)], seed, target_view)
            return tuple(order[: config.count])
        if config.mode == "random":
            return self._drawn(scene, self._candidates(scene, exclude), seed)
        if self._viewlist is not None:
            views, where = self._viewlist.views_of(scene.entry.category, scene.entry.scene_id)
            return view_positions(scene, views, where)
        if config.mode == "pool":
            return tuple(self._allowed(scene))
        if config.mode == "views":
            return view_positions(scene, config.views, "--views")
        return view_positions(scene, self._published(scene), f"the published source views {config.mode}")

    def views_of(self, scene: Scene) -> Tuple[int, ...]:
        """Positions of all views of a scene that may be source views, whatever the target.

        Raises:
            SceneError: see `select`.
        """
        return tuple(self._allowed(scene)) if self.depends_on_target else self.select(scene)

    def pool_of(self, scene: Scene) -> Optional[Sequence[int]]:
        """Positions that the config's pool, else the scene's, allows; None: all."""
        return view_positions(scene, self.config.pool, "--pool") if self.config.pool else scene.pool

    def _published(self, scene: Scene) -> Tuple[int, ...]:
        """Numbers of the published source views, or of those nearest to them; the first such scene is named."""
        mode, wanted = self.config.mode, PRESETS[self.config.mode]
        if mode not in _NEAREST_INSTEAD:
            return wanted
        known = scene.view_indices or range(len(scene.image_filenames))
        nearest = nearest_numbers(wanted, known)
        if nearest != wanted and not self._said:
            self._said = True
            CONSOLE.print(
                f"{scene.entry.scene_id}: of the published source views {mode}, {_words(wanted)}, a scene of "
                f"{len(known)} views has not all; the nearest are taken: {_words(nearest)}. This is not the published "
                "protocol",
                highlight=False,
                soft_wrap=True,
            )
        return nearest

    def _drawn(self, scene: Scene, candidates: Sequence[int], *seeds: int) -> Tuple[int, ...]:
        scene_number = zlib.crc32(scene.entry.scene_id.encode())
        generator = np.random.default_rng([self.config.seed, scene_number, *seeds])
        drawn = generator.choice(len(candidates), size=self.config.count, replace=False)
        return tuple(sorted(candidates[int(position)] for position in drawn))

    def _paired(self, scene: Scene, target_view: int, exclude: Sequence[int]) -> List[int]:
        """The first views that the dataset's own list gives for a target."""
        if scene.neighbours is None:
            raise SceneError(
                f"{scene.entry.folder}: expected the set's list of source views (--pair-file), found none; the mode "
                "nearby needs none (in training: --pipeline.datamanager.train-source-mode nearby)"
            )
        allowed = set(self._allowed(scene)) - set(exclude)
        paired = [view for view in scene.neighbours[target_view] if view in allowed]
        if len(paired) < self.config.count:
            raise SceneError(
                f"{scene.entry.folder}: expected {self.config.count} source views of view {target_view} in the set's "
                f"list, found {len(paired)}"
            )
        return paired[: max(self.config.among, self.config.count)]

    def _allowed(self, scene: Scene) -> Sequence[int]:
        pool = self.pool_of(scene)
        return range(len(scene.image_filenames)) if pool is None else pool

    def _candidates(self, scene: Scene, exclude: Sequence[int]) -> List[int]:
        candidates = [view for view in self._allowed(scene) if view not in set(exclude)]
        if len(candidates) < self.config.count:
            raise SceneError(
                f"{scene.entry.folder}: expected {self.config.count} views to look at beside the target, "
                f"found {len(candidates)} of {len(scene.image_filenames)}"
            )
        return candidates


def target_views(
    scene: Scene, sources: Sequence[int], config: TargetViewsConfig, may_be_none: bool = False
) -> Tuple[int, ...]:
    """Positions of the views that are rendered and compared, in the scene's order or in that of `config.views`.

    Views that the scene does not have are no error in `exclude`: a list of bad views is made for a whole dataset.

    Args:
        scene: An opened scene.
        sources: Positions of its source views.
        config: Which views.
        may_be_none: Whether no view has to be left.

    Raises:
        SceneError: the scene lacks a view of `config.views`, or none is left where one has to be.
    """
    views = scene.targets or range(len(scene.image_filenames))
    if config.views:
        views = view_positions(scene, config.views, "--views")
    bad = set(config.exclude) | set(DTU_BAD_EXPOSURE if config.exclude_dtu_bad else ())
    numbers = scene.view_indices or tuple(range(len(scene.image_filenames)))
    left_out = set() if config.include_sources else set(sources)
    chosen = tuple(view for view in views if numbers[view] not in bad and view not in left_out)
    if not chosen and not may_be_none:
        raise SceneError(f"{scene.entry.folder}: expected a view to compare beside the source views, found none")
    return chosen


def view_positions(scene: Scene, numbers: Sequence[int], where: str) -> Tuple[int, ...]:
    """Positions in a scene of views that are given by the numbers of its files.

    Args:
        scene: An opened scene.
        numbers: Views as its files number them.
        where: What named them, for the message.

    Raises:
        SceneError: the scene lacks one of them, or one is named twice.
    """
    if scene.view_indices is None:
        positions, known = {number: number for number in range(len(scene.image_filenames))}, "0.."
    else:
        positions, known = {number: position for position, number in enumerate(scene.view_indices)}, "some of 0.."
    missing = [number for number in numbers if number not in positions]
    if missing:
        raise SceneError(
            f"{scene.entry.folder}: expected views among {known}{max(positions)} ({len(positions)} views) by {where}, "
            f"got {missing}"
        )
    if len(set(numbers)) < len(numbers):
        raise SceneError(f"{scene.entry.folder}: expected each view once by {where}, got {list(numbers)}")
    return tuple(positions[number] for number in numbers)


def nearest_numbers(wanted: Sequence[int], known: Sequence[int]) -> Tuple[int, ...]:
    """For each wanted number in turn the nearest known one that is not taken yet, the lower of two; none are left over
    where fewer are known than wanted."""
    left = sorted(known)
    # Wanted ones that are known are theirs, whatever comes before them.
    kept = set(wanted) & set(left)
    chosen: List[int] = []
    for number in wanted:
        free = [other for other in left if other not in chosen and (other == number or other not in kept)]
        if free:
            chosen.append(min(free, key=lambda other: (abs(other - number), other)))
    return tuple(chosen)


def _words(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def camera_distances(poses: Tensor, target: Tensor, distance: Distance) -> Tensor:
    """How far cameras are from a target.

    Args:
        poses: (N, 3, 4) OpenGL camera-to-world.
        target: (3, 4) the same.
        distance: See `SourceViewsConfig.distance`.

    Returns:
        (N,) world units.
    """
    apart = poses[:, :, 3] - target[:, 3].to(poses)
    if distance == "l1":
        return apart.abs().sum(-1)
    lengths = apart.norm(dim=-1)
    if distance == "l2":
        return lengths
    cosine = (poses[:, :, 2] * target[:, 2].to(poses)).sum(-1)
    # With the scene's mean distance added, cameras at the same position are still told apart by where they look.
    return (lengths + 1e-3 * lengths.mean()) * (1.0 + torch.acos(cosine.clamp(-1.0, 1.0)))
