"""Image encoders: tiny real models of the libraries, loaded by the product's path, and what is taken of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.pretrained.encoders.image_encoder import ImageEncoder
from fewshot_ns.pretrained.encoders.preprocessing import encoder_input
from fewshot_ns.pretrained.weights import WEIGHTS_ENV, WeightsNotFoundError

TEXT = {"context_length": 4, "vocab_size": 10, "width": 8, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 16, "patch_size": 8, "head_width": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
TIMM_VIT = {"img_size": 32}
"""timm's old version takes no other sizes here, so this one has all its 5 million parameters."""


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights anywhere but where a test puts them."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv(WEIGHTS_ENV, raising=False)
    torch.manual_seed(0)


@pytest.fixture
def open_clip_folder(tmp_path: Path) -> Callable[..., Any]:
    """Function (vision config) -> folder of a tiny CLIP as on the hub, and the model itself."""

    def make(vision: Dict[str, Any]) -> Any:
        open_clip = pytest.importorskip("open_clip")
        config = {"embed_dim": 8, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TEXT}
        model = open_clip.model.CLIP(**config).eval()
        folder = tmp_path / "clip"
        folder.mkdir()
        preprocess = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
        text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
        (folder / "open_clip_config.json").write_text(text)
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
        return folder, model

    return make


@pytest.fixture
def timm_folder(tmp_path: Path) -> Any:
    """Folder of a tiny ViT of timm as on the hub, and the model itself."""
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, **TIMM_VIT).eval()
    folder = tmp_path / "timm"
    folder.mkdir()
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 5, "model_args": TIMM_VIT}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder, model


def images(count: int = 2, side: int = 20) -> Tensor:
    return torch.rand(count, side, side, 3)


def test_class_token_of_clip_before_projection(open_clip_folder):
    folder, model = open_clip_folder(VIT)
    encoder = ImageEncoder(EncoderConfig(weights=folder))
    batch = images()
    token = encoder(batch)
    assert token.shape == (2, 16)
    inputs = encoder_input(batch, (32, 32), "bilinear", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    # From the token on, the model goes through its last normalisation and its projection.
    torch.testing.assert_close(model.visual.ln_post(token) @ model.visual.proj, model.encode_image(inputs))
    projected = ImageEncoder(EncoderConfig(weights=folder, output="projected"))(batch)
    torch.testing.assert_close(projected, model.encode_image(inputs))
    shallow = ImageEncoder(EncoderConfig(weights=folder, num_layers=1))(batch)
    assert shallow.shape == token.shape and not torch.allclose(shallow, token)


def test_gradient_reaches_the_image_and_not_the_model(open_clip_folder):
    encoder = ImageEncoder(EncoderConfig(weights=open_clip_folder(VIT)[0]))
    batch = images().requires_grad_(True)
    encoder(batch).square().sum().backward()
    assert batch.grad is not None and batch.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in encoder.loaded.module.parameters())


