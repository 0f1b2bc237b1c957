"""`ns-fewshot photos`: from a folder of photos to a video, Gaussian splats and a page, in one command."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Literal, Optional, Tuple

import tyro

from fewshot_ns.scripts.photos_training import Training, check_method, check_needs, split_words
from fewshot_ns.scripts.prepare import PrepareCommand, prepare

if TYPE_CHECKING:
    from rich.console import Console

    from fewshot_ns.data.capture.preparation import Prepared

OUTPUTS = Path("outputs/photos")
SIDES = {"cpu": 320, "cuda": 1000}
"""Longer side of the pictures that are trained on where the user names none: ten minutes on two cores."""


@dataclass
class PhotosCommand:
    """Make a video and a splat of a folder of photos (or of a video): poses, training, rendering, one page.

    No photo is held back. What an earlier call has finished is used again, and a training that was interrupted goes on
    from its last checkpoint. Further flags of ns-train may follow at the end after `--`.
    """

    images: tyro.conf.Positional[Path]
    """Folder of two or more photos (JPEG, PNG, WebP, TIFF, BMP, HEIC), or a video."""
    output_dir: Optional[Path] = None
    """Where everything goes; open index.html in it. None: outputs/photos/NAME, with the name of the folder or video."""
    method: str = "sparse-splatfacto-lite"
    """Any method that trains on one scene; of Gaussian splats a .ply is written, too."""
    poses: Optional[str] = None
    """Poses that are known already, as in `ns-fewshot prepare`."""
    refine_poses: bool = False
    """Let training move the poses too, where they are not exact (nerfstudio's camera optimizer); best with splats."""
    side: Optional[int] = None
    """Longer side of the pictures that are trained on, pixels, at most; None: 320 on a CPU, 1000 on CUDA."""
    steps: Optional[int] = None
    """Training steps; None: the method's own."""
    frames: int = 60
    """Frames of the video, which flies from photo to photo and back to the first; at least one for each photo."""
    fps: int = 20
    """Frames per second of the video."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes CUDA where there is one."""
    seed: int = 42
    """Seed of the training."""
    force: bool = False
    """Do everything again, poses included, and replace what was made of other photos."""
    training_arguments: tyro.conf.Suppress[Tuple[str, ...]] = ()
    """Further flags of ns-train, after `--`."""

    def main(self) -> None:
        """Makes everything.

        Raises:
            CommandError: training failed.
            FileNotFoundError: no photos.
            ValueError: photos that cannot be placed, a method that does not train on one scene or lacks what it
                needs, or a folder that holds what was made of other photos.
        """
        from rich.console import Console

        from fewshot_ns.data.capture.poses import gives_depth
        from fewshot_ns.data.capture.preparation import check_capture
        from fewshot_ns.utils.processes import end_on_termination

        check_method(self.method)
        if self.frames < 2 or self.fps < 1:
            raise ValueError(f"expected --frames of at least 2 and --fps of at least 1, got {self.frames}, {self.fps}")
        console, started = Console(), time.monotonic()
        scene = self.folder / "scene"
        if not self.force:
            check_capture(self.images, scene)
        check_needs(self.method, self.training_arguments, gives_depth(self.poses))
        console.print(f"Everything goes to {self.folder}", highlight=False, soft_wrap=True)
        with end_on_termination():
            command = PrepareCommand(self.images, scene, poses=self.poses, depth=False, seed=0, force=self.force)
            prepared = prepare(command, console)
            run = self._training(prepared).run(prepared.scene, console, self.force)
            ply = self._splats(run, console)
            video = self._video(run, len(prepared.poses.names))
            page = self._page(prepared, video, ply)
        console.print(f"Finished in {time.monotonic() - started:.0f} s. Open [bold]{page}[/bold] in a browser.")
        console.print(f"Walk around in it: ns-fewshot view {run}", highlight=False)

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        if self.output_dir is not None:
            return self.output_dir
        source = self.images.resolve()
        return OUTPUTS / (source.stem if source.is_file() else source.name)

    @property
    def _on(self) -> str:
        import torch

        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def _training(self, prepared: Prepared) -> Training:
        """How the scene is trained on."""
        from fewshot_ns.utils.hashing import digest, file_key

        longest = int(prepared.poses.sizes.max())
        factor = max(1, math.ceil(longest / (self.side or SIDES[self._on])))
        settings = (self.method, factor, self.steps, self.seed, self._on, self.refine_poses)
        of_method, of_parser = split_words(self.training_arguments)
        words = ["--machine.device-type", self._on, "--machine.seed", str(self.seed)]
        words += [] if self.steps is None else ["--max-num-iterations", str(self.steps)]
        words += ["--pipeline.model.camera-optimizer.mode", "SO3xR3"] if self.refine_poses else []
        return Training(
            output_dir=self.folder,
            method=self.method,
            # The user's come last, and win.
            words=(*words, *of_method),
            parser_words=("--downscale-factor", str(factor), *of_parser),
            key=digest(*settings, file_key(prepared.scene / "transforms.json"), *self.training_arguments),
            note=f" at 1/{factor} of the photos' size",
        )

    def _splats(self, run: Path, console: Console) -> Optional[Path]:
        """The Gaussians as a .ply; None where the model has none."""
        import contextlib
        import io

        from fewshot_ns.model_components.splatting.ply import find_splats, write_splats
        from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModel
        from fewshot_ns.scripts.runs import load_run
        from fewshot_ns.utils.hashing import digest, file_key

        path = self.folder / "splats.ply"
        key = digest(*(file_key(file) for file in sorted(run.rglob("step-*.ckpt"))))
        if find_splats(path, key) is not None:
            return path
        with contextlib.redirect_stdout(io.StringIO()):
            model = load_run(run / "config.yml", test_mode="inference").model
        if not isinstance(model, SparseSplatfactoModel):
            return None
        found = write_splats({**model.gauss_params, "opacities": model.opacities}, path, key)
        console.print(f"{path}: {found.count} Gaussians", highlight=False)
        return path

    def _video(self, run: Path, photos: int) -> Path:
        from fewshot_ns.scripts.video import VideoCommand

        path = self.folder / "video.mp4"
        options = {"kind": "interpolate", "frames": max(self.frames, photos), "fps": self.fps}
        VideoCommand(load_config=run / "config.yml", output=path, gif=False, **options).main()  # type: ignore[arg-type]
        return path

    def _page(self, prepared: Prepared, video: Path, ply: Optional[Path]) -> Path:
        from fewshot_ns.presentation.html_page import Download, Picture, ReportPage, Section, Video, write_page
        from fewshot_ns.presentation.tables import Column, Table

        trust, poses = prepared.trust, prepared.poses
        said: List[str] = [f"{len(poses.names)} of {len(prepared.photos)} photos have poses: {trust.verdict}."]
        said += [f"{reason}." for reason in trust.reasons]
        said += [f"{name} was left out: {reason}." for name, reason in prepared.left_out.items()]
        said += [f"{warning}." for warning in prepared.warnings]
        rows = [[photo.name, photo.points, photo.error] for photo in trust.photos]
        table = Table((Column("photo"), Column("points"), Column("reprojection error, pixels", 2)), rows)
        folder = prepared.scene / "images"
        downloads = [Download("video.mp4", "The video"), Download("scene/transforms.json", "The poses")]
        downloads += [] if ply is None else [Download("splats.ply", "The Gaussians, for any viewer of splats")]
        sections = [
            Section(
                "Between the photos", [f"Method: {self.method}. Left: colour, right: depth."], videos=[Video(video)]
            ),
            Section("Files", downloads=downloads),
            Section("The photos", pictures=[Picture(_small(folder / name), name) for name in poses.names]),
            Section("How far the poses can be trusted", said, tables=[table] if rows else []),
        ]
        path = self.folder / "index.html"
        write_page(ReportPage(f"From {len(poses.names)} photos", sections), path)
        return path


def _small(path: Path):
    """The photo at a size for a page, (H, W, 3) uint8."""
    import numpy as np

    from fewshot_ns.data.files.images import opened_image

    with opened_image(path) as photo:
        image = photo.convert("RGB")
        image.thumbnail((360, 360))
        return np.asarray(image)
