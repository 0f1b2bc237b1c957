"""nerfstudio's own methods on this package's views, within a budget of CPU seconds: benchmarks/peers.py."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, cast

import peer_methods
import peers
import pytest
import torch
import yaml
from nerfstudio.configs.method_configs import all_descriptions, all_methods
from nerfstudio.model_components.ray_samplers import UniformSampler
from peer_methods import NEAR_FAR_KEY, PeerTrainer, ray_bounds, with_bounds

from fewshot_ns.bench.planning.config_identity import resolve_config
from fewshot_ns.bench.planning.planner import make_plan
from fewshot_ns.bench.recipes.yaml_file import load_recipe
from fewshot_ns.bench.results.cells import BenchResults, CellResult
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.records.metadata import get_fewshot_metadata
from fewshot_ns.scripts.eval import EvalCommand

SMALL = (
    *("--pipeline.datamanager.train-num-rays-per-batch", "32", "--pipeline.model.num-nerf-samples-per-ray", "4"),
    *("--pipeline.model.num-proposal-samples-per-ray", "8", "4", "--pipeline.model.log2-hashmap-size", "8"),
    *("--pipeline.model.num-levels", "4", "--pipeline.model.max-res", "32", "--pipeline.model.hidden-dim", "8"),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peers are known while a test runs."""
    for variable in ("NERFSTUDIO_METHOD_CONFIGS", "PYTHONPATH"):
        monkeypatch.setenv(variable, "")
    for name, method in peer_methods.METHODS.items():
        monkeypatch.setitem(all_methods, name, method().config)
        monkeypatch.setitem(all_descriptions, name, name)
    peer_methods.register()


def _outputs(kind: str, scene: Path) -> Any:
    config: Any = {
        "llff": LLFFDataParserConfig(data=scene, num_views=3, ray_space="metric"),
        "dtu": DTUDataParserConfig(data=scene, num_views=3),
        "blender": FewShotBlenderDataParserConfig(data=scene, num_views=3),
    }[kind]
    return config.setup().get_dataparser_outputs("train")


@pytest.mark.parametrize("kind", ["llff", "dtu", "blender"])
def test_the_interval_of_peers_holds_that_of_every_pixel(kind: str, request: pytest.FixtureRequest) -> None:
    outputs = _outputs(kind, request.getfixturevalue(f"tiny_{kind}_scene"))
    near, far, box = ray_bounds(outputs)
    geometry = get_fewshot_metadata(outputs.metadata).geometry
    lengths = []
    for index in range(len(outputs.cameras)):
        bundle = outputs.cameras.generate_rays(camera_indices=index)
        along = bundle.directions * bundle.metadata["directions_norm"]
        start = torch.zeros_like(along[..., 2])
        if geometry.origin_plane_z is not None:
            start = (geometry.origin_plane_z - bundle.origins[..., 2]) / along[..., 2]
        for depth in (geometry.near, geometry.far):
            offsets = (start + depth)[..., None] * along
            points = bundle.origins + offsets
            assert bool(((points >= box[0] - 1e-4) & (points <= box[1] + 1e-4)).all())
            lengths.append(offsets.norm(dim=-1))
    found = torch.stack(lengths)
    assert near <= float(found.min()) + 1e-5 and float(found.max()) <= far + 1e-5
    # Not wider than the corners of pixels, which lie half a pixel further out than their centres, explain.
    assert near > 0.97 * float(found.min()) and far < 1.03 * float(found.max())


def test_bounds_in_ndc_are_refused(tiny_llff_scene: Path) -> None:
    outputs: Any = LLFFDataParserConfig(data=tiny_llff_scene, num_views=3, ray_space="ndc").setup()
    with pytest.raises(ValueError, match="found NDC; give --ray-space metric"):
        ray_bounds(outputs.get_dataparser_outputs("train"))


def test_the_box_is_the_scenes_where_cameras_look_into_it(tiny_blender_scene: Path, tiny_dtu_scene: Path) -> None:
    inside, outside = _outputs("dtu", tiny_dtu_scene), _outputs("blender", tiny_blender_scene)
    assert torch.equal(with_bounds(outside).scene_box.aabb, outside.scene_box.aabb)
    assert torch.equal(with_bounds(inside).scene_box.aabb, ray_bounds(inside)[2])


