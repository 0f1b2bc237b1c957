"""Files of the camera's size for the datasets of nerfstudio's own methods, through nerfstudio's own datamanagers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import torch
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.datasets.depth_dataset import DepthDataset
from PIL import Image

from fewshot_ns import registry
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.utils.files import write_json


def registered(name: str, data: Path, **flags: Any) -> Any:
    """Config of a dataparser as nerfstudio's own methods take it."""
    config: Any = copy.deepcopy(registry.dataparser_specification(name).config)
    config.data = data
    for flag, value in flags.items():
        setattr(config, flag, value)
    return config


def outputs(config: Any, split: str = "train") -> Any:
    return config.setup().get_dataparser_outputs(split)


def plain(config: Any, split: str = "train") -> FewShotDataset:
    config = copy.deepcopy(config)
    config.camera_sized_files = False
    return FewShotDataset(outputs(config, split))


def distances(scene: Path, unit: float = 1.0) -> Path:
    """A folder of planar depth 2 + row/10 + view, full size, invalid in its first column."""
    folder = scene.parent / "distances"
    folder.mkdir()
    for view, image in enumerate(sorted((scene / "images_4").iterdir())):
        height, width = np.array(Image.open(image)).shape[:2]
        depth = np.repeat((2.0 + np.arange(height) / 10 + view)[:, None], width, axis=1)
        depth[:, :2] = 0.0
        np.save(folder / f"{image.stem}.npy", (depth / unit).astype(np.float32))
    return folder


@pytest.mark.parametrize("name", ["llff_data", "fewshot_data"])
def test_photos_are_those_that_our_dataset_reads(tiny_llff_scene: Path, name: str) -> None:
    config = registered(name, tiny_llff_scene, downscale_factor=2)
    own = plain(registered("llff_data", tiny_llff_scene, downscale_factor=2))
    dataset = InputDataset(outputs(config))
    assert len(dataset) == 3
    for position in range(3):
        image = dataset[position]["image"]
        assert tuple(image.shape[:2]) == own.size_of(position) == (12, 16)
        np.testing.assert_array_equal(dataset.get_numpy_image(position), own.get_numpy_image(position))
        assert (image - own[position]["image"]).abs().max() <= 0.5 / 255 + 1e-6
    assert [path.stem for path in dataset.image_filenames] == [path.stem for path in own.image_filenames]


def test_photos_that_fit_stay_where_they_are(tiny_llff_scene: Path) -> None:
    config = registered("llff_data", tiny_llff_scene)
    assert outputs(config).image_filenames == plain(config).image_filenames


