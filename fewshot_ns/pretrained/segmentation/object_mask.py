"""The mask of the object in a photo, by a network of torchvision (Mask R-CNN, DeepLab, ...) or of transformers (SAM, or
semantic segmentation)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot_ns.pretrained.damaged import damaged_model
from fewshot_ns.pretrained.segmentation.config import SegmentationConfig
from fewshot_ns.pretrained.weights import (
    CONFIG_NAME,
    FolderSpec,
    WeightsNotFoundError,
    WeightsSpec,
    load_weights,
    resolve_weights,
)
from fewshot_ns.utils.checkpoints import load_strictly
from fewshot_ns.utils.devices import find_device
from fewshot_ns.utils.json_files import read_json_object
from fewshot_ns.utils.optional_imports import require, require_class
from fewshot_ns.utils.reading import reason_of

_INSTANCES = "maskrcnn"
"""Beginning of the names of torchvision's models that find single objects."""
_POINT_TYPES = ("sam",)
"""Types of transformers' models that are shown a point of the object."""
_BACKGROUND = ("__background__", "background")


def object_mask(
    config: SegmentationConfig, image: npt.NDArray[np.uint8], where: Path, flag: str, otherwise: str
) -> npt.NDArray[np.float32]:
    """The mask of the object in a photo.

    Args:
        config: Network, and which object.
        image: (H, W, 3) photo.
        where: Its file, for messages.
        flag: Beginning of the command line flags of the config, for messages.
        otherwise: What works without a network, for messages.

    Returns:
        (H, W) of zeros and ones.

    Raises:
        WeightsNotFoundError: there are no weights.
        ValueError: an unknown model or category, transformers is not installed, or there is no such object.
        CheckpointMismatchError: weights of another model.
    """
    if not all(0.0 <= share <= 1.0 for share in config.point):
        raise ValueError(f"{flag}.point: expected shares of width and height from 0 to 1, got {config.point}")
    try:
        network = _network(config, flag)
    except WeightsNotFoundError as error:
        raise WeightsNotFoundError(f"{where}: no mask of the object is known, and {error}\n  {otherwise}") from error
    except ImportError as error:
        raise ValueError(f"{where}: no mask of the object is known, and {error}; {otherwise}") from error
    with torch.no_grad():
        mask = network(image)
    if mask is None or not bool(mask.any()):
        what = "object" if config.label is None else config.label
        raise ValueError(
            f"{where}: expected {config.model} to find one {what} or more, found none; give another {flag}.model, "
            f"{flag}.label or {flag}.min-score; {otherwise}"
        )
    return mask.float().cpu().numpy()


def _network(config: SegmentationConfig, flag: str) -> Any:
    given = config.weights is not None and config.weights.expanduser().is_dir()
    if given or "/" in config.model or Path(config.model).expanduser().is_dir():
        return _Transformers(config, flag)
    from torchvision import models

    builders = [*models.list_models(module=models.segmentation)]
    builders += [name for name in models.list_models(module=models.detection) if name.startswith(_INSTANCES)]
    if config.model not in builders:
        raise ValueError(
            f"{flag}.model: expected one of torchvision's {', '.join(builders)}, or a model of transformers by the "
            f"id of its repository or its folder, got {config.model!r}"
        )
    return _Torchvision(config, flag)


class _Torchvision:
    """A model of torchvision with its weights."""

    def __init__(self, config: SegmentationConfig, flag: str) -> None:
        from torchvision import models

        self.config, self.flag, self.device = config, flag, find_device(config.device)
        self.finds_instances = config.model.startswith(_INSTANCES)
        published = models.get_model_weights(config.model).DEFAULT  # type: ignore[attr-defined]
        self.categories: List[str] = list(published.meta["categories"])
        self.wanted = _index_of(config.label, dict(enumerate(self.categories)), flag)
        self.transform = published.transforms()
        cached = published.url.rpartition("/")[2]
        spec = WeightsSpec(
            name=f"torchvision {config.model}",
            filenames=(cached, f"{config.model}.pth", f"{config.model}.pt", f"{config.model}.safetensors"),
            flag=f"{flag}.weights",
            cache_filenames=(cached,),
            url=published.url,
            sha256=cached.rpartition("-")[2].partition(".")[0],
        )
        path = resolve_weights(spec, config.weights, config.download)
        # What the published weights hold beside the network that is used: DeepLab's and FCN's second head.
        second_head = {"aux_loss": True} if config.model.startswith(("deeplab", "fcn")) else {}
        model: Any = models.get_model(config.model, weights=None, weights_backbone=None, **second_head)
        state = load_weights(path)
        load_strictly(model, state.get("state_dict", state), path)
        self.model = model.to(self.device).eval()

    def __call__(self, image: npt.NDArray[np.uint8]) -> Optional[Tensor]:
        """(H, W) mask of the object in an image (H, W, 3); None where there is none."""
        pixels = torch.tensor(image).movedim(-1, 0).to(self.device)
        if not self.finds_instances:
            scores = self.model(self.transform(pixels)[None])["out"]
            return _largest_category(_resized(scores, image.shape[:2]), self.wanted, self._background)
        found = self.model([self.transform(pixels)])[0]
        kept = found["scores"] > self.config.min_score
        if self.wanted is not None:
            kept &= found["labels"] == self.wanted
        masks = found["masks"][kept, 0] > 0.5
        return masks[masks.flatten(1).sum(-1).argmax()] if len(masks) else None

    @property
    def _background(self) -> int:
        return self.categories.index(_BACKGROUND[0])


