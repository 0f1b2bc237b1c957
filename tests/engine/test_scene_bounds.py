"""Near and far that a training takes from the photos: when it does, what it saves, and what a resumed run takes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, List, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest
import torch
import yaml

from fewshot_ns.configs.pixelnerf import pixelnerf_lite
from fewshot_ns.configs.stereo_nerf import stereo_nerf_lite
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.engine.scene_bounds import bounds_to_train_with
from fewshot_ns.engine.trainer import FewShotTrainer
from fewshot_ns.priors.depth import bounds as bounds_module

Bounds = Tuple[float, float]


@pytest.fixture
def make_config(bare_capture: Path, tmp_path: Path) -> Callable[..., Any]:
    """Function (name, steps, dataparser) -> config of a tiny run of stereo-nerf-lite."""

    def build(name: str = "run", steps: int = 4, parser: Any = None) -> Any:
        config: Any = deepcopy(stereo_nerf_lite)
        config.output_dir, config.timestamp, config.experiment_name = tmp_path, name, "bounds"
        config.machine.device_type, config.vis, config.max_num_iterations = "cpu", "tensorboard", steps
        config.steps_per_save, config.steps_per_eval_image, config.steps_per_eval_all_images = 1000, 0, 0
        manager, model = config.pipeline.datamanager, config.pipeline.model
        manager.dataparser = parser or FewShotNerfstudioDataParserConfig(data=bare_capture)
        manager.train_num_rays_per_batch = 64
        config.pipeline.depth.stereo.device = "cpu"
        model.width, model.num_layers, model.num_octaves = 16, 2, 4
        model.num_samples = model.num_proposal_samples = model.proposal_resolution = 8
        return config

    return build


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """Numbers of views in which bounds were looked for."""
    seen: List[int] = []
    real = bounds_module.photo_depths

    def counted(dataset: Any, *given: Any) -> Any:
        seen.append(len(dataset))
        return real(dataset, *given)

    monkeypatch.setattr(bounds_module, "photo_depths", counted)
    return seen


def train(config: Any) -> FewShotTrainer:
    """What nerfstudio's train script does for one process."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(42)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def saved(trainer: FewShotTrainer) -> Any:
    """The config that nerfstudio's other commands load."""
    return yaml.load((trainer.base_dir / "config.yml").read_text(), Loader=yaml.Loader)  # noqa: S506


def bounds_of(trainer: FewShotTrainer) -> Bounds:
    geometry: Any = trainer.pipeline.model.geometry
    return geometry.near, geometry.far


def weights(trainer: FewShotTrainer, step: int) -> Any:
    return torch.load(trainer.checkpoint_dir / f"step-{step:09d}.ckpt", weights_only=True)["pipeline"]


def test_a_run_has_the_bounds_everywhere_and_a_resumed_one_is_bit_equal(
    make_config: Any, searches: List[int], capsys: pytest.CaptureFixture
) -> None:
    whole = train(make_config("whole"))
    shown = " ".join(capsys.readouterr().out.split())
    bounds = near, far = bounds_of(whole)
    assert searches == [3] and f"near {near:g} and far {far:g} hold what the photos confirm (stereo)" in shown
    assert f"near {near:g}, far {far:g} (from the photos)" in shown
    config = saved(whole)
    parser = config.pipeline.datamanager.dataparser
    assert (parser.near, parser.far, parser.bounds_from_photos) == (near, far, True)
    assert config.pipeline.run_dir is None
    resolved = json.loads((whole.base_dir / "resolved.json").read_text())["model"]
    assert (resolved["near"], resolved["far"], resolved["bounds_from"]) == (near, far, "photos")
    stored = json.loads((whole.base_dir / "scene.json").read_text())["geometry"]
    assert (stored["near"], stored["far"]) == bounds
    for mode in ("test", "inference"):
        assert config.pipeline.setup(device="cpu", test_mode=mode).model.geometry.near == near
    # By the flags of the first run, and by its config.yml: neither looks again.
    half = train(make_config("half", steps=2))
    by_flags = make_config("by-flags")
    by_flags.load_dir = half.checkpoint_dir
    by_config = saved(half)
    by_config.timestamp, by_config.load_dir, by_config.max_num_iterations = "by-config", half.checkpoint_dir, 4
    searches.clear()
    for config in (by_flags, by_config):
        resumed = train(config)
        assert bounds_of(resumed) == bounds and searches == []
        assert saved(resumed).pipeline.datamanager.dataparser.far == far
        assert json.loads((resumed.base_dir / "resolved.json").read_text())["model"]["bounds_from"] == "photos"
        expected, found = weights(whole, 3), weights(resumed, 3)
        assert expected.keys() == found.keys()
        assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_a_run_of_an_earlier_version_keeps_its_guess(make_config: Any, searches: List[int]) -> None:
    without = make_config("without", steps=1)
    without.pipeline.depth.enabled = False
    first = train(without)
    resumed = make_config("resumed", steps=2)
    resumed.load_dir = first.checkpoint_dir
    one_file = make_config("one-file", steps=2)
    one_file.load_checkpoint = first.checkpoint_dir / "step-000000000.ckpt"
    resolved = first.base_dir / "resolved.json"
    values = json.loads(resolved.read_text())
    assert values["model"].pop("bounds_from") == "cameras"
    for config in (resumed, one_file):
        assert bounds_to_train_with(config) is None
    resolved.write_text(json.dumps(values))
    assert bounds_to_train_with(resumed) is None and bounds_of(train(one_file)) == bounds_of(first)
    resolved.write_text("[]")
    with pytest.raises(ValueError, match=r"resolved\.json: expected the values that a run was trained with, found"):
        bounds_to_train_with(resumed)
    resolved.unlink()
    assert bounds_to_train_with(resumed) is None and searches == []


