"""gsplat's kernels against splats' renderer in torch on one device: images, gradients, time and memory.

    python benchmarks/splat_renderers.py --output splat_renderers.json

The same Gaussians, one per block of pixels on a wavy wall, are rendered by both, colour and depth, with gradients with
respect to all that is trained. Without CUDA gsplat has no kernels, and nothing is compared.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
import tyro
from splat_speed import SIZES, camera_of, wall
from torch import Tensor

from fewshot_ns.model_components.splatting.rasterization import Rasterization, rasterization, rasterization_of
from fewshot_ns.presentation.tables import Column, Table, as_markdown, print_table
from fewshot_ns.utils.files import write_json

LEARNED = ("means", "quats", "scales", "opacities", "colors")
"""What is trained of Gaussians, by gsplat's names."""
Size = Tuple[int, int]


@dataclass
class Arguments:
    """What is compared."""

    output: Optional[Path] = None
    """File (JSON) for the result, which the command of the protocols reads."""
    repeats: int = 10
    """Timed repeats, after one that warms up."""
    stride: int = 2
    """Pixels between Gaussians."""


@dataclass(frozen=True)
class Measured:
    """One renderer at one size."""

    size: str
    """Width and height, pixels."""
    gaussians: int
    """Their number."""
    renderer: str
    """Its name."""
    forward_ms: float
    """Median wall clock of an image, milliseconds."""
    step_ms: float
    """The same with gradients."""
    peak_mb: Optional[float]
    """Most memory of the GPU beyond what the Gaussians take, megabytes; None on a CPU."""


@dataclass(frozen=True)
class Difference:
    """How far a renderer is from the first one."""

    size: str
    """Width and height, pixels."""
    renderer: str
    """Its name."""
    what: str
    """'colour', 'depth', 'opacity', or gradients with respect to what is trained."""
    largest: Optional[float]
    """Largest difference, over the largest value of the first renderer; None: not finite."""
    mean: Optional[float]
    """Mean difference, over the same; None: not finite."""


@dataclass(frozen=True)
class Comparison:
    """All of it."""

    device: str
    """Name of the GPU, or 'cpu'."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of torch, CUDA and gsplat."""
    measured: Sequence[Measured] = ()
    """Time and memory."""
    differences: Sequence[Difference] = ()
    """Of the renderers after the first."""
    error: str = ""
    """Why nothing was compared."""

    def tables(self) -> List[Table]:
        """Time and memory, then differences; none where nothing was compared."""
        if not self.measured:
            return []
        titles = ("image", "Gaussians", "renderer", "ms per image", "ms with gradients", "peak MB")
        costs = [[m.size, m.gaussians, m.renderer, m.forward_ms, m.step_ms, m.peak_mb] for m in self.measured]
        rows = [[d.size, d.renderer, d.what, _short(d.largest), _short(d.mean)] for d in self.differences]
        first = self.measured[0].renderer
        return [
            Table([Column(title) for title in titles], costs, f"On {self.device}; medians."),
            Table(
                [Column(title) for title in ("image", "renderer", "what", "largest difference", "mean difference")],
                rows,
                f"From {first}, as parts of its largest value.",
            ),
        ]


