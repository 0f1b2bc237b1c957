"""What a tester found who had not seen how the rest was built."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from camera_scenes import LAYOUTS
from cases_configs import SAVED
from corpus import Action, Case, training_inputs
from json_scenes import COUNT, HEIGHT, WIDTH, write_capture
from PIL import Image


def _checkpoint(name: str, change: Callable[[Dict[str, Any]], object], *says: str, taken: bool = False) -> Case:
    """A checkpoint that opens, and holds other things than a training writes."""

    def prepare(folder: Path) -> Action:
        import torch

        from fewshot_ns.utils.checkpoints import load_checkpoint

        state: Dict[str, Any] = {"step": 2, "pipeline": {"_model.weight": torch.zeros(3)}}
        change(state)
        path = folder / "step-000000002.ckpt"
        torch.save(state, path)
        return lambda: load_checkpoint(path)

    return Case(f"checkpoint-{name}", "checkpoint", prepare, None if taken else ("step-000000002.ckpt", *says))


CHECKPOINTS = [
    _checkpoint("weights-in-a-list", lambda state: state.update(pipeline=[1]), "found pipeline: list"),
    _checkpoint("weights-null", lambda state: state.update(pipeline=None), "found pipeline: NoneType"),
    _checkpoint("weights-of-numbered-names", lambda state: state.update(pipeline={1: 2}), "tensors by name", "found 1"),
    _checkpoint("a-weight-null", lambda state: state["pipeline"].update(bias=None), "found 'bias'", "NoneType"),
    _checkpoint("a-step-in-words", lambda state: state.update(step="two"), "found step: 'two'"),
    _checkpoint("a-step-of-100-bits", lambda state: state.update(step=2**100), "found step"),
    _checkpoint("a-step-before-the-first", lambda state: state.update(step=-1), "found step: -1"),
    _checkpoint("a-true-step", lambda state: state.update(step=True), "found step: True"),
    _checkpoint(
        "of-many-odd-entries",
        lambda state: (state.clear(), state.update(dict.fromkeys([*range(9000), "a", "b"]))),  # type: ignore[arg-type]
        "'step' and 'pipeline'",
    ),
    _checkpoint(
        "with-an-extra-state", lambda state: state["pipeline"].update({"m._extra_state": {"a": 1}}), taken=True
    ),
]


def _set_list(name: str, content: bytes, says: Optional[Tuple[str, ...]]) -> Case:
    """The list of scenes of a set."""

    def prepare(folder: Path) -> Action:
        from fewshot_ns.data.dataparsers.multi.nmr import NMRDataParserConfig

        layout = LAYOUTS["nmr"]
        layout.write(folder, layout.numbers())
        (folder / "chairs" / "softras_train.lst").write_bytes(content)

        def action() -> object:
            parser = NMRDataParserConfig(data=folder).setup()
            return [parser.open_scene(entry) for entry in parser.scene_table("train")]

        return action

    return Case(f"set-list-{name}", "list", prepare, says)


LISTS = [
    _set_list("of-windows-with-a-mark", b"\xef\xbb\xbfone\r\n", None),
    _set_list("in-utf-16", "one\n".encode("utf-16"), ("softras_train.lst", "text")),
    _set_list("without-line-end", b"one", None),
]


def _no_rows(folder: Path) -> Action:
    layout = LAYOUTS["llff"]
    layout.write(folder, layout.numbers())
    np.save(folder / "poses_bounds.npy", np.zeros((0, 17)))
    return training_inputs("llff-data", folder)


def _photos(name: str, suffix: str, says: Optional[Tuple[str, ...]], write: Callable[[Path], object]) -> Case:
    def prepare(folder: Path) -> Action:
        def change(meta: Dict[str, Any]) -> None:
            for key in ("train_filenames", "val_filenames", "test_filenames", "held_out"):
                del meta[key]
            for frame in meta["frames"]:
                frame["file_path"] = frame["file_path"].replace(".png", suffix)

        write_capture(folder, change)
        for view in range(COUNT):
            (folder / f"images/{view}.png").unlink()
            write(folder / f"images/{view}{suffix}")
        return training_inputs("fewshot-nerfstudio-data", folder)

    return Case(f"photo-{name}", "photo", prepare, says)


PICTURE = Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 20))
PHOTOS = [
    _photos("pcx", ".pcx", None, PICTURE.save),
    _photos("sgi", ".sgi", None, PICTURE.save),
    _photos("cmyk", ".jpg", None, PICTURE.convert("CMYK").save),
    _photos(
        "of-two-pictures", ".jpg", None, lambda path: PICTURE.save(path, "MPO", append_images=[PICTURE], save_all=True)
    ),
    _photos("pcx-in-the-clothes-of-png", ".png", ("images/", "readable image"), lambda path: PICTURE.save(path, "PCX")),
]


def _config(name: str, old: str, new: str, *says: str, taken: bool = False) -> Case:
    def prepare(folder: Path) -> Action:
        from fewshot_ns.scripts.runs import load_run_config

        text = SAVED.read_text(encoding="utf8")
        assert old in text
        (folder / "config.yml").write_text(text.replace(old, new, 1))
        return lambda: load_run_config(folder / "config.yml")

    return Case(f"config-{name}", "config", prepare, None if taken else ("config.yml", *says))


TENSOR = """!!python/object/apply:torch._utils._rebuild_tensor_v2
      - !!python/object/apply:torch.storage._load_from_bytes [!!binary "Y29zCnN5c3RlbQooUyd0b3VjaCByYW4nCnRSLg=="]
      - 0
      - !!python/tuple []
      - !!python/tuple []
      - false"""
CONFIGS = [
    _config("saved-after-set-up", "is_equirectangular: false", f"is_equirectangular: {TENSOR}", taken=True),
    _config(
        "storage-of-a-tensor",
        "is_equirectangular: false",
        'is_equirectangular: !!python/object/apply:torch.storage._load_from_bytes [!!binary "eA=="]',
        "torch.storage._load_from_bytes is refused",
    ),
]

CASES = [
    *CHECKPOINTS,
    *LISTS,
    Case("llff-no-rows", "camera", _no_rows, ("poses_bounds.npy", "(N, 17)", "(0, 17)")),
    *PHOTOS,
    *CONFIGS,
]
