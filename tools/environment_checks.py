"""What tools/environments.py runs in each environment: commands of the package and of nerfstudio, on what it makes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Tuple

if sys.version_info >= (3, 11):
    import tomllib
else:  # which pytest brings
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_SECONDS = 600

_QUIET = ("--machine.device-type", "cpu", "--vis", "tensorboard", "--steps-per-eval-image", 0)
_RAYS = (
    *("--max-num-iterations", 6, "--steps-per-eval-all-images", 0, "--pipeline.evaluation.metrics", "psnr"),
    *("--pipeline.datamanager.train-num-rays-per-batch", 512, "--pipeline.depth.num-quads", 64),
    *("--pipeline.model.width", 64, "--pipeline.model.num-samples", 16),
)
_IMAGES = (
    *("--max-num-iterations", 4, "--pipeline.model.width", 16, "--pipeline.model.num-samples", 6),
    *("--pipeline.model.min-eval-samples", 6, "--pipeline.model.num-importance-samples", 3),
    *("--pipeline.model.num-depth-samples", 3, "--pipeline.model.compute-dtype", "float32"),
    *("--pipeline.evaluation.metrics", "psnr", "--pipeline.datamanager.rays-per-scene", 16),
    *("--pipeline.datamanager.scenes-per-batch", 2),
)
_NERFACTO = (
    *("--max-num-iterations", 3, "--steps-per-eval-all-images", 0, "--pipeline.model.implementation", "torch"),
    *("--pipeline.datamanager.train-num-rays-per-batch", 64, "--pipeline.model.num-nerf-samples-per-ray", 8),
    *("--pipeline.model.num-proposal-samples-per-ray", 16, 8),
)

_INPUTS = """
import json, sys
from pathlib import Path
import cv2, numpy as np, torch, torchvision
from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene
from fewshot_ns.synthetic.solids_set import SolidsConfig, write_solids

folder, home = Path(sys.argv[1]), Path(sys.argv[2])
write_demo_scene(folder / "scene", DemoSceneConfig(width=48, height=36, supersample=2, columns=9, rows=1))
objects = SolidsConfig(objects=8, views=5, size=16, supersample=1, val_share=0.125, test_share=0.25)
write_solids(folder / "solids", objects)
# A capture in nerfstudio's own format: a ring of cameras that look at its middle.
(folder / "ring" / "images").mkdir(parents=True)
frames = []
for index, angle in enumerate(np.linspace(0, 2 * np.pi, 10, endpoint=False)):
    back = np.array([np.cos(angle), np.sin(angle), 0.0])
    right, up = np.array([-np.sin(angle), np.cos(angle), 0.0]), np.array([0.0, 0.0, 1.0])
    pose = np.eye(4)
    pose[:3] = np.stack([right, up, back, 2.0 * back], axis=1)
    name = f"images/{index}.png"
    cv2.imwrite(str(folder / "ring" / name), np.random.default_rng(index).integers(0, 255, (32, 32, 3), np.uint8))
    frames.append({"file_path": name, "transform_matrix": pose.tolist()})
camera = {"fl_x": 32.0, "fl_y": 32.0, "cx": 16.0, "cy": 16.0, "w": 32, "h": 32}
(folder / "ring" / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))
# Two files that are no photos of the name's format: what opens them comes before.
(folder / "heic").mkdir()
for name in "ab":
    cv2.imwrite(str(folder / "scene.png"), np.zeros((40, 40, 3), np.uint8))
    (folder / "scene.png").rename(folder / "heic" / f"{name}.heic")
# nerfstudio's models build LPIPS, whose network torchvision would download: zeros of its shapes.
state = torchvision.models.alexnet(weights=None).state_dict()
target = home / "cache" / "torch" / "hub" / "checkpoints" / Path(torchvision.models.AlexNet_Weights.DEFAULT.url).name
target.parent.mkdir(parents=True)
torch.save({key: torch.zeros(1).expand(value.shape) for key, value in state.items()}, target)
"""

_IMPORTS = """
from importlib import import_module
from pathlib import Path
import fewshot_ns
root = Path(fewshot_ns.__file__).parent
names = [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in sorted(root.rglob("*.py"))]
names = [name[: -len(".__init__")] if name.endswith(".__init__") else name for name in names]
for name in names:
    if not name.endswith("__main__"):
        import_module(name)
