"""Writing coloured points as PLY, which nerfstudio's parsers read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot_ns.utils.files import write_text


def write_ply(path: Path, points: npt.NDArray[np.floating], colours: npt.NDArray[np.uint8]) -> None:
    """Writes points (P, 3) with colours (P, 3) red, green, blue as ASCII PLY, atomically."""
    header = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    rows = [
        " ".join(f"{value:.8g}" for value in point) + " " + " ".join(str(int(value)) for value in colour)
        for point, colour in zip(points, colours, strict=True)
    ]
    write_text(path, "\n".join([*header, "end_header", *rows]) + "\n")
