"""Runs on three photos that all train, through the real commands: nothing breaks, and nobody is given wrong figures."""

import json
from pathlib import Path
from typing import Callable, List

import pytest
from command_output import load_json

from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene

pytestmark = pytest.mark.end_to_end

METRICS = ("psnr", "ssim", "ssim_gaussian", "lpips", "lpips_alex", "avg_error")


@pytest.fixture(scope="module")
def three_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of three photos, of the name that `train` expects."""
    folder = tmp_path_factory.mktemp("three") / "tiny"
    write_demo_scene(folder, DemoSceneConfig(width=48, height=36, supersample=2, columns=3, rows=1))
    return folder


@pytest.fixture(scope="module")
def three_run(train: Callable[..., Path], three_photos: Path) -> Path:
    """A run on them, long enough that points can be exported."""
    wanted = ("--steps-per-eval-batch", 50, "--steps-per-eval-image", 50, "--steps-per-eval-all-images", 100)
    return train("three", 200, *wanted, parser_flags=("--data", three_photos))


def test_training_without_evaluation(three_run: Path):
    views = load_json(three_run / "views.json")
    assert views == {"protocol": "llff-3", "train_indices": [0, 1, 2], "test_indices": []}
    assert load_json(three_run / "resolved.json")["held_out"] == "nothing: every view trains"
    assert not (three_run / "eval").exists()
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tags = events.EventAccumulator(str(three_run)).Reload().Tags()["scalars"]
    assert "Train Loss" in tags and not [tag for tag in tags if tag.startswith("Eval")]


@pytest.mark.slow
def test_resume(train: Callable[..., Path], three_run: Path, three_photos: Path):
    models = three_run / "nerfstudio_models"
    resumed = train("three-resumed", 203, "--load-dir", models, parser_flags=("--data", three_photos))
    assert (resumed / "nerfstudio_models" / "step-000000202.ckpt").is_file()


def test_ns_eval_says_that_there_is_nothing_to_measure(
    run_command: Callable[..., str], three_run: Path, tmp_path: Path
):
    output = run_command("ns-eval", "--load-config", three_run / "config.yml", "--output-path", tmp_path / "eval.json")
    assert output.count("Nothing is held out") == 1 and "ns-fewshot eval --load-config CONFIG --split train" in output
    results = load_json(tmp_path / "eval.json")["results"]
    assert results == {**dict.fromkeys(METRICS), "evaluated_views": "none"}


def test_ns_fewshot_eval_measures_training_views_by_name_alone(run_command: Callable[..., str], three_run: Path):
    output = run_command("ns-fewshot", "eval", "--load-config", three_run)
    assert output.count("Nothing is held out") == 1
    content = load_json(three_run / "eval.json")
    assert content["results"]["psnr"] is None and content["views"] == [] and not content["results"].get("fps")
    run_command("ns-fewshot", "eval", "--load-config", three_run, "--split", "train", "--metrics", "psnr")
    content = load_json(three_run / "eval-train.json")
    assert content["evaluated_views"] == "train" and content["views"] == [0, 1, 2]
    assert 10 < content["results"]["psnr"] < 60
    assert load_json(three_run / "eval.json")["results"]["psnr"] is None
    assert "baseline" not in json.dumps(content)


@pytest.mark.slow
def test_a_run_configured_to_measure_training_views(
    train: Callable[..., Path], run_command: Callable[..., str], three_photos: Path, tmp_path: Path
):
    flags = ("--pipeline.evaluation.split", "train", "--pipeline.evaluation.metrics", "psnr")
    run = train("three-measured", 4, *flags, "--steps-per-eval-all-images", 2, parser_flags=("--data", three_photos))
    assert [path.name for path in (run / "eval").iterdir()] == ["step-000000002-train.jsonl"]
    run_command("ns-eval", "--load-config", run / "config.yml", "--output-path", tmp_path / "eval.json")
    results = load_json(tmp_path / "eval.json")["results"]
    assert results["evaluated_views"] == "train" and 0 < results["psnr"] < 60
    run_command("ns-fewshot", "eval", "--load-config", run)
    assert load_json(run / "eval-train.json")["evaluated_views"] == "train" and not (run / "eval.json").exists()
    run_command("ns-fewshot", "eval", "--load-config", run, "--split", "held-out")
    assert load_json(run / "eval.json")["results"]["evaluated_views"] == "none"


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (("ns-render", "dataset", "--split", "train+test", "--output-path", "out"), ("out/train/rgb/view_02.jpg",)),
        pytest.param(
            ("ns-render", "interpolate", "--interpolation-steps", 2, "--output-path", "out.mp4"),
            ("out.mp4",),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("ns-render", "spiral", "--seconds", 0.1, "--output-path", "out.mp4"), ("out.mp4",), marks=pytest.mark.slow
        ),
        (("ns-fewshot", "video", "--frames", 3, "--output", "out.mp4"), ("out.mp4",)),
        (
            ("ns-export", "pointcloud", "--normal-method", "open3d", "--num-points", 500, "--output-dir", "out"),
            ("out/point_cloud.ply",),
        ),
    ],
    ids=("dataset", "interpolate", "spiral", "video", "export"),
)
def test_what_shows_a_run(
    command: tuple, written: List[str], run_command: Callable[..., str], three_run: Path, tmp_path: Path
):
    run_command(*command, "--load-config", three_run / "config.yml", cwd=tmp_path)
    assert all((tmp_path / name).is_file() for name in written)


@pytest.mark.slow
def test_a_camera_path_and_its_video(run_command: Callable[..., str], three_run: Path, tmp_path: Path):
    path = ("ns-fewshot", "camera-path", "--load-config", three_run, "--frames", 3, "--output", tmp_path / "path.json")
    assert "nothing is held out" in run_command(*path)
    render = ("ns-render", "camera-path", "--load-config", three_run / "config.yml")
    run_command(*render, "--camera-path-filename", tmp_path / "path.json", "--output-path", tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").is_file()


@pytest.mark.slow
def test_splats(train_splats: Callable[..., Path], run_command: Callable[..., str], three_photos: Path, tmp_path: Path):
    flags = ("--steps-per-eval-image", 2, "--steps-per-eval-batch", 2)
    parser = ("llff-data", "--data", three_photos, "--train-indices", 0, 1, 2)
    run = train_splats("sparse-splatfacto-lite", "three", 6, *flags, parser=parser)
    run_command("ns-eval", "--load-config", run / "config.yml", "--output-path", tmp_path / "eval.json")
    assert load_json(tmp_path / "eval.json")["results"] == {"psnr": None, "evaluated_views": "none"}
    run_command("ns-fewshot", "eval", "--load-config", run, "--split", "train")
    assert load_json(run / "eval-train.json")["views"] == [0, 1, 2]
    run_command("ns-export", "gaussian-splat", "--load-config", run / "config.yml", "--output-dir", tmp_path)
    assert (tmp_path / "splat.ply").is_file()


def retarget(run_command: Callable[..., str], run: Path, scene: Path, folder: Path, *sources: int) -> Path:
    run_command(
        *("ns-fewshot", "retarget", "--load-config", run, "--data", scene),
        *("--source-views", *sources, "--output", folder),
    )
    return folder


def test_a_generalizable_run_that_looks_at_all_photos(
    run_command: Callable[..., str], scenes_run: Path, three_photos: Path, tmp_path: Path
):
    run = retarget(run_command, scenes_run, three_photos, tmp_path / "all", 0, 1, 2)
    output = run_command("ns-eval", "--load-config", run / "config.yml", "--output-path", tmp_path / "eval.json")
    assert output.count("Nothing is held out") == 1
    assert load_json(tmp_path / "eval.json")["results"] == {"psnr": None, "evaluated_views": "none"}
    run_command("ns-fewshot", "eval", "--load-config", run, "--split", "train")
    content = load_json(run / "eval-train.json")
    assert content["evaluated_views"] == "train" and content["views"] == [0, 1, 2] and content["results"]["psnr"] > 0
    render = ("ns-render", "interpolate", "--load-config", run / "config.yml", "--interpolation-steps", 2)
    run_command(*render, "--output-path", tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").is_file()


@pytest.mark.slow
def test_photos_that_are_not_looked_at_are_measured(
    run_command: Callable[..., str], scenes_run: Path, three_photos: Path, tmp_path: Path
):
    for sources, measured in (((0,), [1, 2]), ((0, 2), [1])):
        run = retarget(run_command, scenes_run, three_photos, tmp_path / f"of-{len(sources)}", *sources)
        run_command("ns-fewshot", "eval", "--load-config", run, "--max-side", 24)
        assert load_json(run / "eval.json")["views"] == measured


@pytest.fixture
def one_photo(make_nerfstudio_scene: Callable[..., Path], tmp_path: Path) -> Path:
    """A scene of one photo, whose file says where it may be seen."""
    scene = make_nerfstudio_scene(tmp_path / "one", 1)
    meta = json.loads((scene / "transforms.json").read_text())
    (scene / "transforms.json").write_text(json.dumps({**meta, "near": 1.0, "far": 6.0}))
    return scene


def test_one_photo_of_a_scene(run_command: Callable[..., str], scenes_run: Path, one_photo: Path, tmp_path: Path):
    run = retarget(run_command, scenes_run, one_photo, tmp_path / "run", 0)
    run_command("ns-eval", "--load-config", run / "config.yml", "--output-path", tmp_path / "eval.json")
    assert load_json(tmp_path / "eval.json")["results"]["evaluated_views"] == "none"
    render = ("ns-render", "dataset", "--load-config", run / "config.yml", "--split", "train")
    run_command(*render, "--output-path", tmp_path / "out")
    # Where a split has one view, nerfstudio gives its files no name of their own.
    assert (tmp_path / "out" / "train" / "rgb.jpg").is_file()


def test_one_photo_is_not_enough_where_a_scene_trains(one_photo: Path, capsys: pytest.CaptureFixture):
    from fewshot_ns.scripts.cli import main

    assert main(["inspect", "--data", str(one_photo), "--output", str(one_photo / "page.html")]) == 1
    assert "transforms.json: expected at least 2 frames, found one" in " ".join(capsys.readouterr().err.split())


def test_one_photo_has_no_nearest_view(
    scenes_run: Path, one_photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    from fewshot_ns.scripts.cli import main

    arguments = ("--load-config", scenes_run, "--data", one_photo, "--nearest", 1, "--output", tmp_path / "run")
    assert main(["retarget", *map(str, arguments)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "expected 1 views to look at beside the target, found 0 of 1" in said and not (tmp_path / "run").exists()
