"""A tiny scene and a run trained on it through nerfstudio's own command."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, Optional

import pytest

from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene

BIN = Path(sys.executable).parent
TIMEOUT_SECONDS = 300
SMALL_PIXELNERF = (
    *("--machine.device-type", "cpu", "--vis", "tensorboard", "--steps-per-eval-image", 4),
    *("--pipeline.model.width", 16, "--pipeline.model.num-samples", 6, "--pipeline.model.min-eval-samples", 6),
    *("--pipeline.model.num-importance-samples", 3, "--pipeline.model.num-depth-samples", 3),
    *("--pipeline.model.compute-dtype", "float32", "--pipeline.evaluation.metrics", "psnr"),
    *("--pipeline.datamanager.rays-per-scene", 16, "--pipeline.datamanager.scenes-per-batch", 2),
)


def command_environment(home: Path) -> Dict[str, str]:
    """Only this environment's programs on the PATH (no system ffmpeg), an empty home, no GPU, no weights."""
    kept = {key: value for key, value in os.environ.items() if key not in ("FEWSHOT_WEIGHTS", "TORCH_HOME")}
    return {
        **kept,
        "PATH": str(BIN),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_WAIT_POLICY": "PASSIVE",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """Environment of the commands."""
    return command_environment(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def run_command(environment: Dict[str, str]) -> Callable[..., str]:
    """Runs one of the installed commands and returns its output; fails with that output where the command fails."""

    def run(*command: object, cwd: Optional[Path] = None) -> str:
        done = subprocess.run(
            [str(BIN / str(command[0])), *map(str, command[1:])],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine forward-facing 48x36 views with depth priors; LLFF's protocol tests on 0 and 8."""
    folder = tmp_path_factory.mktemp("scenes") / "tiny"
    write_demo_scene(folder, DemoSceneConfig(width=48, height=36, supersample=2, columns=9, rows=1))
    return folder


@pytest.fixture(scope="session")
def train(
    run_command: Callable[..., str], scene: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Runs `ns-train sparsenerf-lite`, made small, and returns the run's folder."""
    outputs = tmp_path_factory.mktemp("outputs")

    def run(name: str, steps: int, *flags: object, parser_flags: tuple = ()) -> Path:
        run_command(
            *("ns-train", "sparsenerf-lite", "--output-dir", outputs, "--timestamp", name),
            *("--machine.device-type", "cpu", "--vis", "tensorboard", "--max-num-iterations", steps),
            *("--steps-per-eval-image", 0, "--steps-per-eval-all-images", 0),
            *("--pipeline.datamanager.train-num-rays-per-batch", 512, "--pipeline.depth.num-quads", 64),
            *("--pipeline.model.width", 64, "--pipeline.model.num-samples", 16),
            *("--pipeline.evaluation.download-weights", False, "--pipeline.semantic.encoder.download", False),
            *("--pipeline.semantic.views.grid-size", 24),
            *flags,
            *("llff-data", "--data", scene, *parser_flags),
        )
        folder = outputs / "tiny" / "sparsenerf-lite" / name
        assert (folder / "config.yml").is_file()
        return folder

    return run


@pytest.fixture(scope="session")
def trained_run(train: Callable[..., Path]) -> Path:
    """Folder of a run trained long enough that its renders show something."""
    return train("trained", 200)


@pytest.fixture(scope="session")
def train_splats(
    run_command: Callable[..., str], scene: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Function (method, name, steps, flags, parser) -> folder of a run of splats; of the tiny scene where `parser` says
    nothing else."""
    outputs = tmp_path_factory.mktemp("splats")

    def run(method: str, name: str, steps: int, *flags: object, parser: tuple = ()) -> Path:
        run_command(
            *("ns-train", method, "--output-dir", outputs, "--experiment-name", "splats", "--timestamp", name),
            *("--machine.device-type", "cpu", "--vis", "tensorboard", "--max-num-iterations", steps),
            *("--steps-per-eval-image", 0, "--pipeline.evaluation.metrics", "psnr", *flags),
            *(parser or ("llff-data", "--data", scene)),
        )
        return outputs / "splats" / method / name

    return run


@pytest.fixture(scope="session")
def splat_run(train_splats: Callable[..., Path]) -> Path:
    """Folder of a run of sparse-splatfacto-lite, whose checkpoint in the middle is kept."""
    return train_splats(
        "sparse-splatfacto-lite", "run", 30, "--steps-per-save", 12, "--save-only-latest-checkpoint", False
    )


@pytest.fixture(scope="session")
def train_scenes(run_command: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Function (name, steps, flags, parser) -> folder of a run of `ns-train pixelnerf-lite`, made small."""
    outputs = tmp_path_factory.mktemp("scenes")

    def run(name: str, steps: int, flags: tuple, parser: tuple) -> Path:
        run_command(
            *("ns-train", "pixelnerf-lite", "--output-dir", outputs, "--experiment-name", "set", "--timestamp", name),
            *("--max-num-iterations", steps, *SMALL_PIXELNERF, *flags, *parser),
        )
        return outputs / "set" / "pixelnerf-lite" / name

    return run


@pytest.fixture(scope="session")
def scenes_run(train_scenes: Callable[..., Path], tiny_solids: Path) -> Path:
    """A run across five objects."""
    return train_scenes("across", 6, ("--data", tiny_solids), ("srn-data",))
