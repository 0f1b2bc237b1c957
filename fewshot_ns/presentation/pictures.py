"""Pictures for people: depth and error in colour, images side by side, captioned contact sheets.

Pictures are uint8 arrays (H, W, 3). Images that come in are torch tensors or numpy arrays, floats in [0, 1] or uint8.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fewshot_ns.utils.files import replacing

ImageLike = Union[np.ndarray, Tensor]

PAPER = (255, 255, 255)
INK = (30, 30, 30)
_FONT_SIZE = 15
"""Height of captions in pixels; headings are larger."""
INVALID = (128, 128, 128)
"""Colour of pixels whose depth is not finite."""
STRIPE = (200, 200, 200)
"""Colour of the stripes over them, where there are any."""


@dataclass(frozen=True)
class LabelledImage:
    """One cell of a contact sheet."""

    image: ImageLike
    """(H, W, 3), (H, W, 1) or (H, W); floats in [0, 1] or uint8."""
    caption: str = ""
    """Text under the image; wrapped to its width."""


def to_uint8(image: ImageLike) -> np.ndarray:
    """An image as (H, W, 3) uint8; always a copy.

    Floats are clamped to [0, 1], NaN becomes 0, grey becomes three equal channels.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W); floats in [0, 1] or uint8.

    Raises:
        ValueError: another shape.
    """
    array = _to_numpy(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"expected an image of shape (height, width, 1 or 3), got {tuple(array.shape)}")
    if array.dtype != np.uint8:
        array = (np.clip(np.nan_to_num(array.astype(np.float64)), 0.0, 1.0) * 255.0).round().astype(np.uint8)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))


def shared_depth_range(depths: Sequence[ImageLike]) -> Tuple[float, float]:
    """Near and far of several depth images together, so that one colour means one distance in all of them.

    The outermost per cent at either end is left out, so that single outliers do not eat the colours.

    Args:
        depths: (H, W, 1) or (H, W) each, any sizes; values that are not finite are left out, and 0, which splats have
            where nothing is, unless there is nothing else.

    Returns:
        Near and far, with near < far.

    Raises:
        ValueError: no depth is finite.
    """
    values = np.concatenate([_to_numpy(depth).astype(np.float64).ravel() for depth in depths])
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise ValueError("depth range: expected at least one finite depth, found none")
    values = values[values > 0] if (values > 0).any() else values
    near, far = (float(value) for value in np.percentile(values, (1.0, 99.0)))
    return near, far if far > near else near + 1e-6 + 1e-6 * abs(near)


def colorize_depth(depth: ImageLike, near: Optional[float] = None, far: Optional[float] = None) -> np.ndarray:
    """Depth in colour, from blue (near) to red (far), as nerfstudio's viewer shows it.

    Args:
        depth: (H, W, 1) or (H, W), any unit; pixels that are not finite are painted grey.
        near: depth of the first colour; None: the smallest of this image.
        far: depth of the last colour; None: the largest of this image.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: another shape.
    """
    import mediapy

    values = _plane(depth, "depth image")
    finite = np.isfinite(values)
    if not finite.any():
        return np.full((*values.shape, 3), INVALID, dtype=np.uint8)
    near = float(values[finite].min()) if near is None else near
    far = float(values[finite].max()) if far is None else far
    colours = mediapy.to_rgb(np.where(finite, values, near), vmin=near, vmax=far, cmap="turbo")
    picture = to_uint8(np.asarray(colours)[..., :3])
    picture[~finite] = INVALID
    return picture


def hatch(picture: np.ndarray, where: np.ndarray, period: int = 8) -> np.ndarray:
    """A picture with diagonal stripes where nothing is known.

    Args:
        picture: (H, W, 3) uint8.
        where: (H, W) bool.
        period: pixels from stripe to stripe.

    Returns:
        A copy.
    """
    row, column = np.indices(where.shape)
    hatched = picture.copy()
    hatched[where] = INVALID
    hatched[where & ((row + column) % period < period // 4)] = STRIPE
    return hatched


def colorize_error(pred: ImageLike, truth: ImageLike) -> np.ndarray:
    """Absolute difference of two images, averaged over the channels, from black (none) to bright (0.5 and above).

    Args:
        pred: predicted image (H, W, 3) in [0, 1].
        truth: true image (H, W, 3) in [0, 1].

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the shapes differ.
    """
    import mediapy

    first, second = (to_uint8(image).astype(np.float64) / 255.0 for image in (pred, truth))
    if first.shape != second.shape:
        raise ValueError(f"error picture: expected two images of one shape, got {first.shape} and {second.shape}")
    error = np.abs(first - second).mean(axis=-1)
    return to_uint8(np.asarray(mediapy.to_rgb(error, vmin=0.0, vmax=0.5, cmap="magma"))[..., :3])


def side_by_side(images: Sequence[ImageLike], gap: int = 4) -> np.ndarray:
    """Images in a row on white, all scaled to the height of the first; the size is even, as video encoders want it.

    Args:
        images: at least one, of any sizes.
        gap: white pixels between neighbours.

    Returns:
        (H, W, 3) uint8 with even H and W.

    Raises:
        ValueError: no image.
    """
    if not images:
        raise ValueError("side by side: expected at least one image, got none")
    pictures = [Image.fromarray(to_uint8(image)) for image in images]
    height = pictures[0].height
    pictures = [_resized(picture, max(1, round(picture.width * height / picture.height))) for picture in pictures]
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    canvas = Image.new("RGB", (width + width % 2, height + height % 2), PAPER)
    left = 0
    for picture in pictures:
        canvas.paste(picture, (left, 0))
        left += picture.width + gap
    return np.array(canvas)


def contact_sheet(
    rows: Sequence[Sequence[LabelledImage]],
    title: str = "",
    row_titles: Optional[Sequence[str]] = None,
    cell_width: int = 260,
    gap: int = 12,
) -> np.ndarray:
    """A sheet of captioned images on white paper; rows may have different lengths.

    Args:
        rows: the cells, row by row; every image is scaled to `cell_width`.
        title: heading of the sheet; empty: none.
        row_titles: heading above each row; None: none.
        cell_width: width of every image on the sheet in pixels.
        gap: pixels between cells and around the sheet.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: there is no cell, or the number of row titles does not match.
    """
    if not any(len(row) for row in rows):
        raise ValueError("contact sheet: expected at least one image, got none")
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(f"contact sheet: expected {len(rows)} row titles, got {len(row_titles)}")
    caption_font, row_font, title_font = (_font(round(_FONT_SIZE * factor)) for factor in (1.0, 1.2, 1.6))
    inner_width = max(len(row) for row in rows) * (cell_width + gap) - gap

    blocks: List[Image.Image] = []
    if title:
        blocks.append(_text_block(title, title_font, inner_width))
    for index, row in enumerate(rows):
        if row_titles is not None and row_titles[index]:
            blocks.append(_text_block(row_titles[index], row_font, inner_width))
        if row:
            blocks.append(_row_block(row, caption_font, inner_width, cell_width, gap))

    height = sum(block.height for block in blocks) + gap * (len(blocks) + 1)
    sheet = Image.new("RGB", (inner_width + 2 * gap, height), PAPER)
    top = gap
    for block in blocks:
        sheet.paste(block, (gap, top))
        top += block.height + gap
    return np.array(sheet)


def save_png(image: ImageLike, path: Path) -> None:
    """Writes an image as PNG, whole or not at all; the folder is made.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W); floats in [0, 1] or uint8.
        path: file to write.
    """
    with replacing(path) as partial:
        Image.fromarray(to_uint8(image)).save(partial, format="PNG")


def _row_block(
    row: Sequence[LabelledImage], font: ImageFont.ImageFont, width: int, cell_width: int, gap: int
) -> Image.Image:
    """The images of one row with their captions below."""
    pictures = [_resized(Image.fromarray(to_uint8(cell.image)), cell_width) for cell in row]
    captions = [_text_block(cell.caption, font, cell_width) if cell.caption else None for cell in row]
    picture_height = max(picture.height for picture in pictures)
    caption_height = max((caption.height for caption in captions if caption is not None), default=0)
    block = Image.new("RGB", (width, picture_height + caption_height), PAPER)
    for column, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = column * (cell_width + gap)
        block.paste(picture, (left, 0))
        if caption is not None:
            block.paste(caption, (left, picture_height))
    return block


def _text_block(text: str, font: ImageFont.ImageFont, width: int) -> Image.Image:
    """Text wrapped to a width, dark on white."""
    wrapped = "\n".join(_wrapped(text, font, width))
    left, top, right, bottom = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), wrapped, font=font)
    block = Image.new("RGB", (width, int(bottom) + 5), PAPER)
    ImageDraw.Draw(block).multiline_text((0, 2), wrapped, font=font, fill=INK)
    return block


def _wrapped(text: str, font: ImageFont.ImageFont, width: int) -> List[str]:
    """Lines of at most `width` pixels, broken at blanks; a word that is wider stays whole."""
    lines: List[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines


def _font(size: int) -> ImageFont.ImageFont:
    # Pillow's own font: no font has to be installed on the machine.
    return ImageFont.load_default(size)  # type: ignore[return-value]


def _resized(picture: Image.Image, width: int) -> Image.Image:
    if picture.width == width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _plane(image: ImageLike, name: str) -> np.ndarray:
    """(H, W) float64 of an image with one channel."""
    array = _to_numpy(image).astype(np.float64)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2:
        raise ValueError(f"{name}: expected shape (height, width) or (height, width, 1), got {tuple(array.shape)}")
    return array


def _to_numpy(image: ImageLike) -> np.ndarray:
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        return (image.float() if image.is_floating_point() else image).numpy()
    return np.asarray(image)
