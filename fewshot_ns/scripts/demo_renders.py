"""The demo's pictures of one trained run: its held-out views and a spiral, kept in one file."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import List, cast

import numpy as np
import tyro

from fewshot_ns.data.datamanagers.fewshot import FewShotDataManager
from fewshot_ns.presentation.video import Frame, RenderedPath, render_path
from fewshot_ns.scripts.camera_path import PathOptions, build_camera_path
from fewshot_ns.scripts.runs import load_run
from fewshot_ns.scripts.video import path_cameras
from fewshot_ns.utils.files import replacing


@dataclass(frozen=True)
class DemoRenders:
    """What one model shows."""

    train_files: List[str]
    """Names of the training photos."""
    held_out_files: List[str]
    """Names of the T held-out photos."""
    truth: List[Frame]
    """The T held-out photos, (H, W, 3)."""
    held_out: RenderedPath
    """Their renders."""
    path: RenderedPath
    """A spiral."""
    scale: float
    """World units per unit of the scene's files."""


@dataclass
class RenderDemo:
    """Render a run's held-out views and a spiral into one .npz file."""

    load_config: Path
    """config.yml of the run."""
    output: Path
    """File to write."""
    frames: int
    """Frames of the spiral."""

    def main(self) -> None:
        """Renders; prints a line for each frame."""
        pipeline = load_run(self.load_config, test_mode="test")
        manager = cast(FewShotDataManager, pipeline.datamanager)
        options = PathOptions(kind="llff-spiral", frames=self.frames, rotations=1.0)
        path, _ = path_cameras(build_camera_path(options, manager.train_dataset.cameras, manager.fewshot_metadata))
        data = manager.eval_dataset
        total, done = len(data) + len(path), itertools.count(1)

        def on_frame() -> None:
            print(f"frame {next(done)}/{total}", flush=True)

        truth = [np.round(data.get_image_float32(index).numpy() * 255.0).astype(np.uint8) for index in range(len(data))]
        renders = DemoRenders(
            train_files=[file.name for file in manager.train_dataset.image_filenames],
            held_out_files=[file.name for file in data.image_filenames],
            truth=truth,
            held_out=render_path(pipeline, data.cameras, on_frame),
            path=render_path(pipeline, path, on_frame),
            scale=float(manager.train_dataparser_outputs.dataparser_scale),
        )
        save_renders(renders, self.output)


def save_renders(renders: DemoRenders, file: Path) -> None:
    """Writes everything into one .npz, whole or not at all."""
    arrays = {"train_files": np.array(renders.train_files), "held_out_files": np.array(renders.held_out_files)}
    arrays.update(truth=np.stack(renders.truth), scale=np.array(renders.scale))
    for name, part in (("held_out", renders.held_out), ("path", renders.path)):
        for field in ("rgb", "depth", "accumulation"):
            arrays[f"{name}_{field}"] = np.stack(getattr(part, field))
    with replacing(file) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_renders(file: Path) -> DemoRenders:
    """Reads what `save_renders` has written."""
    with np.load(file, allow_pickle=False) as arrays:
        parts = [
            RenderedPath(*(list(arrays[f"{name}_{field}"]) for field in ("rgb", "depth", "accumulation")))
            for name in ("held_out", "path")
        ]
        return DemoRenders(
            train_files=arrays["train_files"].tolist(),
            held_out_files=arrays["held_out_files"].tolist(),
            truth=list(arrays["truth"]),
            held_out=parts[0],
            path=parts[1],
            scale=float(arrays["scale"]),
        )


def depth_errors(renders: DemoRenders, scene: Path, focal_share: float) -> List[float]:
    """Mean relative error of the rendered distance, one per held-out view, against the scene's exact depth.

    Args:
        renders: What the model shows.
        scene: Folder of the demo scene.
        focal_share: Focal length as a share of the image's width.
    """
    errors = []
    for name, distance in zip(renders.held_out_files, renders.held_out.depth, strict=True):
        planar = np.load(scene / "exact_depth" / f"{Path(name).stem}.npy").astype(np.float64)
        height, width = planar.shape
        rows, columns = np.indices(planar.shape) + 0.5
        focal = focal_share * width
        stretch = np.sqrt(1.0 + ((columns - width / 2) / focal) ** 2 + ((rows - height / 2) / focal) ** 2)
        truth = planar * stretch * renders.scale
        errors.append(float(np.mean(np.abs(distance - truth) / truth)))
    return errors


if __name__ == "__main__":
    tyro.cli(RenderDemo).main()
