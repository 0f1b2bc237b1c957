"""Reference arrays, their tolerances, and a record of which of them were compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Set

import numpy as np
import pytest
import torch

POSE_TOLERANCE = 2e-5
DTYPES = [torch.float64, torch.float32]
TOLERANCE: Dict[torch.dtype, Dict[str, Any]] = {
    torch.float64: dict(rtol=1e-9, atol=1e-12),
    torch.float32: dict(rtol=1e-5, atol=1e-6),
}
"""Tolerances of the reference vectors' README for values of order one: the least that an array gets."""
NOISE = 8.0
"""How many times the reference's own float32 error the product may be off."""
NUDGED = 2.0
"""How many times the change by `nudged` inputs a figure may be off."""
_SINGLE, _DOUBLE = (float(torch.finfo(dtype).eps) for dtype in (torch.float32, torch.float64))
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


def spread(golden: GoldenFile, name: str, scale: Any = 1.0) -> float:
    """The reference's own error in float32: the largest difference of the two stored precisions of an array.

    Args:
        golden: file with the arrays NAME and NAME_f64.
        name: of the array; 0 where only one precision is stored.
        scale: by how much the rounding of each entry is magnified, which broadcasts against the array; the spread is
            then that of entries of scale 1, and `limits` times the scale what each may be off.
    """
    if name not in golden or f"{name}_f64" not in golden:
        return 0.0
    error = np.abs(golden[name].astype(np.float64) - golden[f"{name}_f64"]) / scale
    return float(np.max(error[np.isfinite(error)], initial=0.0))


def limits(
    noise: float, dtype: torch.dtype, base: Optional[Mapping[str, float]] = None, times: float = NOISE
) -> Dict[str, Any]:
    """Relative and absolute tolerance of a comparison in a precision.

    Args:
        noise: error of float32 in the quantity, of `spread` or `noise_of`; float64's is less by their ratio of eps.
        dtype: the coarser precision of the two that are compared.
        base: what is allowed without any noise; None: `TOLERANCE`.
        times: how many times the noise is allowed.
    """
    least = TOLERANCE[dtype] if base is None else base
    own = noise if dtype == torch.float32 else noise * _DOUBLE / _SINGLE
    return {"rtol": least["rtol"], "atol": max(least["atol"], times * own)}


def expect(golden: GoldenFile, name: str, value: torch.Tensor, base: Optional[Mapping[str, float]] = None) -> None:
    """Compares with the array evaluated in the precision of the value, by the spread of its two precisions."""
    expected = stored(golden, name, value.dtype)
    within = limits(spread(golden, name), value.dtype, base)
    np.testing.assert_allclose(value.detach().numpy(), expected, err_msg=name, **within)


def expect_both(
    golden: GoldenFile,
    name: str,
    value: torch.Tensor,
    scale: Any = 1.0,
    exact: Optional[Mapping[str, float]] = None,
    noise: Optional[float] = None,
) -> None:
    """Compares with both stored precisions of an array, in the precision of the coarser one of each pair.

    Args:
        golden: file with NAME, NAME_f64 or both.
        name: of the array.
        value: in either precision, of the same number of entries.
        scale: as in `spread`.
        exact: tolerance in float64 without noise; None: `TOLERANCE`.
        noise: of entries of scale 1, where only one precision is stored; None: the array's own spread.
    """
    noise = spread(golden, name, scale) if noise is None else noise
    for key in filter(golden.__contains__, (f"{name}_f64", name)):
        double = value.dtype == torch.float64 and key != name
        within = limits(noise, torch.float64, exact) if double else limits(noise, torch.float32)
        expected = golden[key]
        assert value.numel() == expected.size, key
        found = value.detach().numpy().reshape(expected.shape)
        np.testing.assert_allclose(found / scale, expected / scale, err_msg=key, **within)


def nudged(values: Mapping[str, np.ndarray], seed: int) -> Dict[str, np.ndarray]:
    """Float64 copies of arrays, each entry larger or smaller by the relative eps of float32.

    What a result then changes by is the part of float32's error that no way of computing it avoids.
    """
    random = np.random.default_rng(seed)
    signs = {name: random.choice([-1.0, 1.0], np.shape(value)) for name, value in values.items()}
    return {name: np.asarray(value, np.float64) * (1.0 + _SINGLE * signs[name]) for name, value in values.items()}


def noise_of(result: Callable[[Optional[int]], Mapping[str, Any]], draws: int = 4) -> Dict[str, float]:
    """Error of float32 in each of some results, where the reference is stored in one precision: by their conditioning.

    Args:
        result: function (seed) -> results by name, in float64, of inputs `nudged` by that seed; of the inputs
            themselves for None.
        draws: how many seeds; the largest change counts.
    """
    exact = {name: np.asarray(value) for name, value in result(None).items()}
    found = dict.fromkeys(exact, 0.0)
    for seed in range(draws):
        for name, value in result(seed).items():
            found[name] = max(found[name], float(np.abs(np.asarray(value) - exact[name]).max(initial=0.0)))
    return found


def network(error: Any) -> Dict[str, Any]:
    """Tolerance of the reference vectors' README for whole networks, from float32's own error."""
    return dict(rtol=1e-4, atol=max(1e-5, 10.0 * float(np.max(error))))


def expect_close(value: Any, expected: Any, **tolerance: Any) -> None:
    """Compares shapes and numbers of a tensor or an array with a reference."""
    value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value, expected, **tolerance)