def _trained(
    method: str, folder: Path, parser: Tuple[str, ...], seconds: float, steps: int = 10**6
) -> Tuple[PeerTrainer, Path]:
    words = ("--machine.device-type", "cpu", "--vis", "tensorboard", "--max-num-iterations", str(steps))
    words += ("--max-train-cpu-seconds", str(seconds), "--steps-per-eval-image", "0", "--steps-per-eval-batch", "0")
    words += ("--output-dir", str(folder), "--experiment-name", "tiny", "--timestamp", "run")
    config = resolve_config(method, (*words, "--steps-per-eval-all-images", "0", *SMALL, *parser))
    run = folder / "tiny" / method / "run"
    run.mkdir(parents=True)
    config.save_config()
    trainer = cast(PeerTrainer, config.setup(local_rank=0, world_size=1))
    torch.manual_seed(0)
    trainer.setup()
    trainer.train()
    return trainer, run


def test_nerfacto_stops_at_its_budget_with_its_schedule_run_down(tiny_blender_scene: Path, tmp_path: Path) -> None:
    parser = ("fewshot-blender-data", "--data", str(tiny_blender_scene), "--num-views", "3")
    trainer, run = _trained("peer-nerfacto", tmp_path, parser, seconds=0.8)
    cost = json.loads((run / "train_stats.json").read_text("utf8"))
    assert 0.8 <= cost["cpu_seconds"] < 1.6 and cost["steps"] > 2 and cost["rays"] == 32 * cost["steps"]
    # The step of the checkpoint is the last that was trained, not the one at which the loop stopped.
    assert [path.name for path in (run / "nerfstudio_models").iterdir()] == [f"step-{cost['steps'] - 1:09d}.ckpt"]
    for group in ("fields", "proposal_networks"):
        rate = trainer.optimizers.optimizers[group].param_groups[0]["lr"]
        assert 1e-4 <= rate < 2e-3, "the last step lies in the last third of the schedule, or at its end"
    model: Any = trainer.pipeline.model
    near_far = trainer.pipeline.datamanager.train_dataset.metadata[NEAR_FAR_KEY]  # type: ignore[union-attr]
    assert (model.collider.near_plane, model.collider.far_plane) == near_far
    assert model.field.spatial_distortion is None, "all cameras look into the box"
    assert model.renderer_rgb.background_color == "white" and model.camera_optimizer.config.mode == "off"
    assert model.eval().collider.set_nears_and_fars(_ray(trainer)).nears.item() == near_far[0]

    from fewshot_ns.scripts.runs import load_checkpoint_of_run

    pipeline, _ = load_checkpoint_of_run(run / "config.yml", "test")
    dataset: Any = pipeline.datamanager.eval_dataset
    camera = dataset.cameras[:1]
    expected = model.get_outputs_for_camera(camera)["rgb"]
    assert expected.shape == (20, 20, 3)
    torch.testing.assert_close(pipeline.model.get_outputs_for_camera(camera)["rgb"], expected)


@pytest.mark.parametrize("bounded", [None, True])
def test_space_is_contracted_where_cameras_stand_inside(
    bounded: Optional[bool], tiny_dtu_scene: Path, tmp_path: Path
) -> None:
    parser = ("dtu-data", "--data", str(tiny_dtu_scene), "--num-views", "3")
    flags = () if bounded is None else ("--pipeline.model.bounded", str(bounded))
    trainer, _ = _trained("peer-nerfacto", tmp_path, (*flags, *parser), seconds=1e6, steps=1)
    model: Any = trainer.pipeline.model
    assert (model.field.spatial_distortion is None) == bool(bounded)
    assert (type(model.proposal_sampler.initial_sampler) is UniformSampler) == bool(bounded)


def test_the_object_alone_is_measured_of_nerfstudios_own_methods(tiny_dtu_scene: Path, tmp_path: Path) -> None:
    parser = ("dtu-data", "--data", str(tiny_dtu_scene), "--num-views", "3")
    _, run = _trained("peer-nerfacto", tmp_path, parser, seconds=1e6, steps=1)
    for masks in ("auto", "none"):
        output = tmp_path / f"{masks}.json"
        command = EvalCommand(load_config=run, output_path=output, metrics=("psnr",), masks=masks, max_views=2)
        command.main()
        results = json.loads(output.read_text("utf8"))["results"]
        assert results["psnr"] > 0.0
        assert (results.get("masked_psnr") is not None) == (masks == "auto")
        assert results.get("masked_psnr") != results["psnr"]


def _ray(trainer: PeerTrainer) -> Any:
    dataset: Any = trainer.pipeline.datamanager.train_dataset
    return dataset.cameras.generate_rays(camera_indices=0, coords=torch.tensor([1.5, 1.5]))


