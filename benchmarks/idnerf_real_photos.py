"""Does a decoder on matching features carry over to a scene it has never seen? Real photos.

    FEWSHOT_DATA=... FEWSHOT_WEIGHTS=... python benchmarks/idnerf_real_photos.py --output-dir outputs/idnerf_real_photos

Trains idnerf-lite and matchnerf-lite on views of scan24 and Lego, each with the features of the real two-scale GMFlow
and with colours alone, and tests on fern from the three views nearest to each target, and on views of
scan24 and Lego that training has not seen. Every eighth view of a scene is kept for testing. Prints and writes the PSNR
of all, of the nearest source view, and of the three views warped and blended: onto one plane, and by a plane sweep; and
pictures. What is there already is kept.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch
import tyro

from fewshot_ns.evaluation.baselines.sources import plane_sweep
from fewshot_ns.evaluation.baselines.trivial import TrivialBaselines
from fewshot_ns.presentation.tables import Column, Table, as_markdown, print_table

COLOURS = ("--pipeline.model.matching-features", "False")
VARIANTS: Dict[str, Tuple[str, ...]] = {
    "features": ("idnerf-lite",),
    "colours": ("idnerf-lite", *COLOURS),
    # Features are compared, and the decoder is told how alike they are, not what they are.
    "similarities": ("matchnerf-lite",),
    "unrefined-colours": ("matchnerf-lite", *COLOURS),
}
"""Methods and their flags."""
LENS = ("fl_x", "fl_y", "cx", "cy")


@dataclass
class Arguments:
    """Flags of the benchmark."""

    output_dir: Path = Path("outputs/idnerf_real_photos")
    """Where scenes, runs, table and pictures go."""
    data: Path = field(default_factory=lambda: Path(os.environ.get("FEWSHOT_DATA", "../shared/data")))
    """Folder of the real scenes."""
    width: int = 192
    """Width of the photos, pixels."""
    steps: int = 4000
    """Training steps."""
    variants: Tuple[str, ...] = tuple(VARIANTS)
    """What source views are compared by."""
    device: str = "cpu"
    """Where to train."""


def write_scene(parser: Any, folder: Path, width: int, leave_out: Sequence[int] = ()) -> None:
    """A scene of any of the package's formats, over black and in smaller, as a nerfstudio scene with near and far."""
    import cv2

    from fewshot_ns.data.files.images import read_image

    files, selection, _ = parser.read_views()
    frames: List[Dict[str, Any]] = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for view in selection.views:
        if view in leave_out:
            continue
        image = np.asarray(read_image(files.images[view]), dtype=np.float32) / 255.0
        if image.shape[2] == 4:
            image = image[..., :3] * image[..., 3:]
        size = (width, round(width * image.shape[0] / image.shape[1]))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        name = f"images/{view:03d}.png"
        cv2.imwrite(str(folder / name), np.round(small[..., ::-1] * 255.0))
        fx, fy, cx, cy = files.intrinsics[view]
        pose = np.vstack([files.camera_to_worlds[view][:3], [0.0, 0.0, 0.0, 1.0]])
        intrinsics = {"fl_x": fx * size[0], "fl_y": fy * size[1], "cx": cx * size[0], "cy": cy * size[1]}
        frames.append({"file_path": name, "w": size[0], "h": size[1], **intrinsics, "transform_matrix": pose.tolist()})
    bounds = {"near": files.geometry.near, "far": files.geometry.far}
    (folder / "transforms.json").write_text(json.dumps({**bounds, "frames": frames}))


def write_scenes(data: Path, folder: Path, width: int) -> None:
    """The three scenes: scan24 and Lego train and test, fern tests."""
    from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
    from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
    from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
    from fewshot_ns.data.views.selection import DTU_BAD_EXPOSURE

    lego = FewShotBlenderDataParserConfig(data=data / "nerf_synthetic_half" / "lego", num_views=100)
    scan = DTUDataParserConfig(data=data / "dtu" / "Rectified" / "scan24", view_protocol="all", num_views=49)
    fern = LLFFDataParserConfig(data=data / "nerf_llff_data" / "fern", ray_space="metric", num_views=17)
    write_scene(fern.setup(), folder / "test" / "fern", width)
    write_scene(scan.setup(), folder / "test" / "scan24", width, DTU_BAD_EXPOSURE)
    parser = lego.setup()
    # Its test views are another 200 photos.
    write_scene(parser, folder / "test" / "lego", width * 3 // 4, range(100, 1000))
    (folder / "train").mkdir()
    for name in ("scan24", "lego"):
        (folder / "train" / name).symlink_to(Path("..") / "test" / name)


def parser_flags() -> List[str]:
    """Of the scenes as they have been written."""
    own = ("--orientation-method", "none", "--center-method", "none", "--auto-scale-poses", "False")
    return ["scene-folder-data", "fewshot-nerfstudio-data", *own, "--background", "black"]


def run(command: Sequence[str]) -> None:
    """Runs one of the commands that are installed beside this Python."""
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)


def train(arguments: Arguments, variant: str, scenes: Path) -> Path:
    """Trains where that has not been done; the run's config."""
    method, *flags = VARIANTS[variant]
    folder = arguments.output_dir / "photos" / method / variant
    if not (folder / "train_stats.json").is_file():
        length = str(arguments.steps)
        run(
            [
                *("ns-train", method, "--data", str(scenes), "--max-num-iterations", length),
                *("--output-dir", str(arguments.output_dir), "--experiment-name", "photos", "--timestamp", variant),
                *("--vis", "tensorboard", "--machine.device-type", arguments.device, "--machine.seed", "0"),
                *("--steps-per-eval-image", "0", "--optimizers.field.scheduler.max-steps", length),
                *("--optimizers.latent.scheduler.max-steps", length),
                *(*flags, *parser_flags()),
            ]
        )
    return folder / "config.yml"


