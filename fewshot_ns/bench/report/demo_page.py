"""The demo's page: the cells of the built-in scene side by side, with the true depth and a video along a spiral."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import cv2
import numpy as np

from fewshot_ns.bench.report.pictures import KeptView, read_view
from fewshot_ns.bench.results.cells import BenchResults, CellResult
from fewshot_ns.presentation.html_page import Picture, ReportPage, Section, Video, write_page
from fewshot_ns.presentation.pictures import (
    LabelledImage,
    colorize_depth,
    colorize_error,
    contact_sheet,
    save_png,
    shared_depth_range,
)
from fewshot_ns.presentation.tables import Column, Table, as_markdown
from fewshot_ns.presentation.video import RenderedPath, colour_depth, enlarge, write_video
from fewshot_ns.utils.cache import read_npz, write_npz
from fewshot_ns.utils.files import write_json, write_text

COLUMNS = (
    Column("sparsenerf-lite"),
    Column("PSNR", 2, True),
    Column("SSIM", 3, True),
    Column("LPIPS", 3, False),
    Column("depth error %", 1, False),
    Column("training s", 0),
)
TITLES = {"with-prior": "with the depth prior", "without-prior": "without the depth prior"}
"""The cells' labels for people."""
_MARGIN = 12


@dataclass(frozen=True)
class DemoPath:
    """A flight along a spiral, as one model shows it."""

    frames: RenderedPath
    """The renders."""
    train_files: Sequence[str]
    """Names of the images that the model was trained on."""


@dataclass(frozen=True)
class DemoCell:
    """What one training came to."""

    result: CellResult
    """Its figures; the images in the order of the test views."""
    run: Path
    """Folder of the nerfstudio run."""
    views: Sequence[KeptView]
    """What its model shows in the test views."""
    depth_errors: Sequence[float]
    """Mean relative error of the rendered distance, one per test view."""
    path: DemoPath
    """What its model shows along a spiral."""

    @property
    def title(self) -> str:
        """Name for people."""
        return TITLES.get(self.result.label, self.result.label)


@dataclass(frozen=True)
class Demo:
    """All of the demo."""

    cells: Sequence[DemoCell]
    """The trainings, the one with the prior first."""
    scene: Path
    """Folder of the built-in scene."""


def save_path(path: DemoPath, file: Path, key: str) -> None:
    """Writes a path into one .npz, whole or not at all.

    Args:
        path: what to keep.
        file: .npz to write.
        key: of what decides the renders.
    """
    arrays = {name: np.stack(getattr(path.frames, name)) for name in ("rgb", "depth", "accumulation")}
    write_npz(file, {"key": key, "train_files": path.train_files, **arrays}, compressed=True)


def load_path(file: Path, key: str) -> Optional[DemoPath]:
    """Reads what `save_path` has written; None where it has not, or for another key."""
    arrays = read_npz(file, "key", "train_files", "rgb", "depth", "accumulation")
    if arrays is None or str(arrays["key"]) != key:
        return None
    frames = RenderedPath(*(list(arrays[name]) for name in ("rgb", "depth", "accumulation")))
    return DemoPath(frames, arrays["train_files"].tolist())


def read_demo(results: BenchResults, paths: Sequence[DemoPath], scene: Path, focal_share: float) -> Demo:
    """Puts together what the finished cells have left.

    Args:
        results: of the recipe `demo`, from its folder.
        paths: one per cell.
        scene: folder of the built-in scene.
        focal_share: its focal length as a share of the image's width.
    """
    cells: List[DemoCell] = []
    for result, folder, path in zip(results.cells, results.folders, paths, strict=True):
        pictures = results.pictures[(result.protocol, result.scene, result.label, result.seed)]
        images = sorted(result.images, key=lambda image: image["view_index"])
        kept = [read_view(pictures, number) for number in range(len(images))]
        views = [view for view in kept if view is not None]
        run = folder / result.method
        scale = float(json.loads((run / "dataparser_transforms.json").read_text(encoding="utf8"))["scale"])
        errors = [
            depth_error(view.depth, scene / "exact_depth" / f"{Path(image['file_name']).stem}.npy", focal_share, scale)
            for view, image in zip(views, images, strict=True)
        ]
        cells.append(DemoCell(replace(result, images=tuple(images)), run, views, errors, path))
    return Demo(cells, scene)


