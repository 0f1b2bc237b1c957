"""What the repository holds of the reference vectors, and that comparisons with them can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import test_depth_mipnerf
import test_dietnerf
import test_idnerf
import test_pixelnerf
import torch
from golden_arrays import DTYPES, LEFT_OUT, SHIPPED, GoldenFile, uncompared

FILES = sorted(path.relative_to(SHIPPED).as_posix() for path in SHIPPED.glob("*/*.npz"))
LARGEST = 1_000_000
"""Bytes."""


def sections() -> dict[str, str]:
    """Title -> text of the second-level sections of README.md."""
    parts = (SHIPPED / "README.md").read_text("utf8").split("\n## ")[1:]
    return dict(part.split("\n", 1) for part in parts)


def test_what_the_readme_lists_is_what_there_is():
    listed = []
    for line in sections()["Shipped"].splitlines():
        if line.startswith("| `"):
            folder, names = (cell.strip() for cell in line.strip("|").split("|"))
            listed += [f"{folder.strip('`')}{name.strip()}.npz" for name in names.split(",")]
    assert sorted(listed) == FILES


def test_what_the_readme_leaves_out_is_what_tests_may_miss():
    rows = [line for line in sections()["Left out"].splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == sorted(LEFT_OUT)
    assert not set(LEFT_OUT) & set(FILES)


@pytest.mark.parametrize("folder", sorted({Path(name).parent.name for name in FILES}))
def test_folders_are_described_and_small(folder):
    assert (SHIPPED / folder / "README.md").is_file()
    assert all(path.stat().st_size < LARGEST for path in (SHIPPED / folder).iterdir())


@pytest.mark.parametrize("name", FILES)
def test_files_are_those_of_the_whole_folder(goldens_dir, name):
    """Without the whole folder at hand, that they are whole themselves."""
    assert (SHIPPED / name).read_bytes() == (goldens_dir / name).read_bytes()
    with np.load(SHIPPED / name, allow_pickle=False) as archive:
        assert archive.files and all(archive[array].dtype != object for array in archive.files)


def test_only_listed_files_may_be_missing(tmp_path):
    with pytest.raises(pytest.skip.Exception, match="sparsenerf/model_forward_full.npz is not among the shipped"):
        GoldenFile.load(SHIPPED / "sparsenerf" / "model_forward_full.npz")
    for path in (SHIPPED / "sparsenerf" / "other.npz", tmp_path / "sparsenerf" / "model_forward_full.npz"):
        with pytest.raises(FileNotFoundError, match="expected a file of reference vectors, found none"):
            GoldenFile.load(path)


def test_arrays_and_files_that_nobody_read_are_named(tmp_path):
    for name in ("first", "second"):
        np.savez(tmp_path / f"{name}.npz", a=1, b=2)
    golden = GoldenFile.load(tmp_path / "first.npz")
    assert golden["a"] == 1
    assert uncompared(tmp_path, {tmp_path / "first.npz": golden}) == ["first.npz: b", "second.npz"]
    assert golden["b"] == 2
    assert uncompared(tmp_path, {tmp_path / "first.npz": golden}) == ["second.npz"]


def off_by(factor: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A wrong formula: what the right one gives, a tensor or several, times a factor."""

    def wrong(right: Callable[..., Any]) -> Callable[..., Any]:
        def found(*args: Any, **kwargs: Any) -> Any:
            value = right(*args, **kwargs)
            if isinstance(value, torch.Tensor):
                return value * factor
            return type(value)(*(each * factor for each in value))

        return found

    return wrong


FORMULAS = [
    (test_depth_mipnerf, "test_distortion", (), "distortion_per_ray", 1.0001),
    (test_depth_mipnerf, "test_cdf_bounds", (), "cdf_bound_losses", 1.0001),
    (test_depth_mipnerf, "test_open_bounds", (), "open_bound_loss", 1.0001),
    (test_depth_mipnerf, "test_proposal_loss", ("a", ""), "interlevel_loss", 1.0001),
    (test_depth_mipnerf, "test_resampling", (), "resample_fenceposts", 1.0001),
    (test_depth_mipnerf, "test_compositing", (), "compositing_weights", 1.0001),
    (test_depth_mipnerf, "test_total_loss", (), "charbonnier_loss", 1.0001),
    (test_depth_mipnerf, "test_model", ("small",), "distortion_per_ray", 1.1),
    (test_dietnerf, "test_networks", None, "positional_encoding", 1.001),
    (test_dietnerf, "test_compositing", None, "point_weights", 1.001),
    (test_dietnerf, "test_inverse_density", None, "invert_density", 1.001),
    (test_idnerf, "test_compositing", None, "sample_weights", 1.001),
    (test_pixelnerf, "test_compositing", None, "bounded_point_weights", 1.001),
    (test_pixelnerf, "test_samples", None, "points_in_bins", 1.001),
]
"""Module, test, its arguments before the precision (None: it has none), function that it compares, factor on that."""


@pytest.mark.goldens
@pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])
@pytest.mark.parametrize("formula", FORMULAS, ids=[f"{case[1][5:]}-{case[3]}" for case in FORMULAS])
def test_a_wrong_factor_fails(goldens_dir, monkeypatch, formula, dtype):
    """Whatever the tolerance, the comparisons of a method notice a formula that is off."""
    module, name, given, function, factor = formula

    def arrays(file: str) -> GoldenFile:
        return GoldenFile.load(goldens_dir / module.__name__.removeprefix("test_") / f"{file}.npz")

    arguments = () if given is None else (*given, dtype)
    if name == "test_compositing" and module is test_idnerf:
        arguments = ("plain",)
    getattr(module, name)(arrays, *arguments)
    monkeypatch.setattr(module, function, off_by(factor)(getattr(module, function)))
    with pytest.raises(AssertionError):
        getattr(module, name)(arrays, *arguments)
