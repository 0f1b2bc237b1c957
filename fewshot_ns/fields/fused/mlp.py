"""The matrix products of mip-NeRF's network as one differentiable operation, worked through in blocks of samples.

Same values and gradients as the layers one after the other, at less cost: a block's activations stay in the cache
between its layers, nothing is concatenated, no gradient is formed for inputs that need none, what depends on the ray
alone enters once per ray, and hidden layers are kept once, in the number format of the products.
"""

from __future__ import annotations

from typing import Any, Callable, List, Sequence, Tuple

import torch
from torch import Tensor, nn

BLOCK_ROWS = 2048
"""Samples per block on a CPU: activations of one layer of 256 are 1 to 2 MB."""


def fused_mlp(
    encoded: Tensor,
    view: Tensor,
    trunk: Sequence[Tuple[Tensor, Tensor]],
    skip_layer: int,
    head: Tensor,
    density_bias: Tensor,
    rgb: Tuple[Tensor, Tensor],
) -> Tuple[Tensor, Tensor]:
    """Trunk of ReLU layers, a density, and a colour branch of one ReLU layer.

    With h the trunk's output and [H; w] = `head`: density = w h + b, colour = W relu(H h + view) + b.

    Args:
        encoded: (R, S, E) encoded samples, in the number format of the matrix products.
        view: (R, C) what the colour branch adds to all samples of a ray, bias included.
        trunk: weight (W, inputs) and bias (W,) of each layer; the inputs of layer `skip_layer` are [W, E].
        skip_layer: layer that sees the encoding once more, at least 1.
        head: (C + 1, W), the colour branch's rows and the density's.
        density_bias: (1,).
        rgb: weight (3, C) and bias (3,).

    Returns:
        (R, S) raw density and (R, S, 3) raw colour, in the format of `view`.
    """
    flat = [tensor for layer in trunk for tensor in layer]
    return _FusedMLP.apply(encoded, view, skip_layer, head, density_bias, *rgb, *flat)  # type: ignore[return-value]


def fused_radiance(
    encoded: Tensor,
    view: Tensor,
    trunk: Sequence[Tuple[Tensor, Tensor]],
    skip_layer: int,
    density: nn.Linear,
    bottleneck: nn.Linear,
    colour: nn.Linear,
    rgb: nn.Linear,
) -> Tuple[Tensor, Tensor]:
    """NeRF's network: `fused_mlp` whose colour branch sees [bottleneck, view].

    No activation lies between the bottleneck and the colour branch: their product is one matrix, and what comes of the
    direction and the biases is the same for all samples of a ray.

    Args:
        encoded: as in `fused_mlp`; so with `trunk`, `skip_layer` and what is returned.
        view: (R, V) encoded direction, and what else is the same along the ray.
        density: layer (W -> 1).
        bottleneck: layer (W -> W).
        colour: layer (W + V -> C).
        rgb: layer (C -> 3).
    """
    of_bottleneck, of_view = colour.weight.split([bottleneck.out_features, view.shape[-1]], dim=1)
    return fused_mlp(
        encoded,
        view @ of_view.t() + (of_bottleneck @ bottleneck.bias + colour.bias),
        trunk,
        skip_layer,
        torch.cat([of_bottleneck @ bottleneck.weight, density.weight]),
        density.bias,
        (rgb.weight, rgb.bias),
    )


def fused_density(encoded: Tensor, trunk: Sequence[Tuple[Tensor, Tensor]], density: Tuple[Tensor, Tensor]) -> Tensor:
    """As `fused_mlp` without skip connection and colour branch.

    Args:
        encoded: (R, S, E) encoded samples, in the number format of the matrix products.
        trunk: weight (W, inputs) and bias (W,) of each layer.
        density: weight (1, W) and bias (1,).

    Returns:
        (R, S) raw density, in the format of the parameters.
    """
    weight, bias = density
    no_view, no_colour = weight.new_empty(len(encoded), 0), weight.new_empty(3, 0)
    flat = [tensor for layer in trunk for tensor in layer]
    raw, _ = _FusedMLP.apply(encoded, no_view, _NO_SKIP, weight, bias, no_colour, weight.new_zeros(3), *flat)  # type: ignore[misc]
    return raw


_NO_SKIP = -1


def encode_in_blocks(
    encode: Callable[[Tensor, Tensor], Tensor], means: Tensor, cov_diag: Tensor, columns: int, dtype: torch.dtype
) -> Tensor:
    """(R, S, columns) encoding of Gaussians (R, S, 3) in a number format; in blocks where no gradient is needed.

    Args:
        encode: from means and covariance diagonals (r, S, 3) to (r, S, columns).
        means: (R, S, 3); the encoding has a gradient only where they require one.
        cov_diag: (R, S, 3).
        columns: of the encoding.
        dtype: of the result.
    """
    if means.requires_grad and torch.is_grad_enabled():
        return encode(means, cov_diag).to(dtype)
    encoded = torch.empty(*means.shape[:-1], columns, dtype=dtype, device=means.device)
    with torch.no_grad():
        for block in _blocks(means):
            encoded[block] = encode(means[block], cov_diag[block])
    return encoded


