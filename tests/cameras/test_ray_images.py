"""Ray images against the rays that nerfstudio itself generates."""

from __future__ import annotations

import torch
from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.cameras.ray_images import opencv_world_to_cameras, ray_images


def camera() -> Cameras:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    turn = turn * torch.linalg.det(turn)
    pose = torch.cat([turn, torch.tensor([[1.0], [-2.0], [3.0]])], dim=-1)
    return Cameras(pose[None], 11.0, 12.0, 4.5, 3.25, 8, 6)


def test_rays_are_those_of_nerfstudio():
    seen = camera()
    rays = seen.generate_rays(camera_indices=0, keep_shape=True)
    intrinsics = torch.stack([seen.fx, seen.fy, seen.cx, seen.cy], dim=-1)[0, 0]
    found = ray_images(seen.camera_to_worlds[0], intrinsics, (6, 8))
    torch.testing.assert_close(found[:3].movedim(0, -1), rays.origins)
    torch.testing.assert_close(found[3:].movedim(0, -1), rays.directions * rays.metadata["directions_norm"])


def test_any_number_of_cameras_at_once():
    poses = torch.randn(2, 3, 3, 4)
    intrinsics = torch.rand(2, 3, 4) + 1.0
    together = ray_images(poses, intrinsics, (4, 5), "world_to_camera")
    assert together.shape == (2, 3, 6, 4, 5)
    torch.testing.assert_close(together[1, 2], ray_images(poses[1, 2], intrinsics[1, 2], (4, 5), "world_to_camera"))


def test_world_to_camera_brings_points_before_the_camera():
    pose = camera().camera_to_worlds[0]
    ahead = pose[:, 3] - 2.0 * pose[:, 2] + 0.5 * pose[:, 1]
    matrix = opencv_world_to_cameras(pose)
    torch.testing.assert_close(matrix[:, :3] @ ahead + matrix[:, 3], torch.tensor([0.0, -0.5, 2.0]))
