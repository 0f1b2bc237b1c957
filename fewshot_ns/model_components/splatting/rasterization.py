"""gsplat's `rasterization` on any device: its own torch functions for projection and colour, and `composite` for its
kernels."""

from __future__ import annotations

from typing import Any, Callable, Dict, Literal, Optional, Tuple

import torch
from torch import Tensor

from fewshot_ns.model_components.splatting.compositing import composite
from fewshot_ns.model_components.splatting.fragments import Footprints

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
Rasterization = Callable[..., Tuple[Tensor, Tensor, Dict[str, Any]]]


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,  # noqa: N803 - gsplat's name
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    sh_degree: Optional[int] = None,
    tile_size: int = 16,
    backgrounds: Optional[Tensor] = None,
    render_mode: RenderMode = "RGB",
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
    max_fragments: int = 4_000_000,
    packed: bool = False,
    absgrad: bool = False,
) -> Tuple[Tensor, Tensor, Dict[str, Any]]:
    """Renders Gaussians in C cameras; arguments and results as those of gsplat's function of this name.

    Args:
        means: (N, 3) centres in the world.
        quats: (N, 4) rotations, w first, of any length.
        scales: (N, 3) standard deviations along the axes, world units.
        opacities: (N,) 0 to 1.
        colors: (N, D) or (C, N, D) features, or with `sh_degree` (N, K, 3) coefficients of spherical harmonics.
        viewmats: (C, 4, 4) world to camera, OpenCV axes.
        Ks: (C, 3, 3) intrinsics, pixels.
        width: pixels.
        height: pixels.
        near_plane: least planar depth of a Gaussian that counts.
        far_plane: largest.
        eps2d: variance of the blur that every Gaussian gets in the image, square pixels.
        sh_degree: of the harmonics that are used, up to what `colors` hold.
        tile_size: see `Footprints.radii`.
        backgrounds: (C, D) features behind everything.
        render_mode: D is sum_i w_i z_i of planar depths z_i, ED that over the opacity; as the last channel.
        rasterize_mode: antialiased: opacity falls by as much as the blur makes a Gaussian larger (Mip-Splatting).
        max_fragments: pairs of pixel and Gaussian that are held at a time.
        packed: not served.
        absgrad: not served.

    Returns:
        (C, H, W, D) features, (C, H, W, 1) opacity, and with the names that gsplat's strategies know `means2d`
        (C, N, 2), `radii`, `depths`, `conics`, `opacities`, `width`, `height`, `n_cameras`, `gaussian_ids`.

    Raises:
        ValueError: an option that is not served.
    """
    # Heavy, and needed by methods of splats alone.
    from gsplat.cuda import _torch_impl as gsplat_torch

    if packed or absgrad:
        raise ValueError("rasterization without gsplat's kernels has neither packed=True nor absgrad=True")
    covariances, _ = gsplat_torch._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    if covariances is None:
        raise ValueError("gsplat gave no covariances")
    antialiased = rasterize_mode == "antialiased"
    means = _off_the_planes(means, viewmats, near_plane)
    radii, means2d, depths, conics, compensations = gsplat_torch._fully_fused_projection(
        means,
        covariances,
        viewmats,
        Ks,
        width,
        height,
        eps2d=eps2d,
        near_plane=near_plane,
        far_plane=far_plane,
        calc_compensations=antialiased,
    )
    count = len(viewmats)
    faded = opacities.expand(count, -1)
    if compensations is not None:
        faded = faded * compensations
    if sh_degree is not None:
        centres = torch.linalg.inv(viewmats)[:, None, :3, 3]
        harmonics = gsplat_torch._spherical_harmonics(sh_degree, means - centres, colors.expand(count, -1, -1, -1))
        colors = (harmonics + 0.5).clamp(min=0.0)
    else:
        colors = colors.expand(count, -1, -1)
    features = {"RGB": colors, "D": depths[..., None], "ED": depths[..., None]}.get(render_mode)
    if features is None:
        features = torch.cat([colors, depths[..., None]], dim=-1)
    images, alphas = [], []
    for camera in range(count):
        # What is not seen would only be gathered and sorted in vain.
        reaching = radii[camera] > 0
        # Since gsplat 1.5 there is a radius for each axis.
        seen = (reaching if reaching.dim() == 1 else reaching.all(dim=-1)).nonzero()[:, 0]
        order = seen[depths[camera].detach()[seen].argsort(stable=True)]
        chosen = Footprints(means2d[camera][order], conics[camera][order], faded[camera][order], radii[camera][order])
        image, alpha = composite(chosen, features[camera][order], width, height, tile_size, max_fragments)
        images.append(image)
        alphas.append(alpha[..., None])
    image, alpha = torch.stack(images), torch.stack(alphas)
    if backgrounds is not None:
        behind = torch.zeros(count, image.shape[-1], dtype=image.dtype, device=image.device)
        behind[:, : backgrounds.shape[-1]] = backgrounds
        image = image + (1.0 - alpha) * behind[:, None, None, :]
    if render_mode in ("ED", "RGB+ED"):
        image = torch.cat([image[..., :-1], image[..., -1:] / alpha.clamp(min=1e-10)], dim=-1)
    info = {
        "means2d": means2d,
        "radii": radii,
        "depths": depths,
        "conics": conics,
        "opacities": faded,
        "gaussian_ids": None,
        "camera_ids": None,
        "width": width,
        "height": height,
        "tile_size": tile_size,
        "n_cameras": count,
    }
    return image, alpha, info


def _off_the_planes(means: Tensor, viewmats: Tensor, near_plane: float) -> Tensor:
    """Means (N, 3) of which none lies at depth 0 of a camera: nothing is seen of such a Gaussian, but the projection
    divides by its depth, and 0 times infinity would be its gradient."""
    axes = viewmats[:, 2, :3]
    with torch.no_grad():
        depths = means @ axes.T + viewmats[:, 2, 3]
        reach = 1e-6 * (1.0 + means.abs().amax(dim=-1, keepdim=True) + viewmats[:, 2, 3].abs())
        # Less than what hides it.
        reach = reach.clamp(max=0.5 * near_plane)
        away = (depths.abs() < reach) * reach
        shift = -2.0 * away @ axes
    return means + shift


def rasterization_of(device: torch.device, wanted: Literal["auto", "gsplat", "torch"] = "auto") -> Rasterization:
    """The function that renders on a device.

    Args:
        device: of the Gaussians.
        wanted: auto: gsplat's kernels on CUDA, the function above elsewhere.

    Raises:
        ValueError: gsplat was asked for on a device that it has no kernels for.
    """
    if wanted == "torch" or (wanted == "auto" and device.type != "cuda"):
        return rasterization
    if device.type != "cuda":
        raise ValueError(f"gsplat's kernels need CUDA, found {device}; give --pipeline.model.rasterizer torch")
    from gsplat.rendering import rasterization as of_gsplat

    return of_gsplat
