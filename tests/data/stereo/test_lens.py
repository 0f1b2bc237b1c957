"""Photos of lenses: what a pinhole camera would have seen, and the way back."""

from __future__ import annotations

import torch
from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.data.stereo.lens import as_photographed, bent, straightened
from fewshot_ns.data.stereo.views import StereoView, ViewDepth

LENS = torch.tensor([-0.12, 0.03, 0.002, -0.001, 0.004, -0.003])
HEIGHT, WIDTH = 60, 80
INTRINSICS = torch.tensor([70.0, 75.0, 41.0, 29.0])


def pattern(points: torch.Tensor) -> torch.Tensor:
    """(..., 3) colours of a smooth picture on the plane at distance 1."""
    x, y = points.unbind(-1)
    return torch.stack(
        [0.5 + 0.4 * torch.sin(5 * x), 0.5 + 0.4 * torch.cos(4 * y), 0.5 + 0.3 * torch.sin(3 * (x + y))], -1
    )


def photo_and_rays() -> tuple:
    """A photo of the pattern by the lens, and where on the plane nerfstudio says that each pixel looks."""
    fx, fy, cx, cy = (value.reshape(1, 1) for value in INTRINSICS)
    camera = Cameras(torch.eye(4)[:3][None], fx, fy, cx, cy, WIDTH, HEIGHT, LENS[None])
    directions = camera.generate_rays(0, keep_shape=True).directions
    looks = torch.stack([directions[..., 0], -directions[..., 1]], -1) / -directions[..., 2:]
    mask = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    mask[:10, :10] = False
    return StereoView(pattern(looks), torch.eye(4)[:3], INTRINSICS, 1.0, 2.0, mask), looks


def test_the_lens_is_nerfstudios() -> None:
    _, looks = photo_and_rays()
    pixels = bent(looks, LENS) * INTRINSICS[:2] + INTRINSICS[2:]
    assert torch.allclose(pixels[7, 5], torch.tensor([5.5, 7.5]), atol=1e-2)
    assert torch.allclose(pixels[-1, -1], torch.tensor([WIDTH - 0.5, HEIGHT - 0.5]), atol=1e-2)
    assert torch.equal(bent(looks, torch.zeros(6)), looks)


def test_a_straightened_photo_shows_what_a_pinhole_camera_sees() -> None:
    photo, _ = photo_and_rays()
    straight = straightened(photo, LENS)
    rays = straight.rays
    truth = pattern(torch.stack([rays[..., 0], -rays[..., 1]], -1))
    inner = straight.mask.clone()
    inner[:2], inner[-2:], inner[:, :2], inner[:, -2:] = False, False, False, False
    error, untouched = (straight.image - truth).abs()[inner].max(), (photo.image - truth).abs()[inner].max()
    assert error < 0.01 < 0.05 < untouched
    assert not straight.mask[:8, :8].any() and straight.mask[20:40, 20:60].all()


def test_what_lies_beyond_the_photo_is_masked_out() -> None:
    photo, _ = photo_and_rays()
    pincushion = straightened(photo, torch.tensor([0.4, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert not pincushion.mask[-1, -1] and pincushion.mask[30, 40]
    # Far out a strong barrel turns back, where points come to lie in the photo again.
    barrel = straightened(photo, torch.tensor([-1.5, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert not barrel.mask[-1, -1] and barrel.mask[30, 40]


def test_depth_comes_back_to_the_pixels_of_the_photo() -> None:
    photo, looks = photo_and_rays()
    straight = straightened(photo, LENS)
    # A slanted plane: planar depth as a function of where a pixel looks.
    rays = straight.rays
    z_depth = 1.0 / (0.6 + 0.2 * rays[..., 0] - 0.1 * -rays[..., 1])
    found = as_photographed(ViewDepth(z_depth, 0.1 * z_depth, straight.mask), photo, LENS)
    truth = 1.0 / (0.6 + 0.2 * looks[..., 0] - 0.1 * looks[..., 1])
    assert found.valid[20:40, 20:60].all() and not found.valid[:8, :8].any()
    assert ((found.z_depth - truth).abs() / truth)[found.valid].max() < 0.005
    assert torch.allclose(found.sigma, 0.1 * found.z_depth)
    assert ((z_depth - truth).abs() / truth)[found.valid].max() > 0.01
