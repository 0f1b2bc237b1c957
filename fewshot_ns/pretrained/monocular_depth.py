"""Depth maps from monocular networks (DPT, Depth Anything, ZoeDepth, ...), computed once and kept in a cache.

Any model of transformers' AutoModelForDepthEstimation works. A cache entry is named by the content of the image, the
model, the hash of its weights and the version of the processing around it, so it can be shared between scenes, users
and machines, and is never stale.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Literal, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fewshot_ns.cameras.scene_geometry import Size
from fewshot_ns.data.files.depth_formats import NPZ_KEY
from fewshot_ns.data.files.images import image_size, read_image
from fewshot_ns.data.records.metadata import DepthEncoding, Polarity
from fewshot_ns.pretrained.damaged import damaged_model
from fewshot_ns.pretrained.weights import FolderSpec, folder_hash, resolve_weights
from fewshot_ns.utils.cache import cache_folder, read_npz, write_npz
from fewshot_ns.utils.devices import find_device
from fewshot_ns.utils.hashing import file_hash, json_hash
from fewshot_ns.utils.json_files import OBJECT, checked, read_json_object
from fewshot_ns.utils.optional_imports import require, require_class
from fewshot_ns.utils.reading import reason_of
from fewshot_ns.utils.shown_values import shown

PREPROCESSING_VERSION = 1
"""Version of the processing around the network; a new one makes all cache entries stale."""
_KEY_ARRAY = "key"
_DISTANCE_TYPES = ("glpn", "zoedepth", "depth_pro", "prompt_depth_anything")
"""Model types that predict depth; Depth Anything's configuration says which kind it is."""
_RELATIVE_TYPES = ("dpt", "depth_anything")


@dataclass
class MonocularDepthConfig:
    """A network that estimates depth from one image."""

    model: str = "Intel/dpt-hybrid-midas"
    """Id on the Hugging Face hub, or a folder with config.json and weights; SparseNeRF uses DPT-Hybrid."""
    weights: Optional[Path] = None
    """Folder of the model. None: FEWSHOT_WEIGHTS, then the hub's cache, then a download."""
    download: bool = True
    """Whether a model that is not on this disk may be downloaded."""
    polarity: Optional[Literal["inverse_depth", "distance"]] = None
    """What the network predicts (larger = nearer: inverse_depth). None: by the type of the network."""
    batch_size: int = 4
    """Images per batch."""
    device: str = "auto"
    """Device: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    cache_dir: Optional[Path] = None
    """Folder of computed maps. None: FEWSHOT_CACHE, else the user's cache folder."""


@dataclass(frozen=True)
class MonocularDepths:
    """Depth maps of some images, and the meaning of their values."""

    files: Tuple[Path, ...]
    """One .npz per image, in the cache, with an array `depth` (H, W) float32 of the image's size, positive."""
    encoding: DepthEncoding
    """Their polarity. Scale and shift are unknown, or those that a metric network estimates."""


def monocular_depths(
    config: MonocularDepthConfig, images: Sequence[Path], background: Literal["black", "white"], flag: str
) -> MonocularDepths:
    """Depth maps of images, computed where the cache has none.

    Args:
        config: Network and cache.
        images: Image files.
        background: Colour under transparent pixels.
        flag: Command line flag of the model's folder, for the error message.

    Raises:
        WeightsNotFoundError: the model was not found.
        ValueError: it is not a depth model, or gives no finite depth for an image; a damaged image.
    """
    if config.batch_size < 1:
        raise ValueError(f"expected a batch size of at least 1, got {config.batch_size}")
    spec = FolderSpec(config.model, flag, "monocular depth network")
    folder = resolve_weights(spec, config.weights, config.download)
    polarity = config.polarity or model_polarity(folder)
    model_hash = folder_hash(folder)
    files, missing = [], []
    for image in images:
        key = cache_key(image, config.model, model_hash, background, polarity)
        path = cache_folder("depth", config.cache_dir) / key[:2] / f"{key}.npz"
        files.append(path)
        if not is_whole(path, key, image_size(image)):
            missing.append((image, path, key))
    if missing:
        network = _Network(folder, config.device)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=CONSOLE, transient=True) as progress:
            task = progress.add_task(f"[green]Depth by {config.model} on {network.device}", total=len(missing))
            for batch in _batches(missing, config.batch_size):
                depths = network([_on_background(image, background) for image, _, _ in batch])
                for (image, path, key), depth in zip(batch, depths, strict=True):
                    arrays = {NPZ_KEY: _positive(depth, polarity, image, config.model), _KEY_ARRAY: key}
                    write_npz(path, arrays, compressed=True)
                    progress.advance(task)
    return MonocularDepths(tuple(files), DepthEncoding(polarity))


