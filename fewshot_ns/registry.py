"""The entry points: every method and every dataparser that this package adds to nerfstudio.

The host loads the dataparsers while its own datamanagers are half imported, and the methods once it has all it needs;
both happen inside every `ns-train`, with nothing to catch an error. So a specification is built only when it is asked
for (PEP 562), a dataparser never drags in a method, and nothing is imported that the host does not load itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Tuple

if TYPE_CHECKING:
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification
    from nerfstudio.plugins.types import MethodSpecification

    from fewshot_ns.configs.paper_results import PaperResult


class Entry(NamedTuple):
    """Where the config behind one entry point lies."""

    module: str
    """Module below `fewshot_ns`."""
    attribute: str
    """A `TrainerConfig` instance (method) or a `DataParserConfig` class (dataparser) in it."""
    description: str
    """One line for `ns-train --help`."""


METHODS: Dict[str, Entry] = {
    "sparsenerf": Entry(
        "configs.sparsenerf", "sparsenerf", "SparseNeRF as published: mip-NeRF with depth ranking and continuity."
    ),
    "sparsenerf_lite": Entry(
        "configs.sparsenerf_lite",
        "sparsenerf_lite",
        "SparseNeRF's depth ranking and continuity on a small fast field; minutes on a CPU.",
    ),
    "mipnerf_fewshot": Entry(
        "configs.mipnerf_fewshot", "mipnerf_fewshot", "mip-NeRF with RegNeRF's training, the few-shot baseline."
    ),
    "mipnerf_fewshot_lite": Entry(
        "configs.mipnerf_fewshot", "mipnerf_fewshot_lite", "The small fast field of sparsenerf-lite without any prior."
    ),
    "regnerf": Entry(
        "configs.regnerf", "regnerf", "RegNeRF: annealed near and far, smooth depth on patches of unseen views."
    ),
    "regnerf_lite": Entry("configs.regnerf", "regnerf_lite", "RegNeRF's smoothness on a small fast field."),
    "freenerf": Entry(
        "configs.freenerf", "freenerf", "FreeNeRF: frequencies open step by step, occlusion regularisation."
    ),
    "freenerf_lite": Entry("configs.freenerf", "freenerf_lite", "FreeNeRF's two terms on a small fast field."),
    "free_sparsenerf": Entry(
        "configs.free_sparsenerf", "free_sparsenerf", "FreeNeRF with SparseNeRF's depth ranking and continuity."
    ),
    "free_sparsenerf_lite": Entry(
        "configs.free_sparsenerf", "free_sparsenerf_lite", "FreeNeRF with depth ranking on a small fast field."
    ),
    "depth_mipnerf": Entry(
        "configs.depth_mipnerf", "depth_mipnerf", "depth-mipnerf: proposal mip-NeRF bounded by measured depth."
    ),
    "depth_mipnerf_lite": Entry(
        "configs.depth_mipnerf", "depth_mipnerf_lite", "depth-mipnerf's bounds by measured depth on a small fast field."
    ),
    "dietnerf": Entry(
        "configs.dietnerf", "dietnerf", "DietNeRF as published: NeRF whose unseen views look to CLIP like the photos."
    ),
    "dietnerf_lite": Entry(
        "configs.dietnerf", "dietnerf_lite", "DietNeRF's semantic consistency on a small fast field."
    ),
    "dietnerf_jax": Entry(
        "configs.dietnerf_jax", "dietnerf_jax", "DietNeRF as in its JAX version: projected embedding, cropped views."
    ),
    "dietnerf_jax_coarse": Entry(
        "configs.dietnerf_jax", "dietnerf_jax_coarse", "The same, comparing the coarse network alone."
    ),
    "simplified_nerf": Entry(
        "configs.simplified_nerf",
        "simplified_nerf",
        "Small NeRF without fine network: DietNeRF's baseline for few views.",
    ),
    "pixelnerf": Entry(
        "configs.pixelnerf", "pixelnerf", "pixelNeRF: many scenes, rendered from one or a few photos; SRN's setting."
    ),
    "pixelnerf_srn": Entry("configs.pixelnerf", "pixelnerf_srn", "pixelNeRF on one class of SRN's ShapeNet, 128x128."),
    "pixelnerf_sn64": Entry("configs.pixelnerf", "pixelnerf_sn64", "pixelNeRF on NMR's ShapeNet, 13 classes, 64x64."),
    "pixelnerf_sn64_unseen": Entry(
        "configs.pixelnerf", "pixelnerf_sn64_unseen", "The same, trained on 3 classes and tested on the 10 others."
    ),
    "pixelnerf_dtu": Entry("configs.pixelnerf", "pixelnerf_dtu", "pixelNeRF on DTU, 400x300, from 3 views."),
    "pixelnerf_multi_object": Entry(
        "configs.pixelnerf", "pixelnerf_multi_object", "pixelNeRF on scenes of several objects."
    ),
    "pixelnerf_lite": Entry("configs.pixelnerf", "pixelnerf_lite", "A small pixelNeRF; minutes on a CPU."),
    "idnerf": Entry(
        "configs.idnerf", "idnerf", "ID-NeRF: many scenes, matched source views, and a latent taught by diffusion."
    ),
    "idnerf_released": Entry("configs.idnerf", "idnerf_released", "ID-NeRF as its released code computes it."),
    "matchnerf": Entry("configs.idnerf", "matchnerf", "MatchNeRF: many scenes, rendered from matched source views."),
    "idnerf_lite": Entry("configs.idnerf", "idnerf_lite", "A small ID-NeRF without diffusion; minutes on a CPU."),
    "matchnerf_lite": Entry("configs.idnerf", "matchnerf_lite", "A small MatchNeRF; minutes on a CPU, own scenes."),
}
"""Methods by attribute name, which is the method's name with underscores."""

