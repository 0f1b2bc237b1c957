"""Images that lie on disk already, renders and true ones, as views to evaluate: no model and no scene is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Literal, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch

from fewshot_ns.data.files.images import image_size, read_image
from fewshot_ns.data.files.masks import read_mask
from fewshot_ns.evaluation.runners.evaluator import Outputs
from fewshot_ns.evaluation.runners.views import EvaluatedView, ViewData
from fewshot_ns.utils.natural_order import natural_key

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Formats of images, of 8 bits per channel."""
RENDER_END, TRUTH_END = "-render", "-truth"
"""What the names of `ns-fewshot eval --render-dir` end in, which keeps both images of a view in one folder."""

Background = Literal["white", "black"]
OnMissing = Literal["stop", "skip"]


@dataclass(frozen=True)
class ImagePair:
    """A render and what it should show."""

    render: Path
    """Image that is measured."""
    truth: Path
    """Image that it is compared with."""
    name: str
    """Path of the true image in its folder."""


def images_below(folder: Path) -> Tuple[Path, ...]:
    """Images of a folder and the folders in it, as paths relative to it, in natural order.

    Raises:
        FileNotFoundError: no folder, or one without images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of images ({', '.join(SUFFIXES)}), found none")
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    # Names that start with a dot are what some systems leave beside the images.
    found = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    if not found:
        raise FileNotFoundError(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none")
    return tuple(sorted(found, key=lambda path: natural_key(path.as_posix())))


class FolderOfImages:
    """Finds the image of a folder that belongs to a file elsewhere.

    Args:
        folder: it and the folders in it are searched.

    Raises:
        FileNotFoundError: no folder, or one without images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = images_below(folder)
        self._by_path = _grouped(self.files, lambda path: path.with_suffix("").as_posix())
        self._by_name = _grouped(self.files, lambda path: path.stem)

    def find(self, relative: Path) -> Optional[Path]:
        """The image of the same relative path, its suffix aside, or else the only one of that name.

        Args:
            relative: path of the other file in its own folder.

        Returns:
            Relative path, None where there is no such image.

        Raises:
            ValueError: several have that path or, where none has it, that name.
        """
        if relative in self.files:
            return relative
        found = self._by_path.get(relative.with_suffix("").as_posix()) or self._by_name.get(relative.stem, [])
        if len(found) > 1:
            raise ValueError(
                f"{self.folder}: expected one image for {relative.as_posix()}, found {_listed(found)}; keep the "
                "folders that both have, or one format alone"
            )
        return found[0] if found else None


def pair_images(images: Path, truth: Path, on_missing: OnMissing = "stop") -> Tuple[Tuple[ImagePair, ...], int]:
    """Pairs the images of two folders by relative path, or by a name that is unique.

    Where both are one folder, which holds `NAME-truth.png`, these are paired with `NAME-render.png` or `NAME.png`.

    Args:
        images: folder of the images to measure.
        truth: folder of the true ones.
        on_missing: whether images without partner are an error or left out.

    Returns:
        Pairs in the natural order of the true images, and how many images were left out on both sides.

    Raises:
        FileNotFoundError: no folder, or one without images; images without a partner.
        ValueError: a partner is ambiguous.
    """
    if images.resolve() == truth.resolve():
        return _pairs_of_one_folder(images, on_missing)
    rendered, true = FolderOfImages(images), FolderOfImages(truth)
    partners: Dict[Path, Path] = {}
    alone: List[Path] = []
    for render in rendered.files:
        partner = true.find(render)
        if partner is None:
            alone.append(render)
        elif partner in partners:
            raise ValueError(
                f"{images}: expected one image for {truth / partner}, found {_listed([partners[partner], render])}"
            )
        else:
            partners[partner] = render
    missing = [path for path in true.files if path not in partners]
    pairs = tuple(
        ImagePair(images / partners[path], truth / path, path.as_posix()) for path in true.files if path in partners
    )
    return _checked(pairs, [(truth, alone, images), (images, missing, truth)], on_missing)


def _pairs_of_one_folder(folder: Path, on_missing: OnMissing) -> Tuple[Tuple[ImagePair, ...], int]:
    files = images_below(folder)
    truths = {
        path.with_name(path.stem.removesuffix(TRUTH_END)): path for path in files if path.stem.endswith(TRUTH_END)
    }
    if not truths:
        raise ValueError(
            f"{folder}: expected NAME{TRUTH_END}.png beside NAME{RENDER_END}.png in a folder given both as --images "
            "and --truth, found none"
        )
    renders: Dict[Path, Path] = {}
    for path in files:
        if path in truths.values():
            continue
        other = renders.setdefault(path.with_name(path.stem.removesuffix(RENDER_END)), path)
        if other != path:
            raise ValueError(
                f"{folder}: expected one image of a name, found {_listed([other, path])}; remove one of them"
            )
    pairs = tuple(
        ImagePair(folder / renders[name], folder / path, path.as_posix())
        for name, path in truths.items()
        if name in renders
    )
    alone = [path for name, path in truths.items() if name not in renders]
    unmatched = [path for name, path in renders.items() if name not in truths]
    return _checked(pairs, [(folder, unmatched, folder), (folder, alone, folder)], on_missing)


