"""depth-mipnerf's model: its size, its levels, the embedding of views, normals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from nerfstudio.data.scene_box import SceneBox

from fewshot_ns.cameras.ray_space import ModelRays
from fewshot_ns.data.scene_geometry import METADATA_KEY, FewShotMetadata, SceneGeometry
from fewshot_ns.models.depth_mipnerf import DepthMipNeRFModel, DepthMipNeRFModelConfig

SMALL = dict(width=16, num_layers=3, skip_layer=1, num_octaves=3, proposal_width=16, num_proposal_layers=2)


def build(**fields: Any) -> DepthMipNeRFModel:
    torch.manual_seed(0)
    record = FewShotMetadata(
        SceneGeometry("metric", 2.0, 6.0, "cone", "white"), "test", "train", (0,), (0,), (0,), torch.eye(4)[None, :3]
    )
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    return DepthMipNeRFModelConfig(**fields).setup(scene_box=box, num_train_data=3, metadata={METADATA_KEY: record})


def rays(count: int = 5) -> ModelRays:
    directions = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(count, 1)
    return ModelRays(
        origins=torch.zeros(count, 3),
        directions=directions,
        viewdirs=torch.nn.functional.normalize(directions, dim=-1),
        radii=0.01 * ones,
        near=2 * ones,
        far=6 * ones,
        valid=ones.bool(),
        z_scale=ones,
        offset=0 * ones,
        z_slope=ones,
        views=torch.tensor([[0], [1], [2], [0], [-1]])[:count],
    )


def test_size_of_the_original() -> None:
    (parameters,) = build().get_param_groups().values()
    assert sum(value.numel() for value in parameters) == 835205


@pytest.mark.parametrize("proposals", [(8, 6), (9,)])
def test_levels(proposals: tuple) -> None:
    model = build(num_proposal_samples=proposals, num_samples=4, **SMALL).train()
    outputs = model.outputs_of(rays())
    assert outputs["weights"].shape == (5, 4) and outputs["rgb"].shape == (5, 3)
    shapes = [outputs[f"weights_proposal_{level}"].shape[1] for level in range(len(proposals))]
    assert shapes == list(proposals)
    losses = model.get_loss_dict(outputs, {"image": torch.rand(5, 3)})
    assert set(losses) == {"rgb_loss", "proposal_loss"}
    losses["rgb_loss"].backward()
    assert all(value.grad is None for value in model.proposal.parameters())
    before = [value.grad.clone() for value in model.field.parameters() if value.grad is not None]
    model.get_loss_dict(model.outputs_of(rays()), {"image": torch.rand(5, 3)})["proposal_loss"].backward()
    assert all(value.grad is not None for value in model.proposal.parameters())
    after = [value.grad for value in model.field.parameters() if value.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_no_proposal_level_is_refused() -> None:
    with pytest.raises(ValueError, match="num-proposal-samples"):
        build(num_proposal_samples=(), **SMALL)


def test_embedding_of_the_training_views() -> None:
    model = build(embedding_size=4, stratified=False, **SMALL).train()
    same = replace(rays(), directions=torch.ones(5, 3), viewdirs=torch.ones(5, 3) / 3**0.5)
    rgb = model.outputs_of(same)["rgb"]
    assert torch.allclose(rgb[0], rgb[3]) and not torch.allclose(rgb[0], rgb[1])
    rgb.sum().backward()
    assert model.embedding is not None and model.embedding.weight.grad is not None
    assert any(value is model.embedding.weight for value in model.get_param_groups()["field"])
    rgb_of_eval = model.eval().outputs_of(same)["rgb"]
    torch.testing.assert_close(rgb_of_eval, rgb_of_eval[:1].expand(5, 3))
    torch.testing.assert_close(rgb_of_eval[4], rgb[4].clamp(0, 1))


def test_optional_terms() -> None:
    model = build(distortion_weight=0.1, orientation_weight=0.1, **SMALL).train()
    outputs = model.outputs_of(rays())
    losses = model.get_loss_dict(outputs, {"image": torch.rand(5, 3)})
    assert set(losses) == {"rgb_loss", "proposal_loss", "distortion_loss", "orientation_loss"}
    assert outputs["normals"].shape == (5, 32, 3)
    losses["orientation_loss"].backward()
    gradients = [value.grad for value in model.field.trunk.parameters() if value.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert "normals" not in model.eval().outputs_of(rays())


def test_trainable_normals_are_those_of_the_density() -> None:
    field = build(**SMALL).field
    means, cov_diag = torch.rand(2, 3, 3), 0.01 * torch.rand(2, 3, 3)
    expected = field.normals(means, cov_diag, torch.rand(2, 3))
    torch.testing.assert_close(field.trainable_normals(means, cov_diag), expected, rtol=1e-4, atol=1e-5)