DATAPARSERS: Dict[str, Entry] = {
    "llff_data": Entry(
        "data.dataparsers.single.llff", "LLFFDataParserConfig", "Forward-facing scenes with poses_bounds.npy (LLFF)."
    ),
    "dtu_data": Entry("data.dataparsers.single.dtu", "DTUDataParserConfig", "Rectified DTU scans."),
    "fewshot_blender_data": Entry(
        "data.dataparsers.single.blender", "FewShotBlenderDataParserConfig", "Synthetic Blender scenes (NeRF)."
    ),
    "multiscale_blender_data": Entry(
        "data.dataparsers.single.multiscale_blender",
        "MultiscaleBlenderDataParserConfig",
        "Synthetic scenes at several sizes (mip-NeRF).",
    ),
    "rgbd_data": Entry("data.dataparsers.single.rgbd", "RGBDDataParserConfig", "Captures with sensor depth (RGB-D)."),
    "fewshot_nerfstudio_data": Entry(
        "data.dataparsers.single.nerfstudio", "FewShotNerfstudioDataParserConfig", "Any capture with a transforms.json."
    ),
    "srn_data": Entry(
        "data.dataparsers.multi.srn", "SRNDataParserConfig", "Many objects: ShapeNet in the layout of SRN."
    ),
    "nmr_data": Entry(
        "data.dataparsers.multi.nmr", "NMRDataParserConfig", "Many objects: NMR's ShapeNet in DVR format."
    ),
    "dvr_dtu_data": Entry("data.dataparsers.multi.dvr_dtu", "DVRDTUDataParserConfig", "Many scans: DTU in DVR format."),
    "multi_object_data": Entry(
        "data.dataparsers.multi.multi_object", "MultiObjectDataParserConfig", "Many scenes with a transforms.json each."
    ),
    "mvsnet_dtu_data": Entry(
        "data.dataparsers.multi.mvsnet_dtu", "MVSNetDTUDataParserConfig", "Many scans: DTU of MVSNet."
    ),
    "scene_folder_data": Entry(
        "data.dataparsers.multi.scene_folders", "SceneFolderDataParserConfig", "Many scenes of one single-scene format."
    ),
}
"""Dataparsers by attribute name, which is the dataparser's name with underscores."""


def _load(entry: Entry) -> Any:
    return getattr(import_module(f"fewshot_ns.{entry.module}"), entry.attribute)


def method_specification(name: str) -> MethodSpecification:
    """Builds the specification of a method.

    Args:
        name: a key of `METHODS`.
    """
    from nerfstudio.plugins.types import MethodSpecification

    return MethodSpecification(config=_load(METHODS[name]), description=METHODS[name].description)


def paper_results(name: str) -> Tuple[PaperResult, ...]:
    """Published figures of a method; empty where it has none, as the lite presets.

    Args:
        name: a key of `METHODS`.
    """
    entry = METHODS[name]
    if entry.attribute.endswith("_lite"):
        return ()
    module = import_module(f"fewshot_ns.{entry.module}")
    # Modules with methods of several papers name the figures of each after the method.
    return getattr(module, f"{entry.attribute}_paper_results", getattr(module, "paper_results", ()))


def dataparser_specification(name: str) -> DataParserSpecification:
    """Builds the specification of a dataparser.

    Args:
        name: a key of `DATAPARSERS`.
    """
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification

    return DataParserSpecification(config=_load(DATAPARSERS[name])(), description=DATAPARSERS[name].description)


def __getattr__(name: str) -> MethodSpecification | DataParserSpecification:
    if name in METHODS:
        return method_specification(name)
    if name in DATAPARSERS:
        return dataparser_specification(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
