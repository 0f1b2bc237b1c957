"""Masks of objects by networks of the real classes with random weights, saved and loaded by the product's own way.

Their last layers are set so that they find something known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import models

from fewshot_ns.pretrained.segmentation.config import SegmentationConfig
from fewshot_ns.pretrained.segmentation.object_mask import object_mask
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError
from fewshot_ns.utils.checkpoints import CheckpointMismatchError

SIZE = (48, 64)
PHOTO = Path("car.jpg")
LRASPP, MASK_RCNN = "lraspp_mobilenet_v3_large", "maskrcnn_resnet50_fpn"
VOC_CAR, COCO_CAR = 7, 3


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def mask_by(**fields: Any) -> np.ndarray:
    config = SegmentationConfig(download=False, device="cpu", **fields)
    return object_mask(config, image(), PHOTO, "--segment", "without a network: --mask FILE")


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No folder of weights, empty caches."""
    monkeypatch.delenv(WEIGHTS_ENV, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def semantic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's smallest semantic model: all background, but for cars here and there."""
    torch.manual_seed(0)
    model: Any = models.get_model(LRASPP, weights=None, weights_backbone=None)
    for classifier in (model.classifier.low_classifier, model.classifier.high_classifier):
        chance = torch.randn_like(classifier.weight[VOC_CAR])
        torch.nn.init.zeros_(classifier.weight)
        torch.nn.init.zeros_(classifier.bias)
        classifier.weight.data[VOC_CAR] = chance
    for index in range(21):
        model.classifier.low_classifier.bias.data[index] = -1e6 if index not in (0, VOC_CAR) else 0.0
    path = tmp_path_factory.mktemp("weights") / f"{LRASPP}.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mask R-CNN that takes every proposal for a car, and each car for its whole box."""
    torch.manual_seed(0)
    model: Any = models.get_model(MASK_RCNN, weights=None, weights_backbone=None)
    heads = model.roi_heads
    torch.nn.init.zeros_(heads.box_predictor.cls_score.weight)
    torch.nn.init.zeros_(heads.box_predictor.bbox_pred.weight)
    torch.nn.init.zeros_(heads.box_predictor.bbox_pred.bias)
    heads.box_predictor.cls_score.bias.data[:] = torch.eye(91)[COCO_CAR] * 9.0
    torch.nn.init.zeros_(heads.mask_predictor.mask_fcn_logits.weight)
    torch.nn.init.constant_(heads.mask_predictor.mask_fcn_logits.bias, 5.0)
    path = tmp_path_factory.mktemp("weights") / f"{MASK_RCNN}.pth"
    torch.save(model.state_dict(), path)
    return path


def semantic_mask(weights: Path) -> np.ndarray:
    """What torchvision's model says of the photo, by torchvision's own example of its use."""
    model: Any = models.get_model(LRASPP, weights=None, weights_backbone=None).eval()
    model.load_state_dict(torch.load(weights))
    transform: Any = models.get_model_weights(LRASPP).DEFAULT.transforms()  # type: ignore[attr-defined]
    with torch.no_grad():
        scores = model(transform(torch.tensor(image()).permute(2, 0, 1))[None])["out"]
    scores = torch.nn.functional.interpolate(scores, SIZE, mode="bilinear")
    return (scores[0, VOC_CAR] > scores[0, 0]).numpy()


def test_semantic_models_give_the_largest_category_or_the_one_that_is_named(semantic: Path):
    expected = semantic_mask(semantic)
    assert 0.1 < expected.mean() < 0.9
    mask = mask_by(model=LRASPP, weights=semantic)
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(mask_by(model=LRASPP, weights=semantic, label="CAR"), expected)
    with pytest.raises(ValueError, match=r"car\.jpg: expected lraspp.* to find one sheep or more, found none.*--mask"):
        mask_by(model=LRASPP, weights=semantic, label="sheep")


def test_weights_are_found_in_the_folder_and_in_the_cache(
    semantic: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv(WEIGHTS_ENV, str(semantic.parent))
    assert mask_by(model=LRASPP).any()
    monkeypatch.delenv(WEIGHTS_ENV)
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "lraspp_mobilenet_v3_large-d234d4ea.pth").symlink_to(semantic)
    assert mask_by(model=LRASPP).any()


def test_mask_rcnn_gives_the_largest_object_of_the_category(instances: Path):
    mask = mask_by(model=MASK_RCNN, weights=instances, label="car")
    rows, columns = np.nonzero(mask)
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    # One whole box, and no union of several.
    assert mask.sum() > 0.9 * box and set(np.unique(mask)) == {0.0, 1.0}
    with pytest.raises(ValueError, match=r"to find one person or more, found none.*--segment\.min-score"):
        mask_by(model=MASK_RCNN, weights=instances, label="person")


def test_without_weights_one_error_says_all():
    with pytest.raises(WeightsNotFoundError) as caught:
        mask_by()
    text = str(caught.value)
    assert text.startswith("car.jpg: no mask of the object is known, and weights not found")
    words = ("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", "https://download.pytorch.org", "--segment.weights PATH")
    assert all(word in text for word in (*words, WEIGHTS_ENV, "switched off", "without a network: --mask FILE"))


def test_weights_of_another_model_are_refused(semantic: Path):
    with pytest.raises(CheckpointMismatchError, match=LRASPP):
        mask_by(model="deeplabv3_mobilenet_v3_large", weights=semantic)


def test_unknown_names_are_answered_with_the_known_ones(semantic: Path):
    with pytest.raises(ValueError, match=r"--segment\.model: expected one of torchvision's .*maskrcnn_resnet50_fpn_v2"):
        mask_by(model="pointrend")
    with pytest.raises(ValueError, match=r"--segment\.label: expected one of aeroplane, .*, got 'lamp'"):
        mask_by(model=LRASPP, weights=semantic, label="lamp")
    with pytest.raises(ValueError, match=r"--segment\.point: expected shares"):
        mask_by(model=LRASPP, weights=semantic, point=(0.5, 30.0))


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SegFormer of four categories, of which the last is everywhere."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'priors'")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
        id2label={0: "wall", 1: "floor", 2: "chair", 3: "lamp"},
    )
    model = transformers.SegformerForSemanticSegmentation(config)
    torch.nn.init.constant_(model.decode_head.classifier.bias, 0.0)
    model.decode_head.classifier.bias.data[3] = 50.0
    folder = tmp_path_factory.mktemp("models") / "tiny-segformer"
    model.save_pretrained(folder)
    transformers.SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_semantic_model_of_transformers(segformer: Path):
    mask = mask_by(model=str(segformer), label="lamp")
    assert mask.shape == SIZE and (mask == 1).all()
    with pytest.raises(ValueError, match="to find one chair or more"):
        mask_by(model=str(segformer), label="chair")
    with pytest.raises(ValueError, match=r"--segment\.label: .* names no background.* wall, floor, chair, lamp"):
        mask_by(model=str(segformer))


