"""The papers behind the methods, and what they report: a record per number, kept with the method that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

UNKNOWN = "unknown"
"""Licence of code in whose repository no licence has been seen."""


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    """Title of the paper."""
    citation: str
    """Method, authors and venue, with which the records of its figures begin."""
    link: Optional[str]
    """The paper on arXiv; None: there is no paper."""
    code: str
    """Repository of the authors' code, from which constants and details of the method were read."""
    licence: str
    """Licence of that code; `UNKNOWN` where none has been seen."""


SPARSENERF = Paper(
    title="SparseNeRF: Distilling Depth Ranking for Few-shot Novel View Synthesis",
    citation="SparseNeRF: Wang et al., ICCV 2023",
    link="https://arxiv.org/abs/2303.16196",
    code="https://github.com/Wanggcong/SparseNeRF",
    licence=UNKNOWN,
)
GAUSSIAN_SPLATTING = Paper(
    title="3D Gaussian Splatting for Real-Time Radiance Field Rendering",
    citation="3D Gaussian splatting: Kerbl et al., SIGGRAPH 2023",
    link="https://arxiv.org/abs/2308.04079",
    code="https://github.com/nerfstudio-project/gsplat",
    licence="Apache-2.0",
)
MIPNERF = Paper(
    title="Mip-NeRF: A Multiscale Representation for Anti-Aliasing Neural Radiance Fields",
    citation="mip-NeRF: Barron et al., ICCV 2021",
    link="https://arxiv.org/abs/2103.13415",
    code="https://github.com/google/mipnerf",
    licence="Apache-2.0",
)
REGNERF = Paper(
    title="RegNeRF: Regularizing Neural Radiance Fields for View Synthesis from Sparse Inputs",
    citation="RegNeRF: Niemeyer et al., CVPR 2022",
    link="https://arxiv.org/abs/2112.00724",
    code="https://github.com/google-research/google-research/tree/master/regnerf",
    licence="Apache-2.0",
)
FREENERF = Paper(
    title="FreeNeRF: Improving Few-shot Neural Rendering with Free Frequency Regularization",
    citation="FreeNeRF: Yang, Pavone, Wang, CVPR 2023",
    link="https://arxiv.org/abs/2303.07418",
    code="https://github.com/Jiawei-Yang/FreeNeRF",
    licence=UNKNOWN,
)
FREE_SPARSENERF = Paper(
    title="FreeNeRF with SparseNeRF",
    citation="FreeNeRF with SparseNeRF's depth terms: run by SparseNeRF's author, not in a paper",
    link=None,
    code="https://github.com/Wanggcong/FreeNeRF_plus_SparseNeRF",
    licence=UNKNOWN,
)
DEPTH_MIPNERF = Paper(
    title="Probabilistically Bounded Ray Densities from Depthmaps",
    citation="depth-mipnerf: A. Sheldrick, 'Probabilistically Bounded Ray Densities', README of the code",
    link=None,
    code="https://github.com/AlexSheldrick/mipnerf_pl/tree/depth-mipnerf",
    licence="unknown; a fork of mipnerf_pl, which is under MIT",
)
DIETNERF = Paper(
    title="Putting NeRF on a Diet: Semantically Consistent Few-Shot View Synthesis",
    citation="DietNeRF: Jain, Tancik, Abbeel, ICCV 2021",
    link="https://arxiv.org/abs/2104.00677",
    code="https://github.com/ajayjain/DietNeRF",
    licence=UNKNOWN,
)
SIMPLIFIED_NERF = Paper(
    title=DIETNERF.title,
    citation="simplified NeRF: a baseline of DietNeRF, Jain, Tancik, Abbeel, ICCV 2021",
    link=DIETNERF.link,
    code=DIETNERF.code,
    licence=DIETNERF.licence,
)
DIETNERF_JAX = Paper(
    title=DIETNERF.title,
    citation="DietNeRF in JAX: codestella/putting-nerf-on-a-diet, a reimplementation",
    link=DIETNERF.link,
    code="https://github.com/codestella/putting-nerf-on-a-diet",
    licence="Apache-2.0",
)
PIXELNERF = Paper(
    title="pixelNeRF: Neural Radiance Fields from One or Few Images",
    citation="pixelNeRF: Yu, Ye, Tancik, Kanazawa, CVPR 2021",
    link="https://arxiv.org/abs/2012.02190",
    code="https://github.com/sxyu/pixel-nerf",
    licence="BSD-2-Clause",
)
MATCHNERF = Paper(
    title="Explicit Correspondence Matching for Generalizable Neural Radiance Fields",
    citation="MatchNeRF: Chen, Xu, Wu, Zheng, Cham, Cai, 2023",
    link="https://arxiv.org/abs/2304.12294",
    code="https://github.com/donydchen/matchnerf",
    licence="MIT",
)
IDNERF = Paper(
    title="ID-NeRF: Indirect Diffusion-guided Neural Radiance Fields for Generalizable View Synthesis",
    citation="ID-NeRF: Li, Gou, Tan, arXiv 2024",
    link="https://arxiv.org/abs/2402.01217",
    code="https://github.com/Iron-LYK/idnerf",
    licence="MIT",
)


@dataclass(frozen=True)
class PaperResult:
    """One published number."""

    dataset: str
    """Dataset, with the scene where the number is of one scene: 'llff', 'llff/fern', 'dtu'."""
    num_views: int
    """Training views."""
    metric: str
    """'psnr' (dB), 'ssim', 'lpips' (VGG) or 'average' (geometric mean of the three errors)."""
    value: float
    """The number as printed."""
    table: str
    """Where it is printed."""
    conditions: str
    """Resolution, test views, masks: what has to be the same for a comparison."""
    citation: str
    """Whose method it is."""


LLFF_CONDITIONS = "8 scenes, 504x378, every 8th photo tests, mean of scenes; SSIM 7x7 uniform, data range 1; LPIPS VGG"
DTU_CONDITIONS = "15 scans, 400x300, 25 test views, object masks (PSNR inside, SSIM and LPIPS over white), LPIPS VGG"
SECONDARY = "CoR-GS (Zhang et al., ECCV 2024), Tab. {}, which gathers earlier papers' figures"
METRICS = ("psnr", "ssim", "lpips", "average")


def row(
    dataset: str,
    num_views: int,
    values: Tuple[Optional[float], ...],
    citation: str,
    table: Optional[str] = None,
    conditions: Optional[str] = None,
) -> Tuple[PaperResult, ...]:
    """The numbers of one row of a table, in the order of `METRICS`.

    Args:
        dataset: dataset, with the scene where the numbers are of one scene.
        num_views: training views.
        values: None where the table has none; may end early.
        citation: whose method it is.
        table: None: the table of CoR-GS for the dataset.
        conditions: None: those of the dataset's usual protocol.
    """
    dtu = dataset.startswith("dtu")
    where = SECONDARY.format(3 if dtu else 1) if table is None else table
    under = (DTU_CONDITIONS if dtu else LLFF_CONDITIONS) if conditions is None else conditions
    return tuple(
        PaperResult(dataset, num_views, metric, value, where, under, citation)
        for metric, value in zip(METRICS, values, strict=False)
        if value is not None
    )
