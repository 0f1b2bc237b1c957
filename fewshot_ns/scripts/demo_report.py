"""What the demo leaves behind: numbers, a table, a contact sheet, a video, and one page with all of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

import cv2
import numpy as np

from fewshot_ns.evaluation.records.ledger import LedgerRow
from fewshot_ns.presentation.html_page import Picture, ReportPage, Section, Video, write_page
from fewshot_ns.presentation.pictures import LabelledImage, colorize_depth, colorize_error, contact_sheet, save_png
from fewshot_ns.presentation.tables import Column, Table, as_markdown, print_table
from fewshot_ns.presentation.video import colour_depth, depth_range, enlarge, write_video
from fewshot_ns.scripts.demo_renders import DemoRenders
from fewshot_ns.utils.files import replacing, write_json

if TYPE_CHECKING:
    from fewshot_ns.scripts.demo import DemoCommand, Variant

COLUMNS = (
    Column("sparsenerf-lite"),
    Column("PSNR", 2, True),
    Column("SSIM", 3, True),
    Column("LPIPS", 3, False),
    Column("depth error %", 1, False),
    Column("training s", 0),
)
_MARGIN = 12


@dataclass(frozen=True)
class VariantResult:
    """What one training came to."""

    variant: Variant
    """Which one."""
    metrics: Dict[str, Optional[float]]
    """Means over the held-out views, as ns-eval wrote them."""
    images: List[LedgerRow]
    """One row per held-out view, as ns-eval wrote them."""
    renders: DemoRenders
    """What its model shows."""
    depth_errors: List[float]
    """Mean relative error of the rendered distance, one per held-out view."""
    seconds: float
    """Wall clock of the training command."""


def write_report(command: DemoCommand, results: Sequence[VariantResult]) -> Path:
    """Writes results.json, table.md, contact_sheet.png, training_views.png, video.mp4 and index.html.

    Args:
        command: The demo.
        results: One per variant.

    Returns:
        The page.
    """
    folder = command.output_dir
    table = result_table(results)
    write_json(folder / "results.json", results_as_json(command, results))
    with replacing(folder / "table.md") as partial:
        partial.write_text(as_markdown(table, mark_best=True), encoding="utf8")
    near, far = depth_range([result.renders.held_out for result in results])
    save_png(held_out_sheet(results, near, far), folder / "contact_sheet.png")
    save_png(training_sheet(command, results[0].renders.train_files), folder / "training_views.png")
    write_video(folder / "video.mp4", video_frames(results, near, far), command.fps)
    page = folder / "index.html"
    write_page(report_page(command, results, table), page)
    return page


def print_results(results: Sequence[VariantResult]) -> None:
    """The table on the screen."""
    print_table(result_table(results), "held-out views")


def result_table(results: Sequence[VariantResult]) -> Table:
    """One row per variant."""
    rows: List[List[Any]] = []
    for result in results:
        means = [result.metrics.get(name) for name in ("psnr", "ssim", "lpips")]
        rows.append([result.variant.title, *means, 100.0 * float(np.mean(result.depth_errors)), result.seconds])
    caption = f"Means over {len(results[0].images)} held-out views. LPIPS (VGG) is n/a where its weights are not found."
    return Table(COLUMNS, rows, caption)


def results_as_json(command: DemoCommand, results: Sequence[VariantResult]) -> Dict[str, Any]:
    """Everything that the demo measured."""
    variants = {}
    for result in results:
        stats = command.run_dir(result.variant) / "train_stats.json"
        variants[result.variant.name] = {
            "title": result.variant.title,
            "metrics": result.metrics,
            "depth_error": float(np.mean(result.depth_errors)),
            "images": [asdict(row) for row in result.images],
            "training_seconds": result.seconds,
            "training": json.loads(stats.read_text()) if stats.is_file() else None,
            "config": str((command.run_dir(result.variant) / "config.yml").relative_to(command.output_dir)),
        }
    first, second = results[0].metrics, results[1].metrics
    gain = {
        name: first[name] - second[name]  # type: ignore[operator]
        for name in ("psnr", "ssim", "lpips")
        if first.get(name) is not None and second.get(name) is not None
    }
    return {
        "method": "sparsenerf-lite",
        "steps": command.steps,
        "seed": command.seed,
        "training_views": results[0].renders.train_files,
        "held_out_views": results[0].renders.held_out_files,
        "variants": variants,
        "gain_of_the_prior": gain,
    }


def held_out_sheet(results: Sequence[VariantResult], near: float, far: float) -> np.ndarray:
    """Rows: held-out views. Columns: truth, then render, depth and error of each variant."""
    rows = []
    for index, name in enumerate(results[0].renders.held_out_files):
        truth = results[0].renders.truth[index]
        row = [LabelledImage(truth, f"{name}\nthe photo")]
        for result in results:
            rgb = result.renders.held_out.rgb[index]
            psnr = result.images[index].metrics.get("psnr")
            caption = f"{result.variant.title}\n" + (f"PSNR {psnr:.2f}" if psnr is not None else "")
            row.append(LabelledImage(rgb, caption))
            depth = result.renders.held_out.depth[index]
            colours = colour_depth(depth, result.renders.held_out.accumulation[index], near, far)
            row.append(LabelledImage(colours, f"depth\nerror {100.0 * result.depth_errors[index]:.1f} %"))
            row.append(LabelledImage(colorize_error(rgb, truth), "difference to the photo"))
        rows.append(row)
    count = len(results[0].renders.train_files)
    return contact_sheet(rows, f"Held-out views after training on {count} photos", cell_width=220)


def training_sheet(command: DemoCommand, files: Sequence[str]) -> np.ndarray:
    """What training had: the photos, the coarse inverse depth, and beside it the exact one, which it had not."""
    rows = []
    for name in files:
        stem = Path(name).stem
        photo = cv2.imread(str(command.scene_dir / "images" / name))[..., ::-1]
        prior = cv2.imread(str(command.scene_dir / "depth_maps" / f"depth_{stem}.png"), cv2.IMREAD_UNCHANGED)
        exact = 1.0 / np.load(command.scene_dir / "exact_depth" / f"{stem}.npy")
        exact = (exact - exact.min()) / np.ptp(exact)
        rows.append(
            [
                LabelledImage(np.ascontiguousarray(photo), f"{name}: training photo"),
                LabelledImage(_inverse_depth_colours(prior / 65535.0), "depth prior, as coarse as a network's"),
                LabelledImage(_inverse_depth_colours(exact), "exact depth (not used)"),
            ]
        )
    return contact_sheet(rows, "Training views", cell_width=256)


def _inverse_depth_colours(inverse: np.ndarray) -> np.ndarray:
    """Inverse depth (H, W) in [0, 1] in the colours of the other pictures: near is blue."""
    return colorize_depth(-inverse, -1.0, 0.0)


def video_frames(results: Sequence[VariantResult], near: float, far: float) -> List[np.ndarray]:
    """Each frame: colour | depth with the prior, colour | depth without."""
    frames = []
    for index in range(len(results[0].renders.path.rgb)):
        row = []
        for result in results:
            path = result.renders.path
            factor = -(-240 // path.rgb[index].shape[0])
            depth = colour_depth(path.depth[index], path.accumulation[index], near, far)
            row.append(LabelledImage(enlarge(path.rgb[index], factor), result.variant.title))
            row.append(LabelledImage(enlarge(depth, factor), "depth"))
        frame = contact_sheet([row], cell_width=320, gap=_MARGIN)
        frames.append(np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]))
    return frames


def report_page(command: DemoCommand, results: Sequence[VariantResult], table: Table) -> ReportPage:
    """The page with all of it."""
    folder = command.output_dir
    views = len(results[0].renders.train_files)
    intro = (
        f"{views} photos of a small scene, {command.steps} training steps, twice: once with the depth ranking and "
        "continuity losses of SparseNeRF, fed by a coarse depth map per photo, and once without them. Everything else "
        "is equal. The scene is rendered by the package itself, so nothing was downloaded and the true depth is known."
    )
    prior = (
        "The prior stands for what a monocular depth network gives: the right order of near and far in most places, "
        "but no scale, no shift, bent, blurred, noisy, and wrong over whole regions. The losses use its order alone."
    )
    config = command.run_dir(results[0].variant) / "config.yml"
    how = (
        "Each training is an ordinary nerfstudio run. Look into one with "
        f"ns-viewer --load-config {config} --viewer.websocket-host 127.0.0.1",
        "The logs of all commands are in the folder logs, all numbers (also per view) in results.json.",
    )
    video = Video(folder / "video.mp4", "Left with the prior, right without it. Depth: blue is near, red is far.")
    held_out = Picture(folder / "contact_sheet.png", "Depth: blue is near, red is far. Difference: black is none.")
    training = Picture(folder / "training_views.png", "Blue is near, red is far.")
    unseen = "Photos that training has not seen, and what the two models make of them."
    return ReportPage(
        "fewshot_ns demo: what a depth prior is worth",
        (
            Section(paragraphs=(intro,), tables=(table,)),
            Section("A flight along a spiral", videos=(video,)),
            Section("Held-out views", paragraphs=(unseen,), pictures=(held_out,)),
            Section("What training saw", paragraphs=(prior,), pictures=(training,)),
            Section("How this was made", paragraphs=how),
        ),
    )
