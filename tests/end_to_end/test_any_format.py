"""`ns-train METHOD --data X` without a dataparser's name, of every kind of folder, and what is done with such a run."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest
import torch
import yaml
from colmap_models import Lens, write_spheres
from command_output import load_json

from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig

pytestmark = pytest.mark.end_to_end

SMALL = (
    *("--machine.device-type", "cpu", "--vis", "tensorboard", "--max-num-iterations", 3),
    *("--steps-per-eval-image", 0, "--steps-per-eval-all-images", 0, "--pipeline.evaluation.metrics", "psnr"),
)
RAYS = (
    *SMALL,
    *("--pipeline.datamanager.train-num-rays-per-batch", 64, "--pipeline.model.width", 16),
    *("--pipeline.model.num-samples", 8, "--pipeline.model.num-proposal-samples", 8),
)
SCENES = (
    *SMALL,
    *("--pipeline.model.width", 16, "--pipeline.model.num-samples", 6, "--pipeline.model.min-eval-samples", 6),
    *("--pipeline.model.num-importance-samples", 3, "--pipeline.model.num-depth-samples", 3),
    *("--pipeline.model.compute-dtype", "float32", "--pipeline.datamanager.rays-per-scene", 16),
    *("--pipeline.datamanager.scenes-per-batch", 2, "--pipeline.datamanager.sources.mode", "random"),
)
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def colmap_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos and COLMAP's binary model, in two folders with photos of the same names."""
    folder = tmp_path_factory.mktemp("colmap") / "spheres"
    write_spheres(folder, [Lens()], name_of=lambda view: f"cam{view % 2}/{view // 2:03d}.png")
    return folder


@pytest.fixture(scope="module")
def train_on(run_command: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Function (method, data, flags) -> folder of a run; what it printed lies in output.txt there."""
    outputs = tmp_path_factory.mktemp("any")

    def run(method: str, data: Path, *flags: object, name: str = "run") -> Path:
        places = ("--output-dir", outputs, "--experiment-name", data.name, "--timestamp", name)
        output = run_command("ns-train", method, "--data", data, *places, *flags)
        folder = outputs / data.name / method / name
        (folder / "output.txt").write_text(output, encoding="utf8")
        return folder

    return run


def check(run: Path, data: Path, kind: type, line: str) -> Any:
    """The run knows which dataparser it took and why, and says so; returns that dataparser's config."""
    config = yaml.load((run / "config.yml").read_text(encoding="utf8"), Loader=yaml.Loader)
    parser = config.pipeline.datamanager.dataparser
    assert type(parser) is kind and parser.data == data
    assert load_json(run / "resolved.json")["scene"] == parser.recognised_by == line
    assert f"{data}: recognised as {line}" in (run / "output.txt").read_text(encoding="utf8").replace("\n", "")
    assert (run / "nerfstudio_models" / "step-000000002.ckpt").is_file()
    return parser


ONE: Dict[str, Tuple[str, type, str]] = {
    "blender": ("tiny_blender_scene", FewShotBlenderDataParserConfig, "fewshot-blender-data by transforms_train.json"),
    "transforms": (
        "tiny_nerfstudio_scene",
        FewShotNerfstudioDataParserConfig,
        "fewshot-nerfstudio-data by transforms.json",
    ),
    "colmap": ("colmap_scene", FewShotColmapDataParserConfig, "fewshot-colmap-data by sparse/0/"),
}


@pytest.mark.parametrize("name", ONE)
def test_one_scene_without_a_name(name: str, train_on: Train, request: pytest.FixtureRequest) -> None:
    fixture, kind, line = ONE[name]
    data = request.getfixturevalue(fixture)
    check(train_on("mipnerf-fewshot-lite", data, *RAYS), data, kind, line)


def test_llff_is_bit_equal_to_the_named_parser(scene: Path, train_on: Train) -> None:
    found = train_on("sparsenerf-lite", scene, *RAYS, "--pipeline.depth.num-quads", 8, name="found")
    named = train_on("sparsenerf-lite", scene, *RAYS, "--pipeline.depth.num-quads", 8, "llff-data", name="named")
    check(found, scene, LLFFDataParserConfig, "llff-data by poses_bounds.npy")
    assert "scene" not in load_json(named / "resolved.json")
    states = [
        torch.load(run / "nerfstudio_models" / "step-000000002.ckpt", weights_only=True) for run in (found, named)
    ]
    for key, value in states[0]["pipeline"].items():
        assert torch.equal(value, states[1]["pipeline"][key]), key


def test_many_scenes_without_a_name(tiny_solids: Path, train_on: Train, run_command: Callable[..., str]) -> None:
    run = train_on("pixelnerf-lite", tiny_solids, *SCENES)
    parser = check(run, tiny_solids, SRNDataParserConfig, load_json(run / "resolved.json")["scene"])
    assert parser.recognised_by.startswith("srn-data by ") and parser.recognised_by.endswith("_train/*/intrinsics.txt")
    run_command("ns-eval", "--load-config", run / "config.yml", "--output-path", run / "eval.json")
    assert load_json(run / "eval.json")["results"]["num_scenes"] == 2


def test_splats_of_a_colmap_folder_through_nerfstudios_commands(
    colmap_scene: Path, train_on: Train, run_command: Callable[..., str], tmp_path: Path
) -> None:
    """Points that the training views have seen, and every command that looks at the dataparser of a run."""
    own = ("--pipeline.initial-points.source", "colmap", "fewshot-data", "--train-indices", 1, 5, 9)
    run = train_on("sparse-splatfacto-lite", colmap_scene, *SMALL, *own)
    parser = check(run, colmap_scene, FewShotColmapDataParserConfig, "fewshot-colmap-data by sparse/0/")
    assert parser.train_indices == (1, 5, 9)
    assert load_json(run / "resolved.json")["initial_points"]["points"] > 20
    config = run / "config.yml"
    run_command("ns-eval", "--load-config", config, "--output-path", tmp_path / "eval.json")
    assert load_json(tmp_path / "eval.json")["results"]["psnr"] > 5
    rendered = ("--output-path", tmp_path / "views", "--split", "test", "--rendered-output-names", "rgb")
    run_command("ns-render", "dataset", "--load-config", config, *rendered, "--downscale-factor", 2)
    assert len(list((tmp_path / "views" / "test").rglob("*.jpg"))) == 2
    run_command("ns-fewshot", "inspect", "--data", colmap_scene, "--output", tmp_path / "page.html")
    assert (tmp_path / "page.html").is_file()


def test_help_and_flags(run_command: Callable[..., str]) -> None:
    methods = run_command("ns-train", "sparsenerf-lite", "--help")
    assert "fewshot-data" in methods and "fewshot-colmap-data" in methods
    flags = run_command("ns-train", "sparsenerf-lite", "fewshot-data", "--help")
    assert "--num-views" in flags and "--own" not in flags and "--many-scenes" not in flags


def test_photos_alone_say_what_to_do(environment: Dict[str, str], colmap_scene: Path, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "ns-train"),
        "sparsenerf-lite",
        "--data",
        str(colmap_scene / "images" / "cam0"),
    ]
    done = subprocess.run(
        [*command, "--output-dir", str(tmp_path / "out")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1 and "error: " in said and "Traceback" not in said
    assert "found 6 photos, no poses. `ns-fewshot prepare --images" in said
    assert not (tmp_path / "out").exists()
