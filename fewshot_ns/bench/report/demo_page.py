"""The demo's page: the cells of the built-in scene side by side, with the true depth and a video along a spiral."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from fewshot_ns.bench.report.demo_cells import SPLATS, WITH_PRIOR, WITHOUT_PRIOR, Demo, DemoCell
from fewshot_ns.data.files.depth_formats import read_depth_file
from fewshot_ns.data.files.images import read_image
from fewshot_ns.presentation.html_page import Download, Picture, ReportPage, Section, Video, write_page
from fewshot_ns.presentation.pictures import (
    LabelledImage,
    colorize_depth,
    contact_sheet,
    save_png,
    shared_depth_range,
)
from fewshot_ns.presentation.tables import Column, Table, as_markdown
from fewshot_ns.presentation.video import colour_depth, enlarge, write_video
from fewshot_ns.utils.arrays import read_array
from fewshot_ns.utils.files import write_json, write_text

COLUMNS = (
    Column("training"),
    Column("PSNR", 2, True),
    Column("SSIM", 3, True),
    Column("LPIPS", 3, False),
    Column("depth error %", 1, False),
    Column("training s", 0),
)
_MARGIN = 12


def write_demo(demo: Demo, folder: Path, fps: float) -> Path:
    """Writes results.json, table.md, contact_sheet.png, training_views.png, video.mp4, and index.html, which links the
    splats.

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
    near, far = _depth_range(demo)
    save_png(_test_sheet(demo, near, far), folder / "contact_sheet.png")
    save_png(_training_sheet(demo), folder / "training_views.png")
    write_video(folder / "video.mp4", _video_frames(demo, near, far), fps)
    page = folder / "index.html"
    write_page(_page(demo, table, folder), page)
    return page


def _depth_range(demo: Demo) -> Tuple[float, float]:
    """Near and far of all renders together; where nothing is hit, a distance says nothing."""
    views = [view for cell in demo.cells for view in cell.views]
    depths = [np.where(view.accumulation > 0.5, view.depth, np.nan) for view in views]
    hit = any(np.isfinite(depth).any() for depth in depths)
    near, far = shared_depth_range(depths if hit else [view.depth for view in views])
    return max(near, 1e-3 * far), far


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
    first, second = (demo.labelled(label).result.metrics for label in (WITH_PRIOR, WITHOUT_PRIOR))
    gain = {}
    for name in ("psnr", "ssim", "lpips"):
        with_prior, without = first.get(name), second.get(name)
        if with_prior is not None and without is not None:
            gain[name] = with_prior - without
    result = demo.cells[0].result
    return {
        "steps": result.steps,
        "seed": result.seed,
        "training_views": list(demo.cells[0].path.train_files),
        "held_out_views": [image["file_name"] for image in result.images],
        "variants": {cell.result.label: _variant(cell, folder) for cell in demo.cells},
        "gain_of_the_prior": gain,
    }


def _variant(cell: DemoCell, folder: Path) -> Dict[str, Any]:
    """Everything that was measured of one training."""
    values = {
        "title": cell.title,
        "method": cell.result.method,
        "metrics": cell.result.metrics,
        "depth_error": float(np.mean(cell.depth_errors)),
        "images": list(cell.result.images),
        "training": cell.result.training,
        "config": (cell.run / "config.yml").relative_to(folder).as_posix(),
    }
    if cell.result.initial_points:
        values["initial_points"] = cell.result.initial_points
    if cell.splats is not None:
        values["splats"] = {
            "file": cell.splats.path.relative_to(folder).as_posix(),
            "gaussians": cell.splats.count,
            "bytes": cell.splats.size,
        }
    return values


def _test_sheet(demo: Demo, near: float, far: float) -> np.ndarray:
    """Rows: test views. Columns: the image, then render and depth of each training."""
    rows = []
    for number, image in enumerate(demo.cells[0].result.images):
        truth = demo.cells[0].views[number].truth
        row = [LabelledImage(truth, f"{image['file_name']}\nthe photo")]
        for cell in demo.cells:
            view, psnr = cell.views[number], cell.result.images[number].get("psnr")
            row.append(LabelledImage(view.render, f"{cell.title}\n" + (f"PSNR {psnr:.2f}" if psnr is not None else "")))
            colours = colour_depth(view.depth, view.accumulation, near, far)
            row.append(LabelledImage(colours, f"depth\nerror {100.0 * cell.depth_errors[number]:.1f} %"))
        rows.append(row)
    count = len(demo.cells[0].path.train_files)
    return contact_sheet(rows, f"Held-out views after training on {count} photos", cell_width=220)


