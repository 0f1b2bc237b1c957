"""Fixtures for all tests: reference data on disk, and tiny synthetic scenes in each layout.

The scenes show one textured plane, seen by cameras that look at it from the front, with consistent photos, depths
and poses. Each `make_*_scene` fixture is a function; each `tiny_*_scene` fixture is the folder of a scene made with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Tuple
from uuid import uuid4

import cv2
import numpy as np
import numpy.typing as npt
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PLANE_DISTANCE = 4.0
FOCAL = 1.2
"""Focal length of all cameras as a fraction of the image width."""

# Tests write EXR files by OpenCV, another library than the one that reads them; its codec is off by default.
os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")

SceneMaker = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is computed once and kept goes to a folder of each test's own, not to the user's."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path_factory.getbasetemp() / "caches" / uuid4().hex))


def _reference_dir(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, REPOSITORY.parent / "shared" / default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set {variable} to the folder of the reference {default}")
    return folder


@pytest.fixture(scope="session")
def goldens_dir() -> Path:
    """Folder of reference vectors: FEWSHOT_GOLDENS, else ../shared/goldens, else the part that the repository holds.

    Only of the last may files be missing, the listed ones.
    """
    from golden_arrays import GOLDENS_ENV, reference_folder

    folder = reference_folder()
    if GOLDENS_ENV in os.environ and not folder.is_dir():
        pytest.fail(f"{GOLDENS_ENV}: expected the folder of the reference vectors, found none at {folder}")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real scenes (FEWSHOT_DATA)."""
    return _reference_dir("FEWSHOT_DATA", "data")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Folder of pretrained weights (FEWSHOT_WEIGHTS)."""
    return _reference_dir("FEWSHOT_WEIGHTS", "weights")


ABSENT = (
    ("reference vectors", "FEWSHOT_GOLDENS", "set FEWSHOT_GOLDENS to the whole folder of them"),
    ("real scenes", "FEWSHOT_DATA", "set FEWSHOT_DATA to their folder"),
    ("pretrained weights", "FEWSHOT_WEIGHTS", "set FEWSHOT_WEIGHTS to their folder"),
    ("a CUDA device", "CUDA", "run on a machine that has one"),
    ("a browser", "chromium", "apt-get install chromium chromium-driver"),
    ("Python packages", "import|extra|installed", "pip install -e '.[all]'"),
)
"""What tests may lack: its name, the words of a skip's reason by which it is known, and the way out."""
ABSENT_BY_MARKER = {"weights": "pretrained weights", "gpu": "a CUDA device"}


def _absent_in(report: Any) -> str:
    """Name of what a skipped test lacked; 'other' where its reason names nothing of `ABSENT`."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    for name, words, _ in ABSENT:
        if any(word in reason for word in words.split("|")):
            return name
    return next((name for marker, name in ABSENT_BY_MARKER.items() if marker in report.keywords), "other")


def pytest_configure() -> None:
    """Takes Ctrl-C, which shells have what they start in the background ignore, and that in turn its children: tests
    of interrupted trainings would never end."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """Ends the report with what did not run for want of something, and with how to provide it."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    counts = Counter(map(_absent_in, skipped))
    remedies = {name: remedy for name, _, remedy in ABSENT}
    terminalreporter.section(f"NOT RUN: {len(skipped)} skipped", sep="=", yellow=True, bold=True)
    for name, count in counts.most_common():
        terminalreporter.line(f"{count:5d}  {name:20s} {remedies.get(name, 'the reasons stand above')}", yellow=True)


def _camera_positions(count: int) -> npt.NDArray[np.float64]:
    """(count, 3) positions on a wave in front of the plane z = -PLANE_DISTANCE."""
    along = np.linspace(-1.0, 1.0, count)
    return np.stack([0.8 * along, 0.4 * np.sin(3.0 * along), 0.2 * np.cos(2.0 * along)], axis=1)


def _looking_at(position: npt.NDArray, target: npt.NDArray) -> npt.NDArray[np.float64]:
    """OpenGL pose (3, 4) with y up."""
    backward = position - target
    backward = backward / np.linalg.norm(backward)
    right = np.cross([0.0, 1.0, 0.0], backward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(backward, right), backward, position], axis=1)


def _poses(count: int) -> npt.NDArray[np.float64]:
    target = np.array([0.0, 0.0, -PLANE_DISTANCE])
    return np.stack([_looking_at(position, target) for position in _camera_positions(count)])


