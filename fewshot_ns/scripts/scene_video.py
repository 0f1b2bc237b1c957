"""What `ns-fewshot video` does for runs of generalizable methods: scene, source views, and a strip of them."""

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
    """Of generalizable methods alone."""

    scene: Optional[str] = None
    """Name of the scene; None: the run's active one."""
    source_views: Tuple[int, ...] = ()
    """Source views, numbered as in the scene's files; none: as the run was configured."""
    target_view: Optional[int] = None
    """Where each camera has its own nearest source views, interpolate and spiral take those of this view; None: of the
    first that is evaluated."""
    strip: bool = True
    """Whether the source views stand beside each frame."""

    def any(self) -> bool:
        """Whether a flag is given."""
        return self != SceneVideoOptions()


def choose_scene(pipeline: Any, options: SceneVideoOptions, kind: str) -> ActiveScene:
    """Makes a loaded run of a generalizable method render the scene and from the source views that are asked for.

    Raises:
        ValueError: an unknown scene or view, or another number of views than the networks are made for.
        SceneError: a source view cannot be read.
    """
    from fewshot_ns.data.views.sources import view_positions

    manager = pipeline.datamanager
    entry = manager.active.scene.entry
    if options.scene is not None:
        entry = manager.library.find(options.scene, manager.test_split)
    active = manager.open(entry)
    if options.source_views:
        active = replace(active, sources=view_positions(active.scene, options.source_views, "--source-views"))
    if active.sources is None and kind in SOURCE_KINDS:
        if options.target_view is None:
            view = manager.selector.targets_of(active)[0]
        else:
            (view,) = view_positions(active.scene, (options.target_view,), "--target-view")
        # All frames from the same views: others would come in with a jump.
        pose = active.scene.cameras.camera_to_worlds[view]
        active = replace(active, sources=manager.selector.sources_for(active, pose))
    pipeline.render_scene(active)
    return active


def path_of_scene(options: PathOptions, manager: Any, active: ActiveScene) -> Dict[str, Any]:
    """The camera path of a scene, see `build_camera_path`."""
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
