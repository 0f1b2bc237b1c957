"""Reference arrays, their tolerances, and a record of which of them were compared."""

from __future__ import annotations

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
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])


class GoldenFile(Dict[str, np.ndarray]):
    """Arrays of one file; `used` holds the names of those that were asked for by name."""

    used: Set[str]

    @classmethod
    def load(cls, path: Path) -> GoldenFile:
        """Reads a file, or skips the test where it is absent."""
        if not path.is_file():
            pytest.skip(f"{path} is absent")
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


def expect_all_used(golden: GoldenFile, request: pytest.FixtureRequest) -> None:
    """Every array of the file was asked for by some test; has to come last in its file of tests.

    Where only some of that file's tests run it has nothing to say, and skips.
    """
    run = {item.originalname for item in request.session.items if item.path == request.path}  # type: ignore[attr-defined]
    if not {test for test in vars(request.module) if test.startswith("test_")} <= run:
        pytest.skip("not all tests of this file were asked for")
    assert set(golden) - golden.used == set()


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
