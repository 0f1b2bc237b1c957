"""Frames without photos, and photos without poses: what a capture lists and cannot use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Literal, Mapping, Optional, Sequence, Set

from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.files.images import IMAGE_SUFFIXES
from fewshot_ns.data.views.selection import Protocol

OnMissing = Literal["skip", "stop"]
NO_PHOTO = "frames without a photo"
NO_POSE = "photos without a pose"
"""Keys of the counts in `SceneFiles.left_out`."""
_FLAG = "--on-missing"
_SHOWN = 3


def frames_without_photo(images: Sequence[Path], where: Path, on_missing: Optional[OnMissing]) -> Dict[str, int]:
    """Counts frames whose photo is not there; empty where all are.

    Args:
        images: Photos of all frames.
        where: File or folder that lists them, for the message.
        on_missing: What the user wants.

    Raises:
        FileNotFoundError: a photo is missing, and the user wants to stop; or all are.
    """
    absent = [image for image in images if not image.is_file()]
    if absent and (on_missing == "stop" or len(absent) == len(images)):
        ways = "" if len(absent) == len(images) else f", or {_FLAG} skip to go on without them"
        raise FileNotFoundError(
            f"{where}: expected the photos of {len(images)} frames, found no {_some(absent)}; add the photos{ways}"
        )
    return {NO_PHOTO: len(absent)} if absent else {}


def photos_without_pose(
    images: Sequence[Path], others: Set[Path], where: Path, on_missing: Optional[OnMissing]
) -> Dict[str, int]:
    """Counts photos beside those of the frames that no frame names; empty without any.

    What is called like a frame's photo with something added (`0005_depth.png`) belongs to it and does not count.

    Args:
        images: Photos of all frames.
        others: Files that are no photos, such as masks.
        where: File that lists the frames, for the message.
        on_missing: What the user wants.

    Raises:
        ValueError: there are some, and the user wants to stop.
    """
    known = {*images, *others}
    stems = {(image.parent, image.stem) for image in images}
    unplaced = []
    for folder in sorted({image.parent for image in images}):
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            stem = file.stem
            ends = [end for end in range(1, len(stem) + 1) if end == len(stem) or not stem[end].isalnum()]
            own = any((folder, stem[:end]) in stems for end in ends)
            own = own or file in known or file.name.startswith(".")
            if file.suffix.lower() in IMAGE_SUFFIXES and not own:
                unplaced.append(file)
    if unplaced and on_missing == "stop":
        raise ValueError(
            f"{where}: expected a pose of every photo, found none of {_some(unplaced)}; remove them, or {_FLAG} skip "
            "to go on without them"
        )
    return {NO_POSE: len(unplaced)} if unplaced else {}


def files_beside_frames(meta: Mapping[str, Any], folder: Path) -> Set[Path]:
    """Masks and depth maps that the frames of a transforms file name."""
    keys = ("mask_path", "depth_file_path", "depth_path")
    return {folder / str(frame[key]) for frame in meta["frames"] for key in keys if key in frame}


def among_those_there(protocol: Protocol, images: Sequence[Path]) -> Protocol:
    """The rule of a dataset without the views whose photo is missing; the others keep their numbers."""

    def there(views: Sequence[int]) -> tuple[int, ...]:
        return tuple(view for view in views if view >= len(images) or images[view].is_file())

    return replace(protocol, pool=there(protocol.pool), test=there(protocol.test))


def check_enough_left(protocol: Protocol, least: int, where: Path) -> None:
    """Checks that enough of the views that may train have a photo.

    Args:
        protocol: The rule without the views whose photo is missing.
        least: Number of training views below which there is an error.
        where: The scene's folder, for the message.

    Raises:
        ValueError: too few.
    """
    if len(protocol.pool) < least:
        raise ValueError(
            f"{where}: training needs at least {least} views, found the photos of {len(protocol.pool)} of those that "
            f"{protocol.name} trains on"
        )


def echo_left_out(where: Path, left_out: Mapping[str, int], frames: int) -> None:
    """Says what was skipped."""
    if left_out:
        counts = " and ".join(f"{count} {what}" for what, count in left_out.items())
        CONSOLE.print(
            f"{where}: of {frames} frames, skipped {counts} ({_FLAG} stop makes this an error)",
            highlight=False,
            soft_wrap=True,
        )


def _some(files: Sequence[Path]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(file.name for file in files[:_SHOWN]) + more
