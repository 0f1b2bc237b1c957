"""Reference arrays, their tolerances, and a record of which of them were compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Set

import numpy as np
import pytest
import torch

POSE_TOLERANCE = 2e-5
DTYPES = [torch.float64, torch.float32]
TOLERANCE: Dict[torch.dtype, Dict[str, Any]] = {
    torch.float64: dict(rtol=1e-9, atol=1e-12),
    torch.float32: dict(rtol=1e-5, atol=1e-6),
}
"""Tolerances of the reference vectors' README for values of order one."""
SHIPPED = Path(__file__).resolve().parent / "vectors"
"""The vectors that lie in the repository: the reference folder but for what is listed next."""
LEFT_OUT = (
    "depth_mipnerf/model_forward_full.npz",
    "itermvs/fern_b1_v3_96x128.npz",
    "itermvs/filter_fern.npz",
    "itermvs/lego_b1_v2_64x64.npz",
    "itermvs/synth_b1_v3_64x96.npz",
    "pixelnerf/full_model.npz",
    "sparsenerf/model_forward_full.npz",
)
"""Files of the reference folder that the repository does not hold; its README.md says why."""
GOLDENS_ENV = "FEWSHOT_GOLDENS"
"""Environment variable that names the folder of reference vectors."""
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])


def reference_folder() -> Path:
    """The folder that FEWSHOT_GOLDENS names, else ../shared/goldens where there is one, else the shipped one."""
    given = os.environ.get(GOLDENS_ENV)
    if given is not None:
        return Path(given)
    beside = SHIPPED.parents[2].parent / "shared" / "goldens"
    return beside if beside.is_dir() else SHIPPED


class GoldenFile(Dict[str, np.ndarray]):
    """Arrays of one file; `used` holds the names of those that were asked for by name."""

    used: Set[str]

    @classmethod
    def load(cls, path: Path) -> GoldenFile:
        """Reads a file; skips the test where it is one of those that are left out of the shipped vectors.

        Raises:
            FileNotFoundError: the file is absent all the same.
        """
        name = f"{path.parent.name}/{path.name}"
        if not path.is_file():
            if path.is_relative_to(SHIPPED) and name in LEFT_OUT:
                pytest.skip(f"{name} is not among the shipped vectors; set FEWSHOT_GOLDENS to the whole folder")
            raise FileNotFoundError(f"{path}: expected a file of reference vectors, found none")
        with np.load(path, allow_pickle=False) as archive:
            golden = cls(archive)
        golden.used = set()
        return golden

    def __getitem__(self, name: str) -> np.ndarray:
        self.used.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:  # type: ignore[override]
        return self[name] if name in self else default

    def part(self, prefix: str) -> Dict[str, np.ndarray]:
        """The arrays whose names begin with a prefix, by the rest of their names."""
        return {name[len(prefix) :]: self[name] for name in self if name.startswith(prefix)}


def uncompared(folder: Path, asked_for: Dict[Path, GoldenFile]) -> List[str]:
    """What no test asked for, of all files of a folder: 'file.npz' or 'file.npz: array'.

    Args:
        folder: files of one method.
        asked_for: the files that tests have read, by path.
    """
    missed = []
    for path in sorted(folder.glob("*.npz")):
        if path not in asked_for:
            missed.append(path.name)
        else:
            missed += [f"{path.name}: {name}" for name in sorted(set(asked_for[path]) - asked_for[path].used)]
    return missed


def tensors(golden: GoldenFile, dtype: torch.dtype, *names: str) -> List[torch.Tensor]:
    """Arrays as tensors of a dtype."""
    return [torch.from_numpy(golden[name]).to(dtype) for name in names]


def stored(golden: GoldenFile, name: str, dtype: torch.dtype) -> np.ndarray:
    """The array evaluated in the precision of `dtype`."""
    return golden[f"{name}_f64" if dtype == torch.float64 else name]


def expect(golden: GoldenFile, name: str, value: torch.Tensor) -> None:
    """Compares with the array evaluated in the precision of the value."""
    expected = stored(golden, name, value.dtype)
    np.testing.assert_allclose(value.detach().numpy(), expected, **TOLERANCE[value.dtype], err_msg=name)


def network(error: Any) -> Dict[str, Any]:
    """Tolerance of the reference vectors' README for whole networks, from float32's own error."""
    return dict(rtol=1e-4, atol=max(1e-5, 10.0 * float(np.max(error))))


def expect_close(value: Any, expected: Any, **tolerance: Any) -> None:
    """Compares shapes and numbers of a tensor or an array with a reference."""
    value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value, expected, **tolerance)