def model_polarity(folder: Path) -> Polarity:
    """Whether a model predicts inverse depth or depth, by the configuration in its folder.

    Raises:
        ValueError: an unknown type of model.
    """
    path = folder / "config.json"
    try:
        config = checked(read_json_object(path), {"backbone_config": OBJECT}, str(path))
    except ValueError as error:
        raise ValueError(f"{path}: expected the configuration of a model, found {error}") from error
    kind = config.get("model_type")
    # DPT on DINOv2 is trained on NYU or KITTI depth, DPT on ViT and BEiT on MiDaS' inverse depth.
    backbone = config.get("backbone_config")
    on_dinov2 = isinstance(backbone, dict) and str(backbone.get("model_type")).startswith("dinov2")
    if kind in _DISTANCE_TYPES or config.get("depth_estimation_type") == "metric" or (kind == "dpt" and on_dinov2):
        return "distance"
    if kind in _RELATIVE_TYPES:
        return "inverse_depth"
    raise ValueError(
        f"{path}: expected a known kind of depth model ({', '.join(_RELATIVE_TYPES + _DISTANCE_TYPES)}), "
        f"found {shown(kind)}; say what it gives by the flag that ends in polarity"
    )


def cache_key(image: Path, model: str, model_hash: str, background: str, polarity: str) -> str:
    """Name of an image's cache entry: a hash of everything that its map depends on."""
    content = file_hash(image)
    name = Path(model).name if Path(model).is_dir() else model
    parts = [PREPROCESSING_VERSION, content, name, model_hash, background, polarity]
    return json_hash(parts)


def is_whole(path: Path, key: str, size: Size) -> bool:
    """Whether the cache holds an image's map: undamaged, of the right size, with the right key."""
    entry = read_npz(path, NPZ_KEY, _KEY_ARRAY)
    if entry is None or str(entry[_KEY_ARRAY]) != key:
        return False
    depth = entry[NPZ_KEY]
    return depth.shape == size and bool((depth > 0).all())


def _batches(items: List[Tuple[Path, Path, str]], size: int) -> List[List[Tuple[Path, Path, str]]]:
    """Batches of up to `size` consecutive images of one size, which the preprocessing can stack."""
    batches: List[List[Tuple[Path, Path, str]]] = []
    for item in items:
        if batches and len(batches[-1]) < size and image_size(batches[-1][0][0]) == image_size(item[0]):
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches


def _on_background(path: Path, background: str) -> npt.NDArray[np.uint8]:
    image = read_image(path)
    if image.shape[-1] == 3:
        return image
    alpha = image[..., 3:].astype(np.float32) / 255
    colour = 255.0 if background == "white" else 0.0
    return np.round(image[..., :3] * alpha + colour * (1 - alpha)).astype(np.uint8)


def _positive(depth: npt.NDArray[np.float32], polarity: Polarity, image: Path, model: str) -> npt.NDArray[np.float32]:
    """The output with every pixel above zero, because zero means a hole in a depth map."""
    if not np.isfinite(depth).all():
        raise ValueError(f"{image}: expected finite depths from {model}, found NaN or infinite ones")
    low, spread = float(depth.min()), float(np.ptp(depth))
    if polarity == "distance":
        return np.maximum(depth, max(1e-6, 1e-6 * float(depth.max()))).astype(np.float32)
    # Inverse depth comes with an unknown shift anyway; zero is where the network sees the farthest.
    return (depth - low + max(1e-3 * spread, 1e-6)).astype(np.float32)


class _Network:
    """A loaded model: images in, maps of their size out."""

    def __init__(self, folder: Path, device: str) -> None:
        transformers = require("transformers", "priors")
        of_images = require_class("transformers", "AutoImageProcessor", "priors")
        of_depth = require_class("transformers", "AutoModelForDepthEstimation", "priors")
        self.device = find_device(device)
        logging = transformers.utils.logging
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            self.processor: Any = of_images.from_pretrained(folder, local_files_only=True)
            model: Any = of_depth.from_pretrained(folder, local_files_only=True)
        except damaged_model() as error:
            reason = reason_of(error)
            raise ValueError(
                f"{folder}: expected a depth model of transformers, could not load it ({reason})"
            ) from error
        finally:
            if bars:
                logging.enable_progress_bar()
        self.model = model.to(self.device).eval()

    @torch.no_grad()
    def __call__(self, images: List[npt.NDArray[np.uint8]]) -> List[npt.NDArray[np.float32]]:
        """Maps (H, W) of images (H, W, 3) of one size, resampled bicubically from the network's grid."""
        inputs = self.processor(images=images, return_tensors="pt").to(self.device)
        outputs = self.model(**inputs)
        sizes = [image.shape[:2] for image in images]
        if hasattr(self.processor, "post_process_depth_estimation"):
            # ZoeDepth's also removes the borders that its preprocessing added.
            padded = {"source_sizes": sizes} if self.model.config.model_type == "zoedepth" else {}
            found = self.processor.post_process_depth_estimation(outputs, target_sizes=sizes, **padded)
            maps = [entry["predicted_depth"] for entry in found]
        else:
            grid = outputs.predicted_depth[:, None]
            maps = torch.nn.functional.interpolate(grid, size=sizes[0], mode="bicubic", align_corners=False)[:, 0]
        return [depth.float().cpu().numpy().reshape(size) for depth, size in zip(maps, sizes, strict=True)]
