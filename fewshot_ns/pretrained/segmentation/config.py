"""Which network finds the object in a photo; imports nothing heavy, since it is flags of a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple


@dataclass
class SegmentationConfig:
    """A network that finds the object in a photo."""

    model: str = "maskrcnn_resnet50_fpn_v2"
    """A Mask R-CNN or semantic segmentation model of torchvision by its name, or one of transformers (SAM or semantic
    segmentation) by its id on the Hugging Face hub or its folder, such as facebook/sam-vit-base."""
    weights: Optional[Path] = None
    """File of torchvision's weights, or folder of transformers' model. None: FEWSHOT_WEIGHTS, then the library's cache,
    then a download."""
    download: bool = True
    """Whether weights that are not on this disk may be downloaded."""
    label: Optional[str] = None
    """Category of the object, in the network's words (car, chair, ...); None: that of the largest object."""
    point: Tuple[float, float] = (0.5, 0.5)
    """A point of the object for SAM: its column and row as shares of width and height."""
    min_score: float = 0.5
    """Lowest score of an object that Mask R-CNN has found."""
    device: str = "auto"
    """Device: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