def state_bounds(capture: Path) -> None:
    path = capture / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "near": 2.0, "far": 9.0}))


def add_points(capture: Path) -> None:
    path = capture / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "ply_file_path": "points.ply"}))
    lines = ["ply", "format ascii 1.0", "element vertex 2", *(f"property float {axis}" for axis in "xyz")]
    lines += [f"property uchar {colour}" for colour in ("red", "green", "blue")]
    rows = ["0 0 -3 9 9 9", "0.1 0 -5 9 9 9"]
    (capture / "points.ply").write_text("\n".join([*lines, "end_header", *rows]) + "\n")


@pytest.mark.parametrize("change", [state_bounds, add_points])
def test_bounds_of_the_scene_stay(make_config: Any, bare_capture: Path, searches: List[int], change: Any) -> None:
    assert bounds_to_train_with(make_config()) is not None and searches == [3]
    change(bare_capture)
    assert bounds_to_train_with(make_config()) is None and searches == [3]


@pytest.mark.parametrize("flags", [{"near": 1.0}, {"far": 8.0}, {"near": 1.0, "far": 8.0}])
def test_what_the_user_gives_stays(make_config: Any, bare_capture: Path, searches: List[int], flags: Any) -> None:
    config = make_config(parser=FewShotNerfstudioDataParserConfig(data=bare_capture, **flags), steps=1)
    trainer = train(config)
    assert searches == [] and {name: getattr(trainer.pipeline.model.geometry, name) for name in flags} == flags
    parser = saved(trainer).pipeline.datamanager.dataparser
    assert not parser.bounds_from_photos and (parser.near, parser.far) == (flags.get("near"), flags.get("far"))
    assert json.loads((trainer.base_dir / "resolved.json").read_text())["model"]["bounds_from"] == "flags"


def test_other_layouts_have_bounds_of_their_own(
    make_config: Any, make_llff_scene: Any, tiny_rgbd_scene: Path, tmp_path: Path, searches: List[int]
) -> None:
    scene = make_llff_scene(tmp_path / "llff", size=(48, 64), detailed=True)
    for parser in (
        LLFFDataParserConfig(data=scene),
        LLFFDataParserConfig(data=scene, ray_space="metric"),
        RGBDDataParserConfig(data=tiny_rgbd_scene),
    ):
        assert bounds_to_train_with(make_config(parser=parser)) is None
    assert bounds_to_train_with(deepcopy(pixelnerf_lite)) is None and searches == []


def test_where_nothing_looks_for_bounds(make_config: Any, bare_capture: Path, searches: List[int]) -> None:
    off, files, missing = make_config(), make_config(), make_config()
    off.pipeline.depth.enabled = False
    files.pipeline.depth.source = "files"
    missing.pipeline.datamanager.data = bare_capture / "nowhere"
    assert [bounds_to_train_with(config) for config in (off, files, missing)] == [None] * 3 and searches == []
    # The flag before the dataparser's name counts.
    named = make_config(parser=FewShotNerfstudioDataParserConfig(data=bare_capture / "nowhere"))
    named.pipeline.datamanager.data = bare_capture
    assert bounds_to_train_with(named) is not None and searches == [3]


def test_where_the_photos_say_too_little_training_goes_on_with_the_guess(
    make_config: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(bounds_module, "FEW", 1.01)
    trainer = train(make_config(steps=1))
    assert "stay a guess from the cameras" in " ".join(capsys.readouterr().out.split())
    parser = saved(trainer).pipeline.datamanager.dataparser
    assert parser.near is None and parser.far is None and not parser.bounds_from_photos
    model: Any = trainer.pipeline.model
    assert model.resolved()["bounds_from"] == "cameras"


ONE_PROCESS = """
import sys, torch
import nerfstudio.configs.method_configs
from fewshot_ns.engine.scene_bounds import from_main_process
rank, meeting = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
pairs = ((0.1, 3.7), None), (None, (1, 2))
print([from_main_process(value if rank == 0 else other, "cpu") for value, other in pairs])
torch.distributed.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed training")
def test_all_processes_train_with_the_bounds_of_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", ONE_PROCESS]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meeting")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=120)[0].splitlines()[-1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert printed == ["[(0.1, 3.7), None]"] * 2
