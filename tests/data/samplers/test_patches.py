"""Patches of unseen views: where they lie, in which order their pixels come, and that their rays are right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fewshot_ns.cameras.ray_space import RADII_KEY, attach_radii, camera_rays, concatenate_rays
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.data.samplers.unseen_views import UnseenPatchSampler, unseen_cameras


@pytest.fixture(params=["ndc", "metric"])
def parsed(request: pytest.FixtureRequest) -> Any:
    if request.param == "metric":
        config: Any = DTUDataParserConfig(data=request.getfixturevalue("tiny_dtu_scene"))
    else:
        config = LLFFDataParserConfig(data=request.getfixturevalue("tiny_llff_scene"))
    return config.setup().get_dataparser_outputs("train")


def draw(parsed: Any, count: int = 5, training_cameras_only: bool = False, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    record = get_fewshot_metadata(parsed.metadata)
    return unseen_cameras(parsed.cameras, record, count, training_cameras_only, generator)


def sampler(parsed: Any, patch_size: int = 8) -> UnseenPatchSampler:
    return UnseenPatchSampler(draw(parsed), patch_size)


def test_unseen_cameras_look_like_the_seen_ones(parsed: Any) -> None:
    cameras = draw(parsed)
    assert len(cameras) == 5 and cameras.height[0] == parsed.cameras.height[0]
    torch.testing.assert_close(cameras.fx[0], parsed.cameras.fx[0], rtol=1e-3, atol=0.0)
    rotations = cameras.camera_to_worlds[:, :, :3]
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(5, 3, 3), rtol=0, atol=1e-5)
    # They look the way the seen ones do.
    assert (cameras.camera_to_worlds[:, :, 2] @ parsed.cameras.camera_to_worlds[0, :, 2] > 0.3).all()
    assert torch.equal(draw(parsed).camera_to_worlds, cameras.camera_to_worlds)
    assert not torch.equal(draw(parsed, seed=1).camera_to_worlds, cameras.camera_to_worlds)


def test_training_cameras_alone_may_place_them(parsed: Any) -> None:
    record = get_fewshot_metadata(parsed.metadata)
    moved = record.scene_camera_to_worlds.clone()
    for index in record.test_indices:
        moved[index, :, 3] += 50.0
    with_moved = replace(record, scene_camera_to_worlds=moved)
    for only, same in ((True, True), (False, False)):
        before, after = (
            unseen_cameras(parsed.cameras, r, 4, only, torch.Generator().manual_seed(0)).camera_to_worlds
            for r in (record, with_moved)
        )
        assert torch.equal(before, after) == same


def test_forward_facing_scene_without_bounds_is_named(tiny_llff_scene: Any) -> None:
    parsed = LLFFDataParserConfig(data=tiny_llff_scene).setup().get_dataparser_outputs("train")
    record = replace(get_fewshot_metadata(parsed.metadata), scene_bounds=None)
    with pytest.raises(ValueError, match="need its depth bounds"):
        unseen_cameras(parsed.cameras, record, 4, True, torch.Generator())


def test_place_of_a_patch_is_uniform(parsed: Any) -> None:
    torch.manual_seed(0)
    patches = sampler(parsed).draw(20000)
    height, width = int(parsed.cameras.height[0]), int(parsed.cameras.width[0])
    for column, count in ((0, 5), (1, height - 7), (2, width - 7)):
        share = torch.bincount(patches[:, column], minlength=count).float() / len(patches)
        assert len(share) == count and (share - 1 / count).abs().max() < 0.02
    # Drawn independently of one another.
    assert torch.corrcoef(patches.T.float()).fill_diagonal_(0).abs().max() < 0.03


def test_rays_are_those_of_the_pixels_row_by_row(parsed: Any) -> None:
    patches, geometry = sampler(parsed), get_fewshot_metadata(parsed.metadata).geometry
    drawn = torch.tensor([[3, 2, 1], [0, 0, 4]])
    cameras = patches.cameras_of(drawn)
    assert cameras.shape == (2,) and camera_rays(cameras, geometry).shape == (2, 8, 8)
    rays = camera_rays(cameras, geometry).flatten()
    for index, (view, row, column) in enumerate(drawn.tolist()):
        whole = attach_radii(patches.cameras.generate_rays(camera_indices=view, keep_shape=True), geometry)
        expected = whole[row : row + 8, column : column + 8].flatten()
        part = rays[64 * index : 64 * (index + 1)]
        torch.testing.assert_close(part.origins, expected.origins)
        torch.testing.assert_close(part.directions, expected.directions)
        torch.testing.assert_close(part.metadata[RADII_KEY], expected.metadata[RADII_KEY], rtol=1e-3, atol=1e-7)
        torch.testing.assert_close(part.metadata["directions_norm"], expected.metadata["directions_norm"])


def test_concatenation_keeps_both(parsed: Any) -> None:
    patches, geometry = sampler(parsed), get_fewshot_metadata(parsed.metadata).geometry
    first, second = (camera_rays(patches.sample(count), geometry).flatten() for count in (1, 2))
    both = concatenate_rays(first, second)
    assert both.shape == (3 * 64,)
    assert torch.equal(both.origins[:64], first.origins) and torch.equal(both.directions[64:], second.directions)
    assert torch.equal(both.metadata[RADII_KEY][64:], second.metadata[RADII_KEY])


@pytest.mark.parametrize("patch_size", [1, 1000])
def test_patch_that_does_not_fit_is_named(parsed: Any, patch_size: int) -> None:
    with pytest.raises(ValueError, match=f"got {patch_size}"):
        sampler(parsed, patch_size)
