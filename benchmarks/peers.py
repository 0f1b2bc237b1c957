"""nerfstudio's own methods beside this package's, on the same views, with the same metrics, at equal CPU seconds.

    python benchmarks/peers.py --data FOLDER               # FEWSHOT_DATA by default; -> outputs/bench/peers
    python benchmarks/peers.py --cpu-seconds 75 --ours     # nerfstudio's alone, that long
    python benchmarks/peers.py --tuning --cpu-seconds 30   # nerfacto on views that no table reports

Two benchmarks, run by `ns-fewshot bench`: first this package's methods, each as long as it takes by itself, then
nerfacto and depth-nerfacto (and splatfacto where CUDA is), which on each scene get as many CPU seconds as the dearest
of the first needed. depth-nerfacto is given the depth that this package's stereo finds in the photos. What is finished
is kept, so that a run that broke off goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import peer_methods
import torch
import yaml

from fewshot_ns.bench.execution.cells import WorkerResources
from fewshot_ns.bench.recipes.protocols import find_protocol
from fewshot_ns.bench.results.cells import BenchResults, CellResult, read_results
from fewshot_ns.scripts.bench import BenchCommand
from fewshot_ns.utils.processes import CommandRunner, console_script

OURS = ("freenerf-lite", "stereo-nerf-lite", "sparse-splatfacto-lite")
PEERS = ("nerfacto", "depth-nerfacto", "splatfacto")


class Scene(NamedTuple):
    """A scene of the comparison."""

    path: str
    """Below the data root."""
    protocol: str
    """Which views train and test."""
    parser: str
    """Name of the dataparser."""
    flags: Dict[str, Any]
    """Its flags."""
    peer_flags: Dict[str, Any]
    """More of them for the peers, which sample in world space."""
    tuning: Tuple[Tuple[int, ...], Tuple[int, ...]]
    """Views that train and test where settings of the peers are chosen; no table reports them."""


SCENES = {
    "fern": Scene(
        "nerf_llff_data/fern",
        "llff-3",
        "llff-data",
        {"images-dir": "images_16", "downscale-factor": 2},
        {"ray-space": "metric"},
        ((2, 11, 18), (4, 9, 15)),
    ),
    "scan24": Scene(
        "dtu/Rectified/scan24",
        "dtu-3",
        "dtu-data",
        {"downscale-factor": 4, "resize": "area"},
        {},
        ((13, 28, 22), (25, 44, 16)),
    ),
    "lego": Scene(
        "nerf_synthetic_half/lego",
        "blender-8",
        "fewshot-blender-data",
        {"downscale-factor": 4},
        {},
        ((5, 17, 29, 41, 53, 65, 77, 89), (0, 35, 59)),
    ),
}


def main() -> None:
    """Trains what is missing and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FEWSHOT_DATA", "")))
    parser.add_argument("--output", type=Path, default=Path("outputs/bench/peers"))
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--ours", nargs="*", default=list(OURS), help="methods of this package; none: --cpu-seconds")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--cpu-seconds", type=float, help="of each peer, instead of as many as ours needed")
    parser.add_argument("--overrides", nargs="*", default=[], metavar="FLAG=VALUE", help="flags of ns-train for peers")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--tuning", action="store_true", help="nerfacto alone, on the views for choosing settings")
    arguments = parser.parse_args()
    peer_methods.register()
    cuda = torch.cuda.is_available() and arguments.device != "cpu"
    peers = [peer for peer in arguments.peers if peer != "splatfacto" or cuda]
    if len(peers) < len(arguments.peers):
        print("splatfacto: left out, its rasteriser wants CUDA")
    if arguments.tuning:
        arguments.ours, peers = [], ["nerfacto"]
    if not arguments.ours and arguments.cpu_seconds is None:
        parser.error("without --ours the peers need --cpu-seconds")
    output, results = arguments.output.absolute(), []
    if arguments.ours:
        results.append(_bench(ours_recipe(arguments), output / "ours", arguments))
    seconds = {name: arguments.cpu_seconds or dearest(results[0], name) for name in arguments.scenes}
    depths = {}
    if "depth-nerfacto" in peers:
        depths = {name: _stereo(SCENES[name], arguments.data, output / "depth" / name) for name in arguments.scenes}
    results.append(_bench(peers_recipe(arguments, peers, seconds, depths), output / "peers", arguments))
    print(table([cell for result in results for cell in result.cells]))


def ours_recipe(arguments: argparse.Namespace) -> Dict[str, Any]:
    """The benchmark of this package's methods, each at its own length."""
    scenes = [_scene(name, SCENES[name].flags, SCENES[name].protocol) for name in arguments.scenes]
    return {"name": "ours", "methods": list(arguments.ours), "scenes": scenes, **_common(arguments)}


