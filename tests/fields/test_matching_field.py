"""ID-NeRF's decoder and latent network: sizes, forms, masks, and what reaches what."""

from __future__ import annotations

from typing import Any, Dict

import pytest
import torch

from fewshot_ns.fields.latent_inference import LatentInference
from fewshot_ns.fields.matching_field import MatchingField

RAYS, SAMPLES = 2, 5


def inputs(views: int, field: MatchingField) -> Dict[str, Any]:
    generator = torch.Generator().manual_seed(views)
    latent = torch.rand(1, 4, 64, 64, generator=generator)
    return {
        "positions": torch.rand(RAYS, SAMPLES, 3, generator=generator),
        "directions": torch.nn.functional.normalize(torch.randn(RAYS, SAMPLES, 3, generator=generator), dim=-1),
        "matching": torch.rand(RAYS, SAMPLES, 10 + 4 * views, generator=generator),
        "in_image": torch.rand(RAYS, SAMPLES, views, generator=generator) > 0.3,
        "view_features": torch.randn(views, RAYS, SAMPLES, 8, generator=generator),
        "latent_vectors": field.latent_vector(latent).expand(RAYS, -1) if field.refinement != "off" else None,
    }


def build(views: int, **fields: Any) -> MatchingField:
    torch.manual_seed(0)
    return MatchingField(10 + 4 * views, 20, views, width=16, **fields).eval()


@pytest.mark.parametrize("refinement", ["per-view", "scrambled", "off"])
@pytest.mark.parametrize("views", [2, 3, 5])
def test_any_number_of_views(views, refinement):
    field = build(views, refinement=refinement)
    density, rgb = field(**inputs(views, field))
    assert density.shape == (RAYS, SAMPLES) and rgb.shape == (RAYS, SAMPLES, 3)
    assert (density >= 0).all() and (density > 0).any() and ((rgb > 0) & (rgb < 1)).all()


def test_one_token_per_view_and_one_of_the_latent():
    field = build(3)
    given = inputs(3, field)
    raw = torch.randn(3, RAYS, SAMPLES, 20)
    assert field.view_matrix is not None
    tokens = field.tokens(raw @ field.view_matrix.T, given["latent_vectors"]).unflatten(0, (RAYS, SAMPLES))
    for view in range(3):
        torch.testing.assert_close(tokens[:, :, view], field.cond_feat_fc(raw[view]))
    torch.testing.assert_close(tokens[:, :, 3], given["latent_vectors"][:, None].expand(-1, SAMPLES, -1))


def test_scrambled_tokens_mix_all_views():
    """Token j holds the columns j, j + 4, j + 8, ... of the views' and the latent's vectors, one after the other."""
    field = build(3, refinement="scrambled")
    given = inputs(3, field)
    straight = build(3).tokens(given["view_features"], given["latent_vectors"]).flatten(1)
    scrambled = field.tokens(given["view_features"], given["latent_vectors"])
    for token in range(4):
        torch.testing.assert_close(scrambled[:, token], straight[:, token::4])


def test_what_few_views_see_looks_at_the_ray_alike():
    """Masking a sample changes what it looks at, and nothing of the other samples of its ray."""
    field = build(2, refinement="off")
    given = inputs(2, field)
    seen = torch.ones_like(given["in_image"])
    unseen = seen.clone()
    unseen[:, 2, 0] = False
    open_one, masked = (field(**{**given, "in_image": each})[0] for each in (seen, unseen))
    changed = (open_one - masked).abs() > 0
    assert not changed[:, [0, 1, 3, 4]].any() and changed[:, 2].any()


def test_refinement_without_latent_is_an_error():
    field = build(2)
    given = inputs(2, field)
    with pytest.raises(ValueError, match="needs what the views show and a latent"):
        field(**{**given, "latent_vectors": None})


def test_rays_have_latents_of_their_own():
    field = build(2)
    given = inputs(2, field)
    other = given["latent_vectors"] + torch.tensor([[0.0], [1.0]])
    first, second = field(**given)[1], field(**{**given, "latent_vectors": other})[1]
    torch.testing.assert_close(first[0], second[0])
    assert not torch.allclose(first[1], second[1])


@pytest.mark.parametrize("seed", range(10))
def test_no_network_starts_without_density(seed):
    torch.manual_seed(seed)
    field = MatchingField(18, 20, 2, refinement="off").eval()
    assert (field(**inputs(2, field))[0] > 0).all()


def test_half_precision_is_near_single():
    single, half = build(3), build(3, compute_dtype="bfloat16")
    given = inputs(3, single)
    for expected, found in zip(single(**given), half(**given), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("views", [2, 4])
def test_latent_of_any_number_of_views(views):
    network = LatentInference(views).eval()
    images, rays = torch.rand(2, views, 3, 16, 24), torch.randn(2, views, 6, 16, 24)
    latent = network(images, rays, torch.randn(2, 6, 16, 24))
    assert latent.shape == (2, 4, 64, 64)
    with pytest.raises(ValueError, match=f"made for {views} source views .* got 1"):
        network(images[:, :1], rays[:, :1], torch.randn(2, 6, 16, 24))


def test_latent_depends_on_target_and_sources():
    network = LatentInference(2).eval()
    images, rays, target = torch.rand(1, 2, 3, 16, 16), torch.randn(1, 2, 6, 16, 16), torch.randn(1, 6, 16, 16)
    known = network(images, rays, target)
    for other in (
        network(images, rays, target + 1),
        network(images, rays + 1, target),
        network(1 - images, rays, target),
    ):
        assert (other - known).abs().max() > 1e-6