def evaluate(config: Path, output: Path) -> List[Dict[str, Any]]:
    """Rows of all test views, with what needs no network."""
    if not output.is_file():
        metrics = ("--metrics", "psnr", "ssim", "lpips")
        pictures = ("--render-dir", str(output.with_suffix("")))
        run(["ns-fewshot", "eval", "--load-config", str(config), *metrics, "--output-path", str(output), *pictures])
    lines = output.with_suffix(".jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


class WrittenScene:
    """A scene as `write_scene` left it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / "transforms.json").read_text())
        self.near, self.far, self.frames = meta["near"], meta["far"], meta["frames"]

    def image(self, view: int) -> torch.Tensor:
        """(H, W, 3) photo."""
        from fewshot_ns.data.files.images import read_image

        return torch.from_numpy(read_image(self.folder / self.frames[view]["file_path"])).float() / 255.0

    def cameras(self, views: Sequence[int]) -> Tuple[torch.Tensor, torch.Tensor]:
        """(N, 3, 4) poses and (N, 4) lenses."""
        poses = torch.tensor([self.frames[view]["transform_matrix"] for view in views])[:, :3]
        return poses, torch.tensor([[self.frames[view][key] for key in LENS] for view in views])

    def predictions(self, view: int, sources: Sequence[int]) -> Dict[str, torch.Tensor]:
        """What needs no network: the photo nearest to a view, and blends of the photos warped into it."""
        photos, truth = [self.image(source) for source in sources], self.image(view)
        poses, lenses = self.cameras([view, *sources])
        # Halfway between near and far in inverse depth, the one plane that is wrong by the least parallax.
        middle = 2.0 / (1.0 / self.near + 1.0 / self.far)
        size = (truth.shape[0], truth.shape[1])
        given = (torch.stack(photos), poses[1:], lenses[1:], poses[0], lenses[0], size)
        return {
            "nearest view": TrivialBaselines(photos, poses[1:]).predict_pose(poses[0], *size)["nearest_view"],
            "blend, one plane": plane_sweep(*given, middle, 1.0001 * middle, planes=1),
            "blend, plane sweep": plane_sweep(*given, self.near, self.far),
            "truth": truth,
        }


def compare(
    arguments: Arguments, scenes: Path, rows: Dict[str, List[Dict[str, Any]]]
) -> Tuple[Dict[str, Dict[str, List[float]]], Dict[str, Dict[str, torch.Tensor]]]:
    """PSNR per scene and way, a value per view, and the images of one view per scene."""
    from fewshot_ns.data.files.images import read_image
    from fewshot_ns.evaluation.metrics.image import psnr

    values: Dict[str, Dict[str, List[float]]] = {}
    shown: Dict[str, Dict[str, torch.Tensor]] = {}
    for places in zip(*rows.values(), strict=True):
        name, view = places[0]["scene"], places[0]["view_index"]
        images = WrittenScene(scenes / "test" / name).predictions(view, places[0]["sources"])
        truth = images.pop("truth")
        for variant, row in zip(rows, places, strict=True):
            if (row["scene"], row["view_index"], row["sources"]) != (name, view, places[0]["sources"]):
                raise ValueError(f"{variant}: expected {name}, view {view}, found {row['scene']}, {row['view_index']}")
            path = arguments.output_dir / variant / name / f"{view:06d}.png"
            images[f"network, {variant}"] = torch.from_numpy(read_image(path)).float() / 255.0
        for way, image in images.items():
            values.setdefault(name, {}).setdefault(way, []).append(float(psnr(image, truth)))
        # The second view of each scene.
        if len(next(iter(values[name].values()))) == 2:
            shown[name] = {**images, "truth": truth}
    return values, shown


def draw(shown: Dict[str, Dict[str, torch.Tensor]], path: Path) -> None:
    """One row per scene, one column per way."""
    from matplotlib.figure import Figure

    columns = len(next(iter(shown.values())))
    figure = Figure(figsize=(2.2 * columns, 1.9 * len(shown)), layout="tight")
    axes = figure.subplots(len(shown), columns, squeeze=False)
    for row, (name, images) in zip(axes, shown.items(), strict=True):
        for axis, (way, image) in zip(row, images.items(), strict=True):
            axis.imshow(image.clamp(0.0, 1.0).numpy())
            axis.set_title(f"{name}: {way}", fontsize=7)
            axis.set_axis_off()
    figure.savefig(path, dpi=110)


def main(arguments: Arguments) -> None:
    """Runs what is missing, prints the table, writes `table.md` and `views.png`."""
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    scenes = arguments.output_dir / "scenes"
    if not scenes.is_dir():
        fresh = arguments.output_dir / ".scenes"
        shutil.rmtree(fresh, ignore_errors=True)
        write_scenes(arguments.data, fresh, arguments.width)
        fresh.rename(scenes)
    rows = {
        name: evaluate(train(arguments, name, scenes), arguments.output_dir / f"{name}.json")
        for name in arguments.variants
    }
    values, shown = compare(arguments, scenes, rows)
    ways = list(next(iter(values.values())))
    columns = [Column(title) for title in ("scene", "views", *ways)]
    means = [[name, len(of[ways[0]]), *(float(np.mean(of[way])) for way in ways)] for name, of in values.items()]
    table = Table(columns, means)
    print_table(table, "PSNR from the three nearest views")
    (arguments.output_dir / "table.md").write_text(as_markdown(table))
    draw(shown, arguments.output_dir / "views.png")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