def peers_recipe(
    arguments: argparse.Namespace, peers: Sequence[str], seconds: Dict[str, float], depths: Dict[str, Path]
) -> Dict[str, Any]:
    """The benchmark of nerfstudio's methods.

    Args:
        arguments: of the command.
        peers: nerfstudio's methods.
        seconds: CPU seconds of a training, by scene.
        depths: folders of depth maps by scene; empty where no peer needs them.
    """
    overrides = dict(flag.split("=", 1) for flag in arguments.overrides)
    methods = [
        {"method": f"peer-{peer}", "label": peer, "overrides": overrides, "as-published": False} for peer in peers
    ]
    scenes: List[Dict[str, Any]] = []
    for name in arguments.scenes:
        scene = SCENES[name]
        flags = {**scene.flags, **scene.peer_flags}
        if name in depths:
            flags |= {"depth-dir": str(depths[name])}
        protocol = scene.protocol
        if arguments.tuning:
            flags |= {"train-indices": list(scene.tuning[0]), "test-indices": list(scene.tuning[1])}
            protocol = "indices"
        scenes.append(
            {**_scene(name, flags, protocol), "overrides": {"max-train-cpu-seconds": round(seconds[name], 1)}}
        )
        if arguments.tuning:
            scenes[-1]["parser"] = scene.parser
    return {"name": "peers", "methods": methods, "scenes": scenes, **_common(arguments)}


def _scene(name: str, flags: Dict[str, Any], protocol: str) -> Dict[str, Any]:
    return {"path": SCENES[name].path, "name": name, "protocol": protocol, "dataparser": flags}


def _common(arguments: argparse.Namespace) -> Dict[str, Any]:
    return {"seeds": arguments.seeds, "evaluation": {"metrics": ["psnr", "ssim", "lpips"]}}


def _bench(recipe: Dict[str, Any], folder: Path, arguments: argparse.Namespace) -> BenchResults:
    """Runs a recipe, one training at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf8")
    BenchCommand(
        recipe=str(path), output_dir=folder, data=arguments.data, device=arguments.device, jobs=1, threads=1
    ).main()
    return read_results(folder)


def dearest(ours: BenchResults, scene: str) -> float:
    """CPU seconds of the training of ours on a scene that cost most; mean over seeds of the method.

    Raises:
        SystemExit: none was finished.
    """
    costs: Dict[str, List[float]] = {}
    for cell in ours.cells:
        if cell.scene == scene and cell.finished:
            costs.setdefault(cell.label, []).append(float(cell.training["cpu_seconds"]))
    if not costs:
        raise SystemExit(f"{scene}: no method of this package was finished; the peers need --cpu-seconds")
    return max(sum(seconds) / len(seconds) for seconds in costs.values())


def _stereo(scene: Scene, data: Path, folder: Path) -> Path:
    """Depth maps that the training photos give of each other, made once."""
    if not folder.is_dir():
        flags = [word for key, value in scene.flags.items() for word in (f"--{key}", str(value))]
        command = [str(console_script("ns-fewshot")), "depth", "--data", str(data / scene.path), "--source", "stereo"]
        command += ["--output", str(folder), scene.parser, *find_protocol(scene.protocol).flags, *flags]
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            CommandRunner().run(command, folder.with_suffix(".log"), None, WorkerResources().environment("cpu"))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder


def table(cells: Sequence[CellResult]) -> str:
    """A row per scene and method, means over seeds, as Markdown; of DTU the metrics of the object."""
    rows: Dict[Tuple[str, str], List[CellResult]] = {}
    for cell in cells:
        if cell.finished:
            rows.setdefault((cell.scene, cell.label), []).append(cell)
    lines = ["| scene | method | seeds | steps | CPU s | PSNR | SSIM | LPIPS |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (scene, label), group in sorted(rows.items(), key=lambda row: (list(SCENES).index(row[0][0]), 0)):
        protocol = find_protocol(SCENES[scene].protocol)
        steps = _mean([float(cell.steps or 0) for cell in group])
        seconds = _mean([float(cell.training.get("cpu_seconds") or 0.0) for cell in group])
        columns = (("psnr", 2), ("ssim", 3), ("lpips", 3))
        figures = [_metric(group, protocol.metric(name), digits) for name, digits in columns]
        lines.append(f"| {scene} | `{label}` | {len(group)} | {steps:.0f} | {seconds:.0f} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _metric(cells: Sequence[CellResult], name: str, digits: int) -> str:
    values = [cell.metrics.get(name) for cell in cells]
    known = [value for value in values if value is not None]
    return "n/a" if len(known) < len(values) else f"{_mean(known):.{digits}f}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