def depth_error(distance: np.ndarray, exact: Path, focal_share: float, scale: float) -> float:
    """Mean relative error of a rendered distance against the scene's exact depth.

    Args:
        distance: (H, W), Euclidean, in world units.
        exact: file of the planar depth (H, W) in the scene's units.
        focal_share: focal length as a share of the image's width.
        scale: world units per unit of the scene.
    """
    planar = np.load(exact).astype(np.float64)
    height, width = planar.shape
    rows, columns = np.indices(planar.shape) + 0.5
    focal = focal_share * width
    stretch = np.sqrt(1.0 + ((columns - width / 2) / focal) ** 2 + ((rows - height / 2) / focal) ** 2)
    truth = planar * stretch * scale
    return float(np.mean(np.abs(distance - truth) / truth))


def write_demo(demo: Demo, folder: Path, fps: float) -> Path:
    """Writes results.json, table.md, contact_sheet.png, training_views.png, video.mp4 and index.html.

    Args:
        demo: what there is to show.
        folder: where to.
        fps: frames per second of the video.

    Returns:
        The page.
    """
    table = result_table(demo)
    write_json(folder / "results.json", _as_json(demo, folder))
    write_text(folder / "table.md", as_markdown(table, mark_best=True))
    near, far = shared_depth_range([view.depth for cell in demo.cells for view in cell.views])
    save_png(_test_sheet(demo, near, far), folder / "contact_sheet.png")
    save_png(_training_sheet(demo), folder / "training_views.png")
    write_video(folder / "video.mp4", _video_frames(demo, near, far), fps)
    page = folder / "index.html"
    write_page(_page(demo, table, folder), page)
    return page


def result_table(demo: Demo) -> Table:
    """One row per training."""
    rows: List[List[Any]] = []
    for cell in demo.cells:
        means = [cell.result.metrics.get(name) for name in ("psnr", "ssim", "lpips")]
        error = 100.0 * float(np.mean(cell.depth_errors))
        rows.append([cell.title, *means, error, cell.result.training.get("wall_seconds")])
    count = demo.cells[0].result.num_images
    caption = f"Means over {count} held-out views. LPIPS (VGG) is n/a where its weights are not found."
    return Table(COLUMNS, rows, caption)


def _as_json(demo: Demo, folder: Path) -> Dict[str, Any]:
    """Everything that the demo measured."""
    first, second = (cell.result.metrics for cell in demo.cells)
    gain = {}
    for name in ("psnr", "ssim", "lpips"):
        with_prior, without = first.get(name), second.get(name)
        if with_prior is not None and without is not None:
            gain[name] = with_prior - without
    result = demo.cells[0].result
    return {
        "method": result.method,
        "steps": result.steps,
        "seed": result.seed,
        "training_views": list(demo.cells[0].path.train_files),
        "held_out_views": [image["file_name"] for image in result.images],
        "variants": {
            cell.result.label: {
                "title": cell.title,
                "metrics": cell.result.metrics,
                "depth_error": float(np.mean(cell.depth_errors)),
                "images": list(cell.result.images),
                "training": cell.result.training,
                "config": (cell.run / "config.yml").relative_to(folder).as_posix(),
            }
            for cell in demo.cells
        },
        "gain_of_the_prior": gain,
    }