def _view(
    pose: npt.NDArray, size: Tuple[int, int], detailed: bool = False
) -> Tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Photo (H, W, 3) in RGB and planar depth (H, W) of the plane, seen from an OpenGL pose.

    Its colours are smooth waves, on which little can be matched; `detailed` lays short waves over them.
    """
    height, width = size
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    focal = FOCAL * width
    local = np.stack([(column - width / 2) / focal, -(row - height / 2) / focal, -np.ones_like(column)], axis=-1)
    directions = local @ pose[:, :3].T
    depth = (-PLANE_DISTANCE - pose[2, 3]) / directions[..., 2]
    points = pose[:, 3] + depth[..., None] * directions
    colour = np.stack([np.sin(3 * points[..., 0]), np.cos(4 * points[..., 1]), np.sin(2 * points.sum(-1))], axis=-1)
    if detailed:
        colour = 0.5 * colour + _detail(points)[..., None]
    return np.round(127.5 * (1 + colour)).astype(np.uint8), depth


def _detail(points: npt.NDArray) -> npt.NDArray[np.float64]:
    """(H, W) waves in [-0.5, 0.5] of many directions and lengths at points (H, W, 3), which repeat nowhere."""
    generator = np.random.default_rng(5)
    direction = generator.normal(size=(24, 2)) * np.linspace(2.0, 12.0, 24)[:, None]
    waves = np.sin(points[..., :2] @ direction.T + 2.0 * np.pi * generator.random(24)).sum(axis=-1)
    return 0.5 * np.tanh(waves / 5.0)


def _write_png(path: Path, image: npt.NDArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    order = {2: image, 3: image[..., [2, 1, 0]] if image.shape[-1] == 3 else image[..., [2, 1, 0, 3]]}
    if not cv2.imwrite(str(path), order[image.ndim] if image.ndim == 3 else image):
        raise OSError(f"cannot write {path}")


def _inverse_depth_png(depth: npt.NDArray) -> npt.NDArray[np.uint16]:
    inverse = 1.0 / depth
    return (1 + np.round(65534 * (inverse - inverse.min()) / max(np.ptp(inverse), 1e-9))).astype(np.uint16)


def write_llff_scene(
    folder: Path,
    count: int = 12,
    size: Tuple[int, int] = (24, 32),
    full_size: Tuple[int, int] = (96, 128),
    detailed: bool = False,
) -> Path:
    """LLFF layout: images_4, poses_bounds.npy made for `full_size`, depth_maps as 16-bit PNG."""
    rows = []
    for index, pose in enumerate(_poses(count)):
        image, depth = _view(pose, size, detailed)
        _write_png(folder / "images_4" / f"image{index:03d}.png", image)
        _write_png(folder / "depth_maps" / f"depth_image{index:03d}.png", _inverse_depth_png(depth))
        hwf = np.array([full_size[0], full_size[1], FOCAL * full_size[1]])
        matrix = np.stack([-pose[:, 1], pose[:, 0], pose[:, 2], pose[:, 3], hwf], axis=1)
        rows.append(np.concatenate([matrix.reshape(-1), [depth.min(), depth.max()]]))
    np.save(folder / "poses_bounds.npy", np.stack(rows))
    return folder


def write_dtu_scene(folder: Path, count: int = 49, size: Tuple[int, int] = (12, 16), scan: str = "scan1") -> Path:
    """DTU layout with calibration for 1600x1200, masks, and mono_depth (.npy, distance). Returns the scan folder."""
    width = 1600
    calibration = np.array([[FOCAL * width, 0, width / 2], [0, FOCAL * width, 0.375 * width], [0, 0, 1]])
    cameras = folder / "SampleSet" / "MVS Data" / "Calibration" / "cal18"
    depths = folder / "mono_depth" / scan
    for directory in (cameras, depths):
        directory.mkdir(parents=True, exist_ok=True)
    for index, pose in enumerate(_poses(count)):
        image, depth = _view(pose, size)
        name = f"rect_{index + 1:03d}_3_r5000"
        _write_png(folder / "Rectified" / scan / f"{name}.png", image)
        np.save(depths / f"{name}.npy", depth.astype(np.float16))
        mask = np.zeros(size, dtype=np.uint8)
        mask[size[0] // 4 : -(size[0] // 4), size[1] // 4 : -(size[1] // 4)] = 255
        _write_png(folder / "idrmasks" / scan / f"{index:03d}.png", mask)
        # World in millimetres; OpenCV axes.
        rotation = (pose[:, :3] * np.array([1.0, -1.0, -1.0])).T
        extrinsics = np.concatenate([rotation, -rotation @ (300.0 * pose[:, 3:])], axis=1)
        np.savetxt(cameras / f"pos_{index + 1:03d}.txt", calibration @ extrinsics)
    return folder / "Rectified" / scan


def write_blender_scene(
    folder: Path, counts: Tuple[int, int, int] = (10, 9, 9), size: Tuple[int, int] = (20, 20)
) -> Path:
    """Blender layout: RGBA renderings and transforms_{train,test,val}.json; z up, cameras at distance 4."""
    for split, count in zip(("train", "test", "val"), counts, strict=True):
        frames = []
        for index, pose in enumerate(_poses(count)):
            image, depth = _view(pose, size)
            alpha = np.where(depth > np.median(depth), 255, 0).astype(np.uint8)
            _write_png(folder / split / f"r_{index}.png", np.concatenate([image, alpha[..., None]], axis=-1))
            matrix = np.concatenate([pose, [[0.0, 0.0, 0.0, 1.0]]])
            matrix[2, 3] += PLANE_DISTANCE
            matrix = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]) @ matrix
            frames.append({"file_path": f"./{split}/r_{index}", "transform_matrix": matrix.tolist()})
        meta = {"camera_angle_x": 2.0 * float(np.arctan(0.5 / FOCAL)), "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


def write_nerfstudio_scene(
    folder: Path, count: int = 12, size: Tuple[int, int] = (24, 32), detailed: bool = False, sensor: bool = True
) -> Path:
    """transforms.json with one shared camera, photos, and sensor depth as 16-bit PNG in millimetres where wanted."""
    frames = []
    for index, pose in enumerate(_poses(count)):
        image, depth = _view(pose, size, detailed)
        _write_png(folder / "images" / f"frame_{index:05d}.png", image)
        name = f"frame_{index:05d}.png"
        frame = {"file_path": f"images/{name}", "transform_matrix": np.vstack([pose, [0.0, 0.0, 0.0, 1.0]]).tolist()}
        if sensor:
            _write_png(folder / "depths" / name, np.round(1000 * depth).astype(np.uint16))
            frame["depth_file_path"] = f"depths/{name}"
        frames.append(frame)
    focal = FOCAL * size[1]
    meta = {"w": size[1], "h": size[0], "fl_x": focal, "fl_y": focal, "cx": size[1] / 2, "cy": size[0] / 2}
    (folder / "transforms.json").write_text(json.dumps({**meta, "frames": frames}), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def make_llff_scene() -> SceneMaker:
    """`write_llff_scene` as a fixture, since test modules cannot import this file."""
    return write_llff_scene


@pytest.fixture
def make_dtu_scene() -> SceneMaker:
    """`write_dtu_scene` as a fixture."""
    return write_dtu_scene


@pytest.fixture
def make_blender_scene() -> SceneMaker:
    """`write_blender_scene` as a fixture."""
    return write_blender_scene


@pytest.fixture
def make_nerfstudio_scene() -> SceneMaker:
    """`write_nerfstudio_scene` as a fixture."""
    return write_nerfstudio_scene


@pytest.fixture
def tiny_llff_scene(tmp_path: Path) -> Path:
    """Folder of a 12-view LLFF scene of 32x24 photos."""
    return write_llff_scene(tmp_path / "llff")


@pytest.fixture
def tiny_dtu_scene(tmp_path: Path) -> Path:
    """Scan folder of a 49-view DTU scene of 16x12 photos."""
    return write_dtu_scene(tmp_path / "dtu")


@pytest.fixture
def tiny_blender_scene(tmp_path: Path) -> Path:
    """Folder of a Blender scene with 10 training, 9 test and 9 validation frames of 20x20."""
    return write_blender_scene(tmp_path / "blender")


@pytest.fixture
def tiny_nerfstudio_scene(tmp_path: Path) -> Path:
    """Folder of a 12-frame transforms.json capture of 32x24 photos with depth."""
    return write_nerfstudio_scene(tmp_path / "capture")


def write_mvsnet_set(folder: Path, count: int = 6, size: Tuple[int, int] = (32, 40)) -> Path:
    """MVSNet's DTU: two training scans under two lights, two others, pairs, true depth but for each left quarter."""
    scale = 200.0
    for view, pose in enumerate(_poses(count)):
        c2w = np.concatenate([pose * [1.0, -1.0, -1.0, scale], [[0.0, 0.0, 0.0, 1.0]]])
        matrix = "\n".join(" ".join(map(str, line)) for line in np.linalg.inv(c2w))
        intrinsics = f"{FOCAL * 160} 0 79.5\n0 {FOCAL * 160} 63.5\n0 0 1"
        path = folder / "Cameras" / "train" / f"{view:08d}_cam.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"extrinsic\n{matrix}\n\nintrinsic\n{intrinsics}\n\n{3.0 * scale} {2.5 * scale / 192}\n", "utf8"
        )
        image, _ = _view(pose, size)
        _, depth = _view(pose, (2 * size[0], 2 * size[1]))
        depth[:, : size[1] // 2] = 0.0
        for number, scan in enumerate(("scan1", "scan2", "scan3", "scan4")):
            for light in (2, 3):
                name = f"rect_{view + 1:03d}_{light}_r5000.png"
                _write_png(
                    folder / "Rectified" / f"{scan}_train" / name, np.roll(image, number, axis=-1) // (light - 1)
                )
            path = folder / "Depths" / scan / f"depth_map_{view:04d}.pfm"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), (depth * scale).astype(np.float32))
    lines = [str(count)]
    for view in range(count):
        others = sorted((abs(other - view), other) for other in range(count) if other != view)
        lines += [str(view), f"{len(others)} " + " ".join(f"{other} {9.0 - apart}" for apart, other in others)]
    (folder / "view_pairs.txt").write_text("\n".join(lines), "utf8")
    (folder / "dtu_train_all.txt").write_text("scan1\nscan2\n", "utf8")
    (folder / "val_all.txt").write_text("scan3\nscan4\n", "utf8")
    return folder


