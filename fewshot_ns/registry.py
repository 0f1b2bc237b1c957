"""The methods and dataparsers that this package adds to nerfstudio: one entry for each, with all there is to know.

nerfstudio loads the dataparsers while its own datamanagers are half imported, and the methods once it has all it needs;
both happen inside every `ns-train`, with nothing to catch an error. So a specification is built only when it is asked
for (PEP 562), a dataparser never drags in a method, nothing is imported that nerfstudio does not load itself, and what
cannot be built here is left out with a warning: nerfstudio's own methods and those of other packages go on working.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Tuple

from fewshot_ns.configs import paper_results as papers

if TYPE_CHECKING:
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification
    from nerfstudio.plugins.types import MethodSpecification


class Method(NamedTuple):
    """One method."""

    config: str
    """Its `TrainerConfig`, as `module:name` below the package."""
    description: str
    """One line for `ns-train --help`."""
    paper: papers.Paper
    """Where the method comes from; of a lite preset: its loss terms, not its field."""
    page: str
    """Its page in `docs/`."""
    paper_results: Optional[str] = None
    """Its published figures, as `config`; None: there are none for this configuration."""
    many_scenes: bool = False
    """Whether it trains across scenes."""


class DataParser(NamedTuple):
    """One dataparser."""

    config: str
    """Its `DataParserConfig` class, as `module:name` below the package."""
    description: str
    """One line for `ns-train METHOD --help`."""


METHODS: Dict[str, Method] = {
    "sparsenerf": Method(
        config="configs.sparsenerf:sparsenerf",
        description="SparseNeRF as published: mip-NeRF with depth ranking and continuity.",
        paper=papers.SPARSENERF,
        page="sparsenerf.md",
        paper_results="configs.sparsenerf:paper_results",
    ),
    "sparsenerf_lite": Method(
        config="configs.sparsenerf_lite:sparsenerf_lite",
        description="SparseNeRF's depth ranking and continuity on a small fast field; minutes on a CPU.",
        paper=papers.SPARSENERF,
        page="sparsenerf.md",
    ),
    "mipnerf_fewshot": Method(
        config="configs.mipnerf_fewshot:mipnerf_fewshot",
        description="mip-NeRF with RegNeRF's training, the few-shot baseline.",
        paper=papers.MIPNERF,
        page="mipnerf-fewshot.md",
        paper_results="configs.mipnerf_fewshot:paper_results",
    ),
    "mipnerf_fewshot_lite": Method(
        config="configs.mipnerf_fewshot:mipnerf_fewshot_lite",
        description="The small fast field of sparsenerf-lite without any prior.",
        paper=papers.MIPNERF,
        page="mipnerf-fewshot.md",
    ),
    "regnerf": Method(
        config="configs.regnerf:regnerf",
        description="RegNeRF: annealed near and far, smooth depth on patches of unseen views.",
        paper=papers.REGNERF,
        page="regnerf.md",
        paper_results="configs.regnerf:paper_results",
    ),
    "regnerf_lite": Method(
        config="configs.regnerf:regnerf_lite",
        description="RegNeRF's smoothness on a small fast field.",
        paper=papers.REGNERF,
        page="regnerf.md",
    ),
    "freenerf": Method(
        config="configs.freenerf:freenerf",
        description="FreeNeRF: frequencies open step by step, occlusion regularisation.",
        paper=papers.FREENERF,
        page="freenerf.md",
        paper_results="configs.freenerf:paper_results",
    ),
    "freenerf_lite": Method(
        config="configs.freenerf:freenerf_lite",
        description="FreeNeRF's two terms on a small fast field.",
        paper=papers.FREENERF,
        page="freenerf.md",
    ),
    "free_sparsenerf": Method(
        config="configs.free_sparsenerf:free_sparsenerf",
        description="FreeNeRF with SparseNeRF's depth ranking and continuity.",
        paper=papers.FREE_SPARSENERF,
        page="free-sparsenerf.md",
        paper_results="configs.free_sparsenerf:paper_results",
    ),
    "free_sparsenerf_lite": Method(
        config="configs.free_sparsenerf:free_sparsenerf_lite",
        description="FreeNeRF with depth ranking on a small fast field.",
        paper=papers.FREE_SPARSENERF,
        page="free-sparsenerf.md",
    ),
    "depth_mipnerf": Method(
        config="configs.depth_mipnerf:depth_mipnerf",
        description="depth-mipnerf: proposal mip-NeRF bounded by measured depth.",
        paper=papers.DEPTH_MIPNERF,
        page="depth-mipnerf.md",
        paper_results="configs.depth_mipnerf:paper_results",
    ),
    "depth_mipnerf_lite": Method(
        config="configs.depth_mipnerf:depth_mipnerf_lite",
        description="depth-mipnerf's bounds by measured depth on a small fast field.",
        paper=papers.DEPTH_MIPNERF,
        page="depth-mipnerf.md",
    ),
    "sparse_splatfacto": Method(
        config="configs.sparse_splatfacto:sparse_splatfacto",
        description="Gaussian splats from few photos by published recipes, from the photos' own depth.",
        paper=papers.GAUSSIAN_SPLATTING,
        page="sparse-splatfacto.md",
    ),
    "sparse_splatfacto_lite": Method(
        config="configs.sparse_splatfacto:sparse_splatfacto_lite",
        description="Gaussian splats from few photos on any machine; a minute on a CPU.",
        paper=papers.GAUSSIAN_SPLATTING,
        page="sparse-splatfacto.md",
    ),
    "stereo_nerf_lite": Method(
        config="configs.stereo_nerf:stereo_nerf_lite",
        description="A small fast field, held to the depth that the photos themselves give; needs nothing else.",
        paper=papers.DEPTH_MIPNERF,
        page="stereo-nerf.md",
    ),
    "dietnerf": Method(
        config="configs.dietnerf:dietnerf",
        description="DietNeRF as published: NeRF whose unseen views look to CLIP like the photos.",
        paper=papers.DIETNERF,
        page="dietnerf.md",
        paper_results="configs.dietnerf:paper_results",
    ),
    "dietnerf_lite": Method(
        config="configs.dietnerf:dietnerf_lite",
        description="DietNeRF's semantic consistency on a small fast field.",
        paper=papers.DIETNERF,
        page="dietnerf.md",
    ),
    "dietnerf_jax": Method(
        config="configs.dietnerf_jax:dietnerf_jax",
        description="DietNeRF as in its JAX version: projected embedding, cropped views.",
        paper=papers.DIETNERF_JAX,
        page="dietnerf.md",
    ),
    "dietnerf_jax_coarse": Method(
        config="configs.dietnerf_jax:dietnerf_jax_coarse",
        description="The same, comparing the coarse network alone.",
        paper=papers.DIETNERF_JAX,
        page="dietnerf.md",
    ),
    "simplified_nerf": Method(
        config="configs.simplified_nerf:simplified_nerf",
        description="Small NeRF without fine network: DietNeRF's baseline for few views.",
        paper=papers.SIMPLIFIED_NERF,
        page="dietnerf.md",
        paper_results="configs.simplified_nerf:paper_results",
    ),
    "pixelnerf": Method(
        config="configs.pixelnerf:pixelnerf",
        description="pixelNeRF: many scenes, rendered from one or a few photos; SRN's setting.",
        paper=papers.PIXELNERF,
        page="pixelnerf.md",
        paper_results="configs.pixelnerf:paper_results",
        many_scenes=True,
    ),
    "pixelnerf_srn": Method(
        config="configs.pixelnerf:pixelnerf_srn",
        description="pixelNeRF on one class of SRN's ShapeNet, 128x128.",
        paper=papers.PIXELNERF,
        page="pixelnerf.md",
        paper_results="configs.pixelnerf:paper_results",
        many_scenes=True,
    ),
    "pixelnerf_sn64": Method(
        config="configs.pixelnerf:pixelnerf_sn64",
        description="pixelNeRF on NMR's ShapeNet, 13 classes, 64x64.",
        paper=papers.PIXELNERF,
        page="pixelnerf.md",
        paper_results="configs.pixelnerf:paper_results",
        many_scenes=True,
    ),
    "pixelnerf_sn64_unseen": Method(
        config="configs.pixelnerf:pixelnerf_sn64_unseen",
        description="The same, trained on 3 classes and tested on the 10 others.",
        paper=papers.PIXELNERF,
        page="pixelnerf.md",
        paper_results="configs.pixelnerf:paper_results",
        many_scenes=True,
    ),
    "pixelnerf_dtu": Method(
        config="configs.pixelnerf:pixelnerf_dtu",
        description="pixelNeRF on DTU, 400x300, from 3 views.",
        paper=papers.PIXELNERF,
        page="pixelnerf.md",
        paper_results="configs.pixelnerf:paper_results",
        many_scenes=True,
    ),
    "pixelnerf_multi_object": Method(
        config="configs.pixelnerf:pixelnerf_multi_object",
        description="pixelNeRF on scenes of several objects.",
        paper=papers.PIXELNERF,
        page="pixelnerf.md",
        paper_results="configs.pixelnerf:paper_results",
        many_scenes=True,
    ),
    "pixelnerf_lite": Method(
        config="configs.pixelnerf:pixelnerf_lite",
        description="A small pixelNeRF; minutes on a CPU.",
        paper=papers.PIXELNERF,
        page="pixelnerf.md",
        many_scenes=True,
    ),
    "idnerf": Method(
        config="configs.idnerf:idnerf",
        description="ID-NeRF: many scenes, matched source views, and a latent taught by diffusion.",
        paper=papers.IDNERF,
        page="idnerf.md",
        many_scenes=True,
    ),
    "idnerf_released": Method(
        config="configs.idnerf:idnerf_released",
        description="ID-NeRF as its released code computes it.",
        paper=papers.IDNERF,
        page="idnerf.md",
        many_scenes=True,
    ),
    "matchnerf": Method(
        config="configs.idnerf:matchnerf",
        description="MatchNeRF: many scenes, rendered from matched source views.",
        paper=papers.MATCHNERF,
        page="idnerf.md",
        paper_results="configs.idnerf:matchnerf_paper_results",
        many_scenes=True,
    ),
    "idnerf_lite": Method(
        config="configs.idnerf:idnerf_lite",
        description="A small ID-NeRF without diffusion; minutes on a CPU.",
        paper=papers.IDNERF,
        page="idnerf.md",
        many_scenes=True,
    ),
    "matchnerf_lite": Method(
        config="configs.idnerf:matchnerf_lite",
        description="A small MatchNeRF; minutes on a CPU, own scenes.",
        paper=papers.MATCHNERF,
        page="idnerf.md",
        many_scenes=True,
    ),
}
"""Methods by the name of their entry point, which is the method's name with underscores."""

