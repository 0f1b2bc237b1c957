"""Which pixels each projected Gaussian covers, exactly: no tiles, hence nothing is evaluated in vain."""

from __future__ import annotations

import math
from typing import Iterator, NamedTuple

import torch
from torch import Tensor

LEAST_ALPHA = 1.0 / 255.0
"""Opacity below which a Gaussian does not count at a pixel, as in gsplat and the original."""
_ROUNDING = 1e-3
"""Pixels by which spans are widened, so that rounding never takes a pixel away that counts."""


class Footprints(NamedTuple):
    """N projected Gaussians, from near to far."""

    means: Tensor
    """(N, 2) column, row, pixels; the centre of the first pixel is (.5, .5)."""
    conics: Tensor
    """(N, 3) inverse covariance: xx, xy, yy."""
    opacities: Tensor
    """(N,) at their centres."""
    radii: Tensor
    """(N,) int, three standard deviations along the longer axis, pixels, or (N, 2) along x and y, as of gsplat since
    1.5; where they do not reach into a tile, the Gaussian does not count in it."""


class Rows(NamedTuple):
    """Pieces of footprints: the pixels of one Gaussian in one row of the image, ordered by Gaussian."""

    gaussian: Tensor
    """(L,) int32."""
    row: Tensor
    """(L,) int32."""
    start: Tensor
    """(L,) int32, first column."""
    count: Tensor
    """(L,) int32, columns, at least one."""


class Fragments(NamedTuple):
    """M pairs of Gaussian and pixel, ordered by Gaussian."""

    gaussian: Tensor
    """(M,) int32."""
    pixel: Tensor
    """(M,) int32, row times width plus column."""
    piece: Tensor
    """(M,) int32, row of `Rows`."""


def rows_of(footprints: Footprints, width: int, height: int, tile_size: int) -> Rows:
    """The rows that footprints cover, and from where to where.

    A Gaussian counts where its opacity is at least `LEAST_ALPHA`: inside of an ellipse, whose chords these are.

    Args:
        footprints: of N Gaussians.
        width: of the image, pixels.
        height: of the image, pixels.
        tile_size: side of the tiles in which Gaussians count whole or not at all, pixels.
    """
    mean_x, mean_y = footprints.means.unbind(-1)
    xx, xy, yy = footprints.conics.unbind(-1)
    # Square of the distance, in standard deviations, at which the opacity falls to the least that counts.
    reach = 2.0 * (footprints.opacities / LEAST_ALPHA).clamp(min=1e-30).log()
    half_height = (reach.clamp(min=0.0) * xx / (xx * yy - xy * xy)).sqrt()
    radii = footprints.radii.unbind(-1) if footprints.radii.dim() == 2 else (footprints.radii, footprints.radii)
    sides = zip((mean_x, mean_y), radii, (width, height), strict=True)
    limits = [_tiles(mean, radius, side, tile_size) for mean, radius, side in sides]
    (least_x, most_x), (least_y, most_y) = limits
    top = torch.maximum((mean_y - half_height - 0.5 - _ROUNDING).ceil().int(), least_y)
    bottom = torch.minimum((mean_y + half_height - 0.5 + _ROUNDING).floor().int(), most_y)
    count = (bottom - top + 1).clamp(min=0)
    count = torch.where((reach >= 0) & (radii[0] > 0) & (radii[1] > 0), count, torch.zeros_like(count))
    gaussian = _repeat(count)
    row = _running(count, gaussian) + top.index_select(0, gaussian)

    def of(values: Tensor) -> Tensor:
        return values.index_select(0, gaussian)

    down = row + 0.5 - of(mean_y)
    middle = -of(xy / xx) * down
    # The chord of the ellipse xx x^2 + 2 xy x y + yy y^2 = reach.
    half_width = (of(reach / xx) - of((xx * yy - xy * xy) / (xx * xx)) * down * down).clamp(min=0.0).sqrt()
    centre = of(mean_x) + middle - 0.5
    start = torch.maximum((centre - half_width - _ROUNDING).ceil().int(), of(least_x))
    end = torch.minimum((centre + half_width + _ROUNDING).floor().int(), of(most_x))
    kept = (end >= start).nonzero()[:, 0]
    return Rows(gaussian[kept], row[kept], start[kept], (end - start + 1)[kept])


def _tiles(mean: Tensor, radius: Tensor, side: int, tile_size: int) -> tuple[Tensor, Tensor]:
    """(N,) int32 each, first and last pixel of the tiles within a radius, as gsplat finds them."""
    # Beyond the range of int32 Gaussians that lie far outside would come back in.
    first = ((mean - radius) / tile_size).floor().clamp(0, math.ceil(side / tile_size)).int() * tile_size
    behind = ((mean + radius) / tile_size).ceil().clamp(0, math.ceil(side / tile_size)).int() * tile_size
    return first, behind.clamp(max=side) - 1


def bands(rows: Rows, height: int, most: int) -> Iterator[Rows]:
    """The same rows by bands of the image that hold few fragments, so that memory stays bounded.

    Args:
        rows: of the whole image.
        height: of the image, pixels.
        most: fragments of a band, unless one row of the image has more.
    """
    if int(rows.count.sum()) <= most:
        yield rows
        return
    per_row = torch.zeros(height, dtype=torch.long, device=rows.row.device)
    per_row.index_add_(0, rows.row.long(), rows.count.long())
    first, held = 0, 0
    for row, count in enumerate(per_row.tolist()):
        if held > 0 and held + count > most:
            yield _band(rows, first, row)
            first, held = row, 0
        held += count
    yield _band(rows, first, height)


def _band(rows: Rows, first: int, behind: int) -> Rows:
    kept = ((rows.row >= first) & (rows.row < behind)).nonzero()[:, 0]
    return Rows(*(values[kept] for values in rows))


def fragments_of(rows: Rows, width: int) -> Fragments:
    """Every pixel of every row."""
    piece = _repeat(rows.count)
    first = rows.row * width + rows.start
    pixel = _running(rows.count, piece) + first.index_select(0, piece)
    return Fragments(rows.gaussian.index_select(0, piece), pixel, piece)


def _repeat(counts: Tensor) -> Tensor:
    """(sum of counts,) int32: each index as often as its count says."""
    index = torch.arange(len(counts), dtype=torch.int32, device=counts.device)
    return torch.repeat_interleave(index, counts.long())


def _running(counts: Tensor, index: Tensor) -> Tensor:
    """(sum of counts,) int32: 0, 1, ... within each index."""
    before = counts.cumsum(0, dtype=torch.int64) - counts
    return torch.arange(len(index), dtype=torch.int32, device=counts.device) - before.int().index_select(0, index)