def _training_sheet(demo: Demo) -> np.ndarray:
    """What training had: the images, the coarse inverse depth, and beside it the exact one, which it had not."""
    rows = []
    for name in demo.cells[0].path.train_files:
        stem = Path(name).stem
        image = read_image(demo.scene / "images" / name)[..., :3]
        prior = read_depth_file(demo.scene / "depth_maps" / f"depth_{stem}.png").astype(np.float64)
        exact = 1.0 / read_array(demo.scene / "exact_depth" / f"{stem}.npy", "exact depth of the demo")
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
    """Each frame: the trainings side by side, colour above depth."""
    frames = []
    for index in range(len(demo.cells[0].path.frames.rgb)):
        colours, depths = [], []
        for cell in demo.cells:
            path = cell.path.frames
            factor = -(-240 // path.rgb[index].shape[0])
            depth = colour_depth(path.depth[index], path.accumulation[index], near, far)
            colours.append(LabelledImage(enlarge(path.rgb[index], factor), cell.title))
            depths.append(LabelledImage(enlarge(depth, factor), "depth"))
        frame = contact_sheet([colours, depths], cell_width=320, gap=_MARGIN)
        frames.append(np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]))
    return frames


def _page(demo: Demo, table: Table, folder: Path) -> ReportPage:
    """The page with all of it."""
    first, splats = demo.labelled(WITH_PRIOR), demo.labelled(SPLATS)
    count = len(first.path.train_files)
    intro = (
        f"{count} photos of a small scene, three trainings of {first.result.steps} steps. Two train one small field, "
        f"{first.result.method}: once with the depth ranking and continuity losses of SparseNeRF, fed by a coarse "
        "depth map per photo, and once without them; everything else is equal between the two. The third trains "
        f"Gaussian splats, {splats.result.method}, without these depth maps. The scene is rendered by the package "
        "itself, so nothing was downloaded and the true depth is known."
    )
    prior = (
        "The prior stands for what a monocular depth network gives: the right order of near and far in most places, "
        "but no scale, no shift, bent, blurred, noisy, and wrong over whole regions. The losses use its order alone, "
        "and the splats do not see it."
    )
    how = (
        f"Each training is an ordinary nerfstudio run. Look into one with ns-fewshot view {first.run}",
        "All are cells of the benchmark recipe.yaml. Their logs and pictures are in the folder cells, all numbers "
        f"(also per view) in results.json; ns-fewshot report {folder} makes the report that benchmarks have.",
    )
    order = "; ".join(cell.title for cell in demo.cells)
    video = Video(folder / "video.mp4", f"From left to right: {order}. Depth: blue is near, red is far.")
    held_out = Picture(folder / "contact_sheet.png", "Depth: blue is near, red is far.")
    training = Picture(folder / "training_views.png", "Blue is near, red is far.")
    unseen = "Photos that training has not seen, and what each model makes of them."
    return ReportPage(
        f"fewshot_ns demo: a scene from {count} photos",
        (
            Section(paragraphs=(intro,), tables=(table,)),
            Section("A flight along a spiral", videos=(video,)),
            Section("Held-out views", paragraphs=(unseen,), pictures=(held_out,)),
            _splat_section(splats, folder),
            Section("What training saw", paragraphs=(prior,), pictures=(training,)),
            Section("How this was made", paragraphs=how),
        ),
    )


def _splat_section(cell: DemoCell, folder: Path) -> Section:
    """What the splats started from, and the file of them."""
    start = (
        "The Gaussians started on points that come from the training photos alone "
        f"({cell.result.initial_points or 'of which the run has no record'})."
    )
    if cell.splats is None:
        return Section("The splats", paragraphs=(start,))
    name = cell.splats.path.relative_to(folder).as_posix()
    opened = (
        f"{name}, beside this page, holds {cell.splats.count} Gaussians. Any viewer of Gaussian splats opens it, for "
        "one SuperSplat in the browser (superspl.at/editor): drag the file onto it. Its y axis points up; where a "
        "viewer takes it to point down, turn the scene by 180 degrees about z. Such a file has no background: what no "
        "Gaussian covers has the viewer's colour. ns-export gaussian-splat writes the same of any run of such a method."
    )
    size = f"{name} ({cell.splats.count} Gaussians, {cell.splats.size / 1e6:.1f} MB)"
    return Section("The splats", paragraphs=(start, opened), downloads=(Download(name, size),))