@pytest.fixture(scope="session")
def tiny_mvsnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set in MVSNet's layout of 6 views of 40x32 each, `write_mvsnet_set`; not to be written to."""
    return write_mvsnet_set(tmp_path_factory.mktemp("mvsnet") / "dtu")


@pytest.fixture
def bare_capture(tmp_path: Path) -> Path:
    """Folder of 12 photos of 64x48 pixels and their poses: no depth, no points, no near and far."""
    return write_nerfstudio_scene(tmp_path / "bare", size=(48, 64), detailed=True, sensor=False)


@pytest.fixture
def tiny_rgbd_scene(tmp_path: Path) -> Path:
    """Folder of the capture as `rgbd-data` reads it."""
    return write_nerfstudio_scene(tmp_path / "rgbd")


@pytest.fixture
def tiny_pipeline_config() -> Callable[[Any], Any]:
    """Function (config of a dataparser) -> tiny pipeline config of sparsenerf-lite, milliseconds per step."""

    def build(dataparser: Any) -> Any:
        import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

        from fewshot_ns.configs.sparsenerf_lite import sparsenerf_lite

        config: Any = deepcopy(sparsenerf_lite.pipeline)
        config.datamanager.dataparser = dataparser
        config.datamanager.train_num_rays_per_batch = 64
        config.depth.enabled, config.depth.num_quads = True, 8
        config.evaluation.metrics = ("psnr",)
        model = config.model
        model.width, model.num_layers, model.skip_layer, model.num_octaves = 16, 2, 1, 4
        model.plane_resolutions, model.plane_channels = (4, 8), 4
        model.coarse_steps, model.fine_steps = 5, 20
        model.num_samples = model.num_proposal_samples = model.proposal_resolution = 8
        model.annealing.steps = 20
        return config

    return build