def test_a_damaged_copy_is_made_again(tiny_llff_scene: Path) -> None:
    config = registered("llff_data", tiny_llff_scene, downscale_factor=2)
    copies = outputs(config).image_filenames
    content = copies[1].read_bytes()
    for broken in (content[:50], b"", b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        copies[1].write_bytes(broken)
        assert outputs(config).image_filenames == copies and copies[1].read_bytes() == content


def test_copies_are_made_once_and_follow_their_photos(tiny_llff_scene: Path) -> None:
    config = registered("llff_data", tiny_llff_scene, downscale_factor=2)
    train, test = outputs(config).image_filenames, outputs(config, "test").image_filenames
    assert len({path.parent for path in (*train, *test)}) == 1  # `ns-render dataset` names views by their common folder
    times = [path.stat().st_mtime_ns for path in train]
    assert outputs(config).image_filenames == train and [path.stat().st_mtime_ns for path in train] == times
    photo = plain(config).image_filenames[0]
    Image.new("RGB", Image.open(photo).size, (200, 100, 50)).save(photo)
    changed = outputs(config).image_filenames
    assert changed[0] != train[0] and np.array(Image.open(changed[0]))[3, 3].tolist() == [200, 100, 50]
    assert outputs(registered("llff_data", tiny_llff_scene, downscale_factor=3)).image_filenames[0] != changed[0]


def test_photos_that_nerfstudio_misreads_are_copied_too(tiny_llff_scene: Path) -> None:
    config = registered("llff_data", tiny_llff_scene)
    photo = plain(config).image_filenames[1]
    Image.open(photo).convert("RGB").quantize(16).save(photo)  # a palette, whose indices nerfstudio would train on
    own, dataset = plain(config), InputDataset(outputs(config))
    np.testing.assert_array_equal(dataset.get_numpy_image(1), own.get_numpy_image(1))
    assert own.get_numpy_image(1).max() > 16


def test_a_damaged_photo_is_named(tiny_llff_scene: Path) -> None:
    photo = plain(registered("llff_data", tiny_llff_scene)).image_filenames[2]
    photo.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(ValueError, match=photo.name):
        outputs(registered("llff_data", tiny_llff_scene, downscale_factor=2))


def test_masks_become_one_channel_of_the_size_of_the_camera(tiny_nerfstudio_scene: Path) -> None:
    path = tiny_nerfstudio_scene / "transforms.json"
    content = json.loads(path.read_text(encoding="utf8"))
    for number, frame in enumerate(content["frames"]):
        width, height = Image.open(tiny_nerfstudio_scene / frame["file_path"]).size
        mask = np.full((height, width, 3), 255, np.uint8)
        mask[:, : width // 2] = 0
        Image.fromarray(mask).save(tiny_nerfstudio_scene / f"mask{number}.png")
        frame["mask_path"] = f"mask{number}.png"
    write_json(path, content)
    config = registered("fewshot_nerfstudio_data", tiny_nerfstudio_scene, downscale_factor=2)
    dataset, own = InputDataset(outputs(config)), plain(config)
    mask = dataset[0]["mask"]
    assert tuple(mask.shape) == (*own.size_of(0), 1) and mask.dtype == torch.bool
    assert torch.equal(mask, own.training_mask(0)) and 0 < mask.float().mean() < 1


def test_depth_dataset_gets_planar_depth_in_the_world_of_the_cameras(tiny_llff_scene: Path) -> None:
    folder = distances(tiny_llff_scene, unit=0.001)
    flags: Any = dict(depth_dir=folder, depth_polarity="distance", depth_unit=0.001, downscale_factor=2)
    config = registered("llff_data", tiny_llff_scene, **flags)
    found, own = outputs(config), plain(config)
    assert found.dataparser_scale != 1.0
    dataset = DepthDataset(found)
    for position, view in enumerate(own.fewshot.image_indices):
        depth = dataset[position]["depth_image"][..., 0].numpy()
        known = own.metric_depth(position)
        np.testing.assert_allclose(depth, known.z_depth, rtol=1e-6)
        assert not depth[:, 0].any() and not known.valid[:, 0].any()
        # The nearest row of the map at half the size, in the scale of the cameras.
        np.testing.assert_allclose(depth[5, 3], (2.0 + 11 / 10 + view) * found.dataparser_scale, rtol=1e-5)


def test_ray_distance_becomes_planar(tiny_llff_scene: Path) -> None:
    folder = distances(tiny_llff_scene)
    flags: Any = dict(depth_dir=folder, depth_polarity="distance", depth_unit=1.0, depth_meaning="ray_distance")
    config = registered("llff_data", tiny_llff_scene, **flags)
    found, own = outputs(config), plain(config)
    depth = DepthDataset(found)[0]["depth_image"][..., 0].numpy()
    stored = np.load(folder / f"{own.image_filenames[0].stem}.npy") * found.dataparser_scale
    np.testing.assert_allclose(depth, stored / own.ray_norms(0), rtol=1e-5)


def test_test_views_without_maps_get_empty_ones(tiny_llff_scene: Path) -> None:
    own = plain(registered("llff_data", tiny_llff_scene))
    folder = distances(tiny_llff_scene)
    kept = {path.stem for path in own.image_filenames}
    for path in folder.iterdir():
        if path.stem not in kept:
            path.unlink()
    flags: Any = dict(depth_dir=folder, depth_polarity="distance", depth_unit=1.0)
    config = registered("llff_data", tiny_llff_scene, **flags)
    assert DepthDataset(outputs(config))[0]["depth_image"].max() > 0
    test = DepthDataset(outputs(config, "test"))
    assert test[0]["depth_image"].shape == (24, 32, 1) and not test[0]["depth_image"].any()


def test_maps_without_scale_are_kept_back_and_said(tiny_llff_scene: Path, capsys: pytest.CaptureFixture) -> None:
    config = registered("llff_data", tiny_llff_scene)
    assert plain(config).fewshot.depth_prior_filenames is not None
    for split in ("train", "test"):
        assert "depth_filenames" not in outputs(config, split).metadata
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("depth maps without a scale") == 1 and "--depth-unit" in said


def test_nerfstudios_datamanagers_train_on_them(tiny_llff_scene: Path) -> None:
    folder = distances(tiny_llff_scene)
    flags: Any = dict(depth_dir=folder, depth_polarity="distance", depth_unit=1.0, downscale_factor=2)
    vanilla = VanillaDataManagerConfig(
        _target=VanillaDataManager[DepthDataset],
        dataparser=registered("llff_data", tiny_llff_scene, **flags),
        train_num_rays_per_batch=256,
    )
    manager: Any = vanilla.setup()
    own = plain(registered("llff_data", tiny_llff_scene, **flags))
    rays, batch = manager.next_train(0)
    view, row, column = batch["indices"].T
    for name, images in (
        ("image", torch.stack([own[position]["image"] for position in range(3)])),
        (
            "depth_image",
            torch.stack([torch.from_numpy(own.metric_depth(position).z_depth)[..., None] for position in range(3)]),
        ),
    ):
        assert (batch[name] - images[view, row, column]).abs().max() <= 0.5 / 255 + 1e-6, name
    assert row.max() < 12 and column.max() < 16 and len(rays) == 256
    whole: Any = FullImageDatamanagerConfig(
        dataparser=registered("llff_data", tiny_llff_scene, downscale_factor=2),
        cache_images="gpu",  # the device: a CPU
    ).setup()
    assert isinstance(whole, FullImageDatamanager)
    camera, data = whole.next_train(0)
    assert tuple(data["image"].shape[:2]) == (int(camera.height), int(camera.width)) == (12, 16)


def test_our_own_datamanagers_read_the_originals(tiny_llff_scene: Path) -> None:
    config = registered("llff_data", tiny_llff_scene, downscale_factor=2)
    manager: Any = FewShotDataManagerConfig(dataparser=config)
    assert not manager.dataparser.camera_sized_files and config.camera_sized_files
    photos: List[Path] = manager.setup().train_dataset.image_filenames
    assert {path.parent for path in photos} == {tiny_llff_scene / "images_4"}
    recognising: Any = FewShotDataManagerConfig(dataparser=registered("fewshot_data", tiny_llff_scene))
    assert not recognising.dataparser.settled().camera_sized_files


def test_a_scene_of_many_is_served_in_its_size_too(solids_once: Path) -> None:
    config = registered("srn_data", solids_once, downscale_factor=2)
    dataset = InputDataset(outputs(config))
    assert tuple(dataset[0]["image"].shape) == (8, 8, 3)
    np.testing.assert_array_equal(dataset.get_numpy_image(0), plain(config).get_numpy_image(0))


def test_test_cameras_without_a_photo_are_left_out(tiny_blender_scene: Path) -> None:
    (tiny_blender_scene / "test" / "r_0.png").unlink()
    config = registered("fewshot_blender_data", tiny_blender_scene, downscale_factor=2)
    assert len(plain(config, "test").fewshot.rendered_indices) == 1
    dataset = InputDataset(outputs(config, "test"))
    assert len(dataset) == len(plain(config, "test")) - 1
    assert dataset.get_data(0)["image"].shape[:2] == (10, 10)
