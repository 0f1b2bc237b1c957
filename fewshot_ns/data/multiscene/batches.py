"""Training batches of many scenes: source views, and rays of each scene."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from fewshot_ns.data.multiscene.colour_jitter import draw_colour_jitter
from fewshot_ns.data.multiscene.images import SceneImages, pixels_in_boxes
from fewshot_ns.data.multiscene.library import BadScenes, SceneLibrary
from fewshot_ns.data.multiscene.order import SceneOrder, step_generator
from fewshot_ns.data.records.scene import SCENE_INDEX_KEY, Conditioning, Scene, SceneEntry, SceneError
from fewshot_ns.data.views.sources import SourceViews


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is drawn."""

    num_sources: Tuple[int, ...]
    """Source views of each scene; of several numbers one is drawn for each step."""
    rays_per_scene: int
    """Rays of each scene."""
    no_box_step: int = 0
    """Step from which rays come from whole images, not from the boxes around the objects; 0: always."""
    target_views: Optional[int] = None
    """Views that the rays of a scene come from; None: all that may train."""
    colour_jitter: float = 0.0
    """Amount of the change of colours, one draw for all images of a scene; 0: none."""
    only: Optional[SourceViews] = None
    """Source views and views that train; None: all that a scene allows."""
    by_target: Optional[Dict[int, SourceViews]] = None
    """For each number of source views, how they are chosen by the target; None: any of those that may train, the target
    itself included."""