def test_a_folder_in_the_folder_of_weights(segformer: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(WEIGHTS_ENV, str(segformer.parent))
    assert mask_by(model="somebody/tiny-segformer", label="lamp").all()


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SAM of few parameters."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'priors'")
    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config=dict(
            hidden_size=16,
            output_channels=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=4,
            mlp_dim=16,
            num_pos_feats=4,
            global_attn_indexes=[0],
            window_size=0,
        ),
        prompt_encoder_config=dict(hidden_size=8, image_size=32, patch_size=4, mask_input_channels=4),
        mask_decoder_config=dict(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, mlp_dim=16, iou_head_hidden_dim=8
        ),
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-sam"
    transformers.SamModel(config).save_pretrained(folder)
    pre = transformers.SamImageProcessor(
        size={"longest_edge": 32}, pad_size={"height": 32, "width": 32}, mask_size={"longest_edge": 8}
    )
    transformers.SamProcessor(pre).save_pretrained(folder)
    return folder


def test_sam_is_shown_a_point(sam: Path, monkeypatch: pytest.MonkeyPatch):
    from transformers import SamModel

    seen = []
    forward = SamModel.forward

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = forward(self, *args, **kwargs)
        seen.append((kwargs["input_points"], outputs))
        return outputs

    monkeypatch.setattr(SamModel, "forward", watched)
    mask = mask_by(model=str(sam), point=(0.25, 0.5))
    ((points, outputs),) = seen
    # Half the size of the photo is what the network sees.
    assert points.flatten().tolist() == pytest.approx([0.25 * 64 / 2, 0.5 * 48 / 2])
    best = outputs.pred_masks[0, 0, int(outputs.iou_scores[0, 0].argmax())]
    enlarged = torch.nn.functional.interpolate(best[None, None], (32, 32), mode="bilinear")[..., :24, :]
    expected = torch.nn.functional.interpolate(enlarged, SIZE, mode="bilinear")[0, 0] > 0
    np.testing.assert_array_equal(mask, expected.numpy())
    with pytest.raises(ValueError, match=r"--segment\.label car: .* knows no categories"):
        mask_by(model=str(sam), label="car")


def test_folders_of_other_models_are_named(tmp_path: Path, segformer: Path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsNotFoundError, match="has no weights"):
        mask_by(weights=tmp_path)
    (tmp_path / "model.safetensors").symlink_to(segformer / "model.safetensors")
    (tmp_path / "preprocessor_config.json").symlink_to(segformer / "preprocessor_config.json")
    with pytest.raises(ValueError, match="expected SAM or a semantic segmentation model of transformers"):
        mask_by(weights=tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: expected the configuration of a model"):
        mask_by(weights=tmp_path)
