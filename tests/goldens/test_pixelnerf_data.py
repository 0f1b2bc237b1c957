"""pixelNeRF's reference vectors of data: written to disk as the formats have it, read by the product's dataparsers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Sequence

import cv2
import nerfstudio.configs.method_configs  # noqa: F401 - the host's modules import each other in this order only
import numpy as np
import pytest
import torch
from golden_arrays import GoldenFile, expect_all_used

from fewshot_ns.data.colour_jitter import ColourJitter
from fewshot_ns.data.dataparsers import nmr, srn
from fewshot_ns.data.dataparsers.dvr_dtu import DVRDTUDataParserConfig
from fewshot_ns.data.dataparsers.multi_object import MultiObjectDataParserConfig
from fewshot_ns.data.dataparsers.multiscene import MultiSceneDataParserConfig
from fewshot_ns.data.scene_images import SceneImages, box_of, pixels_in_boxes
from fewshot_ns.data.scene_table import Scene
from fewshot_ns.evaluation.category_table import (
    ObjectMetrics,
    category_table,
    natural_order,
    read_category_names,
    split_object_name,
)

pytestmark = pytest.mark.goldens

FILES = ("bbox", "category_table", "color_jitter", "dtu_camera", "multi_obj_camera", "nmr_camera", "srn_camera")
CLOSE: Dict[str, Any] = dict(rtol=1e-5, atol=1e-6)
_loaded: Dict[Path, GoldenFile] = {}


@pytest.fixture
def arrays(goldens_dir: Path) -> Callable[[str], GoldenFile]:
    """Function (name) -> arrays of that file of the folder pixelnerf/, one object per file and session."""

    def load(name: str) -> GoldenFile:
        path = goldens_dir / "pixelnerf" / f"{name}.npz"
        if path not in _loaded:
            _loaded[path] = GoldenFile.load(path)
        return _loaded[path]

    return load


def close(value: Any, expected: Any) -> None:
    value, expected = np.asarray(value), np.asarray(expected)
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, **CLOSE)


def write_images(folder: Path, images: Iterable[np.ndarray], ending: str = ".png") -> None:
    """Writes (H, W), (H, W, 3) or (H, W, 4) images in RGB order as 000000.png, ..."""
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        ordered = image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[-1]]]
        assert cv2.imwrite(str(folder / f"{index:06d}{ending}"), ordered)


def scenes(config: MultiSceneDataParserConfig) -> Dict[str, Scene]:
    """Scenes of the training split by the names of their folders."""
    parser = config.setup()
    return {entry.folder.name: parser.open_scene(entry) for entry in parser.scene_table("train")}


def centre_of(scene: Scene) -> np.ndarray:
    """(N, 2) principal points as the original counts: the first pixel is at 0."""
    return torch.cat([scene.cameras.cx, scene.cameras.cy], dim=-1).numpy() - 0.5


def focal_of(scene: Scene) -> np.ndarray:
    return torch.cat([scene.cameras.fx, scene.cameras.fy], dim=-1).numpy()


def poses_of(scene: Scene) -> np.ndarray:
    """(N, 4, 4) poses."""
    poses = scene.cameras.camera_to_worlds.numpy()
    row = np.broadcast_to(np.array([0, 0, 0, 1], dtype=np.float32), (len(poses), 1, 4))
    return np.concatenate([poses, row], axis=1)


def boxes_of(scene: Scene) -> np.ndarray:
    return SceneImages().boxes(scene, range(len(scene.image_filenames))).numpy()


def pictures_of(scene: Scene) -> np.ndarray:
    """(N, 3, H, W) images in [-1, 1]."""
    images = SceneImages().images(scene, range(len(scene.image_filenames)))
    return images.movedim(-1, 1).numpy() * 2.0 - 1.0


def masks_of(scene: Scene) -> np.ndarray:
    """(N, 1, H, W) masks."""
    masks = [SceneImages().mask(scene, view) for view in range(len(scene.image_filenames))]
    return torch.stack([mask for mask in masks if mask is not None])[:, None].numpy()


@pytest.mark.parametrize("case", ["native", "resized", "scaled"])
@pytest.mark.parametrize("kind", ["cars", "chairs"])
def test_srn(arrays, tmp_path: Path, case: str, kind: str) -> None:
    golden = arrays("srn_camera")
    folder = tmp_path / f"{kind}_train" / "object"
    write_images(folder / "rgb", golden["images_u8"])
    (folder / "pose").mkdir()
    for index, pose in enumerate(golden["poses_txt"]):
        np.savetxt(folder / "pose" / f"{index:06d}.txt", pose.reshape(1, 16), fmt="%.9g")
    (folder / "intrinsics.txt").write_text("\n".join(golden["intrinsics_txt"]) + "\n", encoding="utf-8")
    flags: Dict[str, Any] = {
        "native": {},
        "resized": {"image_size": golden["resized_images"].shape[-2:]},
        "scaled": {"world_scale": float(golden["scaled_world_scale"])},
    }[case]
    scene = scenes(srn.SRNDataParserConfig(data=tmp_path / kind, **flags))["object"]
    close(focal_of(scene), np.full((len(scene.cameras), 2), golden[f"{case}_focal"]))
    close(centre_of(scene), np.tile(golden[f"{case}_c"], (len(scene.cameras), 1)))
    close(poses_of(scene), golden[f"{case}_poses"])
    close(boxes_of(scene), golden[f"{case}_bbox"])
    if case != "scaled":
        close(masks_of(scene), golden[f"{case}_masks"])
    if case == "resized":
        close(pictures_of(scene), golden["resized_images"])
    close((scene.near, scene.far), golden[f"near_far_{kind}"])


@pytest.mark.parametrize("case", ["native", "resized"])
def test_nmr(arrays, tmp_path: Path, case: str) -> None:
    golden = arrays("nmr_camera")
    names = sorted({name.split("/")[0] for name in golden if "/" in name})
    category = tmp_path / "03001627"
    side = int(golden["image_side"])
    for name in names:
        boxes = golden[f"{name}/native_bbox"]
        # Masks of some objects are not stored; those with the same boxes stand for them.
        masks = golden[f"{name}/masks_u8"] if f"{name}/masks_u8" in golden else [filled(box, side) for box in boxes]
        images = golden[f"{name}/images_u8"] if f"{name}/images_u8" in golden else np.zeros((len(boxes), side, side, 3))
        write_images(category / name / "image", np.asarray(images, dtype=np.uint8))
        write_images(category / name / "mask", masks)
        matrices = {key: golden[f"{name}/{key}"] for key in cameras_in(golden, name)}
        np.savez(category / name / "cameras.npz", **matrices)
    (category / "softras_train.lst").write_text("\n".join(names), encoding="utf-8")
    size = int(golden["resized_side"])
    wanted = (size, size) if case == "resized" else None
    opened = scenes(nmr.NMRDataParserConfig(data=tmp_path, image_size=wanted))
    assert list(opened) == names
    for name, scene in opened.items():
        assert scene.entry.scene_id == f"{category.name}/{name}" and scene.entry.category == category.name
        close(focal_of(scene), np.full((len(scene.cameras), 2), golden[f"{name}/{case}_focal"]))
        close(centre_of(scene), np.full((len(scene.cameras), 2), (side if case == "native" else size) / 2))
        close(poses_of(scene), golden[f"{name}/{case}_poses"])
        close(boxes_of(scene), golden[f"{name}/{case}_bbox"])
        close((scene.near, scene.far), golden["near_far"])


def filled(box: np.ndarray, side: int) -> np.ndarray:
    """(side, side) mask of a box."""
    mask = np.zeros((side, side), dtype=np.uint8)
    left, top, right, bottom = box.astype(int)
    mask[top : bottom + 1, left : right + 1] = 255
    return mask


def cameras_in(golden: GoldenFile, name: str) -> Sequence[str]:
    """Names in the `cameras.npz` of a scene."""
    return [key.split("/")[1] for key in golden if key.startswith(f"{name}/") and "_mat_" in key]


@pytest.mark.parametrize("case", ["native", "resized"])
def test_dtu(arrays, tmp_path: Path, case: str) -> None:
    golden = arrays("dtu_camera")
    names = sorted({name.split("/")[0] for name in golden if "/" in name})
    width, height = (int(side) for side in golden["image_size"])
    for name in names:
        count = len(golden[f"{name}/native_poses"])
        write_images(tmp_path / "DTU" / name / "image", [np.zeros((height, width, 3), np.uint8)] * count)
        np.savez(
            tmp_path / "DTU" / name / "cameras.npz",
            **{key: golden[f"{name}/{key}"] for key in cameras_in(golden, name)},
        )
    (tmp_path / "DTU" / "new_train.lst").write_text("\n".join(names), encoding="utf-8")
    factor = 1 if case == "native" else 2
    opened = scenes(DVRDTUDataParserConfig(data=tmp_path, downscale_factor=factor))
    assert list(opened) == names
    for name, scene in opened.items():
        count = len(scene.cameras)
        close(focal_of(scene), np.tile(golden[f"{name}/{case}_focal"], (count, 1)))
        close(centre_of(scene), np.tile(golden[f"{name}/{case}_c"], (count, 1)))
        close(poses_of(scene), golden[f"{name}/{case}_poses"])
        close((scene.near, scene.far), golden["near_far"])
        assert scene.background == "black"


def test_multi_object(arrays, tmp_path: Path) -> None:
    golden = arrays("multi_obj_camera")
    folder = tmp_path / "train" / "two" / "chairs"
    write_images(folder, golden["images_rgba_u8"], "_obj.png")
    frames = [
        {"file_path": f"./{index:06d}", "transform_matrix": matrix.tolist()}
        for index, matrix in enumerate(golden["transform_matrices"])
    ]
    meta = {"camera_angle_x": float(golden["camera_angle_x"]), "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(meta), encoding="utf-8")
    scene = scenes(MultiObjectDataParserConfig(data=tmp_path))["chairs"]
    height, width = golden["images_rgba_u8"].shape[1:3]
    close(focal_of(scene), np.full((len(frames), 2), golden["focal"]))
    close(centre_of(scene), np.tile([width / 2, height / 2], (len(frames), 1)))
    close(poses_of(scene), golden["poses"])
    close(pictures_of(scene), golden["images"])
    close(masks_of(scene), golden["masks"])
    close(boxes_of(scene), golden["bbox"])
    close((scene.near, scene.far), golden["near_far"])


def test_boxes(arrays) -> None:
    golden = arrays("bbox")
    boxes = [box_of(mask > 0) for mask in golden["image_masks_u8"]]
    close(boxes, golden["bbox"])
    ids = golden["image_ids"]
    draws = torch.from_numpy(np.stack([golden["u_x"], golden["u_y"]], axis=1))
    rows, columns = pixels_in_boxes(torch.from_numpy(golden["bbox"])[ids], draws)
    np.testing.assert_array_equal(np.stack([ids, rows.numpy(), columns.numpy()], axis=1), golden["pixels"])


def test_colour_jitter(arrays) -> None:
    golden = arrays("color_jitter")
    images = torch.from_numpy(golden["images"]).movedim(1, -1) * 0.5 + 0.5
    for factors, expected in zip(golden["factors"].tolist(), golden["jittered"], strict=True):
        hue, saturation, brightness, contrast = factors
        jitter = ColourJitter(hue=hue, saturation=saturation, brightness=brightness, contrast=contrast)
        close(jitter.apply(images).movedim(-1, 1).numpy() * 2.0 - 1.0, expected)


def test_category_table(arrays, tmp_path: Path) -> None:
    golden = arrays("category_table")
    (tmp_path / "metadata.yaml").write_text(str(golden["metadata_json"]), encoding="utf-8")
    names = read_category_names(tmp_path / "metadata.yaml")
    rows = []
    for name, values in zip(golden["objects"].tolist(), golden["metrics"].tolist(), strict=True):
        category, scene = split_object_name(name)
        rows.append(ObjectMetrics(scene, category, dict(zip(("psnr", "ssim", "lpips"), values, strict=True))))
    assert category_table(rows[::-1], names) == str(golden["expected_multicat"])
    scans = dict(zip(golden["scans"].tolist(), golden["scan_metrics"].tolist(), strict=True))
    order = natural_order(list(scans))
    assert order == golden["scan_print_order"].tolist()
    rows = [ObjectMetrics(name, "", dict(zip(("psnr", "ssim", "lpips"), scans[name], strict=True))) for name in order]
    assert category_table(rows) == str(golden["expected_single"])


@pytest.mark.parametrize("name", FILES)
def test_zz_every_array_was_compared(arrays, name: str, request: pytest.FixtureRequest) -> None:
    expect_all_used(arrays(name), request)
