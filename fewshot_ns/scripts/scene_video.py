"""The part of `ns-fewshot video` for generalizable methods: scene, source views, and the strip of source images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

if TYPE_CHECKING:
    import numpy as np

    from fewshot_ns.data.multiscene.active import ActiveScene
    from fewshot_ns.scripts.camera_path import PathOptions

SOURCE_KINDS = ("interpolate", "spiral")
"""Kinds of paths that are made from source views, and rendered from these alone."""


@dataclass
class SceneVideoOptions:
    """Options of generalizable methods."""

    scene: Optional[str] = None
    """Name of the scene; None: the run's active one."""
    source_views: Tuple[int, ...] = ()
    """Source views by their index in the scene; none: as the run was configured."""
    target_view: Optional[int] = None
    """Where source views are chosen by camera, the paths interpolate and spiral take those of this view; None: those of
    the first evaluated view."""
    strip: bool = True
    """Whether the source images are shown at the left of each frame."""

    def any(self) -> bool:
        """Whether a flag is given."""
        return self != SceneVideoOptions()


def show_scene(pipeline: Any, options: SceneVideoOptions, kind: str) -> ActiveScene:
    """Makes the chosen scene with the chosen source views the active one of a loaded run.

    Raises:
        ValueError: an unknown scene or view, or another number of views than the networks are made for.
        SceneError: a source view cannot be read.
    """
    from fewshot_ns.data.views.sources import view_positions

    manager = pipeline.datamanager
    entry = manager.active.scene.entry
    if options.scene is not None:
        entry = manager.library.find(options.scene, manager.test_split)
    active = manager.selector.open(entry)
    if options.source_views:
        active = replace(active, sources=view_positions(active.scene, options.source_views, "--source-views"))
    if active.sources is None and kind in SOURCE_KINDS:
        if options.target_view is None:
            view = manager.selector.targets_of(active)[0]
        else:
            (view,) = view_positions(active.scene, (options.target_view,), "--target-view")
        # All frames are rendered from the same views: a change of source views would show as a jump.
        active = replace(
            active, sources=manager.selector.sources_for(active, active.scene.cameras.camera_to_worlds[view])
        )
    pipeline.render_scene(active)
    return active


def scene_camera_path(options: PathOptions, manager: Any, active: ActiveScene) -> Dict[str, Any]:
    """The camera path of the active scene, see `build_camera_path`."""
    import torch

    from fewshot_ns.data.dataparsers.multi.outputs import scene_outputs
    from fewshot_ns.data.records.metadata import get_fewshot_metadata
    from fewshot_ns.scripts.camera_path import build_camera_path

    scene = active.scene
    views = active.sources or scene.pool or tuple(range(len(scene.image_filenames)))
    outputs = scene_outputs(scene, views, "train", views, ())
    # The parser of a single scene knows more of it: bounds of each view, NDC.
    record = get_fewshot_metadata((manager.train_dataparser_outputs if manager.library.single else outputs).metadata)
    return build_camera_path(options, scene.cameras[torch.tensor(views)], record, scene.planar_range)


def source_strips(pipeline: Any, active: ActiveScene, poses: Any) -> List[List[np.ndarray]]:
    """For each pose (F, 3, 4) the images (H, W, 3) uint8 of the views that it is rendered from."""
    from fewshot_ns.presentation.pictures import to_uint8

    manager = pipeline.datamanager
    chosen = [manager.selector.sources_for(active, pose.cpu()) for pose in poses]
    read = {view: to_uint8(manager.library.images.image(active.scene, view)) for views in chosen for view in views}
    return [[read[view] for view in views] for views in chosen]
