"""What `ns-fewshot video` does for runs of generalizable methods: scene, source views, the strip that shows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

if TYPE_CHECKING:
    import numpy as np

    from fewshot_ns.data.multiscene.active import ShownScene
    from fewshot_ns.scripts.camera_path import PathOptions

SOURCE_KINDS = ("interpolate", "spiral")
"""Kinds of paths that are made from source views, and shown from these alone."""


@dataclass
class SceneVideoOptions:
    """Of generalizable methods alone."""

    scene: Optional[str] = None
    """Name of the scene; None: the run's active one."""
    source_views: Tuple[int, ...] = ()
    """Views that are looked at, numbered as in the scene's files; none: as the run was configured."""
    target_view: Optional[int] = None
    """Where source views are those nearest to a camera, interpolate and spiral take those of this view; None: of the
    first that is evaluated."""
    strip: bool = True
    """Whether the source views stand beside each frame."""

    def any(self) -> bool:
        """Whether a flag is given."""
        return self != SceneVideoOptions()


def show_scene(pipeline: Any, options: SceneVideoOptions, kind: str) -> ShownScene:
    """Shows a loaded run of a generalizable method the scene and the source views that are asked for.

    Raises:
        ValueError: an unknown scene or view, or another number of views than the networks are made for.
        SceneError: a source view cannot be read.
    """
    from fewshot_ns.data.views.sources import view_positions

    manager = pipeline.datamanager
    entry = manager.active.scene.entry
    if options.scene is not None:
        entry = manager.library.find(options.scene, manager.test_split)
    shown = manager.shown(entry)
    if options.source_views:
        shown = replace(shown, sources=view_positions(shown.scene, options.source_views, "--source-views"))
    if shown.sources is None and kind in SOURCE_KINDS:
        if options.target_view is None:
            place = manager.chooser.targets_of(shown)[0]
        else:
            (place,) = view_positions(shown.scene, (options.target_view,), "--target-view")
        # All frames from the same views: others would come in with a jump.
        shown = replace(shown, sources=manager.chooser.sources_for(shown, shown.scene.cameras.camera_to_worlds[place]))
    pipeline.show(shown)
    return shown


def path_of_scene(options: PathOptions, manager: Any, shown: ShownScene) -> Dict[str, Any]:
    """The camera path of a scene that is shown, see `build_camera_path`."""
    import torch

    from fewshot_ns.data.dataparsers.multi.outputs import outputs_of_views
    from fewshot_ns.data.records.metadata import get_fewshot_metadata
    from fewshot_ns.scripts.camera_path import build_camera_path

    scene = shown.scene
    views = shown.sources or scene.pool or tuple(range(len(scene.image_filenames)))
    outputs = outputs_of_views(scene, views, "train", views, ())
    # The parser of a single scene knows more of it: bounds of each view, NDC.
    record = get_fewshot_metadata((manager.train_dataparser_outputs if manager.library.single else outputs).metadata)
    return build_camera_path(options, scene.cameras[torch.tensor(views)], record, scene.planar_range)


def source_strips(pipeline: Any, shown: ShownScene, poses: Any) -> List[List[np.ndarray]]:
    """For each pose (F, 3, 4) the images (H, W, 3) uint8 of the views that it is rendered from."""
    from fewshot_ns.presentation.pictures import to_uint8

    manager = pipeline.datamanager
    chosen = [manager.chooser.sources_for(shown, pose.cpu()) for pose in poses]
    read = {view: to_uint8(manager.library.images.image(shown.scene, view)) for views in chosen for view in views}
    return [[read[view] for view in views] for views in chosen]
