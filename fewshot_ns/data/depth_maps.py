"""Depth priors on disk: formats, polarity, validity, and resampling to the size of the cameras.

A prior says which of two pixels is nearer; its scale and shift mean nothing here. A new format
is one entry in `FORMATS`.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import cv2
import numpy as np
import numpy.typing as npt

from fewshot_ns.data.images import Size, same_aspect
from fewshot_ns.data.scene_geometry import Polarity

NPZ_KEY = "depth"
"""Array read from an .npz that holds more than one."""


@dataclass(frozen=True)
class DepthPrior:
    """One depth-prior map at the size of its camera."""

    values: npt.NDArray[np.float32]
    """(H, W) in the units of the file, 0 where invalid."""
    valid: npt.NDArray[np.bool_]
    """(H, W), False where the prior says nothing."""
    polarity: Polarity
    """'inverse_depth': larger values are nearer; 'distance': larger values are farther."""

    def nearness(self) -> npt.NDArray[np.float32]:
        """Returns (H, W), larger = nearer whatever the polarity; meaningless where not valid."""
        return self.values if self.polarity == "inverse_depth" else -self.values


@dataclass(frozen=True)
class DepthFormat:
    """How one kind of file is read."""

    read: Callable[[Path], npt.NDArray[Any]]
    """Path -> array as stored."""
    polarity: Optional[Polarity]
    """What the values mean unless the user says otherwise; None where the format leaves it open."""


def _read_png16(path: Path) -> npt.NDArray[Any]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path}: expected a 16-bit PNG, found a file that cannot be decoded")
    if image.dtype != np.uint16:
        raise ValueError(f"{path}: expected a PNG of 16 bits, found {image.dtype} of shape {image.shape}")
    return image


def _read_npy(path: Path) -> npt.NDArray[Any]:
    return np.load(path, allow_pickle=False)


def _read_npz(path: Path) -> npt.NDArray[Any]:
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        if len(names) != 1 and NPZ_KEY not in names:
            raise ValueError(f"{path}: expected one array, or one named {NPZ_KEY!r}, found {names}")
        return archive[names[0] if len(names) == 1 else NPZ_KEY]


FORMATS: Dict[str, DepthFormat] = {
    # The layout of SparseNeRF: DPT's inverse depth, each image stretched to 0..65535.
    ".png": DepthFormat(_read_png16, "inverse_depth"),
    ".npy": DepthFormat(_read_npy, None),
    ".npz": DepthFormat(_read_npz, None),
}


def depth_format(path: Path) -> DepthFormat:
    """Returns the entry of `FORMATS` for a file.

    Raises:
        ValueError: an unknown suffix.
    """
    entry = FORMATS.get(path.suffix.lower())
    if entry is None:
        raise ValueError(f"{path}: expected a depth prior as {', '.join(FORMATS)}, found {path.suffix or 'no suffix'}")
    return entry


def resolve_polarity(path: Path, polarity: Optional[Polarity]) -> Polarity:
    """Returns the polarity of a file: the given one, else the one that its format implies.

    Raises:
        ValueError: neither says it.
    """
    resolved = polarity or depth_format(path).polarity
    if resolved is None:
        raise ValueError(
            f"{path}: a {path.suffix} file does not say whether larger values are nearer; "
            "give --depth-polarity inverse_depth (larger = nearer) or --depth-polarity distance (larger = farther)"
        )
    return resolved


def resample_depth(
    values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], size: Size
) -> Tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Bilinear resampling (cv2.INTER_LINEAR) that never mixes invalid pixels in.

    Args:
        values: (H, W) float32, finite; its value where not valid does not matter.
        valid: (H, W).
        size: (height, width) wanted.

    Returns:
        values and validity at the wanted size; a pixel is valid only where every pixel that it is made of is.
    """
    values = np.where(valid, values, np.float32(0))
    if values.shape == tuple(size):
        return values, valid
    height, width = size
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    # The weight of the invalid pixels is a sum of exact zeros where there are none, so the comparison is exact.
    invalid_weight = cv2.resize((~valid).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    resized_valid = invalid_weight == 0
    return np.where(resized_valid, resized, np.float32(0)).astype(np.float32), resized_valid


def read_depth_prior(path: Path, polarity: Optional[Polarity], size_hw: Size) -> DepthPrior:
    """Reads a depth prior of any resolution and brings it to the size of its camera.

    Args:
        path: A file of one of `FORMATS`.
        polarity: What its values mean; None takes what the format implies (16-bit PNG: inverse depth).
        size_hw: (height, width) of the camera.

    Returns:
        The prior. Zero, negative, infinite and NaN values are invalid.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: unknown format or polarity, unreadable file, wrong shape or proportions, or no valid pixel.
    """
    path = Path(path)
    entry = depth_format(path)
    polarity = resolve_polarity(path, polarity)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a depth prior, found no such file")
    try:
        stored = entry.read(path)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected a readable {path.suffix} depth prior, found a damaged file ({error})"
        ) from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: expected a numeric array in {path.suffix} form, found {error}") from error
    if stored.dtype.kind not in "uif":
        raise ValueError(f"{path}: expected real numbers, found dtype {stored.dtype}")

    found_shape = stored.shape
    if stored.ndim == 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    elif stored.ndim == 3 and stored.shape[0] == 1:
        stored = stored[0]
    if stored.ndim != 2 or min(stored.shape) < 2:
        raise ValueError(f"{path}: expected one depth value per pixel, shape (H, W), found shape {found_shape}")
    if not same_aspect((stored.shape[0], stored.shape[1]), size_hw):
        raise ValueError(
            f"{path}: expected the proportions of the image ({size_hw[1]}x{size_hw[0]} pixels, width x height), "
            f"found {stored.shape[1]}x{stored.shape[0]}"
        )

    values = stored.astype(np.float32)
    valid = np.isfinite(values) & (values > 0)
    if not valid.any():
        raise ValueError(f"{path}: expected some positive finite values, found none among {values.size} pixels")
    values, valid = resample_depth(values, valid, size_hw)
    if not valid.any():
        raise ValueError(f"{path}: no valid pixel is left at {size_hw[1]}x{size_hw[0]} pixels; the prior is too sparse")
    return DepthPrior(values, valid, polarity)


def find_depth_priors(folder: Path, images: Sequence[Path]) -> Tuple[Optional[Path], ...]:
    """Looks up the depth prior of each image in a folder.

    The names tried are `depth_<name of the image>` (the layout of SparseNeRF) and `<name of the image>`, with each
    known suffix.

    Returns:
        One entry per image; None where the folder holds no prior for it.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    found = []
    for image in images:
        candidates = [f"{prefix}{image.stem}{suffix}" for prefix in ("depth_", "") for suffix in FORMATS]
        match = next((name for name in candidates if name in names), None)
        found.append(None if match is None else folder / match)
    return tuple(found)