def _blocks(of_rays: Tensor) -> List[slice]:
    """Ranges of rays whose samples make a block; a single block on a GPU, where few large launches are faster."""
    rays, samples = of_rays.shape[:2]
    step = max(BLOCK_ROWS // max(samples, 1), 1) if of_rays.device.type == "cpu" else max(rays, 1)
    return [slice(start, min(start + step, rays)) for start in range(0, rays, step)]


class _FusedMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        encoded: Tensor,
        view: Tensor,
        skip_layer: int,
        head: Tensor,
        density_bias: Tensor,
        rgb_weight: Tensor,
        rgb_bias: Tensor,
        *trunk: Tensor,
    ) -> Tuple[Tensor, Tensor]:
        dtype = encoded.dtype
        (rays, samples, columns), (colours, width) = encoded.shape, (len(head) - 1, head.shape[1])
        weights, biases = [w.to(dtype) for w in trunk[0::2]], [b.to(dtype) for b in trunk[1::2]]
        head_cast, rgb_cast, view_cast = head.to(dtype), rgb_weight.to(dtype), view.to(dtype)
        keep = any(ctx.needs_input_grad)
        hidden, colour = [], []
        raw_density, raw_rgb = view.new_empty(rays, samples), view.new_empty(rays, samples, 3)
        for block in _blocks(encoded):
            x = encoded[block].reshape(-1, columns)
            h, kept = x, []
            for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                h = torch.mm(h, weight[:, : h.shape[1]].t())
                if i == skip_layer:
                    h.addmm_(x, weight[:, width:].t())
                # Cheaper after the product than as its start value, which would be written out first.
                kept.append(h.add_(bias).relu_())
            mixed = torch.mm(h, head_cast.t()).view(-1, samples, colours + 1)
            c = (mixed[..., :colours] + view_cast[block, None]).relu_().view(len(x), colours)
            raw_density[block] = mixed[..., colours]
            raw_rgb[block] = torch.mm(c, rgb_cast.t()).view(-1, samples, 3)
            if keep:
                hidden.append(kept)
                colour.append(c)
        if keep:
            ctx.save_for_backward(
                encoded, head_cast, rgb_cast, *weights, *colour, *(h for kept in hidden for h in kept)
            )
            ctx.skip_layer, ctx.layers, ctx.format = skip_layer, len(weights), view.dtype
        return raw_density.add_(density_bias), raw_rgb.add_(rgb_bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_density: Tensor, grad_rgb: Tensor) -> Tuple[Any, ...]:
        layers, skip_layer = ctx.layers, ctx.skip_layer
        encoded, head, rgb, *rest = ctx.saved_tensors
        weights, rest = rest[:layers], rest[layers:]
        blocks = _blocks(encoded)
        colour, hidden = rest[: len(blocks)], rest[len(blocks) :]
        dtype, (rays, samples, columns), (outputs, width) = encoded.dtype, encoded.shape, head.shape
        colours = outputs - 1

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=ctx.format, device=encoded.device)

        grad_encoded = torch.zeros_like(encoded) if ctx.needs_input_grad[0] else None
        grad_view = zeros(rays, colours)
        grad_head, grad_rgb_weight = zeros(*head.shape), zeros(*rgb.shape)
        grad_weights, grad_biases = [zeros(*weight.shape) for weight in weights], [zeros(width) for _ in weights]
        for index, block in enumerate(blocks):
            x = encoded[block].reshape(-1, columns)
            acts = hidden[index * layers : (index + 1) * layers]
            d_rgb = grad_rgb[block].reshape(-1, 3).to(dtype)
            d_mixed = x.new_empty(len(x), outputs)
            _mask(torch.mm(d_rgb, rgb), colour[index], d_mixed[:, :colours])
            d_mixed[:, colours] = grad_density[block].reshape(-1)
            grad_rgb_weight += torch.mm(d_rgb.t(), colour[index])
            grad_view[block] = d_mixed[:, :colours].reshape(len(x) // samples, samples, colours).sum(1)
            grad_head += torch.mm(d_mixed.t(), acts[-1])
            d_h = torch.mm(d_mixed, head)
            for i in reversed(range(layers)):
                _mask(d_h, acts[i], d_h)
                grad_biases[i] += d_h.sum(0)
                if i == skip_layer:
                    grad_weights[i][:, width:] += torch.mm(d_h.t(), x)
                    if grad_encoded is not None:
                        grad_encoded[block] += torch.mm(d_h, weights[i][:, width:]).view(-1, samples, columns)
                before = acts[i - 1] if i > 0 else x
                grad_weights[i][:, : before.shape[1]] += torch.mm(d_h.t(), before)
                if i > 0:
                    d_h = torch.mm(d_h, weights[i][:, :width])
            if grad_encoded is not None:
                grad_encoded[block] += torch.mm(d_h, weights[0]).view(-1, samples, columns)
        flat = [grad for pair in zip(grad_weights, grad_biases, strict=True) for grad in pair]
        grad_density_bias = grad_density.sum().reshape(1)
        return (
            grad_encoded,
            grad_view,
            None,
            grad_head,
            grad_density_bias,
            grad_rgb_weight,
            grad_rgb.sum((0, 1)),
            *flat,
        )


def _mask(gradient: Tensor, activation: Tensor, out: Tensor) -> None:
    """Gradient through a ReLU whose output was `activation`."""
    torch.ops.aten.threshold_backward.grad_input(gradient, activation, 0, grad_input=out)
