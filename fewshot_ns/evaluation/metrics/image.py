"""Image metrics as pure functions of two images, by the conventions of the few-shot literature.

Every function takes a predicted and a true image of shape (H, W, 3) with values in [0, 1] and returns a scalar tensor
on the device of the prediction. float64 images are measured in float64, everything else in float32. Nothing is clamped
here. Masks are (H, W, 1) or (H, W, 3) with values in [0, 1], 1 on the object.
"""

from __future__ import annotations

from typing import Any, Union

import torch
from torch import Tensor

Scalar = Union[Tensor, float]

PSNR_CEILING = 100.0
"""dB given to identical images, so that a perfect image stays a number that JSON can hold."""

SSIM_WINDOW = 7
"""Side of the uniform window of `ssim`, in pixels."""

GAUSSIAN_WINDOW = 11
"""Side of the window of `ssim_gaussian`, in pixels (sigma 1.5)."""


def psnr(pred: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of the whole image in dB, at most `PSNR_CEILING`.

    Args:
        pred: predicted image (H, W, 3) in [0, 1].
        truth: true image (H, W, 3) in [0, 1].

    Raises:
        ValueError: the shapes differ or are not (H, W, 3), or a value is not finite.
    """
    pred, truth = _checked(pred, truth)
    return _psnr_of_mse(torch.mean((pred - truth) ** 2))


def ssim(pred: Tensor, truth: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity with scikit-image's defaults: what NeRF papers of the RegNeRF line report.

    Uniform 7x7 window, sample covariance, the border of 3 pixels left out, mean over the channels. Runs on the CPU.

    Args:
        pred: predicted image (H, W, 3) in [0, 1].
        truth: true image (H, W, 3) in [0, 1].
        data_range: span of the values. The training logs of RegNeRF and SparseNeRF used 2, which inflates the figure.

    Raises:
        ValueError: the shapes differ, are not (H, W, 3) or smaller than the window, or a value is not finite.
    """
    from skimage.metrics import structural_similarity

    pred, truth = _checked(pred, truth, smallest=SSIM_WINDOW)
    value: Any = structural_similarity(
        truth.detach().cpu().numpy(),
        pred.detach().cpu().numpy(),
        win_size=SSIM_WINDOW,
        data_range=data_range,
        channel_axis=-1,
    )
    return torch.as_tensor(float(value), dtype=pred.dtype, device=pred.device)


def ssim_gaussian(pred: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity with the 11x11 Gaussian window (sigma 1.5) of the first SSIM paper.

    Only windows wholly inside the image count, as in the paper's code and in scikit-image.

    Args:
        pred: predicted image (H, W, 3) in [0, 1].
        truth: true image (H, W, 3) in [0, 1].

    Raises:
        ValueError: the shapes differ, are not (H, W, 3) or smaller than the window, or a value is not finite.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    pred, truth = _checked(pred, truth, smallest=GAUSSIAN_WINDOW)
    # Not torchmetrics' own mean: some of its versions count windows that hang over the (mirrored) border, some do not.
    _, similarity = structural_similarity_index_measure(
        pred.permute(2, 0, 1)[None], truth.permute(2, 0, 1)[None], sigma=1.5, data_range=1.0, return_full_image=True
    )
    border = GAUSSIAN_WINDOW // 2
    height, width, _ = pred.shape
    return similarity[..., border : height - border, border : width - border].mean()


def census_error(pred: Tensor, truth: Tensor, epsilon: float = 1.0 / 256.0) -> Tensor:
    """Fraction of neighbour comparisons that point the opposite way in the two images (RegNeRF's census error).

    Each pixel and channel is compared with its eight neighbours: brighter, darker, or alike within `epsilon`. The
    border is repeated outwards. Only brighter against darker counts as an error.

    Args:
        pred: predicted image (H, W, 3) in [0, 1].
        truth: true image (H, W, 3) in [0, 1].
        epsilon: differences up to this size count as alike.

    Raises:
        ValueError: the shapes differ or are not (H, W, 3), or a value is not finite.
    """
    pred, truth = _checked(pred, truth)
    opposite = _census(pred, epsilon) * _census(truth, epsilon) < 0
    return opposite.to(pred.dtype).mean()


def avg_error(psnr_db: Scalar, ssim_value: Scalar, lpips_value: Scalar) -> Tensor:
    """Geometric mean of the mean squared error, sqrt(1 - SSIM) and LPIPS: one figure per image, smaller is better.

    Args:
        psnr_db: PSNR in dB, scalar.
        ssim_value: SSIM, scalar; a value above 1 by rounding counts as 1.
        lpips_value: LPIPS, scalar, not negative.
    """
    reference = torch.as_tensor(psnr_db)
    like = {"dtype": reference.dtype, "device": reference.device}
    mse = torch.pow(torch.tensor(10.0, **like), -reference / 10.0)
    dissimilarity = torch.sqrt(torch.clamp(1.0 - torch.as_tensor(ssim_value, **like), min=0.0))
    perceptual = torch.clamp(torch.as_tensor(lpips_value, **like), min=0.0)
    # A perfect term is log(0) = -inf, and exp(-inf) = 0 is the geometric mean that is meant.
    return torch.exp(torch.stack([mse, dissimilarity, perceptual]).log().mean())


def masked_psnr(pred: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """PSNR in dB over the image elements whose mask is exactly 1 (fractional border pixels are left out).

    Args:
        pred: predicted image (H, W, 3) in [0, 1].
        truth: true image (H, W, 3) in [0, 1].
        mask: (H, W, 1) or (H, W, 3) in [0, 1].

    Raises:
        ValueError: a shape does not fit, a value is not finite, or no element of the mask is 1.
    """
    pred, truth = _checked(pred, truth)
    inside = _checked_mask(mask, pred) == 1.0
    if not bool(inside.any()):
        raise ValueError("masked PSNR: expected a mask with at least one element equal to 1, found none")
    return _psnr_of_mse(torch.mean((pred[inside] - truth[inside]) ** 2))


def composite_on_white(image: Tensor, mask: Tensor) -> Tensor:
    """The image where the mask is 1, white where it is 0, blended in between.

    Args:
        image: (H, W, 3) in [0, 1].
        mask: (H, W, 1) or (H, W, 3) in [0, 1].

    Returns:
        (H, W, 3) in [0, 1].

    Raises:
        ValueError: the mask does not fit the image.
    """
    mask = _checked_mask(mask, image)
    return image * mask + (1.0 - mask)


def _psnr_of_mse(mse: Tensor) -> Tensor:
    return -10.0 * torch.log10(torch.clamp(mse, min=10.0 ** (-PSNR_CEILING / 10.0)))


def _census(image: Tensor, epsilon: float) -> Tensor:
    """Signs (8, H, W, 3) of neighbour minus pixel, 0 within epsilon."""
    height, width, _ = image.shape
    padded = torch.nn.functional.pad(image.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0)
    offsets = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    differences = torch.stack([padded[r : r + height, c : c + width] - image for r, c in offsets])
    return torch.where(differences.abs() > epsilon, torch.sign(differences), torch.zeros_like(differences))


def _checked(pred: Tensor, truth: Tensor, smallest: int = 1) -> tuple[Tensor, Tensor]:
    """The two images in one floating type on one device, after their shapes and values have been checked."""
    for name, image in (("predicted", pred), ("true", truth)):
        if image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(f"{name} image: expected shape (height, width, 3), got {tuple(image.shape)}")
        if not image.is_floating_point():
            raise ValueError(f"{name} image: expected floating point values in [0, 1], got {image.dtype}")
    if pred.shape != truth.shape:
        raise ValueError(
            f"expected a predicted and a true image of one shape, got {tuple(pred.shape)} and {tuple(truth.shape)}"
        )
    if min(pred.shape[:2]) < smallest:
        raise ValueError(f"expected an image of at least {smallest}x{smallest} pixels, got {tuple(pred.shape[:2])}")
    dtype = torch.float64 if torch.float64 in (pred.dtype, truth.dtype) else torch.float32
    pred, truth = pred.to(dtype), truth.to(device=pred.device, dtype=dtype)
    for name, image in (("predicted", pred), ("true", truth)):
        bad = int((~torch.isfinite(image)).sum())
        if bad:
            raise ValueError(
                f"{name} image: expected finite values, found {bad} of {image.numel()} that are NaN or inf"
            )
    return pred, truth


def _checked_mask(mask: Tensor, image: Tensor) -> Tensor:
    """The mask expanded to the image's shape, type and device."""
    if mask.ndim != 3 or mask.shape[:2] != image.shape[:2] or mask.shape[2] not in (1, 3):
        height, width = image.shape[:2]
        raise ValueError(
            f"mask: expected shape ({height}, {width}, 1) or ({height}, {width}, 3), got {tuple(mask.shape)}"
        )
    return mask.to(device=image.device, dtype=image.dtype).expand_as(image)
