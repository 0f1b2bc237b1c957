"""How published figures were trained, where a preset does not do it by itself: steps by the number of views, and
settings of single scenes. Recipes give these flags; reports say where a row does without."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Tuple


@dataclass(frozen=True)
class PublishedTraining:
    """What is known of the training behind published figures."""

    dataset: str
    """Data set, with the scene where it is about one scene: 'llff', 'llff/leaves'."""
    num_views: Optional[int]
    """Training views; None: any number."""
    source: str
    """Where it is written."""
    steps: Optional[int] = None
    """Training steps; None: not said here."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Flags of ns-train (without dashes in front) that the preset needs for it, and their values."""


LENGTHS: Dict[str, Dict[int, int]] = {
    "llff": {3: 69768, 6: 139535, 9: 209303},
    "dtu": {3: 43945, 6: 87891, 9: 131836},
}
"""Steps by views: 500 passes over the photos (504x378, 400x300) in batches of 4096 rays. The configs of RegNeRF, and of
mip-NeRF and FreeNeRF in FreeNeRF's code."""

FREENERF_MASKS: Dict[str, Dict[int, int]] = {"llff": {6: 97675, 9: 104651}, "dtu": {6: 61524, 9: 65918}}
"""Steps of FreeNeRF's frequency mask: 70 % of the training with six views, 50 % with nine (with three 90 %, which the
preset has). An earlier version of the configs had 50 % and 20 % (LLFF), 20 % and 50 % (DTU)."""

_REGNERF = "google-research regnerf/configs/{}{}.gin"
_FREENERF = "Jiawei-Yang/FreeNeRF configs/{}/{}{}_{}.gin"
_SPARSENERF = (
    "Wanggcong/SparseNeRF internal/datasets_depth_llff_dtu.py, lines 518 to 536, for photos of 504x378 and 400x300"
)
_SIMPLIFIED = "ajayjain/DietNeRF dietnerf/scripts/run_synthetic_simplified_nerf_8v.sh and the configs that it names"


def _freenerfs(method: str) -> List[PublishedTraining]:
    return [
        PublishedTraining(data, views, _FREENERF.format(method, data, views, method), steps)
        for data, lengths in LENGTHS.items()
        for views, steps in lengths.items()
    ]


def _regnerf() -> List[PublishedTraining]:
    without = {"pipeline.model.annealing.steps": "0"}
    return [
        PublishedTraining(data, views, _REGNERF.format(data, views), steps, without if views == 9 else {})
        for data, lengths in LENGTHS.items()
        for views, steps in lengths.items()
    ]


def _masks() -> List[PublishedTraining]:
    return [
        PublishedTraining(
            data,
            views,
            _FREENERF.format("freenerf", data, views, "freenerf"),
            flags={"pipeline.model.frequency-mask.steps": str(steps)},
        )
        for data, masks in FREENERF_MASKS.items()
        for views, steps in masks.items()
    ]


def _boxes(source: str = _SPARSENERF) -> List[PublishedTraining]:
    """Boxes of the ranking pairs that are not the preset's (30 pixels on LLFF, the whole photo on DTU)."""
    pixels = {"llff/leaves": 180, "llff/horns": 60, "dtu/scan34": 100, "dtu/scan38": 100, "dtu/scan82": 100}
    boxes = {name: {"pipeline.depth.box-pixels": str(side)} for name, side in pixels.items()}
    boxes |= {name: {"pipeline.depth.box-fraction": "1.0"} for name in ("llff/room", "llff/fortress")}
    return [PublishedTraining(name, None, source, flags=flags) for name, flags in boxes.items()]


def _simplified() -> List[PublishedTraining]:
    slow = {"optimizers.field.optimizer.lr": "1e-5", "optimizers.field.scheduler.lr-final": "1e-6"}
    by_scene = {
        "lego": {"pipeline.model.view-dependent": "True"},
        "hotdog": {"pipeline.model.num-octaves": "5", **slow},
        "materials": slow,
    }
    return [PublishedTraining(f"blender/{name}", 8, _SIMPLIFIED, flags=flags) for name, flags in by_scene.items()]


TRAININGS: Dict[str, Tuple[PublishedTraining, ...]] = {
    "mipnerf_fewshot": tuple(_freenerfs("mipnerf")),
    "regnerf": tuple(_regnerf()),
    "freenerf": (*_freenerfs("freenerf"), *_masks()),
    "sparsenerf": (
        PublishedTraining("llff", 3, "Wanggcong/SparseNeRF configs/llff3.gin", 90000),
        PublishedTraining("dtu", 3, "Wanggcong/SparseNeRF configs/dtu3.gin", 90000),
        *_boxes(),
    ),
    "free_sparsenerf": (
        PublishedTraining("llff", 3, "Wanggcong/FreeNeRF_plus_SparseNeRF configs/freenerf/llff3_freenerf.gin", 69768),
        *_boxes("Wanggcong/FreeNeRF_plus_SparseNeRF internal/datasets_depth.py, _next_train"),
    ),
    "dietnerf": (PublishedTraining("blender", 8, "ajayjain/DietNeRF, configs of the Blender scenes", 200000),),
    "simplified_nerf": (PublishedTraining("blender", 8, _SIMPLIFIED, 200000), *_simplified()),
}
"""By the key of a method in the registry."""


_FLOW = "the paper's figures are with a normalising flow, which its released code does not have"
REMARKS: Dict[str, Dict[str, str]] = {"regnerf": {"llff": _FLOW, "dtu": _FLOW}}
"""What every training of a method lacks beside its published figures, by the key of the method and the figures' data
set. It is said, and does not keep a row from being reproduced."""


def figure_remark(method: str, dataset: str) -> str:
    """What no training here has of what is behind the published figures; '' where there is nothing.

    Args:
        method: name as ns-train or as the registry has it.
        dataset: of the figures: 'llff', 'dtu/scan114'.
    """
    return REMARKS.get(method.replace("-", "_"), {}).get(dataset, "")


def published_training(method: str, dataset: str, num_views: Optional[int], scene: str) -> PublishedTraining:
    """All that is known of a method's training on a scene, as one record; of unknown methods nothing.

    Args:
        method: name as ns-train or as the registry has it.
        dataset: of the published table, such as 'llff'.
        num_views: training views.
        scene: name of the scene's folder.
    """
    found = [
        training
        for training in TRAININGS.get(method.replace("-", "_"), ())
        if training.dataset in (dataset, f"{dataset}/{scene}") and training.num_views in (None, num_views)
    ]
    steps = [training.steps for training in found if training.steps is not None]
    flags = {name: value for training in found for name, value in training.flags.items()}
    sources = dict.fromkeys(training.source for training in found)
    return PublishedTraining(f"{dataset}/{scene}", num_views, "; ".join(sources), steps[-1] if steps else None, flags)