def gaussians(size: Size, stride: int, device: torch.device) -> Dict[str, Tensor]:
    """Arguments of `rasterization`: Gaussians on a wavy wall, of random turn, shape, opacity and harmonics, and one
    camera.

    Args:
        size: width and height, pixels.
        stride: pixels between Gaussians.
        device: where to.
    """
    cloud, camera = wall(*size, stride), camera_of(*size)
    generator = torch.Generator().manual_seed(1)
    count = len(cloud)

    def random(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    world_to_camera = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    intrinsics = camera.get_intrinsics_matrices()
    given = {
        "means": cloud.positions,
        "quats": random(4) - 0.5,
        "scales": cloud.radii[:, None] * (0.5 + random(3)),
        "opacities": 0.1 + 0.85 * random(),
        "colors": torch.cat([cloud.colours[:, None], 0.2 * random(3, 3) - 0.1], dim=1),
        "viewmats": world_to_camera[None],
        "Ks": intrinsics,
    }
    return {name: value.to(device) for name, value in given.items()}


def compare(
    renderers: Mapping[str, Rasterization],
    device: torch.device,
    sizes: Sequence[Size] = SIZES,
    stride: int = 2,
    repeats: int = 10,
) -> Tuple[List[Measured], List[Difference]]:
    """Renders the same Gaussians with all renderers.

    Args:
        renderers: by name, that which the others are compared to first.
        device: where.
        sizes: width and height of the images, pixels.
        stride: pixels between Gaussians.
        repeats: timed repeats, after one that warms up.
    """
    measured: List[Measured] = []
    differences: List[Difference] = []
    for size in sizes:
        given = gaussians(size, stride, device)
        inputs = [given[name].requires_grad_() for name in LEARNED]
        words = f"{size[0]}x{size[1]}"
        found = {}
        for name, render in renderers.items():
            found[name], cost = _measure(render, given, inputs, size, repeats)
            measured.append(Measured(words, len(given["means"]), name, *cost))
        first, *others = found
        for name in others:
            for what, value in found[first].items():
                away = (found[name][what] - value).abs() / value.abs().max()
                differences.append(Difference(words, name, what, _finite(away.max()), _finite(away.mean())))
    return measured, differences


def _measure(
    render: Rasterization, given: Dict[str, Tensor], inputs: List[Tensor], size: Size, repeats: int
) -> Tuple[Dict[str, Tensor], Tuple[float, float, Optional[float]]]:
    """What a renderer makes of Gaussians, and milliseconds per image and with gradients, and megabytes."""
    on_gpu = given["means"].is_cuda

    def image() -> Tuple[Tensor, Tensor]:
        rendered, alpha, _ = render(
            **given, width=size[0], height=size[1], sh_degree=1, render_mode="RGB+ED", packed=False
        )
        return rendered, alpha

    def step() -> List[Tensor]:
        rendered, alpha = image()
        weights = torch.linspace(-1, 1, rendered.numel(), device=rendered.device).reshape(rendered.shape)
        return [rendered, alpha, *torch.autograd.grad((rendered * weights).mean() + alpha.mean(), inputs)]

    def forward() -> None:
        with torch.no_grad():
            image()

    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else 0
    rendered, alpha, *slopes = (value.detach() for value in step())
    peak = (torch.cuda.max_memory_allocated() - before) / 1e6 if on_gpu else None
    results = {"colour": rendered[..., :3], "depth": rendered[..., 3:], "opacity": alpha}
    results |= {f"gradient of {name}": slope for name, slope in zip(LEARNED, slopes, strict=True)}
    return results, (_milliseconds(forward, on_gpu, repeats), _milliseconds(step, on_gpu, repeats), peak)


def _finite(value: Tensor) -> Optional[float]:
    return float(value) if bool(value.isfinite()) else None


def _short(value: Optional[float]) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def _milliseconds(call: Any, on_gpu: bool, repeats: int) -> float:
    """Median wall clock, after one call that warms up."""
    found = []
    for _ in range(repeats + 1):
        if on_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if on_gpu:
            torch.cuda.synchronize()
        found.append(1e3 * (time.perf_counter() - start))
    return statistics.median(found[1:])


def comparison(repeats: int = 10, stride: int = 2) -> Comparison:
    """gsplat's kernels and the renderer in torch on this machine's GPU; says why where they cannot be compared."""
    versions = {"torch": torch.__version__, "CUDA": str(torch.version.cuda), "gsplat": version("gsplat")}
    if not torch.cuda.is_available():
        return Comparison("cpu", versions, error="no CUDA device: gsplat has no kernels here, nothing was compared")
    device = torch.device("cuda")
    try:
        renderers = {"gsplat": rasterization_of(device, "gsplat"), "torch": rasterization}
        measured, differences = compare(renderers, device, stride=stride, repeats=repeats)
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        # gsplat builds its kernels when it is first called; without a compiler it has a None in their place.
        said = str(error).strip().splitlines() or [type(error).__name__]
        return Comparison(torch.cuda.get_device_name(), versions, error=f"gsplat's kernels do not run: {said[-1]}")
    return Comparison(torch.cuda.get_device_name(), versions, measured, differences)


def main(arguments: Arguments) -> None:
    """Compares, prints and writes."""
    result = comparison(arguments.repeats, arguments.stride)
    if result.error:
        print(result.error)
    for table in result.tables():
        print_table(table)
    if arguments.output is not None:
        write_json(arguments.output, asdict(result))


def as_text(result: Comparison) -> str:
    """The comparison in Markdown."""
    known = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    parts = [f"{result.device}; {known}." if known else "", f"{result.error}." if result.error else ""]
    parts += [as_markdown(table).rstrip() for table in result.tables()]
    return "\n\n".join(part for part in parts if part)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