def test_learning_rates_follow_the_share_of_the_budget(tiny_blender_scene: Path, tmp_path: Path) -> None:
    parser = ("fewshot-blender-data", "--data", str(tiny_blender_scene), "--num-views", "3")
    trainer, _ = _trained("peer-nerfacto", tmp_path, parser, seconds=1e6, steps=4)
    for share, expected in ((0.0, 1e-2), (0.5, 1e-3), (1.0, 1e-4), (1.5, 1e-4)):
        trainer.optimizers.spent = lambda share=share: share  # type: ignore[attr-defined]
        trainer.optimizers.scheduler_step_all(0)
        assert trainer.optimizers.optimizers["fields"].param_groups[0]["lr"] == pytest.approx(expected, rel=1e-3)


def test_depth_nerfacto_trains_on_the_maps_that_it_is_given(tiny_nerfstudio_scene: Path, tmp_path: Path) -> None:
    parser = ("fewshot-nerfstudio-data", "--data", str(tiny_nerfstudio_scene), "--near", "2", "--far", "6")
    trainer, _ = _trained("peer-depth-nerfacto", tmp_path, parser, 1e6, steps=2)
    pipeline = trainer.pipeline.train()
    bundle, batch = pipeline.datamanager.next_train(2)
    depth = batch["depth_image"]
    assert depth.shape == (32, 1) and bool((depth > 0).all())
    _, losses, _ = pipeline.get_train_loss_dict(2)
    assert float(losses["depth_loss"].detach()) != 0.0 and bool(losses["depth_loss"].isfinite())
    assert bundle.shape == (32,)


def _arguments(**changes: Any) -> argparse.Namespace:
    values: Dict[str, Any] = {"scenes": ["plane"], "ours": ["freenerf-lite"], "seeds": [0], "overrides": []}
    return argparse.Namespace(**{**values, "tuning": False, **changes})


@pytest.mark.parametrize("tuning", [False, True])
def test_recipes_are_planned_with_budget_and_depth(
    tuning: bool, tmp_path: Path, make_llff_scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_llff_scene(tmp_path / "data" / "plane")
    scene = peers.Scene("plane", "llff-3", "llff-data", {}, {"ray-space": "metric"}, ((1, 5, 9), (0, 4)))
    monkeypatch.setattr(peers, "SCENES", {"plane": scene})
    arguments = _arguments(tuning=tuning, overrides=["pipeline.model.num-levels=4"])
    maps = {"plane": tmp_path / "data" / "plane" / "depth_maps"}
    path = tmp_path / "peers.yaml"
    path.write_text(yaml.safe_dump(peers.peers_recipe(arguments, ["nerfacto"], {"plane": 12.34}, maps)), "utf8")
    (cell,) = make_plan(load_recipe(path), tmp_path / "data", tmp_path / "out", "cpu").cells
    assert (cell.method, cell.label, cell.cpu_seconds) == ("peer-nerfacto", "nerfacto", 12.3)
    assert cell.config["pipeline.model.num_levels"] == "4" and not cell.resumable
    assert cell.test_views == 2 and cell.protocol == ("indices" if tuning else "llff-3")
    path.write_text(yaml.safe_dump(peers.ours_recipe(arguments)), "utf8")
    (cell,) = make_plan(load_recipe(path), tmp_path / "data", tmp_path / "out", "cpu").cells
    assert (cell.method, cell.cpu_seconds, cell.own_length) == ("freenerf-lite", None, True)


def _cell(label: str, seed: int, seconds: float, psnr: float, status: str = "finished") -> CellResult:
    metrics: Any = {"psnr": 1.0, "masked_psnr": psnr, "masked_ssim": 0.5}
    about = {"folder_name": "scan24", "protocol": "dtu-3", "method": label, "as_published": False, "steps": 10}
    cost = {"cpu_seconds": seconds}
    return CellResult("scan24", label=label, seed=seed, status=status, metrics=metrics, training=cost, **about)


def test_budget_and_table() -> None:
    cells = [_cell("a", 0, 10.0, 18.0), _cell("a", 1, 20.0, 19.0), _cell("b", 0, 17.0, 8.0)]
    results = BenchResults("ours", "", (*cells, _cell("b", 1, 99.0, 0.0, status="failed")))
    assert peers.dearest(results, "scan24") == 17.0
    with pytest.raises(SystemExit, match="fern: no method"):
        peers.dearest(results, "fern")
    rows = peers.table(results.cells).splitlines()
    assert rows[2:] == [
        "| scan24 | `a` | 2 | 10 | 15 | 18.50 | 0.500 | n/a |",
        "| scan24 | `b` | 1 | 10 | 17 | 8.00 | 0.500 | n/a |",
    ]
