"""FID and KID: against references, of any network, over all views of an evaluation; what is said without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_ns.evaluation.metrics.config import EvaluationConfig
from fewshot_ns.evaluation.metrics.image_features import InceptionFeatures, encoder_config, load_features, name_suffix
from fewshot_ns.evaluation.metrics.set_metrics import SetMetrics, ViewFeatures
from fewshot_ns.evaluation.metrics.suite import MetricSuite
from fewshot_ns.evaluation.records.ledger import Ledger, read_rows
from fewshot_ns.evaluation.runners.evaluator import EvaluatedScene, ViewEvaluator, read_summary
from fewshot_ns.evaluation.runners.stored_settings import SET_METRICS_KEY
from fewshot_ns.evaluation.runners.views import dataset_views
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError

TINY = "torchvision/squeezenet1_1"


@pytest.fixture
def tiny_weights(tmp_path: Path) -> Path:
    """Random weights of a small network of torchvision, as torchvision keeps them."""
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.squeezenet1_1(weights=None).state_dict(), tmp_path / "squeezenet1_1.pth")
    return tmp_path / "squeezenet1_1.pth"


def pairs_of(count: int, size: int = 5) -> List[Tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(size), 0.5 + 2.0 * torch.randn(size)) for _ in range(count)]


def measured(pairs: List[Tuple[Tensor, Tensor]], **fields: Any) -> Dict[str, Any]:
    return SetMetrics(EvaluationConfig(metrics=("fid", "kid"), **fields)).compute(pairs)


def test_against_the_definitions():
    from scipy.linalg import sqrtm

    pairs = pairs_of(40)
    photo, render = (torch.stack(side).double().numpy() for side in zip(*pairs, strict=True))
    found = measured(pairs)
    covariances = [np.cov(side, rowvar=False) for side in (photo, render)]
    root = np.real(np.asarray(sqrtm(covariances[0] @ covariances[1])))
    shift = ((photo.mean(0) - render.mean(0)) ** 2).sum()
    assert found["fid"].mean == pytest.approx(shift + np.trace(covariances[0] + covariances[1] - 2 * root), rel=1e-4)
    kernel = [[(a @ b / 5 + 1) ** 3 for b in (*photo, *render)] for a in (*photo, *render)]
    total, n = np.array(kernel), len(photo)
    own = [total[part, part].sum() - np.trace(total[part, part]) for part in (slice(0, n), slice(n, 2 * n))]
    kid = sum(own) / (n * (n - 1)) - 2 * total[:n, n:].mean()
    assert found["kid"].mean == pytest.approx(kid, rel=1e-4) and found["kid"].std is None
    assert found["fid_images"].mean == found["kid"].count == 40


def test_subsets_are_the_same_each_time_and_leave_random_numbers_alone():
    state = torch.random.get_rng_state()
    pairs, results = pairs_of(12), []
    torch.random.set_rng_state(state)
    for _ in range(2):
        results.append(measured(pairs, kid_subset_size=4, kid_subsets=9)["kid"])
    assert results[0] == results[1] and results[0].std > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert measured(pairs, kid_subset_size=50)["kid"] == measured(pairs)["kid"]
    assert measured(pairs[:1])["fid"].mean is None
    for wrong in (EvaluationConfig(kid_subset_size=1), EvaluationConfig(kid_subsets=0)):
        with pytest.raises(ValueError, match="--pipeline.evaluation.kid-subset"):
            SetMetrics(wrong)


@pytest.fixture
def pipeline(tiny_blender_scene: Path, tiny_pipeline_config: Any, tiny_weights: Path) -> Any:
    """An untrained pipeline that is to measure kid by a small network."""
    from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig

    data = FewShotBlenderDataParserConfig(data=tiny_blender_scene, num_views=3, testskip=2)
    config = tiny_pipeline_config(data)
    config.depth.enabled = False
    config.evaluation = EvaluationConfig(metrics=("psnr", "fid", "kid"), fid_encoder=TINY, fid_weights=tiny_weights)
    torch.manual_seed(0)
    return config.setup(device="cpu", test_mode="test").eval()


def test_all_views_of_a_run(pipeline, tmp_path):
    pipeline.config.run_dir = tmp_path / "run"
    results = pipeline.get_average_eval_image_metrics(get_std=True)
    assert results["fid_torchvision_squeezenet1_1"] > 0 and results["kid_torchvision_squeezenet1_1_images"] == 5
    (written_rows,) = (tmp_path / "run/eval").glob("*.jsonl")
    assert not any("fid" in name for row in read_rows(written_rows) for name in row.metrics)

    suite, ledger, seen = MetricSuite(pipeline.config.evaluation), Ledger(tmp_path / "eval.json"), []
    about = {"evaluation": {SET_METRICS_KEY: suite.set_metrics.settings()}}
    pipeline.eval()

    def evaluate(indices: List[int]) -> None:
        views = dataset_views(pipeline.datamanager.eval_dataset, indices)
        evaluator = ViewEvaluator(suite, pipeline.device, 0, ledger, on_row=seen.append)
        evaluator.evaluate_and_record(EvaluatedScene(pipeline.model.get_outputs_for_camera, views), "key", about)

    evaluate([0, 1, 2])
    evaluate([0, 1, 2, 3, 4])
    assert len(seen) == 5
    written = json.loads(ledger.path.read_text())["results"]
    for name, value in written.items():
        if name.startswith(("fid", "kid")):
            assert results[name] == pytest.approx(value, rel=1e-4)
    # From what lies on disk, without the network; fewer views are another set.
    assert read_summary(ledger.path)["fid_torchvision_squeezenet1_1"].mean == pytest.approx(
        written[f"fid{name_suffix(TINY)}"]
    )
    assert read_summary(ledger.path, [10, 12])["kid_torchvision_squeezenet1_1"].count == 2
    ledger.features_path.unlink()
    evaluate([0, 1])
    assert len(seen) == 7


def test_features_on_disk(tmp_path):
    features = ViewFeatures("key", {4: pairs_of(1)[0], 2: pairs_of(2)[1]})
    features.save(tmp_path / "f.npz")
    again = ViewFeatures.load(tmp_path / "f.npz", "key")
    assert again.views.keys() == features.views.keys()
    for place, pair in features.views.items():
        assert all(torch.equal(*sides) for sides in zip(again.views[place], pair, strict=True))
    assert ViewFeatures.load(tmp_path / "f.npz", "other").views == {}
    (tmp_path / "f.npz").write_bytes(b"PK")
    assert ViewFeatures.load(tmp_path / "f.npz", "key").views == {}


def test_names_of_networks(tiny_weights):
    assert encoder_config("inception") is None and name_suffix("inception") == ""
    clip: Any = encoder_config("open_clip/RN50-quickgelu/openai")
    assert (clip.library, clip.model, clip.pretrained) == ("open_clip", "RN50-quickgelu", "openai")
    for wrong in ("vgg16", "keras/vgg16", "timm/"):
        with pytest.raises(ValueError, match="--pipeline.evaluation.fid-encoder: expected inception or LIBRARY/MODEL"):
            MetricSuite(EvaluationConfig(fid_encoder=wrong))
    with pytest.raises(ValueError, match="of all views together, fid, kid"):
        MetricSuite(EvaluationConfig(metrics=("fids",)))
    features = load_features(TINY, tiny_weights, "cpu", False)(torch.rand(2, 40, 30, 3))
    assert features.shape == (2, 512) and features.dtype == torch.float32


def test_what_is_missing_is_said_before_any_view(pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path / "nowhere"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    config = EvaluationConfig(metrics=("fid",), download_weights=False)
    pipeline.suite = MetricSuite(config)
    monkeypatch.setattr(pipeline.model, "get_outputs_for_camera", None)
    with pytest.raises(WeightsNotFoundError) as caught:
        pipeline.get_average_eval_image_metrics()
    for part in ("weights-inception-2015-12-05-6726825d.pth", "https://github.com", "--fid-weights", WEIGHTS_ENV):
        assert part in str(caught.value)
    # Not asked for, nothing is looked for.
    SetMetrics(EvaluationConfig(metrics=("psnr",), download_weights=False)).prepare()


def test_inception_of_torch_fidelity(tmp_path, monkeypatch):
    """The real network with random weights in a file as the published one's."""
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    with monkeypatch.context() as patch:
        torch.save({}, path)
        patch.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = library.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    with pytest.raises(ValueError, match="expected the weights of Inception network"):
        InceptionFeatures(path)
    torch.save(network.state_dict(), path)
    monkeypatch.setenv(WEIGHTS_ENV, str(tmp_path))
    features = load_features("inception", None, "cpu", False)
    images = torch.rand(2, 24, 32, 3)
    assert features(images).shape == (2, 2048)
    bytes_of = (images * 255).round().byte().permute(0, 3, 1, 2)
    torch.testing.assert_close(features(images), network(bytes_of)[0])


@pytest.mark.weights
def test_noise_moves_renders_away_from_the_photos(weights_dir, monkeypatch):
    if not (weights_dir / "vgg16_features_torchvision.pt").is_file():
        pytest.skip("no VGG16 in the weights folder")
    monkeypatch.setenv(WEIGHTS_ENV, str(weights_dir))
    config = EvaluationConfig(metrics=("kid",), fid_encoder="torchvision/vgg16", download_weights=False)
    set_metrics, values = SetMetrics(config), []
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4), size=(64, 64), mode="bicubic").clamp(0, 1)
    photos = smooth.permute(0, 2, 3, 1)
    for noise in (0.0, 0.1, 0.4):
        pairs = [set_metrics.features(photo + noise * torch.randn_like(photo), photo) for photo in photos]
        values.append(set_metrics.compute(pairs)["kid_torchvision_vgg16"].mean)
    assert values[0] < values[1] < values[2]
