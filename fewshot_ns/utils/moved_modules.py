"""Old module names of config classes, so that a config.yml saved by an earlier version still loads.

nerfstudio writes a run's config with the full names of its classes and imports them when it reads the file. `install`
adds an import hook that answers to the old names alone: a module of an old name that hands out the classes from where
they are now, and imports those modules only when a class is asked for. It is the last hook in line, so that a module
which exists is never hidden. Where an old module is a package today, its `__init__` asks `moved_class` instead.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

PACKAGE = "fewshot_ns"


class Moved(NamedTuple):
    """Where the config classes of an old module are now."""

    module: str
    """Name of the new module, below the package."""
    names: Tuple[str, ...]
    """The classes, by the names that they had."""


def _parser(module: str, name: str) -> Moved:
    return Moved(f"data.dataparsers.{module}", (f"{name}DataParser", f"{name}DataParserConfig"))


MOVED: Dict[str, Moved] = {
    "data.dataparsers.blender": _parser("single.blender", "FewShotBlender"),
    "data.dataparsers.dtu": _parser("single.dtu", "DTU"),
    "data.dataparsers.llff": _parser("single.llff", "LLFF"),
    "data.dataparsers.multiscale_blender": _parser("single.multiscale_blender", "MultiscaleBlender"),
    "data.dataparsers.nerfstudio": _parser("single.nerfstudio", "FewShotNerfstudio"),
    "data.dataparsers.rgbd": _parser("single.rgbd", "RGBD"),
    "data.stored_scene": _parser("single.stored", "StoredScene"),
    "data.dataparsers.dvr_dtu": _parser("multi.dvr_dtu", "DVRDTU"),
    "data.dataparsers.folder_of_scenes": _parser("multi.scene_folders", "SceneFolder"),
    "data.dataparsers.multi_object": _parser("multi.multi_object", "MultiObject"),
    "data.dataparsers.mvsnet_dtu": _parser("multi.mvsnet_dtu", "MVSNetDTU"),
    "data.dataparsers.nmr": _parser("multi.nmr", "NMR"),
    "data.dataparsers.srn": _parser("multi.srn", "SRN"),
    "data.datamanagers.fewshot_datamanager": Moved(
        "data.datamanagers.fewshot", ("FewShotDataManager", "FewShotDataManagerConfig")
    ),
    "data.datamanagers.multiscene_datamanager": Moved(
        "data.datamanagers.multiscene", ("MultiSceneDataManager", "MultiSceneDataManagerConfig")
    ),
    "data.source_views": Moved("data.views.sources", ("SourceViewsConfig", "TargetViewsConfig")),
    "encoders.gmflow_checkpoints": Moved("encoders.convert_gmflow", ("MatchingEncoderConfig",)),
    "evaluation.scene_evaluation": Moved("evaluation.runners.scenes", ("SceneEvaluationConfig",)),
    "evaluation.suite": Moved("evaluation.metrics.config", ("EvaluationConfig",)),
    "models.dietnerf": Moved("models.nerf", ("DietNeRFModel", "DietNeRFModelConfig")),
    "models.sparsenerf_lite": Moved("models.compact", ("SparseNeRFLiteModel", "SparseNeRFLiteModelConfig")),
    "priors.depth": Moved("priors.depth.prior", ("DepthPrior", "DepthPriorConfig")),
    "priors.diffusion": Moved("priors.diffusion.prior", ("DiffusionPrior", "DiffusionPriorConfig")),
    "priors.encoders": Moved("pretrained.encoders.config", ("EncoderConfig",)),
    "priors.metric_depth": Moved("priors.depth.metric", ("MetricDepthConfig",)),
    "priors.monocular": Moved("pretrained.monocular_depth", ("MonocularDepthConfig",)),
    "priors.semantic_views": Moved("priors.unseen_views", ("UnseenViewsConfig",)),
}
"""By the old module's name below the package. A class that moves again changes its line here, not the key."""

RENAMED: Dict[str, str] = {
    "DietNeRFModel": "NeRFModel",
    "DietNeRFModelConfig": "NeRFModelConfig",
    "SparseNeRFLiteModel": "CompactModel",
    "SparseNeRFLiteModelConfig": "CompactModelConfig",
}
"""Classes that also have another name today."""


def moved_class(module: str, name: str) -> Any:
    """The class that an old module held.

    Args:
        module: full name of the old module.
        name: the class's name at that time.

    Raises:
        AttributeError: the old module held no config class of that name.
    """
    moved = MOVED.get(module.removeprefix(f"{PACKAGE}."))
    if moved is None or name not in moved.names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return getattr(import_module(f"{PACKAGE}.{moved.module}"), RENAMED.get(name, name))


class _OldModules(MetaPathFinder, Loader):
    """Import hook for the names in `MOVED`."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        """The spec of an old module; None for every other name."""
        known = fullname.startswith(f"{PACKAGE}.") and fullname.removeprefix(f"{PACKAGE}.") in MOVED
        return ModuleSpec(fullname, self, origin=__name__) if known else None

    def exec_module(self, module: ModuleType) -> None:
        """Fills an old module with nothing but the way to its classes."""
        old = module.__name__
        module.__doc__ = f"Old name of {PACKAGE}.{MOVED[old.removeprefix(f'{PACKAGE}.')].module}."
        module.__getattr__ = lambda name: moved_class(old, name)  # type: ignore[method-assign]


def install() -> None:
    """Adds the import hook, once."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())