def _test_sheet(demo: Demo, near: float, far: float) -> np.ndarray:
    """Rows: test views. Columns: the image, then render, depth and error of each training."""
    rows = []
    for number, image in enumerate(demo.cells[0].result.images):
        truth = demo.cells[0].views[number].truth
        row = [LabelledImage(truth, f"{image['file_name']}\nthe photo")]
        for cell in demo.cells:
            view, psnr = cell.views[number], cell.result.images[number].get("psnr")
            row.append(LabelledImage(view.render, f"{cell.title}\n" + (f"PSNR {psnr:.2f}" if psnr is not None else "")))
            colours = colour_depth(view.depth, view.accumulation, near, far)
            row.append(LabelledImage(colours, f"depth\nerror {100.0 * cell.depth_errors[number]:.1f} %"))
            row.append(LabelledImage(colorize_error(view.render, truth), "difference to the photo"))
        rows.append(row)
    count = len(demo.cells[0].path.train_files)
    return contact_sheet(rows, f"Held-out views after training on {count} photos", cell_width=220)


def _training_sheet(demo: Demo) -> np.ndarray:
    """What training had: the images, the coarse inverse depth, and beside it the exact one, which it had not."""
    rows = []
    for name in demo.cells[0].path.train_files:
        stem = Path(name).stem
        image = cv2.imread(str(demo.scene / "images" / name))[..., ::-1]
        prior = cv2.imread(str(demo.scene / "depth_maps" / f"depth_{stem}.png"), cv2.IMREAD_UNCHANGED)
        exact = 1.0 / np.load(demo.scene / "exact_depth" / f"{stem}.npy")
        exact = (exact - exact.min()) / np.ptp(exact)
        rows.append(
            [
                LabelledImage(np.ascontiguousarray(image), f"{name}: training photo"),
                LabelledImage(_inverse_depth_colours(prior / 65535.0), "depth prior, as coarse as a network's"),
                LabelledImage(_inverse_depth_colours(exact), "exact depth (not used)"),
            ]
        )
    return contact_sheet(rows, "Training views", cell_width=256)


def _inverse_depth_colours(inverse: np.ndarray) -> np.ndarray:
    """Inverse depth (H, W) in [0, 1] in the colours of the other pictures: near is blue."""
    return colorize_depth(-inverse, -1.0, 0.0)


def _video_frames(demo: Demo, near: float, far: float) -> List[np.ndarray]:
    """Each frame: colour | depth with the prior, colour | depth without."""
    frames = []
    for index in range(len(demo.cells[0].path.frames.rgb)):
        row = []
        for cell in demo.cells:
            path = cell.path.frames
            factor = -(-240 // path.rgb[index].shape[0])
            depth = colour_depth(path.depth[index], path.accumulation[index], near, far)
            row.append(LabelledImage(enlarge(path.rgb[index], factor), cell.title))
            row.append(LabelledImage(enlarge(depth, factor), "depth"))
        frame = contact_sheet([row], cell_width=320, gap=_MARGIN)
        frames.append(np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]))
    return frames


def _page(demo: Demo, table: Table, folder: Path) -> ReportPage:
    """The page with all of it."""
    first = demo.cells[0]
    intro = (
        f"{len(first.path.train_files)} photos of a small scene, {first.result.steps} training steps, twice: once with "
        "the depth ranking and continuity losses of SparseNeRF, fed by a coarse depth map per photo, and once without "
        "them. Everything else is equal. The scene is rendered by the package itself, so nothing was downloaded and "
        "the true depth is known."
    )
    prior = (
        "The prior stands for what a monocular depth network gives: the right order of near and far in most places, "
        "but no scale, no shift, bent, blurred, noisy, and wrong over whole regions. The losses use its order alone."
    )
    how = (
        "Each training is an ordinary nerfstudio run. Look into one with "
        f"ns-viewer --load-config {first.run / 'config.yml'} --viewer.websocket-host 127.0.0.1",
        "Both are cells of the benchmark recipe.yaml. Their logs and pictures are in the folder cells, all numbers "
        f"(also per view) in results.json; ns-fewshot report {folder} makes the report that benchmarks have.",
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