def test_resnet_of_clip(open_clip_folder):
    folder, model = open_clip_folder(RESNET)
    config = EncoderConfig(model="RN50", weights=folder, output="projected")
    batch = images()
    inputs = encoder_input(batch, (32, 32), "bilinear", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    torch.testing.assert_close(ImageEncoder(config)(batch), model.encode_image(inputs))
    with pytest.raises(ValueError, match="RN50 has no class token"):
        ImageEncoder(EncoderConfig(model="RN50", weights=folder))
    outputs = []
    model.visual.layer1.register_forward_hook(lambda *args: outputs.append(args[-1]))
    model.encode_image(inputs)
    config = EncoderConfig(model="RN50", weights=folder, output="layer", layer="layer1")
    torch.testing.assert_close(ImageEncoder(config)(batch), outputs[0].mean((-1, -2)))
    config.pooling = "flatten"
    torch.testing.assert_close(ImageEncoder(config)(batch), outputs[0].flatten(1))
    config.layer = "layer7"
    with pytest.raises(ValueError, match="RN50 has no 'layer7', only .*layer1"):
        ImageEncoder(config)


def test_weights_of_a_named_model_in_one_file(open_clip_folder, tmp_path, monkeypatch):
    """A name that open_clip knows, whose weights lie in the folder of weights under that name."""
    open_clip = pytest.importorskip("open_clip")
    folder, model = open_clip_folder(VIT)
    monkeypatch.setattr(
        open_clip,
        "get_model_config",
        lambda name: json.loads((folder / "open_clip_config.json").read_text())["model_cfg"],
    )
    weights = tmp_path / "weights"
    weights.mkdir()
    (folder / "open_clip_pytorch_model.bin").rename(weights / "ViT-B-32-quickgelu-openai.pt")
    monkeypatch.setenv(WEIGHTS_ENV, str(weights))
    batch = images()
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    inputs = encoder_input(batch, (32, 32), "bilinear", mean, std)
    token = ImageEncoder(EncoderConfig(download=False))(batch)
    torch.testing.assert_close(model.visual.ln_post(token) @ model.visual.proj, model.encode_image(inputs))


def test_timm(timm_folder):
    folder, model = timm_folder
    config = EncoderConfig(library="timm", model="mine", weights=folder)
    batch = images()
    encoder = ImageEncoder(config)
    inputs = encoder_input(batch, encoder.size, "bilinear", encoder.loaded.mean, encoder.loaded.std)
    assert encoder.size == (32, 32)
    token = encoder(batch)
    torch.testing.assert_close(model.norm(token), model.forward_features(inputs)[:, 0])
    config.output = "projected"
    torch.testing.assert_close(model.head(ImageEncoder(config)(batch)), model(inputs))


@pytest.mark.parametrize("prefix", ["", "features."])
def test_torchvision_features_alone(prefix, tmp_path):
    from torchvision import models

    model = models.alexnet(weights=None).eval()
    path = tmp_path / "weights.pt"
    torch.save({prefix + name: value for name, value in model.features.state_dict().items()}, path)
    config = EncoderConfig(library="torchvision", model="alexnet", weights=path, output="projected", image_size=64)
    encoder, batch = ImageEncoder(config), images()
    inputs = encoder_input(batch, (64, 64), "bilinear", encoder.loaded.mean, encoder.loaded.std)
    torch.testing.assert_close(encoder(batch), model.features(inputs).mean((-1, -2)))
    config.output = "layer"
    for config.layer in ("3", "features.3"):
        torch.testing.assert_close(ImageEncoder(config)(batch), model.features[:4](inputs).mean((-1, -2)))


def test_torchvision_whole_model(tmp_path):
    from torchvision import models

    model = models.resnet18(weights=None).eval()
    path = tmp_path / "resnet18.pth"
    torch.save(model.state_dict(), path)
    config = EncoderConfig(library="torchvision", model="resnet18", weights=path, output="projected", image_size=64)
    encoder, batch = ImageEncoder(config), images()
    inputs = encoder_input(batch, (64, 64), "bilinear", encoder.loaded.mean, encoder.loaded.std)
    torch.testing.assert_close(model.fc(encoder(batch)), model(inputs))


@pytest.mark.weights
def test_trained_vgg16_tells_textures_apart(weights_dir, monkeypatch):
    monkeypatch.setenv(WEIGHTS_ENV, str(weights_dir))
    config = EncoderConfig(library="torchvision", model="vgg16", output="projected", image_size=64, download=False)
    encoder = ImageEncoder(config)
    stripes = torch.zeros(64, 64, 3)
    stripes[::8], stripes[1::8], stripes[2::8], stripes[3::8] = 1.0, 1.0, 1.0, 1.0
    shifted, noise = stripes.roll(3, 0), torch.rand(64, 64, 3)
    first, second, other = torch.nn.functional.normalize(encoder(torch.stack([stripes, shifted, noise])), dim=-1)
    assert float(first @ second) > 0.05 + float(first @ other)


@pytest.mark.parametrize("size", [(224, 224), (31, 40), (90, 50)])
def test_keys_is_pillows_bicubic(size):
    """Both have Keys' kernel with a = -0.5, antialiased; torch's own without antialiasing has a = -0.75."""
    batch = images(1, 75)[:, :60]
    found = encoder_input(batch, size, "keys", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))[0]
    for channel in range(3):
        picture = Image.fromarray(batch[0, ..., channel].numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
        np.testing.assert_allclose(found[channel].numpy(), np.asarray(picture), atol=3e-5)


def test_missing_weights_name_file_source_and_flag(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for library, model in (
        ("open_clip", "ViT-B-32-quickgelu"),
        ("timm", "vit_tiny_patch16_224"),
        ("torchvision", "vgg16"),
    ):
        if library != "torchvision":
            pytest.importorskip(library)
        config = EncoderConfig(library=library, model=model, download=False)  # type: ignore[arg-type]
        with pytest.raises(WeightsNotFoundError) as caught:
            ImageEncoder(config)
        for part in (model, "https://", "--pipeline.semantic.encoder.weights PATH", f"{WEIGHTS_ENV}=FOLDER"):
            assert part in str(caught.value)
    with pytest.raises(WeightsNotFoundError, match="nowhere.pt: does not exist"):
        ImageEncoder(EncoderConfig(weights=Path("nowhere.pt")))


def test_unusable_weights_are_named(open_clip_folder, tmp_path):
    folder, _ = open_clip_folder(VIT)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["width"] = 32
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="open_clip_pytorch_model.bin.*does not fit(.|\n)*class_embedding"):
        ImageEncoder(EncoderConfig(weights=folder))
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="open_clip_pytorch_model.bin: expected a weights-only torch checkpoint"):
        ImageEncoder(EncoderConfig(weights=folder))
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(WeightsNotFoundError, match=r"expected the configuration of a model \(open_clip_config.json\)"):
        ImageEncoder(EncoderConfig(weights=folder))
    with pytest.raises(ValueError, match="open_clip has no model 'nothing'"):
        ImageEncoder(EncoderConfig(model="nothing"))


def test_building_a_model_draws_no_random_numbers(open_clip_folder):
    folder, _ = open_clip_folder(VIT)
    before = torch.random.get_rng_state()
    ImageEncoder(EncoderConfig(weights=folder))
    assert torch.equal(before, torch.random.get_rng_state())


def test_key_follows_everything_that_an_embedding_depends_on(open_clip_folder):
    folder, model = open_clip_folder(VIT)
    settings = [{}, {"output": "projected"}, {"image_size": 64}, {"resize": "bicubic"}, {"num_layers": 1}]
    keys = [ImageEncoder(EncoderConfig(weights=folder, **fields)).key for fields in settings]
    assert len(set(keys)) == len(settings) and ImageEncoder(EncoderConfig(weights=folder)).key == keys[0]
    torch.nn.init.zeros_(model.visual.proj)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    assert ImageEncoder(EncoderConfig(weights=folder)).key != keys[0]
