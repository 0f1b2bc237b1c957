"""What a monocular network does to depth, as a documented and seeded function of the exact depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from fewshot_ns.synthetic.textures import Array


@dataclass(frozen=True)
class DepthDistortion:
    """Turns exact depth into the kind of inverse depth that a monocular network gives.

    In this order: inverse depth is stretched to [0, 1] per image, bent monotonically, warped by a smooth error field
    (a network misjudges whole regions, not pixels), blurred, made noisy, and given an unknown scale and shift.
    """

    bend: float = 1.6
    """The bend is x^gamma with gamma drawn per image log-uniformly from [1 / bend, bend]; 1 switches it off."""
    region_error: float = 0.10
    """Standard deviation of the smooth error field, as a share of the image's range of inverse depth."""
    region_cells: int = 5
    """Lattice cells of the smooth error field across the image's width."""
    blur: float = 0.012
    """Standard deviation of the Gaussian blur, as a share of the image's width."""
    noise: float = 0.01
    """Standard deviation of the pixel noise, as a share of the image's range of inverse depth."""
    scale_range: float = 10.0
    """The scale is drawn per image log-uniformly from [1 / scale_range, scale_range]."""
    shift_range: float = 5.0
    """The shift is drawn per image uniformly from [-shift_range, shift_range]."""
    seed: int = 0
    """Together with the image's index it decides every draw."""

    def apply(self, depth: Array, image_index: int) -> Array:
        """Distorts one image.

        Args:
            depth: (H, W) exact depth, positive and finite.
            image_index: Chooses the draws of this image.

        Returns:
            (H, W) inverse depth up to an unknown scale (positive) and shift: larger is nearer.

        Raises:
            ValueError: where a depth is not positive and finite.
        """
        if not (np.isfinite(depth).all() and (depth > 0).all()):
            raise ValueError("expected positive finite depths in the whole image")
        rng = np.random.default_rng((self.seed, image_index))
        height, width = depth.shape
        inverse = 1.0 / depth
        value = (inverse - inverse.min()) / max(np.ptp(inverse), 1e-12)
        value = value ** (self.bend ** rng.uniform(-1.0, 1.0))
        rows = max(2, round(self.region_cells * height / width)) + 1
        lattice = rng.standard_normal((rows, self.region_cells + 1))
        field = np.asarray(zoom(lattice, (height / lattice.shape[0], width / lattice.shape[1]), order=3))
        value = value + self.region_error * field / max(field.std(), 1e-12)
        value = gaussian_filter(value, self.blur * width, mode="nearest")
        value = value + self.noise * rng.standard_normal(value.shape)
        scale = self.scale_range ** rng.uniform(-1.0, 1.0)
        return scale * value + rng.uniform(-self.shift_range, self.shift_range)


def to_uint16(inverse_depth: Array) -> np.ndarray:
    """SparseNeRF's layout: stretched per image to the whole range 0..65535, (H, W) float to (H, W) uint16."""
    low, high = inverse_depth.min(), inverse_depth.max()
    return np.round((inverse_depth - low) / max(high - low, 1e-12) * 65535.0).astype(np.uint16)
