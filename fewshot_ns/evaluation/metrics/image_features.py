"""Features of whole images that FID and KID compare: of the published Inception network or of any image encoder."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Optional, Protocol, Union

import torch
from torch import Tensor

from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.pretrained.encoders.image_encoder import ImageEncoder
from fewshot_ns.pretrained.weights import WeightsSpec, load_weights, resolve_weights
from fewshot_ns.utils.hashing import file_key
from fewshot_ns.utils.optional_imports import require
from fewshot_ns.utils.reading import reason_of

INCEPTION = "inception"
"""Name of the network of the published FID."""
FLAG = "--pipeline.evaluation.fid-weights"
"""Command line flag of the weights, for messages."""
_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_WEIGHTS = WeightsSpec(
    name="Inception network of FID and KID",
    filenames=(_FILE,),
    flag=f"{FLAG} (ns-fewshot eval: --fid-weights)",
    cache_filenames=(_FILE,),
    url=f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_FILE}",
    sha256="6726825d",
)
"""TensorFlow's Inception of 2015 in the form of torch-fidelity, by which torchmetrics measures, too."""
_LIBRARIES = ("open_clip", "timm", "torchvision")


class FeatureNetwork(Protocol):
    """Gives features of images."""

    key: str
    """Identifies everything that the features depend on besides the image."""

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C) float32 features of images (N, H, W, 3) in [0, 1]."""
        ...


class InceptionFeatures:
    """The 2048 features before the last layer of the Inception network, as the published FID takes them.

    Args:
        path: file of the weights.
        device: where it runs.

    Raises:
        ImportError: torch-fidelity is not installed.
        ValueError: the file does not fit the network.
    """

    def __init__(self, path: Path, device: Union[str, torch.device] = "cpu") -> None:
        library = require("torch_fidelity.feature_extractor_inceptionv3", "fid")
        # The library unpickles the file without restrictions; this refuses one that holds more than tensors.
        load_weights(path)
        try:
            with torch.random.fork_rng(devices=[]):
                network = library.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path}: expected the weights of {INCEPTION_WEIGHTS.name} ({_FILE}): {reason_of(error)}"
            ) from error
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.key = f"{INCEPTION} {file_key(path)}"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """See `FeatureNetwork`; images are rounded to 8 bits, which the network takes."""
        pixels = (images.clamp(0.0, 1.0) * 255.0).round().byte().permute(0, 3, 1, 2)
        return self.network(pixels.to(self.device))[0].float()


class EncoderFeatures:
    """The embedding of an image encoder; a feature map is averaged over its positions."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self.encoder, self.key = encoder, encoder.key

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """See `FeatureNetwork`."""
        return self.encoder(images).float()


def encoder_config(name: str) -> Optional[EncoderConfig]:
    """The encoder of a name LIBRARY/MODEL[/PRETRAINED]; None for `INCEPTION`.

    Raises:
        ValueError: a name of another form.
    """
    if name == INCEPTION:
        return None
    library, _, model = name.partition("/")
    if library not in _LIBRARIES or not model:
        raise ValueError(
            f"{FLAG.replace('weights', 'encoder')}: expected {INCEPTION} or LIBRARY/MODEL with one of the libraries "
            f"{', '.join(_LIBRARIES)} (torchvision/vgg16, open_clip/ViT-B-32-quickgelu/openai), got {name!r}"
        )
    config = EncoderConfig(library=library, output="projected", resize="bicubic")  # type: ignore[arg-type]
    config.model, _, pretrained = model.partition("/") if library == "open_clip" else (model, "", "")
    config.pretrained = pretrained or config.pretrained
    return config


def name_suffix(name: str) -> str:
    """Suffix of `fid` and `kid`, so that nobody takes another encoder's number for the published one's."""
    return "" if name == INCEPTION else "_" + "".join(letter if letter.isalnum() else "_" for letter in name)


def load_features(
    name: str, weights: Optional[Path], device: Union[str, torch.device], download: bool
) -> FeatureNetwork:
    """The network of a name, with its weights.

    Args:
        name: `INCEPTION`, or LIBRARY/MODEL.
        weights: file or folder of its weights; None searches (see `pretrained.weights`).
        device: where it runs.
        download: whether weights that are not on this disk may be downloaded.

    Raises:
        WeightsNotFoundError: the weights were not found; names file, address and flag.
        ValueError: an unknown name, or weights that do not fit.
        ImportError: a library is not installed.
    """
    config = encoder_config(name)
    if config is None:
        return InceptionFeatures(resolve_weights(INCEPTION_WEIGHTS, weights, download), device)
    config.weights, config.download = weights, download
    return EncoderFeatures(ImageEncoder(config, device, FLAG))