print(len(names), "modules")
"""


class CheckError(Exception):
    """A check that did not hold, with one line that says why."""


@dataclass
class Place:
    """An environment, and the folder in which its checks work.

    Args:
        programs: folder of its programs.
        folder: an empty folder.
        extras: that are installed.
        priority: added to the niceness of all that runs.
    """

    programs: Path
    folder: Path
    extras: Tuple[str, ...]
    priority: int = 0

    def run(self, *command: object, fails: bool = False) -> str:
        """What a program prints, on both streams.

        Args:
            command: its name, and its arguments.
            fails: whether it has to end with an error.

        Raises:
            CheckError: it ended in the other way, or did not end.
        """
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        hidden = ("PYTHONPATH", "FEWSHOT_WEIGHTS", "FEWSHOT_DATA", "FEWSHOT_GOLDENS", "TORCH_HOME", "VIRTUAL_ENV")
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        # A program of another environment is never taken in place of one that is missing here.
        environment.update(
            PATH=os.pathsep.join([str(self.programs), "/usr/bin", "/bin"]),
            HOME=str(home),
            XDG_CACHE_HOME=str(home / "cache"),
            FEWSHOT_CACHE=str(home / "fewshot"),
            CUDA_VISIBLE_DEVICES="",
            OMP_NUM_THREADS="1",
            OMP_WAIT_POLICY="PASSIVE",
            COLUMNS="200",
            HF_HUB_OFFLINE="1",
        )
        process = subprocess.Popen(
            [str(self.programs / str(command[0])), *map(str, command[1:])],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            os.setpriority(os.PRIO_PROCESS, process.pid, self.priority)
            said, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise CheckError(f"{command[0]} did not end within {TIMEOUT_SECONDS} s") from error
        with (self.folder / "log.txt").open("a", encoding="utf8") as log:
            log.write(f"$ {' '.join(map(str, command))}\n{said}\n[status {process.returncode}]\n\n")
        if (process.returncode != 0) != fails:
            raise CheckError(f"{command[0]} ended with status {process.returncode}: {last_words(said)}")
        return said

    def train(self, method: str, *flags: object) -> Path:
        """Folder of a run of `ns-train`."""
        outputs = self.folder / "outputs"
        places = ("--output-dir", outputs, "--experiment-name", "tiny", "--timestamp", "run")
        self.run("ns-train", method, *places, *_QUIET, *flags)
        return outputs / "tiny" / method / "run"

    def measure(self, run: Path) -> str:
        """`ns-fewshot eval` of a run, in words."""
        self.run("ns-fewshot", "eval", "--load-config", run / "config.yml")
        psnr = json.loads((run / "eval.json").read_text("utf8"))["results"]["psnr"]
        if not 0.0 < psnr < 60.0:
            raise CheckError(f"expected a PSNR from 0 to 60 dB, found {psnr}")
        return f"PSNR {psnr:.2f} dB"


def last_words(said: str) -> str:
    """The last line that says something, of what a program printed."""
    marks = re.compile(r"[│╭╮╰╯─┃\s]+")
    lines = [marks.sub(" ", line).strip() for line in said.splitlines()]
    lines = [line for line in lines if line and not line.startswith("!!!") and " in " + line.split()[-1] != line]
    errors = [line for line in lines if re.match(r"([\w.]*Error|error|FAILED|E |Fatal Python error)\b", line)]
    return (errors or lines or ["nothing printed"])[-1][:300]


def project() -> Dict[str, Dict]:
    """The package's pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]


def check_imports(place: Place) -> str:
    words = place.run("python", "-W", "ignore", "-c", _IMPORTS).split("\n")[-2]
    said = place.run("ns-fewshot", "methods")
    missing = [name for name in project()["entry-points"]["nerfstudio.method_configs"] if name not in said]
    if missing:
        raise CheckError(f"ns-fewshot methods lacks {', '.join(missing)}")
    return words


def check_help(place: Place) -> str:
    said = place.run("ns-train", "--help")
    ours = list(project()["entry-points"]["nerfstudio.method_configs"])
    theirs = ["nerfacto", "depth-nerfacto", "splatfacto", "mipnerf", "instant-ngp", "tensorf"]
    missing = [name for name in ours + theirs if not re.search(rf"(?<![\w-]){name}(?![\w-])", said)]
    if missing:
        raise CheckError(f"ns-train --help lacks {', '.join(missing)}")
    return f"{len(ours)} of ours"


def check_rays(place: Place) -> str:
    run = place.train("sparsenerf-lite", *_RAYS, "llff-data", "--data", place.folder / "scene")
    return place.measure(run)


