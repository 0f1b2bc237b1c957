"""Trivial baselines: what they predict, and which training view is nearest."""

from __future__ import annotations

import torch

from fewshot_ns.evaluation.baselines.trivial import TrivialBaselines


def pose(x, turned=False):
    """A camera at (x, 0, 0) that looks along -z, or along +z."""
    rotation = torch.diag(torch.tensor([-1.0, 1.0, -1.0])) if turned else torch.eye(3)
    return torch.cat([rotation, torch.tensor([[x], [0.0], [0.0]])], dim=1)


def test_the_mean_counts_pixels_not_photos():
    photos = [torch.zeros(2, 2, 3), torch.ones(4, 3, 3)]
    images = TrivialBaselines(photos, torch.stack([pose(0.0), pose(1.0)])).predict_pose(pose(0.2), 5, 6)
    assert images["mean_colour"].shape == (5, 6, 3)
    assert torch.allclose(images["mean_colour"], torch.tensor(12.0 / 16.0))
    assert images["nearest_view"].shape == (5, 6, 3) and images["nearest_view"].abs().max() == 0.0


def test_a_photo_of_the_right_size_is_taken_as_it_is():
    photos = [torch.rand(4, 6, 3), torch.rand(4, 6, 3)]
    images = TrivialBaselines(photos, torch.stack([pose(0.0), pose(1.0)])).predict_pose(pose(0.8), 4, 6)
    assert torch.equal(images["nearest_view"], photos[1])


def test_near_means_near_by_and_looking_the_same_way():
    poses = torch.stack([pose(0.0), pose(1.0), pose(0.3, turned=True)])
    baselines = TrivialBaselines([torch.zeros(1, 1, 3)] * 3, poses)
    assert [baselines.nearest(pose(x)) for x in (0.1, 0.4, 0.6)] == [0, 0, 1]
    assert baselines.nearest(pose(0.9, turned=True)) == 2
    # The unit of the world does not count.
    scaled = poses.clone()
    scaled[:, :, 3] *= 1000.0
    assert TrivialBaselines([torch.zeros(1, 1, 3)] * 3, scaled).nearest(pose(400.0)) == 0
