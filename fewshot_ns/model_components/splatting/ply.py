"""Gaussians as a .ply that viewers of splats open: what `ns-export gaussian-splat` writes, without its libraries.

nerfstudio's exporter imports open3d, which wants libraries of a desktop that a bare server does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional

import numpy as np
from torch import Tensor

from fewshot_ns.utils.files import replacing

FAINTEST = -5.5373
"""Logit of the opacity 1 / 255, below which nothing draws a Gaussian."""
_FORMAT = "binary_little_endian 1.0"
_LONGEST_HEADER = 1 << 14


@dataclass(frozen=True)
class SplatFile:
    """A .ply of Gaussians."""

    path: Path
    """The file."""
    count: int
    """Gaussians in it."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size


def splat_table(gaussians: Mapping[str, Tensor]) -> np.ndarray:
    """The rows of the file: the Gaussians that are finite and not too faint to be drawn.

    Args:
        gaussians: as `initial_gaussians` returns them.

    Returns:
        (N,) structured float32, by the names of the original (Kerbl et al. 2023): `x`, `y`, `z` in the world, `nx`,
        `ny`, `nz` 0, `f_dc_i` and `f_rest_i` harmonics, channel by channel, `opacity` logit, `scale_i` logarithms,
        `rot_i` quaternion, w first.
    """
    found = {name: values.detach().float().cpu() for name, values in gaussians.items()}
    means, rest = found["means"], found["features_rest"]
    parts = {
        ("x", "y", "z"): means,
        ("nx", "ny", "nz"): means.new_zeros(means.shape),
        _numbered("f_dc", 3): found["features_dc"],
        _numbered("f_rest", 3 * rest.shape[1]): rest.transpose(1, 2).flatten(1),
        ("opacity",): found["opacities"],
        _numbered("scale", 3): found["scales"],
        _numbered("rot", 4): found["quats"],
    }
    columns = np.concatenate([part.numpy() for part in parts.values()], axis=1)
    kept = np.isfinite(columns).all(axis=1) & (found["opacities"][:, 0].numpy() >= FAINTEST)
    names = [name for group in parts for name in group]
    return np.ascontiguousarray(columns[kept], dtype="<f4").view([(name, "<f4") for name in names])[:, 0]


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{number}" for number in range(count))


def write_splats(gaussians: Mapping[str, Tensor], path: Path, key: str) -> SplatFile:
    """Writes the file, whole or not at all; its folder is made.

    Args:
        gaussians: as `splat_table` takes them.
        path: file to write.
        key: of what decides the Gaussians, one word; a comment of the file.

    Raises:
        ValueError: there is nothing to write.
    """
    table = splat_table(gaussians)
    if not len(table):
        raise ValueError(f"{path}: expected Gaussians that can be seen, found none; train longer")
    properties = [f"property float {name}" for name in table.dtype.names or ()]
    header = ["ply", f"format {_FORMAT}", _comment(key), f"element vertex {len(table)}", *properties, "end_header", ""]
    with replacing(path) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + table.tobytes())
    return SplatFile(path, len(table))


def find_splats(path: Path, key: str) -> Optional[SplatFile]:
    """What `write_splats` has written for a key; None where it has not, or the file is damaged."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        header, end, _ = stream.read(_LONGEST_HEADER).partition(b"end_header\n")
    lines = header.decode("ascii", "replace").splitlines()
    counts = [line.split()[-1] for line in lines if line.startswith("element vertex ")]
    if not end or _comment(key) not in lines or len(counts) != 1 or not counts[0].isdecimal():
        return None
    row = 4 * sum(line.startswith("property float ") for line in lines)
    found = SplatFile(path, int(counts[0]))
    return found if found.size == len(header) + len(end) + found.count * row else None


def _comment(key: str) -> str:
    return f"comment fewshot_ns, of {key}"
