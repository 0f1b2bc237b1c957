"""Every prior on every method: the pair trains two steps, or is refused with its reason before the first one."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Optional

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from nerfstudio.engine.optimizers import Optimizers
from small_methods import one_scene, save_networks, small

from fewshot_ns import registry
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.models.compact import CompactModelConfig
from fewshot_ns.models.conditioned_model import ConditionedModelConfig
from fewshot_ns.models.idnerf import IDNeRFModelConfig
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModelConfig
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig
from fewshot_ns.priors.base import prior_configs
from fewshot_ns.utils.cache import CACHE_ENV

PRIORS = tuple(prior_configs(FewShotPipelineConfig()))
METHODS = tuple(registry.METHODS)
TERMS = {
    "occlusion": {"occlusion_loss"},
    "distortion": {"distortion_loss"},
    "normals": {"orientation_loss"},
    "plane_smoothness": {"plane_smoothness_loss"},
    "depth": {"depth_ranking", "depth_continuity"},
    "smoothness": {"depth_smoothness"},
    "semantic": {"semantic"},
    "diffusion": {"diffusion"},
    "consistency": {"view_consistency"},
    "edge_smoothness": {"edge_smoothness"},
    "silhouette": {"silhouette_loss"},
}
"""Terms that a prior brings, on any backbone."""


def refusal(model: Any, prior: str) -> Optional[str]:
    """Part of the message by which a pair is refused; None where it has to train."""
    generalizable, compact = isinstance(model, ConditionedModelConfig), isinstance(model, CompactModelConfig)
    latent = isinstance(model, IDNeRFModelConfig) and model.refinement != "off"
    splats = isinstance(model, SparseSplatfactoModelConfig)
    if splats and prior in ("occlusion", "distortion"):
        what = {"occlusion": "densities along rays; splats have dropout", "distortion": "samples along rays"}
        return f"SparseSplatfactoModel has no {what[prior]}"
    if splats and prior == "normals":
        return "SparseSplatfactoModel has no samples along rays; use sparsenerf, dietnerf or depth-mipnerf"
    if prior == "plane_smoothness" and not compact:
        return "Model has no feature planes; give --pipeline.plane-smoothness.enabled False"
    if prior == "normals" and (generalizable or compact):
        reason = "a tri-plane's texels has no second derivative" if compact else "has no trainable normals along rays"
        return f"{reason}; use sparsenerf, dietnerf or depth-mipnerf"
    if prior in ("smoothness", "consistency") and latent:
        return "none of unseen views; of idnerf give --pipeline.model.refinement off with it"
    if prior in ("depth", "smoothness", "consistency") and generalizable:
        return "batches of many scenes have no room for them; train a single-scene method on one scene"
    if prior == "edge_smoothness" and generalizable:
        return "expected steps that train a whole image, found single pixels"
    if prior == "silhouette" and generalizable:
        return "which batches of many scenes do not hold; train a single-scene method on one scene"
    if prior == "semantic" and latent:
        return "none of unseen views; of idnerf give --pipeline.model.refinement off with it"
    return None


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """Tiny random networks of the real classes, saved as their libraries save them."""
    pytest.importorskip("diffusers")
    return save_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_ENV, str(tmp_path_factory.getbasetemp() / "every_prior_cache"))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("method", METHODS)
def test_pair(
    method: str,
    prior: str,
    networks: Dict[str, Path],
    tiny_rgbd_scene: Path,
    tiny_blender_scene: Path,
    tiny_solids: Path,
    tiny_mvsnet: Path,
) -> None:
    config = small(method, networks, tiny_rgbd_scene, tiny_solids, tiny_mvsnet)
    if prior == "silhouette" and not isinstance(config.pipeline.model, ConditionedModelConfig):
        # Of photos with alpha.
        config.pipeline.datamanager.dataparser = FewShotBlenderDataParserConfig(data=tiny_blender_scene)
    if prior == "edge_smoothness" and not isinstance(config.pipeline.model, ConditionedModelConfig):
        config.pipeline.datamanager.whole_images = True
    pipeline_config, reason = config.pipeline, refusal(config.pipeline.model, prior)
    getattr(pipeline_config, prior).enabled = True
    if isinstance(pipeline_config.model, ConditionedModelConfig):
        one_scene(config)
    torch.manual_seed(0)
    if reason is not None:
        with pytest.raises(ValueError) as caught:
            pipeline_config.setup(device="cpu", test_mode="val")
        assert str(caught.value).startswith(f"--pipeline.{prior.replace('_', '-')}.")
        assert reason in str(caught.value)
        return
    pipeline = pipeline_config.setup(device="cpu", test_mode="val")
    groups = pipeline.get_param_groups()
    optimizers = Optimizers(deepcopy(config.optimizers), groups)
    before = {name: [value.detach().clone() for value in values] for name, values in groups.items()}
    for step in range(2):
        pipeline.model.update_to_step(step)
        _, losses, _ = pipeline.get_train_loss_dict(step)
        assert TERMS[prior] <= losses.keys() and all(term.isfinite() for term in losses.values())
        optimizers.zero_grad_all()
        torch.stack(list(losses.values())).sum().backward()
        optimizers.optimizer_step_all()
    assert all(value.isfinite().all() for values in groups.values() for value in values)
    moved = [not torch.equal(old, new) for name in groups for old, new in zip(before[name], groups[name], strict=True)]
    assert any(moved)
    assert pipeline.resolved()[prior] == pipeline.priors.all[prior].resolved()


def test_every_prior_has_its_terms_here() -> None:
    assert set(TERMS) == set(PRIORS) and len(METHODS) >= 31
