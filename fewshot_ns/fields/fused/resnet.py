"""pixelNeRF's network as one differentiable operation, worked through in blocks of points.

It saves what `fused_mlp` saves, and more: the residual stream is one tensor that products are added to, the biases of
the features' projection are added to those of the layer before, and the projected features are read without a copy.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from fewshot_ns.fields.fused.mlp import BLOCK_ROWS

Layer = Tuple[Tensor, Tensor]
"""Weight and bias."""


def fused_resnet(
    inputs: Tensor,
    projected: Tensor,
    first: Layer,
    blocks: Sequence[Tuple[Layer, Layer]],
    latent_biases: Sequence[Tensor],
    last: Layer,
) -> Tensor:
    """Residual blocks, of which the first P see features of V views; the mean over the views follows these.

    Args:
        inputs: (V, N, E) encoded points, in the number format of the matrix products.
        projected: (V, N, P * W) what is added to the stream before each of the first P blocks, without biases.
        first: layer (E -> W).
        blocks: both layers (W -> W) of each residual block x + W1 relu(W0 relu(x) + b0) + b1; at least P.
        latent_biases: P biases (W,) that belong to `projected`.
        last: layer (W -> C) on the ReLU of the stream.

    Returns:
        (N, C) in the format of the parameters.
    """
    # What is added between two blocks, in one piece: autograd shares out its gradient.
    biases = [first[1], *(second[1] for _, second in blocks)]
    between = [b + latent_biases[i] if i < len(latent_biases) else b for i, b in enumerate(biases)]
    matrices = [matrix for (w0, _), (w1, _) in blocks for matrix in (w0, w1)]
    inner = [b0 for (_, b0), _ in blocks]
    return _FusedResNet.apply(  # type: ignore[return-value]
        inputs, projected, len(latent_biases), len(blocks), first[0], *last, *between, *inner, *matrices
    )


def _ranges(views: int, points: int, device: torch.device) -> List[slice]:
    """Ranges of points that make a block; a single block on a GPU, where few large launches are faster."""
    step = max(BLOCK_ROWS // views, 1) if device.type == "cpu" else max(points, 1)
    return [slice(start, min(start + step, points)) for start in range(0, points, step)]


class _FusedResNet(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        projected: Tensor,
        shifts: int,
        count: int,
        w_in: Tensor,
        w_out: Tensor,
        b_out: Tensor,
        *rest: Tensor,
    ) -> Tensor:
        dtype, (views, points, columns), width = inputs.dtype, inputs.shape, len(w_in)
        between, rest = [b.to(dtype) for b in rest[: count + 1]], rest[count + 1 :]
        inner, matrices = [b.to(dtype) for b in rest[:count]], [w.to(dtype) for w in rest[count:]]
        first, last = w_in.to(dtype), w_out.to(dtype)
        keep = any(ctx.needs_input_grad)
        kept: List[Tensor] = []
        raw = w_in.new_empty(points, len(w_out))
        for block in _ranges(views, points, inputs.device):
            h = torch.mm(inputs[:, block].reshape(-1, columns), first.t())
            for i in range(count):
                if i == shifts:
                    h = h.view(views, -1, width).mean(0) if views > 1 else h
                h += between[i]
                if i < shifts:
                    h.view(views, -1, width).add_(projected[:, block, i * width : (i + 1) * width])
                outer = torch.relu(h)
                hidden = torch.nn.functional.linear(outer, matrices[2 * i], inner[i]).relu_()
                h.addmm_(hidden, matrices[2 * i + 1].t())
                if keep:
                    kept += [outer, hidden]
            if shifts == count and views > 1:
                h = h.view(views, -1, width).mean(0)
            final = h.add_(between[count]).relu_()
            raw[block] = torch.mm(final, last.t()).to(raw.dtype)
            if keep:
                kept.append(final)
        if keep:
            ctx.save_for_backward(inputs, first, last, *matrices, *kept)
            ctx.shifts, ctx.count, ctx.format = shifts, count, w_in.dtype
        return raw.add_(b_out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Optional[Tensor], ...]:
        shifts, count = ctx.shifts, ctx.count
        inputs, first, last, *rest = ctx.saved_tensors
        matrices, rest = rest[: 2 * count], rest[2 * count :]
        (views, points, columns), width, dtype = inputs.shape, len(first), inputs.dtype

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=ctx.format, device=inputs.device)

        d_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        d_projected = inputs.new_empty(views, points, shifts * width) if ctx.needs_input_grad[1] else None
        g_first, g_last = zeros(*first.shape), zeros(*last.shape)
        g_between, g_inner = [zeros(width) for _ in range(count + 1)], [zeros(width) for _ in range(count)]
        g_matrices = [zeros(*w.shape) for w in matrices]
        for index, block in enumerate(_ranges(views, points, inputs.device)):
            kept = rest[index * (2 * count + 1) : (index + 1) * (2 * count + 1)]
            d_raw = gradient[block].to(dtype)
            g_last += torch.mm(d_raw.t(), kept[-1])
            d = torch.mm(d_raw, last)
            _mask(d, kept[-1], d)
            g_between[count] += d.sum(0)
            if shifts == count:
                d = _to_views(d, views)
            for i in reversed(range(count)):
                outer, hidden = kept[2 * i], kept[2 * i + 1]
                g_matrices[2 * i + 1] += torch.mm(d.t(), hidden)
                d_hidden = torch.mm(d, matrices[2 * i + 1])
                _mask(d_hidden, hidden, d_hidden)
                g_matrices[2 * i] += torch.mm(d_hidden.t(), outer)
                g_inner[i] += d_hidden.sum(0)
                d_outer = torch.mm(d_hidden, matrices[2 * i])
                d += _mask(d_outer, outer, d_outer)
                g_between[i] += d.sum(0)
                if i < shifts and d_projected is not None:
                    d_projected[:, block, i * width : (i + 1) * width] = d.view(views, -1, width)
                if i == shifts:
                    d = _to_views(d, views)
            g_first += torch.mm(d.t(), inputs[:, block].reshape(-1, columns))
            if d_inputs is not None:
                d_inputs[:, block] = torch.mm(d, first).view(views, -1, columns)
        flat = (*g_between, *g_inner, *g_matrices)
        return d_inputs, d_projected, None, None, g_first, g_last, gradient.sum(0), *flat


def _to_views(gradient: Tensor, views: int) -> Tensor:
    """(V * n, W) gradient through the mean over views of the gradient (n, W)."""
    return gradient if views == 1 else (gradient / views).repeat(views, 1)


def _mask(gradient: Tensor, activation: Tensor, out: Tensor) -> Tensor:
    """Gradient through a ReLU whose output was `activation`."""
    return torch.ops.aten.threshold_backward.grad_input(gradient, activation, 0, grad_input=out)
