"""Finding the files of a scene's views, and checking that they are the right ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Sequence, Tuple

from fewshot_ns.data.files.images import exif_orientation, image_size, same_aspect

Files = Tuple[Optional[Path], ...]
"""One file per view of a scene; None where a view has none."""


MOVED_SCENE = (
    "a trained run whose scene lies elsewhere now is pointed at it by `ns-fewshot retarget --load-config RUN --data "
    "DIR --output OUT`"
)
"""The way out of a scene that is not there, for commands that have no flag for it."""


def chosen_files(
    files: Optional[Files], chosen: Sequence[int], what: str, flag: str, required: bool
) -> Optional[Tuple[Path, ...]]:
    """Files of the chosen views; None where the scene has none, or where some are missing and need not be there.

    Raises:
        FileNotFoundError: a required file is missing.
    """
    if files is None:
        return None
    picked = []
    for index in chosen:
        path = files[index]
        if path is None or not path.is_file():
            if required:
                raise FileNotFoundError(f"{path}: expected the {what} of view {index} ({flag}), found no such file")
            return None
        picked.append(path)
    return tuple(picked)


def existing_files(files: Optional[Files], chosen: Sequence[int]) -> Optional[Files]:
    """Files of the chosen views, None for views without; None where no chosen view has one."""
    picked = () if files is None else tuple(files[index] for index in chosen)
    found = tuple(path if path is not None and path.is_file() else None for path in picked)
    return found if any(path is not None for path in found) else None


def find_upward(start: Path, patterns: Sequence[str]) -> Optional[Path]:
    """Returns the first existing `folder / pattern`, for `start` and up to 4 folders above it."""
    # Not resolved: a scan may be a link, with the other folders beside the link.
    start = Path(os.path.abspath(start))
    for folder in (start, *list(start.parents)[:4]):
        for pattern in patterns:
            if (folder / pattern).is_dir():
                return folder / pattern
    return None


def check_same_aspect(path: Path, reference: Tuple[float, float], what: str) -> None:
    """Checks that an image shows the frame that its calibration was made for.

    Args:
        path: The image.
        reference: (height, width) of the calibration.
        what: Name of the calibration, for the message.

    Raises:
        ValueError: the proportions differ.
    """
    found = image_size(path)
    wanted = round(reference[0]), round(reference[1])
    if not same_aspect(found, wanted) and exif_orientation(path) >= 5 and same_aspect((found[1], found[0]), wanted):
        raise ValueError(
            f"{path}: expected the proportions of {what} ({reference[1]:g}x{reference[0]:g}, width x height), found "
            f"{found[1]}x{found[0]} and an EXIF orientation ({exif_orientation(path)}) by which viewers turn the photo "
            f"to them; photos are read as they are stored. Turn the pixels and drop the mark (`magick mogrify "
            f"-auto-orient`), or let `ns-fewshot prepare` make a scene of upright photos"
        )
    if not same_aspect(found, wanted):
        raise ValueError(
            f"{path}: expected the proportions of {what} ({reference[1]:g}x{reference[0]:g}, width x height), "
            f"found {found[1]}x{found[0]}"
        )
