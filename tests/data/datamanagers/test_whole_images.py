"""Steps of whole images: their pixels, their order, and what a batch holds besides."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import cv2
import numpy as np
import pytest
import torch

from fewshot_ns.cameras.ray_space import MEASURED_KEY, RADII_KEY, attach_radii
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManager, FewShotDataManagerConfig
from fewshot_ns.data.datamanagers.whole_images import WholeImages
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.labels import DEPTH_KEY
from fewshot_ns.data.samplers.pixels import ImageStack, PixelRequest
from fewshot_ns.priors.base import PriorScene
from fewshot_ns.priors.depth.prior import DepthPriorConfig


@pytest.fixture
def make_manager(tiny_llff_scene: Path) -> Callable[..., FewShotDataManager]:
    """Function (dataparser, fields of the manager's config) -> manager of whole images; the tiny LLFF scene unless
    told otherwise."""

    def make(dataparser: Any = None, seed: int = 0, **fields: Any) -> FewShotDataManager:
        torch.manual_seed(seed)
        parser = dataparser or LLFFDataParserConfig(data=tiny_llff_scene)
        return FewShotDataManagerConfig(dataparser=parser, whole_images=True, **fields).setup(device="cpu")

    return make


@pytest.fixture
def masked_capture(tiny_rgbd_scene: Path) -> Path:
    """The capture with depth in which a rectangle of each photo may train."""
    meta = json.loads((tiny_rgbd_scene / "transforms.json").read_text())
    (tiny_rgbd_scene / "masks").mkdir()
    mask = np.zeros((meta["h"], meta["w"]), np.uint8)
    mask[6:20, 10:25] = 255
    for frame in meta["frames"]:
        frame["mask_path"] = f"masks/{Path(frame['file_path']).name}"
        cv2.imwrite(str(tiny_rgbd_scene / frame["mask_path"]), mask)
    (tiny_rgbd_scene / "transforms.json").write_text(json.dumps(meta))
    return tiny_rgbd_scene


def image_of(batch: Dict[str, Any]) -> torch.Tensor:
    height, width = batch["image_size"]
    return batch["image"][-height * width :].reshape(height, width, 3)


def views_of(manager: FewShotDataManager, steps: range) -> List[int]:
    return [int(manager.next_train(step)[1]["indices"][-1, 0]) for step in steps]


def test_a_batch_is_an_image(make_manager: Any) -> None:
    manager = make_manager()
    bundle, batch = manager.next_train(0)
    view = int(batch["indices"][0, 0])
    assert batch["image_size"] == (24, 32) and len(bundle) == 24 * 32 == manager.get_train_rays_per_batch()
    assert torch.equal(image_of(batch), manager.train_dataset[view]["image"])
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(32), indexing="ij")
    assert torch.equal(batch["indices"][:, 1:], torch.stack([rows, columns], -1).reshape(-1, 2))
    whole = manager.train_dataset.cameras.generate_rays(camera_indices=view, keep_shape=True)
    whole = attach_radii(whole, manager.fewshot_metadata.geometry).flatten()
    assert torch.allclose(bundle.directions, whole.directions, atol=1e-6)
    assert torch.allclose(bundle.metadata[RADII_KEY], whole.metadata[RADII_KEY], rtol=1e-5)
    assert (bundle.camera_indices == view).all() and "mask" not in batch


def test_every_view_once_per_epoch_in_another_order(make_manager: Any) -> None:
    views = views_of(make_manager(), range(60))
    epochs = [tuple(views[start : start + 3]) for start in range(0, 60, 3)]
    assert all(sorted(epoch) == [0, 1, 2] for epoch in epochs) and len(set(epochs)) > 3
    assert views_of(make_manager(seed=1), range(60)) != views


def test_the_order_goes_on_in_the_middle_of_an_epoch(make_manager: Any) -> None:
    views = views_of(make_manager(), range(12))
    again = make_manager()
    torch.rand(7)  # what a resumed run draws before its first step
    assert views_of(again, range(4, 12)) == views[4:]


def test_processes_take_different_views() -> None:
    images = ImageStack([torch.zeros(2, 3, 1)] * 4)
    ranks = [WholeImages(images, lambda pixels: pytest.fail("no batch is asked for"), 3, rank, 2) for rank in (0, 1)]
    taken = [[one.view_of(step) for one in ranks] for step in range(8)]
    for epoch in range(0, 8, 2):
        assert sorted(taken[epoch] + taken[epoch + 1]) == [0, 1, 2, 3]


def test_requested_pixels_come_before_the_image(make_manager: Any) -> None:
    manager = make_manager()
    first, second = (torch.tensor([[1, 3, column] for column in range(7)]) for _ in range(2))
    second[:, 1] = 5
    for step in range(3):
        bundle, batch = manager.next_train(step, [PixelRequest(first), PixelRequest(second)])
        assert len(bundle) == 14 + 24 * 32 == manager.get_train_rays_per_batch()
        assert torch.equal(batch["indices"][:14], torch.cat([first, second]))
        assert torch.equal(batch["image"][:7], manager.train_dataset[1]["image"][3, :7])
        assert torch.equal(image_of(batch), manager.train_dataset[1]["image"])
        where = 14 + 3 * 32
        assert torch.equal(bundle.directions[:7], bundle.directions[where : where + 7])
        assert torch.equal(bundle.metadata[RADII_KEY][:7], bundle.metadata[RADII_KEY][where : where + 7])


def test_pixels_of_several_views_leave_the_image_to_the_order(make_manager: Any) -> None:
    manager, pixels = make_manager(), torch.tensor([[0, 1, 2], [2, 3, 4]])
    asked = [int(manager.next_train(step, [PixelRequest(pixels)])[1]["indices"][-1, 0]) for step in range(6)]
    assert asked == views_of(make_manager(), range(6))


def test_the_depth_prior_asks_for_quads_of_one_image(make_manager: Any) -> None:
    manager = make_manager()
    assert manager.single_image_batches and manager.num_rays == 24 * 32
    scene = PriorScene(
        manager.train_dataset,
        torch.device("cpu"),
        manager.config.dataparser.data,
        num_rays=manager.num_rays,
        single_image_batches=manager.single_image_batches,
    )
    prior = DepthPriorConfig(enabled=True, num_quads=10).setup(scene=scene, name="depth")
    prior.prepare()
    batches = [manager.next_train(step, [prior.request(step)])[1]["indices"] for step in range(12)]
    assert all(len(indices) == 40 + 24 * 32 and len(indices[:, 0].unique()) == 1 for indices in batches)
    assert len(torch.cat(batches)[:, 0].unique()) > 1


def test_masks_and_labels(make_manager: Any, masked_capture: Path) -> None:
    manager = make_manager(RGBDDataParserConfig(data=masked_capture))
    assert DEPTH_KEY not in manager.next_train(0)[1]
    manager.use_labels({"depth"})
    view = int(manager.next_train(0)[1]["indices"][-1, 0])
    bundle, batch = manager.next_train(0, [PixelRequest(torch.tensor([[view, 7, 12], [view, 8, 11]]))])
    mask = batch["mask"][2:].reshape(24, 32)
    assert mask.dtype == torch.bool and mask[6:20, 10:25].all() and mask.sum() == 14 * 15
    assert batch["mask"][:2].all()
    depth = batch[DEPTH_KEY][2:].reshape(24, 32)
    known = manager.train_depths.lookup(batch["indices"])[:, :1]
    assert torch.equal(batch[DEPTH_KEY], known) and (depth[6:20, 10:25] > 0).all()
    assert torch.equal(bundle.metadata[MEASURED_KEY][:, 0], batch[DEPTH_KEY][:, 0])


def test_rays_of_a_batch_may_be_changed(make_manager: Any) -> None:
    manager = make_manager()
    (first, batch), seen = manager.next_train(0), []
    first.nears = torch.zeros_like(first.pixel_area)
    first.metadata["mine"] = first.nears
    batch["mine"] = first.nears
    for step in range(3):
        bundle, batch = manager.next_train(step)
        assert bundle.nears is None and "mine" not in bundle.metadata and "mine" not in batch
        seen.append(int(batch["indices"][0, 0]))
    assert sorted(seen) == [0, 1, 2]


def test_a_crop_is_refused(make_manager: Any) -> None:
    with pytest.raises(
        ValueError, match=r"--pipeline.datamanager.crop-steps 500: expected 0 .* all pixels of an image"
    ):
        make_manager(crop_steps=500)


def test_a_batch_of_504x378_costs_little(make_manager: Any, make_llff_scene: Any, tmp_path: Path) -> None:
    scene = make_llff_scene(tmp_path / "large", size=(378, 504), full_size=(1512, 2016))
    manager = make_manager(LLFFDataParserConfig(data=scene))
    quads = PixelRequest(torch.tensor([[0, 1, 2]] * 256))
    for step in range(3):
        manager.next_train(step, [])
    seconds = []
    for step in range(6):
        begin = time.process_time()
        manager.next_train(step, [quads] if step % 2 else [])
        seconds.append(time.process_time() - begin)
    assert np.median(seconds) < 0.05
