"""What the repository holds of the reference vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_arrays import LEFT_OUT, SHIPPED, GoldenFile, uncompared

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
