"""`ns-fewshot prepare`: photos without poses, or a video, to a scene that every per-scene method takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Optional

if TYPE_CHECKING:
    from rich.console import Console

    from fewshot_ns.data.capture.preparation import Prepared


@dataclass
class PrepareCommand:
    """Make a scene of a folder of photos or of a video: poses, sparse points, and a page to look at.

    Poses are found by COLMAP (pycolmap, on a CPU), or read from what something else has found. Every stage is kept in
    the scene's folder and used again.
    """

    images: Path
    """Folder of photos (JPEG, PNG, WebP, TIFF, BMP, HEIC), or a video."""
    output: Path
    """Folder of the scene to write."""
    poses: Optional[str] = None
    """Poses that are known already: a COLMAP model's folder, an .npz with extrinsics, intrinsics and perhaps depth (as
    VGGT, MapAnything, MASt3R and Depth Anything 3 export them), or depth-anything-3 to run that network where its
    package is installed; None: COLMAP finds them."""
    max_side: int = 1600
    """Longer side above which photos are made smaller, pixels."""
    frames: int = 8
    """How many frames of a video are taken, each the sharpest of its part."""
    camera_model: Literal["auto", "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"] = "auto"
    """COLMAP's camera model; auto: SIMPLE_RADIAL from six photos of a camera on, else SIMPLE_PINHOLE. Photos of a bent
    lens are straightened."""
    hold_out: int = 0
    """How many photos are kept back to measure on; 0: all are trained on."""
    depth: bool = True
    """Whether depth is matched in the photos, which the depth priors and splats then find ready, and shown."""
    device: str = "cpu"
    """Where a geometry network runs: cpu or cuda."""
    threads: int = 0
    """CPU threads of COLMAP; 0: all."""
    seed: int = 0
    """Of COLMAP's random choices."""
    force: bool = False
    """Find the poses anew, and replace a scene of other photos. Without it poses that an earlier call has found for the
    same photos and settings are taken again, since COLMAP would find slightly others."""

    def main(self) -> None:
        """Writes the scene.

        Raises:
            FileNotFoundError: no photos, or no poses.
            ValueError: photos that cannot be read or placed.
            CommandError: COLMAP failed.
        """
        from rich.console import Console

        prepared = prepare(self, Console())
        if prepared.trust.verdict != "doubtful":
            Console().print(f"Train on it: ns-train sparse-splatfacto-lite --data {prepared.scene}", highlight=False)


def prepare(command: PrepareCommand, console: Console) -> Prepared:
    """Makes the scene and its page, and says how far it can be trusted."""
    import os

    from rich.markup import escape

    from fewshot_ns.data.capture.preparation import PrepareOptions, prepare_scene
    from fewshot_ns.scripts.inspect import InspectCommand

    options = PrepareOptions(
        poses=command.poses,
        max_side=command.max_side,
        frames=command.frames,
        camera_model=command.camera_model,
        hold_out=command.hold_out,
        threads=command.threads or os.cpu_count() or 1,
        device=command.device,
        seed=command.seed,
        force=command.force,
    )
    with console.status("reading photos") as status:

        def say(text: str) -> None:
            status.update(escape(text))
            if not console.is_terminal:
                console.print(text, highlight=False, markup=False)

        prepared = prepare_scene(command.images, command.output, options, say)
    _print(prepared, console)
    if command.depth:
        page = command.output / "inspect.html"
        own = "fewshot-nerfstudio-data"
        InspectCommand(command.output, own, output=page, depth_source="stereo", path="none").main()
    return prepared


def _print(prepared: Prepared, console: Console) -> None:
    from fewshot_ns.data.capture.trust import WHAT_TO_DO, count_of

    trust, poses = prepared.trust, prepared.poses
    colour = {"good": "green", "fair": "yellow", "doubtful": "red"}[trust.verdict]
    console.print(
        f"{len(poses.names)} of {len(prepared.photos)} photos have poses ({poses.source}): "
        f"[bold {colour}]{trust.verdict}[/bold {colour}]" + (f", {'; '.join(trust.reasons)}" if trust.reasons else ""),
        highlight=False,
    )
    figures = [count_of(trust.num_points, "point")]
    if trust.error is not None and trust.angle is not None:
        figures += [f"reprojection error {trust.error:.2f} pixels", f"median angle {trust.angle:.1f} degrees"]
    if trust.matches is not None:
        figures.append(f"at least {count_of(trust.matches, 'match', 'matches')} to a neighbour")
    focal = sorted({round(float(value)) for value in poses.intrinsics[:, 0]})
    figures.append(f"focal length {', '.join(map(str, focal))} pixels ({prepared.focal})")
    console.print("  " + "; ".join(figures), highlight=False)
    for name, reason in prepared.left_out.items():
        console.print(f"[yellow]left out[/yellow] {name}: {reason}", highlight=False)
    for warning in prepared.warnings:
        console.print(f"[yellow]note[/yellow] {warning}", highlight=False)
    if trust.verdict == "doubtful":
        console.print(
            f"[yellow]Training on this will hardly work: {'; '.join(trust.reasons)}. {WHAT_TO_DO}[/yellow]",
            highlight=False,
            soft_wrap=True,
        )