class SceneBatches:
    """Draws batches; every draw is a function of seed, step and rank.

    Args:
        library: opens scenes and reads images.
        entries: the scenes that are drawn from.
        order: which of them a step takes.
        options: how a batch is drawn.
        bad_scenes: takes note of scenes that cannot be used.

    Raises:
        ValueError: numbers of sources, rays or targets below 1, or several targets where one has to choose the sources.
    """

    def __init__(
        self,
        library: SceneLibrary,
        entries: Sequence[SceneEntry],
        order: SceneOrder,
        options: BatchOptions,
        bad_scenes: BadScenes,
    ) -> None:
        if not options.num_sources or min(*options.num_sources, options.rays_per_scene) < 1:
            raise ValueError(
                f"expected at least 1 source view and 1 ray per scene, got {options.num_sources} and "
                f"{options.rays_per_scene} (--pipeline.datamanager.num-sources, --pipeline.datamanager.rays-per-scene)"
            )
        if options.target_views is not None and options.target_views < 1:
            raise ValueError(f"--pipeline.datamanager.target-views: expected at least 1, got {options.target_views}")
        if options.by_target is not None and options.target_views != 1:
            raise ValueError(
                "--pipeline.datamanager.train-source-mode: source views are chosen by one target, expected "
                f"--pipeline.datamanager.target-views 1, got {options.target_views}"
            )
        self.library, self.entries, self.order = library, entries, order
        self.options, self.bad_scenes = options, bad_scenes
        self._first: Optional[Scene] = None

    def draw(self, step: int) -> Tuple[RayBundle, Dict[str, Any]]:
        """Rays (B * R,) with `SCENE_INDEX_KEY`, scene after scene, and their batch.

        Returns:
            the rays, and `image` (B * R, 3), `indices` (B * R, 3) of view, row and column in the scene, `conditioning`,
            `scenes` (names) and `sources` (view indices of the source views of each), all on the CPU.

        Raises:
            SceneError: an unusable scene where those end the run, or not one is usable. Where a step takes several
                scenes, one whose images differ in size or background from those of the first is not usable.
        """
        generator = step_generator(self.order.seed, step, self.order.rank)
        sources = self.options.num_sources
        num_sources = sources[int(torch.randint(len(sources), (1,), generator=generator))]
        parts: List[_ScenePart] = []
        for index in self.order.scenes(step):
            entry = self.entries[index]
            if entry in self.bad_scenes:
                continue
            try:
                parts.append(self._part(entry, num_sources, step, generator))
            except SceneError as error:
                self.bad_scenes.note(entry, error)
            if len(parts) == self.order.per_step:
                break
        if not parts:
            raise self.bad_scenes.none_usable(len(self.entries))
        rays = join_rays([part.rays for part in parts])
        batch = {
            "image": torch.cat([part.colours for part in parts]),
            "indices": torch.cat([part.indices for part in parts]),
            "conditioning": conditioning_of(
                [(part.scene, part.sources) for part in parts],
                [part.source_images for part in parts],
                [part.target for part in parts if part.target is not None],
            ),
            "scenes": tuple(part.scene.entry.scene_id for part in parts),
            "sources": tuple(part.sources for part in parts),
        }
        return rays, batch

    def _part(self, entry: SceneEntry, num_sources: int, step: int, generator: torch.Generator) -> _ScenePart:
        scene, images = self.library.open(entry), self.library.images
        self._check_alike(scene)
        pool = torch.tensor(self._pool(scene))
        if len(pool) < num_sources:
            raise SceneError(f"{entry.folder}: expected {num_sources} views to look at, found {len(pool)}")
        sources = pool[torch.randperm(len(pool), generator=generator)[:num_sources]].tolist()
        targets = pool
        if self.options.target_views is not None:
            targets = pool[torch.randperm(len(pool), generator=generator)[: self.options.target_views]]
        if self.options.by_target is not None:
            view, poses = int(targets[0]), scene.cameras.camera_to_worlds
            outside = set(range(len(poses))) - set(pool.tolist())
            selector = self.options.by_target[num_sources]
            sources = selector.select(scene, poses[view], exclude=(view, *outside), seed=step, target_view=view)
        indices = self._pixels(scene, targets, step, generator)
        source_images = images.images(scene, sources)
        if self.options.colour_jitter > 0:
            # The contrast refers to the mean of a whole image, so single pixels will not do.
            jitter = draw_colour_jitter(self.options.colour_jitter, generator)
            views, position = indices[:, 0].unique(return_inverse=True)
            seen = jitter.apply(images.images(scene, views.tolist()))
            colours, source_images = seen[position, indices[:, 1], indices[:, 2]], jitter.apply(source_images)
        else:
            colours = images.colours(scene, indices)
        coords = indices[:, 1:] + 0.5
        rays = scene.cameras.generate_rays(camera_indices=indices[:, :1], coords=coords)
        target = int(targets[0]) if len(targets) == 1 else None
        return _ScenePart(scene, tuple(sources), source_images, rays, colours, indices, target)

    def _check_alike(self, scene: Scene) -> None:
        """Where a step takes several scenes, their images are stacked.

        All are compared with the first scene of the table that opens, so that resumed runs leave out the same ones.
        """
        if self.order.per_step == 1:
            return
        if self._first is None:
            self._first = self._first_that_opens()
        if _image_format(scene) != _image_format(self._first):
            raise SceneError(
                f"{scene.entry.folder}: expected images like those of scene {self._first.entry.scene_id}, "
                f"{_described(self._first)}, as several scenes make a step; found {_described(scene)}; give the "
                "dataparser's --image-size, or --pipeline.datamanager.scenes-per-batch 1"
            )

    def _first_that_opens(self) -> Scene:
        for entry in self.entries:
            try:
                return self.library.open(entry)
            except SceneError:
                # Noted when its turn comes.
                continue
        raise SceneError(f"expected a scene that can be opened, found none of {len(self.entries)}")

    def _pool(self, scene: Scene) -> Sequence[int]:
        if self.options.only is not None:
            return self.options.only.views_of(scene)
        return range(len(scene.image_filenames)) if scene.pool is None else scene.pool

    def _pixels(self, scene: Scene, targets: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """(R, 3) view, row and column."""
        count = self.options.rays_per_scene
        size = int(scene.cameras.height[0].item()), int(scene.cameras.width[0].item())
        views = targets[torch.randint(len(targets), (count,), generator=generator)]
        draws = torch.rand(count, 2, generator=generator)
        if step < self.options.no_box_step:
            drawn, position = views.unique(return_inverse=True)
            boxes = self.library.images.boxes(scene, drawn.tolist())[position]
        else:
            boxes = torch.tensor([[0.0, 0.0, size[1] - 1.0, size[0] - 1.0]]).expand(count, 4)
        rows, columns = pixels_in_boxes(boxes, draws, size)
        return torch.stack([views, rows, columns], dim=-1)


class RayCount:
    """In place of a pixel sampler, by which ns-export sets the number of rays."""

    def __init__(self, batches: SceneBatches) -> None:
        self._batches = batches

    @property
    def num_rays_per_batch(self) -> int:
        """Rays of a step of this process."""
        return self._batches.order.per_step * self._batches.options.rays_per_scene

    @num_rays_per_batch.setter
    def num_rays_per_batch(self, count: int) -> None:
        per_scene = max(count // self._batches.order.per_step, 1)
        self._batches.options = replace(self._batches.options, rays_per_scene=per_scene)


def _image_format(scene: Scene) -> Tuple[int, int, str]:
    """Height, width and background of a scene's images."""
    return int(scene.cameras.height[0].item()), int(scene.cameras.width[0].item()), scene.background


def _described(scene: Scene) -> str:
    height, width, background = _image_format(scene)
    return f"{height}x{width} (height x width) on {background}"


@dataclass(frozen=True)
class _ScenePart:
    scene: Scene
    sources: Tuple[int, ...]
    source_images: Tensor
    rays: RayBundle
    colours: Tensor
    indices: Tensor
    target: Optional[int]


def load_sources(images: SceneImages, scenes: Sequence[Tuple[Scene, Sequence[int]]]) -> Conditioning:
    """Reads source views of scenes.

    Args:
        images: reads them.
        scenes: scenes with the view indices of their source views, the same number for each.

    Raises:
        SceneError: an image cannot be read.
        ValueError: images of the scenes differ in size.
    """
    return conditioning_of(scenes, [images.images(scene, sources) for scene, sources in scenes])


def conditioning_of(
    scenes: Sequence[Tuple[Scene, Sequence[int]]], images: Sequence[Tensor], targets: Sequence[int] = ()
) -> Conditioning:
    """Source views whose images are read already.

    Args:
        scenes: scenes with the view indices of their source views, the same number for each.
        images: their images, each (N, H, W, 3).
        targets: view index of the one view of each scene that the rays are of; ignored unless there is one for each.

    Raises:
        ValueError: they differ in size or background.
    """
    if len({_image_format(scene) for scene, _ in scenes}) > 1:
        found = "; ".join(f"scene {scene.entry.scene_id}: {_described(scene)}" for scene, _ in scenes)
        raise ValueError(
            f"expected images of one size and one background, found {found}; give the dataparser's --image-size"
        )
    picked = [scene.cameras[torch.tensor(sources)] for scene, sources in scenes]
    target_cameras = [scene.cameras[torch.tensor([view])] for (scene, _), view in zip(scenes, targets, strict=False)]
    known = len(targets) == len(scenes)
    return Conditioning(
        images=torch.stack(list(images)),
        camera_to_worlds=torch.stack([cameras.camera_to_worlds for cameras in picked]),
        intrinsics=torch.stack([intrinsics_of(cameras) for cameras in picked]),
        near=torch.tensor([scene.near for scene, _ in scenes]),
        far=torch.tensor([scene.far for scene, _ in scenes]),
        planar_range=torch.tensor([scene.planar_range for scene, _ in scenes]),
        background=scenes[0][0].background,
        target_to_worlds=torch.cat([cameras.camera_to_worlds for cameras in target_cameras]) if known else None,
        target_intrinsics=torch.cat([intrinsics_of(cameras) for cameras in target_cameras]) if known else None,
    )


def intrinsics_of(cameras: Cameras) -> Tensor:
    """(N, 4) fx, fy, cx, cy."""
    return torch.cat([cameras.fx, cameras.fy, cameras.cx, cameras.cy], dim=-1)


def join_rays(bundles: Sequence[RayBundle]) -> RayBundle:
    """Rays of scene 0, then those of scene 1, and so on, with `SCENE_INDEX_KEY`."""
    metadata = {key: torch.cat([rays.metadata[key] for rays in bundles]) for key in bundles[0].metadata}
    scenes = [torch.full((len(rays), 1), index) for index, rays in enumerate(bundles)]
    return RayBundle(
        origins=torch.cat([rays.origins for rays in bundles]),
        directions=torch.cat([rays.directions for rays in bundles]),
        pixel_area=torch.cat([rays.pixel_area for rays in bundles]),
        camera_indices=torch.cat([rays.camera_indices for rays in bundles if rays.camera_indices is not None]),
        metadata={**metadata, SCENE_INDEX_KEY: torch.cat(scenes)},
    )