class _Transformers:
    """A model of transformers in its folder: SAM, or semantic segmentation."""

    def __init__(self, config: SegmentationConfig, flag: str) -> None:
        require("transformers", "priors")
        self.config, self.device = config, find_device(config.device)
        spec = FolderSpec(config.model, f"{flag}.weights", "segmentation network")
        folder = resolve_weights(spec, config.weights, config.download)
        self.takes_point = _model_type(folder) in _POINT_TYPES
        if self.takes_point and config.label is not None:
            raise ValueError(
                f"{flag}.label {config.label}: {config.model} knows no categories; say where the object is by "
                f"{flag}.point"
            )
        of_model, of_images = (
            ("SamModel", "SamProcessor")
            if self.takes_point
            else ("AutoModelForSemanticSegmentation", "AutoImageProcessor")
        )
        kind = require_class("transformers", of_model, "priors")
        processor = require_class("transformers", of_images, "priors")
        try:
            self.processor: Any = processor.from_pretrained(folder, local_files_only=True)
            model: Any = kind.from_pretrained(folder, local_files_only=True)
        except damaged_model() as error:
            reason = reason_of(error)
            raise ValueError(
                f"{folder}: expected SAM or a semantic segmentation model of transformers, could not load it "
                f"({reason}); give another {flag}.model"
            ) from error
        self.model = model.to(self.device).eval()
        if not self.takes_point:
            names: Dict[int, str] = {int(index): name for index, name in model.config.id2label.items()}
            self.wanted = _index_of(config.label, names, flag)
            self.background = next((index for index, name in names.items() if name.lower() in _BACKGROUND), None)
            if self.wanted is None and self.background is None:
                raise ValueError(
                    f"{flag}.label: {config.model} names no background, so the object's category has to be said; "
                    f"expected one of {_some(list(names.values()))}"
                )

    def __call__(self, image: npt.NDArray[np.uint8]) -> Optional[Tensor]:
        """(H, W) mask of the object in an image (H, W, 3)."""
        if not self.takes_point:
            inputs = self.processor(images=image, return_tensors="pt").to(self.device)
            scores = _resized(self.model(**inputs).logits, image.shape[:2])
            return _largest_category(scores, self.wanted, self.background)
        column, row = self.config.point[0] * image.shape[1], self.config.point[1] * image.shape[0]
        inputs = self.processor(images=image, input_points=[[[column, row]]], return_tensors="pt")
        sizes, resized = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        outputs = self.model(**inputs.to(self.device))
        masks = self.processor.image_processor.post_process_masks(outputs.pred_masks.cpu(), sizes, resized)[0]
        # Three masks for what the point may mean, from a part to the whole.
        return masks[0][int(outputs.iou_scores[0, 0].argmax())]


def _model_type(folder: Path) -> str:
    path = folder / CONFIG_NAME
    try:
        return str(read_json_object(path).get("model_type"))
    except ValueError as error:
        raise ValueError(f"{path}: expected the configuration of a model, found {error}") from error


def _index_of(label: Optional[str], names: Dict[int, str], flag: str) -> Optional[int]:
    """Index of a category of that name; None for None."""
    if label is None:
        return None
    found = [index for index, name in names.items() if name.lower() == label.lower()]
    if not found:
        raise ValueError(f"{flag}.label: expected one of {_some(list(names.values()))}, got {label!r}")
    return found[0]


def _some(names: Sequence[str]) -> str:
    shown = [name for name in names if name not in (*_BACKGROUND, "N/A")]
    return ", ".join(shown[:100]) + (f" and {len(shown) - 100} more" if len(shown) > 100 else "")


def _resized(scores: Tensor, size: Tuple[int, ...]) -> Tensor:
    """(1, C, h, w) scores at the size of the photo, (C, H, W)."""
    return torch.nn.functional.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)[0]


def _largest_category(scores: Tensor, wanted: Optional[int], background: Optional[int]) -> Optional[Tensor]:
    """(H, W) where a category has the highest score (C, H, W): the wanted one, else the largest but the background."""
    best = scores.argmax(dim=0)
    if wanted is None:
        counts = best.flatten().bincount(minlength=len(scores))
        if background is not None:
            counts[background] = 0
        wanted = int(counts.argmax())
        if counts[wanted] == 0:
            return None
    return best == wanted
