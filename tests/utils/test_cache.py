"""Entries of a cache: whole, or as if they were not there."""

import numpy as np
import pytest

from fewshot_ns.utils.cache import read_npz, write_npz

VALUES = np.random.default_rng(0).random((40, 50))


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_written_is_read(tmp_path, compressed):
    path = tmp_path / "below" / "entry.npz"
    write_npz(path, {"values": VALUES, "key": "a name"}, compressed)
    found = read_npz(path, "values", "key")
    assert found is not None and np.array_equal(found["values"], VALUES) and str(found["key"]) == "a name"
    assert read_npz(path, "values", "another") is None
    assert [file.name for file in path.parent.iterdir()] == ["entry.npz"]


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_anywhere_is_absence(tmp_path, compressed):
    path = tmp_path / "entry.npz"
    assert read_npz(path, "values") is None
    write_npz(path, {"values": VALUES}, compressed)
    content = path.read_bytes()
    for keep in (0, 5, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        assert read_npz(path, "values") is None
    for place in range(200, len(content) - 200, len(content) // 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        assert read_npz(path, "values") is None
    path.write_bytes(b"nonsense")
    assert read_npz(path, "values") is None
