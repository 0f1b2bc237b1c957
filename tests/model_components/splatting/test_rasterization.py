"""The rasteriser against every Gaussian at every pixel, and, where there is a GPU, against gsplat's kernels."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Tuple

import pytest
import torch
from naive_splats import composite_naively, rasterize_naively
from torch import Tensor

from fewshot_ns.model_components.splatting.compositing import composite
from fewshot_ns.model_components.splatting.fragments import Footprints, fragments_of, rows_of
from fewshot_ns.model_components.splatting.rasterization import rasterization, rasterization_of

WIDTH, HEIGHT = 40, 30


def footprints(count: int, seed: int = 0, spread: float = 2.0, most: float = 1.0) -> Tuple[Footprints, Tensor]:
    """Random ellipses, also beyond the image, and four features of each."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw, dtype=torch.float64)

    means = (uniform(count, 2) * 1.4 - 0.2) * torch.tensor([WIDTH, HEIGHT])
    factors = spread * torch.randn(count, 2, 2, generator=draw, dtype=torch.float64)
    covariances = factors @ factors.mT + 0.3 * torch.eye(2, dtype=torch.float64)
    inverse = torch.linalg.inv(covariances)
    conics = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], dim=-1)
    radii = (3.0 * torch.linalg.eigvalsh(covariances)[:, 1].sqrt()).ceil().int()
    return Footprints(means, conics, most * (1.2 * uniform(count)).clamp(max=1.0), radii), uniform(count, 4)


def gradients(result: Tuple[Tensor, Tensor], inputs: List[Tensor]) -> List[Tensor]:
    draw = torch.Generator().manual_seed(1)
    total = sum((value * torch.randn(value.shape, generator=draw, dtype=value.dtype)).sum() for value in result)
    assert isinstance(total, Tensor)
    return [value.detach() for value in result] + list(torch.autograd.grad(total, inputs))


@pytest.mark.parametrize("most", [0.1, 1.0])
@pytest.mark.parametrize("max_fragments", [4_000_000, 700])
def test_compositing_is_that_of_every_gaussian_at_every_pixel(most: float, max_fragments: int):
    given, features = footprints(250, most=most)
    inputs = [value.requires_grad_() for value in (given.means, given.conics, given.opacities, features)]
    expected = gradients(composite_naively(*given, features, WIDTH, HEIGHT), inputs)
    found = gradients(composite(given, features, WIDTH, HEIGHT, max_fragments=max_fragments), inputs)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9 * float(one.abs().max()))
    if most == 1.0:
        # Some pixels are done before their last Gaussian, and some Gaussians are opaque: both are part of the test.
        assert float(expected[1].max()) > 0.999 and float(given.opacities.max()) > 0.995


def test_gradients_are_those_of_finite_differences():
    given, features = footprints(6, seed=3, most=0.6)
    inputs = [value.requires_grad_() for value in (given.means, given.conics, given.opacities, features)]

    def render(means: Tensor, conics: Tensor, opacities: Tensor, values: Tensor) -> Tuple[Tensor, Tensor]:
        # At the cut at 1/255 opacity jumps, by as little as the tolerance.
        return composite(Footprints(means, conics, opacities, given.radii), values, WIDTH, HEIGHT)

    assert torch.autograd.gradcheck(render, inputs, eps=1e-7, atol=2e-4, rtol=2e-3, nondet_tol=1e-12)


def test_radii_may_differ_along_x_and_y():
    given, features = footprints(120, seed=5)
    square = Footprints(given.means, given.conics, given.opacities, given.radii[:, None].expand(-1, 2))
    for one, other in zip(composite(given, features, 40, 30), composite(square, features, 40, 30), strict=True):
        assert (one == other).all()
    narrow = square._replace(radii=torch.stack([torch.ones_like(given.radii), given.radii], dim=-1))
    _, opacity = composite(narrow, features, 40, 30)
    assert 0 < opacity.sum() < composite(given, features, 40, 30)[1].sum()