@pytest.fixture(scope="session")
def tiny_solids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated set of 5 training, 1 validation and 2 test objects of 5 views each, 16x16; not to be written to."""
    from fewshot_ns.synthetic.solids_set import SolidsConfig, write_solids

    folder = tmp_path_factory.mktemp("sets") / "solids"
    write_solids(folder, SolidsConfig(objects=8, views=5, size=16, supersample=1, val_share=0.125, test_share=0.25))
    return folder


@pytest.fixture
def tiny_pixelnerf(tiny_solids: Path) -> Callable[..., Any]:
    """Function -> tiny pipeline config of pixelnerf-lite on the generated set, or on a copy of it in a folder."""

    def build(copy_to: Optional[Path] = None) -> Any:
        import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

        from fewshot_ns.configs.pixelnerf import pixelnerf_lite

        config: Any = deepcopy(pixelnerf_lite.pipeline)
        config.datamanager.data = tiny_solids if copy_to is None else Path(shutil.copytree(tiny_solids, copy_to))
        config.datamanager.scenes_per_batch, config.datamanager.rays_per_scene = 2, 16
        config.evaluation.metrics = ("psnr",)
        model = config.model
        model.width, model.num_samples, model.min_eval_samples = 16, 6, 6
        model.num_importance_samples = model.num_depth_samples = 3
        model.compute_dtype = "float32"
        return config

    return build