def _checked(
    pairs: Tuple[ImagePair, ...], without: Sequence[Tuple[Path, List[Path], Path]], on_missing: OnMissing
) -> Tuple[Tuple[ImagePair, ...], int]:
    """The pairs, where there are any and nothing is without (folder searched, files, their folder) unasked."""
    for searched, files, folder in without:
        if files and (on_missing == "stop" or not pairs):
            raise FileNotFoundError(
                f"{searched}: expected an image for each one of {folder}, found none for {_listed(files)}; "
                + ("give --on-missing skip to leave these out" if pairs else "they are matched by path, then by name")
            )
    return pairs, sum(len(files) for _, files, _ in without)


def find_masks(folder: Path, pairs: Sequence[ImagePair]) -> Tuple[Path, ...]:
    """The object mask of each pair, found as `FolderOfImages` does by the true image, or by its number (000.png).

    Raises:
        FileNotFoundError: one has none.
        ValueError: one has several.
    """
    masks = FolderOfImages(folder)
    found: List[Path] = []
    for index, pair in enumerate(pairs):
        mask = masks.find(Path(pair.name)) or masks.find(Path(f"{index:03d}.png"))
        if mask is None:
            raise FileNotFoundError(f"{folder}: expected a mask for {pair.name}, or {index:03d}.png, found none")
        found.append(folder / mask)
    return tuple(found)


def pair_views(
    pairs: Sequence[ImagePair],
    indices: Sequence[int],
    masks: Optional[Sequence[Path]] = None,
    background: Optional[Background] = None,
) -> List[EvaluatedView]:
    """Pairs as views to evaluate; each is read when it is measured.

    Args:
        pairs: all of them.
        indices: which of them.
        masks: object mask of each pair; None: there are none.
        background: what lies under transparent pixels; None: such images are an error.
    """
    return [
        EvaluatedView(
            file_name=pairs[index].name,
            view_index=index,
            split_index=index,
            camera=None,
            load=partial(_load, pairs[index], None if masks is None else masks[index], background),
            prediction=partial(_prediction, pairs[index], background),
            files=(pairs[index].truth, pairs[index].render, *(() if masks is None else (masks[index],))),
        )
        for index in indices
    ]


def read_colours(path: Path, background: Optional[Background]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 colours of an image, transparent ones on a background.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no image of 8 bits per channel, or a transparent one without a background.
    """
    image = read_image(path)
    if image.shape[-1] == 3 or bool((image[..., 3] == 255).all()):
        return image[..., :3]
    if background is None:
        raise ValueError(f"{path}: expected an opaque image, found a transparent one; give --background white or black")
    alpha = image[..., 3:].astype(np.float64) / 255.0
    under = 255.0 if background == "white" else 0.0
    return np.round(image[..., :3] * alpha + under * (1.0 - alpha)).astype(np.uint8)


def _prediction(pair: ImagePair, background: Optional[Background]) -> Outputs:
    return {"rgb": torch.from_numpy(read_colours(pair.render, background)).float() / 255.0}


def _load(pair: ImagePair, mask: Optional[Path], background: Optional[Background]) -> ViewData:
    truth = read_colours(pair.truth, background)
    _check_size(pair.render, image_size(pair.render), truth, pair.truth)
    if mask is None:
        return ViewData(torch.from_numpy(truth))
    weights = read_mask(mask).astype(np.float32)
    _check_size(mask, weights.shape, truth, pair.truth)
    if not (weights == 1.0).any():
        raise ValueError(f"{mask}: expected an object mask (white on the object), found no pixel of an object")
    return ViewData(torch.from_numpy(truth), torch.from_numpy(weights)[..., None])


def _check_size(path: Path, found: Sequence[int], truth: npt.NDArray, where: Path) -> None:
    if tuple(found) != truth.shape[:2]:
        raise ValueError(
            f"{path}: expected {truth.shape[1]}x{truth.shape[0]} pixels (width x height) as {where} has, "
            f"found {found[1]}x{found[0]}; nothing is scaled, since that would change every figure"
        )


def _grouped(files: Sequence[Path], key: Callable[[Path], str]) -> Dict[str, List[Path]]:
    groups: Dict[str, List[Path]] = {}
    for path in files:
        groups.setdefault(key(path), []).append(path)
    return groups


def _listed(files: Sequence[Path]) -> str:
    named = ", ".join(path.as_posix() for path in files[:3])
    return named + (f" and {len(files) - 3} more" if len(files) > 3 else "")
