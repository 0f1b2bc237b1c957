"""Masks of photos that a `transforms*.json` names (`mask_path`), where not nerfstudio's parser reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from fewshot_ns.data.files.scene_folder import Files


def check_masks_of_all(meta: Dict[str, Any], path: Path) -> None:
    """Checks that all frames have masks, or none.

    Raises:
        ValueError: some have none; names one of them.
    """
    lacking = [str(frame["file_path"]) for frame in meta["frames"] if "mask_path" not in frame]
    if 0 < len(lacking) < len(meta["frames"]):
        raise ValueError(
            f"{path}: expected a 'mask_path' of every frame or of none, found none of {len(lacking)} frames, such as "
            f"{lacking[0]}; masks of the training views alone may lie in a folder (--training-mask-dir)"
        )


def named_masks(meta: Dict[str, Any], path: Path, folder: Path) -> Files:
    """The mask of each frame, None where the frames name none.

    Args:
        meta: Content of the file, whose names lead to its files.
        path: The file, for messages.
        folder: That its names are relative to.

    Raises:
        ValueError: some frames have none.
    """
    check_masks_of_all(meta, path)
    return tuple(folder / frame["mask_path"] if "mask_path" in frame else None for frame in meta["frames"])


def masks_of_training(masks: Files, count: int) -> Optional[Files]:
    """Masks of all `count` views of a scene, the training split first; None where that has none."""
    return (*masks, *(None,) * (count - len(masks))) if any(mask is not None for mask in masks) else None