DATAPARSERS: Dict[str, DataParser] = {
    "fewshot_data": DataParser(
        config="data.dataparsers.automatic:FewShotAutoDataParserConfig",
        description="Whatever format the folder has.",
    ),
    "llff_data": DataParser(
        config="data.dataparsers.single.llff:LLFFDataParserConfig",
        description="Forward-facing scenes with poses_bounds.npy (LLFF).",
    ),
    "dtu_data": DataParser(
        config="data.dataparsers.single.dtu:DTUDataParserConfig",
        description="Rectified DTU scans.",
    ),
    "fewshot_blender_data": DataParser(
        config="data.dataparsers.single.blender:FewShotBlenderDataParserConfig",
        description="Synthetic Blender scenes (NeRF).",
    ),
    "multiscale_blender_data": DataParser(
        config="data.dataparsers.single.multiscale_blender:MultiscaleBlenderDataParserConfig",
        description="Synthetic scenes at several sizes (mip-NeRF).",
    ),
    "rgbd_data": DataParser(
        config="data.dataparsers.single.rgbd:RGBDDataParserConfig",
        description="Captures with sensor depth (RGB-D).",
    ),
    "fewshot_nerfstudio_data": DataParser(
        config="data.dataparsers.single.nerfstudio:FewShotNerfstudioDataParserConfig",
        description="Any capture with a transforms.json.",
    ),
    "fewshot_colmap_data": DataParser(
        config="data.dataparsers.single.colmap:FewShotColmapDataParserConfig",
        description="Photos and COLMAP's reconstruction of them (sparse/0).",
    ),
    "idr_data": DataParser(
        config="data.dataparsers.single.idr:IDRDataParserConfig",
        description="A scan in the layout of IDR and NeuS (cameras_sphere.npz, image/, mask/).",
    ),
    "srn_data": DataParser(
        config="data.dataparsers.multi.srn:SRNDataParserConfig",
        description="Many objects: ShapeNet in the layout of SRN.",
    ),
    "nmr_data": DataParser(
        config="data.dataparsers.multi.nmr:NMRDataParserConfig",
        description="Many objects: NMR's ShapeNet in DVR format.",
    ),
    "dvr_dtu_data": DataParser(
        config="data.dataparsers.multi.dvr_dtu:DVRDTUDataParserConfig",
        description="Many scans: DTU in DVR format.",
    ),
    "multi_object_data": DataParser(
        config="data.dataparsers.multi.multi_object:MultiObjectDataParserConfig",
        description="Many scenes with a transforms.json each.",
    ),
    "mvsnet_dtu_data": DataParser(
        config="data.dataparsers.multi.mvsnet_dtu:MVSNetDTUDataParserConfig",
        description="Many scans: DTU of MVSNet.",
    ),
    "scene_folder_data": DataParser(
        config="data.dataparsers.multi.scene_folders:SceneFolderDataParserConfig",
        description="Many scenes of one single-scene format.",
    ),
}
"""Dataparsers by the name of their entry point, which is the dataparser's name with underscores."""


