"""Checkpoints: plain, atomic, strict."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fewshot_ns.utils import checkpoints
from fewshot_ns.utils.checkpoints import (
    CheckpointMismatchError,
    DamagedCheckpointError,
    check_state,
    find_checkpoint,
    load_checkpoint,
    load_strictly,
    save_checkpoint,
    to_plain,
)


def small_model(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1))


def test_numpy_values_become_plain_and_load_weights_only(tmp_path):
    state = {
        "step": np.int64(7),
        "pipeline": {"weight": torch.arange(3.0)},
        "groups": [{"lr": np.float64(0.25), "betas": (np.float32(0.5), 0.999)}],
        "array": np.arange(4, dtype=np.float32),
    }
    path = tmp_path / "models" / "step-000000007.ckpt"
    save_checkpoint(path, state, staging_dir=tmp_path)

    loaded = torch.load(path, weights_only=True)

    assert loaded["step"] == 7 and type(loaded["step"]) is int
    assert loaded["groups"][0]["lr"] == 0.25 and loaded["groups"][0]["betas"] == (0.5, 0.999)
    assert torch.equal(loaded["array"], torch.arange(4, dtype=torch.float32))
    assert load_checkpoint(path)["pipeline"]["weight"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"), reason="installed torch is older than 2.5")
def test_learning_rates_of_nerfstudios_own_methods_are_read(tmp_path):
    # nerfstudio saves by torch.save alone, and its exponential decay computes in numpy.
    path, state = tmp_path / "step-000000007.ckpt", {"step": 7, "pipeline": {"weight": torch.arange(3.0)}}
    torch.save({**state, "schedulers": {"fields": {"_last_lr": [np.float64(0.25)]}}}, path)

    assert load_checkpoint(path)["schedulers"] == {"fields": {"_last_lr": [0.25]}}
    torch.save({**state, "schedulers": Path("other")}, path)
    with pytest.raises(DamagedCheckpointError):
        load_checkpoint(path)


def test_to_plain_keeps_tensors_themselves():
    tensor = torch.ones(2)
    assert to_plain({"a": [tensor]})["a"][0] is tensor


def test_interrupted_save_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    models = tmp_path / "models"
    path = models / "step-000000001.ckpt"
    save_checkpoint(path, {"step": 1, "pipeline": {}}, staging_dir=tmp_path)
    before = path.read_bytes()

    def write_half(state, target):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints.torch, "save", write_half)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, {"step": 2, "pipeline": {}}, staging_dir=tmp_path)

    assert path.read_bytes() == before
    assert os.listdir(models) == [path.name]
    assert os.listdir(tmp_path) == ["models"]


def test_temporary_file_is_never_among_the_checkpoints(tmp_path, monkeypatch):
    models = tmp_path / "models"
    models.mkdir()
    seen = []
    real_save = torch.save

    def watching_save(state, target):
        real_save(state, target)
        seen.append((os.listdir(models), target.parent))

    monkeypatch.setattr(checkpoints.torch, "save", watching_save)
    save_checkpoint(models / "step-000000003.ckpt", {"step": 3, "pipeline": {}}, staging_dir=tmp_path)

    assert seen == [([], tmp_path)]
    assert os.listdir(models) == ["step-000000003.ckpt"]


def test_load_strictly_accepts_what_fits():
    source, target = small_model(), small_model()
    load_strictly(target, source.state_dict(), "here.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_load_strictly_accepts_ddp_names():
    source, target = small_model(), small_model()
    load_strictly(target, {f"module.{key}": value for key, value in source.state_dict().items()}, "here.ckpt")
    assert torch.equal(source.state_dict()["0.weight"], target.state_dict()["0.weight"])


def test_mismatch_lists_missing_unexpected_and_misshaped_in_one_message():
    target = small_model(width=3)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    state = dict(small_model(width=4).state_dict())
    state["old.bias"] = state.pop("2.bias")

    with pytest.raises(CheckpointMismatchError) as caught:
        load_strictly(target, state, "runs/a/step-000000009.ckpt")

    message = str(caught.value)
    assert "runs/a/step-000000009.ckpt" in message
    assert "missing (1):\n    2.bias" in message
    assert "unexpected (1):\n    old.bias" in message
    assert "of another shape (3):" in message
    assert "0.weight: expected (3, 2), found (4, 2)" in message
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


def test_long_listings_are_cut_and_counted():
    state = {f"extra.{index}": torch.zeros(1) for index in range(50)}
    with pytest.raises(CheckpointMismatchError, match=r"unexpected \(50\)(.|\n)*and 30 more"):
        check_state(nn.Module(), state, "x")


def test_a_wrong_byte_in_the_directory_never_gives_other_weights(tmp_path):
    """Nor an error that would keep the checkpoint before it from being tried."""
    path = tmp_path / "step-000000003.ckpt"
    save_checkpoint(path, {"step": 3, "pipeline": {"weight": torch.arange(5.0)}}, staging_dir=tmp_path)
    content = path.read_bytes()
    refused = 0
    for place in range(content.index(b"PK\x01\x02"), len(content)):
        for bits in (0x01, 0x10, 0xFF):
            path.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])
            try:
                state = load_checkpoint(path)
            except DamagedCheckpointError as error:
                assert str(error).startswith(str(path))
                refused += 1
            else:
                assert state["step"] == 3 and torch.equal(state["pipeline"]["weight"], torch.arange(5.0))
    assert refused > 500


def test_find_checkpoint(tmp_path):
    for step in (9, 100, 20):
        (tmp_path / f"step-{step:09d}.ckpt").touch()
    (tmp_path / "step-notes.ckpt").touch()
    assert find_checkpoint(tmp_path).name == "step-000000100.ckpt"
    assert find_checkpoint(tmp_path, 20).name == "step-000000020.ckpt"
    with pytest.raises(FileNotFoundError, match=r"step 21, found steps \[9, 20, 100\]"):
        find_checkpoint(tmp_path, 21)


def test_missing_checkpoints_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_checkpoint(tmp_path / "absent")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"found \['notes.txt'\]"):
        find_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="found none"):
        load_checkpoint(tmp_path / "step-000000001.ckpt")


def test_other_files_are_not_taken_for_checkpoints(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"expected a checkpoint with the entries.*found \['weight'\]"):
        load_checkpoint(tmp_path / "weights.pt")
