"""What refining the poses of training photos gives back where they were disturbed: fern, photos of 126x94.

    python benchmarks/pose_refinement.py --data FOLDER     # FEWSHOT_DATA by default

Views 2, 11 and 18 train unless told otherwise, 4, 6, 9, 13 and 15 are measured; no published table uses these. Poses of
photos that train are turned about random axes and moved in random directions; those that are measured stay. Poses are
compared after the similarity transformation that fits best. A field whose cameras were free lies in a frame of its
own, so each view is measured twice: from its given pose, and after its pose alone was fitted to its photo.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.lie_groups import exp_map_SO3xR3
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from fewshot_ns import registry
from fewshot_ns.cameras.pose_corrections import corrected_cameras, corrected_rays
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.models.image_model import ImageModel
from fewshot_ns.utils.cache import CACHE_ENV

TEST = (4, 6, 9, 13, 15)
DEPTH = 3.0
"""Planar depth of most of fern, scene units; what a share of it is moved by."""


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FEWSHOT_DATA", "")))
    parser.add_argument("--train", type=int, nargs="+", default=[2, 11, 18], help="views that train")
    parser.add_argument("--methods", nargs="+", default=["stereo_nerf_lite"])
    parser.add_argument("--degrees", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--percent", type=float, default=1.0, help="of the depth, per degree")
    parser.add_argument("--modes", nargs="+", default=["off", "SO3xR3"])
    parser.add_argument("--rate", type=float, nargs="+", default=[1e-3])
    parser.add_argument("--penalties", type=float, nargs=2, default=[1e-2, 1e-3], help="of translation, of rotation")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scene = arguments.data / "nerf_llff_data" / "fern"
    print(
        "| method | disturbed | mode | rotation before | after, ° | position before | after | PSNR | fitted | CPU s |"
    )
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    ways = [(mode, rate) for mode in arguments.modes for rate in (arguments.rate if mode != "off" else [0.0])]
    # One folder, kept to the end: nerfstudio's writers never close their files.
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_ENV] = str(Path(folder) / "cache")
        for number, (method, degrees, (mode, rate)) in enumerate(
            (method, degrees, way) for method in arguments.methods for degrees in arguments.degrees for way in ways
        ):
            place = Path(folder) / str(number)
            _disturb(scene, place / "fern", degrees, arguments)
            row = _run(scene, place, method, mode, rate, arguments)
            name = mode if rate == 0.0 else f"{mode}, {rate:g}"
            print(f"| {method.replace('_', '-')} | {degrees:g} | {name} | {row} |", flush=True)


def _disturb(scene: Path, folder: Path, degrees: float, arguments: argparse.Namespace) -> None:
    """A copy of the scene whose training poses are turned by some degrees and moved by a share of the depth."""
    share = arguments.percent / 100.0 * degrees
    folder.mkdir(parents=True)
    shutil.copytree(scene / "images_16", folder / "images_16")
    rows = np.load(scene / "poses_bounds.npy")
    # Of the file, whose world is scaled when it is read: depths there are near / 0.75 times those here.
    unit = 0.75 * rows[:, 15:].min() * DEPTH
    draw = np.random.default_rng(arguments.seed)
    for view in arguments.train:
        axis, away = (vector / np.linalg.norm(vector) for vector in draw.normal(size=(2, 3)))
        matrix = rows[view, :15].reshape(3, 5)
        tangent = torch.tensor(np.concatenate([share * unit * away, np.deg2rad(degrees) * axis]))[None]
        change = exp_map_SO3xR3(tangent)[0].numpy()
        matrix[:, :3] = change[:, :3] @ matrix[:, :3]
        matrix[:, 3] += change[:, 3]
        rows[view, :15] = matrix.reshape(-1)
    np.save(folder / "poses_bounds.npy", rows)


def _parser(scene: Path, train: Sequence[int]) -> LLFFDataParserConfig:
    views: Dict[str, Any] = {"train_indices": tuple(train), "test_indices": TEST}
    return LLFFDataParserConfig(data=scene, images_dir=Path("images_16"), downscale_factor=2, **views)


def _run(scene: Path, folder: Path, method: str, mode: str, rate: float, arguments: argparse.Namespace) -> str:
    config: Any = deepcopy(registry.method_specification(method).config)
    config.pipeline.datamanager.dataparser = _parser(folder / "fern", arguments.train)
    config.pipeline.evaluation.metrics = ("psnr",)
    optimizer = config.pipeline.model.camera_optimizer
    optimizer.mode, (optimizer.trans_l2_penalty, optimizer.rot_l2_penalty) = mode, arguments.penalties
    config.optimizers["camera_opt"]["optimizer"].lr = rate
    config.output_dir, config.experiment_name, config.timestamp = folder, "run", "0"
    config.vis, config.machine.device_type, config.max_num_iterations = "tensorboard", "cpu", arguments.steps
    config.steps_per_eval_image, config.steps_per_save, config.logging.local_writer.enable = 0, 10**9, False
    CONSOLE.quiet = True
    torch.manual_seed(arguments.seed)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        before = time.process_time()
        trainer.train()
        seconds = time.process_time() - before
        given = trainer.pipeline.get_average_eval_image_metrics()["psnr"]
    truth = _parser(scene, arguments.train).setup().get_dataparser_outputs("train").cameras.camera_to_worlds
    model, cameras = trainer.pipeline.model, trainer.pipeline.datamanager.train_dataset.cameras
    with torch.no_grad():
        refined = model.train().training_cameras(cameras).camera_to_worlds
    given_poses, target = cameras.camera_to_worlds, truth.double().numpy()
    errors = [_pose_errors(poses.double().numpy(), target) for poses in (given_poses, refined)]
    columns = [f"{error[axis]:.{2 + axis}f}" for axis in (0, 1) for error in errors]
    return " | ".join([*columns, f"{given:.2f}", f"{_fitted_psnr(trainer.pipeline):.2f}", f"{seconds:.0f}"])


def _pose_errors(found: npt.NDArray, truth: npt.NDArray) -> Tuple[float, float]:
    """Mean degrees and mean distance, scene units, between poses (V, 3, 4) after a similarity transformation."""
    u, _, v = np.linalg.svd(np.einsum("vij,vkj->ik", truth[..., :3], found[..., :3]))
    turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
    turned, target = found[..., 3] @ turn.T, truth[..., 3]
    turned, target = turned - turned.mean(0), target - target.mean(0)
    scale = (turned * target).sum() / (turned**2).sum()
    cosines = (np.einsum("ij,vjk,vik->v", turn, found[..., :3], truth[..., :3]) - 1.0) / 2.0
    return float(np.rad2deg(np.arccos(cosines.clip(-1, 1))).mean()), float(
        np.linalg.norm(scale * turned - target, axis=-1).mean()
    )


def _fitted_psnr(pipeline: Any, steps: int = 100, rays: int = 512, rate: float = 2e-3) -> float:
    """Mean PSNR of the measured views from the poses that fit their photos best, the field being as it is."""
    model, dataset = pipeline.model.eval(), pipeline.datamanager.eval_dataset
    values = []
    for index in range(len(dataset)):
        photo, camera = dataset.get_image_float32(index)[..., :3], dataset.cameras[index : index + 1]
        bundle = camera.generate_rays(camera_indices=0, keep_shape=True).flatten()
        splats = isinstance(model, ImageModel)
        tangent = torch.zeros(1, 6, requires_grad=True)
        optimizer = torch.optim.Adam([tangent], rate)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate * 0.1 ** (step / steps)
            chosen = torch.randint(len(bundle), (rays,))
            if splats:
                shown = model.render_cameras(corrected_cameras(camera, exp_map_SO3xR3(tangent))).rgb[0]
                loss = (shown - photo).square().mean()
            else:
                moved = corrected_rays(bundle[chosen], exp_map_SO3xR3(tangent))
                loss = (model.render_bundle(moved).rgb - photo.reshape(-1, 3)[chosen]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            shown = model.get_outputs_for_camera(corrected_cameras(camera, exp_map_SO3xR3(tangent)))["rgb"]
        values.append(_psnr(shown, photo))
    return float(np.mean(values))


def _psnr(rendered: Tensor, photo: Tensor) -> float:
    return float(-10.0 * torch.log10((rendered - photo).square().mean()))


if __name__ == "__main__":
    main()
