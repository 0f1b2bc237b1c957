"""Configuration of an image encoder: model, weights, which of its outputs is compared."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

from fewshot_ns.pretrained.encoders.preprocessing import Resize


@dataclass
class EncoderConfig:
    """An image encoder and which of its outputs is compared."""

    library: Literal["open_clip", "timm", "torchvision"] = "open_clip"
    """Library of the model."""
    model: str = "ViT-B-32-quickgelu"
    """Name of the model in its library. DietNeRF uses CLIP ViT-B/32, whose activation open_clip calls quickgelu.
    Others: RN50-quickgelu, ViT-B-16-quickgelu, any timm name, vgg16, ..."""
    pretrained: str = "openai"
    """open_clip's name of the weights."""
    weights: Optional[Path] = None
    """File of the weights, or folder with weights and model configuration as on the hub (open_clip_config.json,
    config.json). None: FEWSHOT_WEIGHTS, then the library's cache, then a download."""
    download: bool = True
    """Whether weights that are not on this disk may be downloaded."""
    output: Literal["cls_token", "projected", "layer"] = "cls_token"
    """cls_token: the class token after the last block, before normalisation and projection (DietNeRF); projected: the
    model's embedding of the whole image (DietNeRF's JAX version); layer: the output of the module named by `layer`."""
    layer: str = ""
    """Name of a module in the model (layer1, transformer.resblocks.5, features.22, ...)."""
    num_layers: Optional[int] = None
    """Keep only this many blocks of a transformer; None: all."""
    pooling: Literal["mean", "flatten"] = "mean"
    """Outputs with positions (tokens, pixels): their mean, or all of them as one long vector."""
    image_size: Optional[int] = None
    """Height and width to which images are resized; None: the size that the model was trained on."""
    resize: Resize = "bilinear"
    """bilinear (DietNeRF's configs) or bicubic: without antialiasing; keys: cubic with a = -0.5, as in JAX."""
    clamp: bool = True
    """Whether rendered colours are clamped to [0, 1] first; DietNeRF's JAX version does not."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the matrix products; DietNeRF's JAX version runs in half precision."""