def check_splats(place: Place) -> str:
    flags = ("--max-num-iterations", 4, "--pipeline.evaluation.metrics", "psnr")
    run = place.train("sparse-splatfacto-lite", *flags, "llff-data", "--data", place.folder / "scene")
    if not list((run / "nerfstudio_models").glob("*.ckpt")):
        raise CheckError("no checkpoint")
    return "4 steps"


def check_images(place: Place) -> str:
    run = place.train("pixelnerf-lite", *_IMAGES, "--data", place.folder / "solids", "srn-data")
    return place.measure(run)


def check_nerfacto(place: Place) -> str:
    run = place.train("nerfacto", *_NERFACTO, "nerfstudio-data", "--data", place.folder / "ring")
    if not (run / "nerfstudio_models" / "step-000000002.ckpt").is_file():
        raise CheckError("no checkpoint of step 2")
    return "3 steps on nerfstudio-data"


def check_tests(place: Place, *files: str) -> str:
    said = place.run(
        *("python", "-m", "pytest", "--rootdir", ROOT, "-c", ROOT / "pyproject.toml", "-q", "-p", "no:cacheprovider"),
        *("-W", "ignore", "-m", "not slow and not weights and not gpu", "-o", "addopts=--import-mode=importlib"),
        *(ROOT / "tests" / file for file in files),
    )
    found = re.findall(r"^(\d+ passed.*?) in ", said, re.MULTILINE)
    if not found:
        raise CheckError(f"no test passed: {last_words(said)}")
    return found[-1]


def check_units(place: Place) -> str:
    return check_tests(place, "utils", "cameras", "field_components", "model_components/splatting")


def check_goldens(place: Place) -> str:
    names = ("vectors", "sparsenerf", "pixelnerf", "dietnerf")
    return check_tests(place, *(f"goldens/test_{name}.py" for name in names))


def check_priors(place: Place) -> str:
    if "priors" not in place.extras:
        return ""
    encoders, networks = "pretrained/encoders/test_image_encoder.py", "pretrained/test_monocular_depth.py"
    return check_tests(place, "priors/diffusion", encoders, networks)


def check_photos(place: Place) -> str:
    if "photos" not in place.extras:
        return ""
    return check_tests(place, "data/capture/test_registration.py", "data/capture/test_decoding.py")


def check_absent(place: Place) -> str:
    """Each extra that is not installed: one error names it."""
    scene = ("llff-data", "--data", place.folder / "scene")
    (place.folder / "photos").mkdir()
    for view in (0, 4, 8):
        (place.folder / "photos" / f"{view}.png").write_bytes(
            (place.folder / "scene" / "images" / f"view_0{view}.png").read_bytes()
        )
    needing: Dict[str, List[Tuple[object, ...]]] = {
        "priors": [
            ("ns-fewshot", "depth", "--data", place.folder / "scene", "--overwrite", "llff-data"),
            ("ns-train", "dietnerf-lite", "--output-dir", place.folder / "absent", *_QUIET, *scene),
        ],
        "photos": [
            ("ns-fewshot", "photos", place.folder / "photos"),
            ("ns-fewshot", "photos", place.folder / "heic"),
        ],
        "bench": [
            (
                "ns-fewshot",
                "bench",
                "demo",
                "--data",
                place.folder,
                "--executor",
                "ray",
                "--output-dir",
                place.folder / "b",
            )
        ],
    }
    named = []
    for extra, commands in needing.items():
        if extra in place.extras:
            continue
        for command in commands:
            words = last_words(place.run(*command, fails=True))
            if f"fewshot-ns[{extra}]" not in words:
                raise CheckError(f"{' '.join(map(str, command[:2]))} does not name fewshot-ns[{extra}]: {words}")
        named.append(extra)
    return f"named: {', '.join(named)}" if named else ""


CHECKS: Dict[str, Callable[[Place], str]] = {
    "import": check_imports,
    "help": check_help,
    "rays": check_rays,
    "splats": check_splats,
    "images": check_images,
    "nerfacto": check_nerfacto,
    "absent": check_absent,
    "units": check_units,
    "goldens": check_goldens,
    "priors": check_priors,
    "photos": check_photos,
}
"""Checks by name: functions of an environment that return what they found, '' where it has nothing to check."""


def prepare(place: Place) -> None:
    """Makes the inputs of all checks, with the environment's own libraries.

    Raises:
        CheckError: they cannot be made.
    """
    place.run("python", "-W", "ignore", "-c", _INPUTS, place.folder, place.folder / "home")