_FAULTS = (
    *(ImportError, AttributeError, TypeError, ValueError, LookupError, OSError, RuntimeError, NameError, SyntaxError),
    *(ArithmeticError, AssertionError),
)
"""What a module may raise while it is imported: by another release of a library, or a file that is damaged or gone."""


def _load(path: str) -> Any:
    """What `module:name` below the package stands for."""
    module, _, name = path.partition(":")
    return getattr(import_module(f"fewshot_ns.{module}"), name)


def method_specification(name: str) -> MethodSpecification:
    """Builds the specification of a method.

    Args:
        name: a key of `METHODS`.
    """
    from nerfstudio.plugins.types import MethodSpecification

    return MethodSpecification(config=_load(METHODS[name].config), description=METHODS[name].description)


def paper_results(name: str) -> Tuple[papers.PaperResult, ...]:
    """Published figures of a method; empty where it has none.

    Args:
        name: a key of `METHODS`.
    """
    path = METHODS[name].paper_results
    return () if path is None else _load(path)


def dataparser_specification(name: str) -> DataParserSpecification:
    """Builds the specification of a dataparser.

    Args:
        name: a key of `DATAPARSERS`.
    """
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification

    # Methods of nerfstudio's own take the config as it is registered; ours take the files back (`OwnParsers`).
    config = _load(DATAPARSERS[name].config)(camera_sized_files=True)
    return DataParserSpecification(config=config, description=DATAPARSERS[name].description)


class Unusable(NamedTuple):
    """What stands in for a specification that cannot be built. nerfstudio shows it in a warning and goes on."""

    name: str
    """A key of `METHODS` or `DATAPARSERS`."""
    reason: str
    """What went wrong, in one line."""

    def __str__(self) -> str:
        from rich.markup import escape

        # nerfstudio prints it as markup, in which brackets have a meaning.
        return escape(f"{self.name} of fewshot_ns, which cannot be used here ({self.reason}),")


def __getattr__(name: str) -> MethodSpecification | DataParserSpecification | Unusable:
    build = method_specification if name in METHODS else dataparser_specification
    if name not in METHODS and name not in DATAPARSERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return build(name)
    except _FAULTS as error:
        lines = str(error).split("\n")
        return Unusable(name.replace("_", "-"), f"{type(error).__name__}: {lines[0][:200]}")