def test_fragments_are_exactly_the_pixels_that_count():
    given, _ = footprints(300, seed=2)
    found = fragments_of(rows_of(given, WIDTH, HEIGHT, 16), WIDTH)
    pairs = set(zip(found.gaussian.tolist(), found.pixel.tolist(), strict=True))
    assert len(pairs) == len(found.pixel)
    expected = set()
    for index in range(len(given.means)):
        for row in range(HEIGHT):
            for column in range(WIDTH):
                across, down = column + 0.5 - given.means[index, 0], row + 0.5 - given.means[index, 1]
                xx, xy, yy = given.conics[index]
                power = 0.5 * (xx * across**2 + yy * down**2) + xy * across * down
                tiles = [
                    math.floor((centre - radius) / 16) * 16 <= place < math.ceil((centre + radius) / 16) * 16
                    for centre, radius, place in (
                        (float(given.means[index, 0]), int(given.radii[index]), column),
                        (float(given.means[index, 1]), int(given.radii[index]), row),
                    )
                ]
                if all(tiles) and given.opacities[index] * math.exp(-power) >= 1 / 255:
                    expected.add((index, row * WIDTH + column))
        if index == 40:
            break
    assert {pair for pair in pairs if pair[0] <= 40} == expected


def scene(count: int = 30, dtype: torch.dtype = torch.float64) -> Dict[str, Any]:
    """Gaussians before, beside and behind two cameras."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    views = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    views[1, :3, :3] = torch.linalg.matrix_exp(
        torch.tensor([[0, 0.1, 0.2], [-0.1, 0, 0.15], [-0.2, -0.15, 0.0]]).double()
    )
    views[:, :3, 3] = torch.tensor([[0.0, 0.0, 4.0], [0.3, -0.2, 4.5]])
    intrinsics = torch.tensor([[35.0, 0, 21.0], [0, 33.0, 14.0], [0, 0, 1]], dtype=torch.float64).repeat(2, 1, 1)
    means = normal(count, 3) * torch.tensor([1.5, 1.2, 2.5])
    values = {
        "means": means,
        "quats": normal(count, 4),
        "scales": 0.05 + 0.3 * torch.rand(count, 3, generator=draw, dtype=torch.float64),
        "opacities": 0.05 + 0.9 * torch.rand(count, generator=draw, dtype=torch.float64),
        "colors": 0.6 * normal(count, 4, 3),
        "viewmats": views,
        "Ks": intrinsics,
    }
    return {name: value.to(dtype) for name, value in values.items()}


LEARNED = ("means", "quats", "scales", "opacities", "colors")


@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
@pytest.mark.parametrize("sh_degree", [0, 1])
def test_rasterization_is_that_of_every_gaussian_at_every_pixel(rasterize_mode: str, sh_degree: int):
    given = scene()
    inputs = [given[name].requires_grad_() for name in LEARNED]
    options: Dict[str, Any] = {"sh_degree": sh_degree, "rasterize_mode": rasterize_mode}
    arguments = [given[name] for name in (*LEARNED, "viewmats", "Ks")]
    image, alpha = rasterize_naively(*arguments, width=WIDTH, height=HEIGHT, **options)
    assert 0.05 < float(alpha.mean()) < 0.95
    expected = gradients((image, alpha), inputs)
    found_image, found_alpha, info = rasterization(
        **given,
        width=WIDTH,
        height=HEIGHT,
        render_mode="RGB+D",
        **options,  # type: ignore[arg-type]
    )
    found = gradients((found_image, found_alpha[..., 0]), inputs)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-8 * float(one.abs().max()))
    assert info["means2d"].shape == (2, 30, 2) and info["radii"].shape[:2] == (2, 30) and info["n_cameras"] == 2


def test_modes_and_backgrounds_agree_with_each_other():
    given = scene()
    given["colors"] = given["colors"][:, 0].sigmoid()
    size: Dict[str, Any] = {"width": WIDTH, "height": HEIGHT}
    both, alpha, _ = rasterization(**given, **size, render_mode="RGB+D")
    rgb, _, _ = rasterization(**given, **size, render_mode="RGB")
    depth, _, _ = rasterization(**given, **size, render_mode="D")
    expected, _, _ = rasterization(**given, **size, render_mode="ED")
    behind = torch.tensor([[0.1, 0.2, 0.3], [0.7, 0.8, 0.9]], dtype=torch.float64)
    over, _, _ = rasterization(**given, **size, render_mode="RGB+ED", backgrounds=behind)
    torch.testing.assert_close(both, torch.cat([rgb, depth], dim=-1))
    torch.testing.assert_close(expected * alpha, depth)
    torch.testing.assert_close(over[..., :3], rgb + (1 - alpha) * behind[:, None, None, :])
    torch.testing.assert_close(over[..., 3:], expected)


def test_nothing_in_sight_is_background_with_gradients_of_zero():
    given = scene()
    given["means"] = (given["means"].abs() - torch.tensor([0.0, 0.0, 30.0])).requires_grad_()
    colours, alpha, _ = rasterization(**given, width=WIDTH, height=HEIGHT, sh_degree=1)
    assert alpha.abs().max() == 0
    colours.sum().backward()
    assert given["means"].grad is not None and given["means"].grad.abs().max() == 0


def test_a_gaussian_in_the_plane_of_a_camera_leaves_gradients_numbers():
    draw = torch.Generator().manual_seed(0)
    means = torch.rand(12, 3, generator=draw) + torch.tensor([-0.5, -0.5, 2.0])
    # In the plane, almost, and at the camera itself.
    means[0, 2], means[1, 2], means[2] = 0.0, 1e-20, 0.0
    inputs = {
        "means": means,
        "quats": torch.randn(12, 4, generator=draw),
        "scales": torch.full((12, 3), 0.2),
        "opacities": torch.full((12,), 0.6),
        "colors": torch.rand(12, 16, 3, generator=draw),
    }
    for values in inputs.values():
        values.requires_grad_()
    intrinsics = torch.tensor([[[16.0, 0.0, 8.0], [0.0, 16.0, 6.0], [0.0, 0.0, 1.0]]])

    def rendered(**fields: Tensor) -> Tuple[Tensor, Tensor]:
        options: Any = {"sh_degree": 3, "render_mode": "RGB+ED", "rasterize_mode": "antialiased"}
        return rasterization(**fields, viewmats=torch.eye(4)[None], Ks=intrinsics, width=16, height=12, **options)[:2]

    image, alpha = rendered(**inputs)
    gradients = torch.autograd.grad(image.sum() + alpha.sum(), list(inputs.values()))
    assert all(gradient.isfinite().all() and not gradient[:3].any() for gradient in gradients)
    others = rendered(**{name: values[3:] for name, values in inputs.items()})
    assert torch.equal(image, others[0]) and torch.equal(alpha, others[1])


def test_float32_is_close_to_float64_also_on_a_large_image():
    # Sums over fragments run through the whole image: their rounding must not grow with its size.
    given = scene(400)
    small: Dict[str, Any] = {"width": 200, "height": 150, "sh_degree": 1}
    given["Ks"] = given["Ks"] * torch.tensor([5.0, 5.0, 1.0], dtype=torch.float64)[:, None]
    exact, alpha, _ = rasterization(**given, **small)
    single = {name: value.float() for name, value in given.items()}
    rough, rough_alpha, _ = rasterization(**single, **small)
    assert float((rough - exact).abs().max()) < 0.01
    assert float((rough - exact).abs().mean()) < 5e-6 and float((rough_alpha - alpha).abs().mean()) < 5e-6


def test_what_is_not_served_is_refused():
    given = scene()
    with pytest.raises(ValueError, match="packed"):
        rasterization(**given, width=WIDTH, height=HEIGHT, packed=True)
    with pytest.raises(ValueError, match="--pipeline.model.rasterizer torch"):
        rasterization_of(torch.device("cpu"), "gsplat")
    assert rasterization_of(torch.device("cpu")) is rasterization
    assert rasterization_of(torch.device("cuda"), "torch") is rasterization


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
def test_gsplats_kernels_give_the_same(rasterize_mode: Any):
    kernels = rasterization_of(torch.device("cuda"))
    given = {name: value.cuda() for name, value in scene(500, torch.float32).items()}
    inputs = [given[name].requires_grad_() for name in LEARNED]
    size: Dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "sh_degree": 1, "render_mode": "RGB+ED"}
    found = []
    for render in (kernels, rasterization):
        image, alpha, _ = render(**given, **size, rasterize_mode=rasterize_mode, packed=False)
        weights = torch.linspace(-1, 1, image.numel(), device=image.device).reshape(image.shape)
        found.append([image.detach(), alpha.detach(), *torch.autograd.grad((image * weights).sum(), inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3 * float(one.abs().max()))
