"""The few-shot datamanager: what a batch holds, and which settings it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable, List

import cv2
import numpy as np
import pytest
import torch
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from fewshot_ns.cameras.ray_space import RADII_KEY, attach_radii
from fewshot_ns.data.datamanagers.fewshot import FewShotDataManager, FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.samplers.pixels import PixelRequest
from fewshot_ns.priors.base import PriorScene
from fewshot_ns.priors.depth.prior import DepthPriorConfig


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_manager(tiny_llff_scene: Path) -> Callable[..., FewShotDataManager]:
    """Function (dataparser, fields of the manager's config) -> manager; the tiny LLFF scene unless told otherwise."""

    def make(dataparser: Any = None, **fields: Any) -> FewShotDataManager:
        fields = {"train_num_rays_per_batch": 40, **fields}
        parser = dataparser or LLFFDataParserConfig(data=tiny_llff_scene)
        return FewShotDataManagerConfig(dataparser=parser, **fields).setup(device="cpu")

    return make


def requests_of(manager: FewShotDataManager, num_quads: int, **fields: Any) -> Callable[[], List[PixelRequest]]:
    """Function -> what the depth prior asks for in a step."""
    config = DepthPriorConfig(enabled=True, num_quads=num_quads, **fields)
    manager_config = manager.config
    scene = PriorScene(
        manager.train_dataset,
        torch.device("cpu"),
        manager_config.dataparser.data,
        num_rays=manager.num_rays,
        single_image_batches=manager_config.single_image_batches,
    )
    prior = config.setup(scene=scene, name="depth")
    prior.prepare()
    return lambda: [prior.request(0)]


def test_a_batch_holds_the_pixels_of_its_rays(make_manager: Any) -> None:
    manager = make_manager()
    bundle, batch = manager.next_train(0)
    indices = batch["indices"]
    assert len(bundle) == 40 and batch["image"].shape == (40, 3) and indices.shape == (40, 3)
    for ray, (view, row, column) in enumerate(indices.tolist()):
        assert torch.equal(batch["image"][ray], manager.train_dataset[view]["image"][row, column])
        whole = manager.train_dataset.cameras.generate_rays(camera_indices=view, keep_shape=True)
        whole = attach_radii(whole, manager.fewshot_metadata.geometry)
        assert torch.allclose(bundle.directions[ray], whole.directions[row, column], atol=1e-6)
        assert torch.allclose(bundle.origins[ray], whole.origins[row, column])
        assert torch.allclose(bundle.metadata[RADII_KEY][ray], whole.metadata[RADII_KEY][row, column], rtol=1e-5)
    assert set(indices[:, 0].tolist()) == {0, 1, 2}


def test_quads_come_first_and_in_order(make_manager: Any) -> None:
    manager = make_manager()
    requests = requests_of(manager, 6)()
    bundle, batch = manager.next_train(0, requests)
    assert len(bundle) == 40 and torch.equal(batch["indices"][:24], requests[0].pixels)
    quads = batch["indices"][:24].reshape(6, 4, 3)
    # One view per quad; by the prior of the tiny scene (16-bit PNG, inverse depth) p0 is not farther than p1.
    assert (quads[..., 0] == quads[:, :1, 0]).all()
    files = manager.fewshot_metadata.depth_prior_filenames
    for p0, p1, *_ in quads.tolist():
        prior = cv2.imread(str(files[p0[0]]), cv2.IMREAD_UNCHANGED)
        assert prior[p0[1], p0[2]] >= prior[p1[1], p1[2]]


def test_quads_obey_the_polarity(make_manager: Any, tiny_dtu_scene: Path) -> None:
    manager = make_manager(DTUDataParserConfig(data=tiny_dtu_scene, depth_polarity="distance"))
    _, batch = manager.next_train(0, requests_of(manager, 10)())
    assert batch["indices"].shape == (40, 3)
    files = manager.fewshot_metadata.depth_prior_filenames
    for p0, p1, *_ in batch["indices"].reshape(10, 4, 3).tolist():
        prior = np.load(files[p0[0]])
        assert prior[p0[1], p0[2]] <= prior[p1[1], p1[2]]


def test_batches_of_one_image(make_manager: Any) -> None:
    manager = make_manager(single_image_batches=True)
    views = [manager.next_train(step)[1]["indices"][:, 0].unique() for step in range(12)]
    assert all(len(view) == 1 for view in views) and len(torch.cat(views).unique()) > 1
    # With quads: those and the single rays are of the same view.
    requests = requests_of(manager, 4)
    batches = [manager.next_train(step, requests())[1]["indices"][:, 0] for step in range(12)]
    assert all(len(views.unique()) == 1 for views in batches) and len(torch.cat(batches).unique()) > 1


def test_quads_of_one_image_beside_rays_of_all(make_manager: Any) -> None:
    manager = make_manager()
    requests = requests_of(manager, 4, single_image=True)
    batches = [manager.next_train(step, requests())[1]["indices"] for step in range(12)]
    assert all(len(indices[:16, 0].unique()) == 1 for indices in batches)
    assert any(len(indices[16:, 0].unique()) > 1 for indices in batches)


@pytest.fixture
def masked_scene(tiny_nerfstudio_scene: Path) -> Path:
    """The capture with masks: a rectangle of each photo may be used."""
    meta = json.loads((tiny_nerfstudio_scene / "transforms.json").read_text())
    (tiny_nerfstudio_scene / "masks").mkdir()
    mask = np.zeros((meta["h"], meta["w"]), np.uint8)
    mask[6:20, 10:25] = 255
    for frame in meta["frames"]:
        frame["mask_path"] = f"masks/{Path(frame['file_path']).name}"
        cv2.imwrite(str(tiny_nerfstudio_scene / frame["mask_path"]), mask)
    (tiny_nerfstudio_scene / "transforms.json").write_text(json.dumps(meta))
    return tiny_nerfstudio_scene


def test_training_masks_are_respected(make_manager: Any, masked_scene: Path) -> None:
    manager = make_manager(FewShotNerfstudioDataParserConfig(data=masked_scene), train_num_rays_per_batch=400)
    requests = requests_of(manager, 50)()
    rows, columns = manager.next_train(0, requests)[1]["indices"][:, 1:].unbind(-1)
    assert rows.min() == 6 and rows.max() == 19 and columns.min() == 10 and columns.max() == 24


def test_a_prior_without_depth_maps_is_refused(make_manager: Any, tiny_llff_scene: Path) -> None:
    shutil.rmtree(tiny_llff_scene / "depth_maps")
    manager = make_manager()
    with pytest.raises(ValueError) as caught:
        requests_of(manager, 4)
    for part in (str(tiny_llff_scene), "no depth maps", "--depth-dir", "--pipeline.depth.enabled False"):
        assert part in str(caught.value)


def test_more_quads_than_rays_are_refused(make_manager: Any) -> None:
    manager = make_manager()
    with pytest.raises(ValueError, match="11 quads need 44 rays, but a batch has 40; lower --pipeline.depth.num-quads"):
        requests_of(manager, 11)
    assert len(manager.next_train(0, requests_of(manager, 10)())[0]) == 40


def test_requests_begin_the_batch_in_their_order(make_manager: Any) -> None:
    manager = make_manager()
    first, second = (torch.tensor([[view, 1, column] for column in range(7)]) for view in (2, 0))
    bundle, batch = manager.next_train(0, [PixelRequest(first), PixelRequest(second)])
    assert len(bundle) == 40 and torch.equal(batch["indices"][:14], torch.cat([first, second]))
    assert torch.equal(batch["image"][3], manager.train_dataset[2]["image"][1, 3])


def test_the_others_are_drawn_as_a_request_says(make_manager: Any) -> None:
    manager, asked = make_manager(single_image_batches=True), []

    def draw(count: int, view: Any) -> torch.Tensor:
        asked.append((count, view))
        return torch.tensor([[view, 5, 6]]).expand(count, -1)

    pixels = torch.tensor([[1, 0, 0], [1, 2, 3]])
    _, batch = manager.next_train(0, [PixelRequest(pixels, draw)])
    assert asked == [(38, 1)] and torch.equal(batch["indices"][2:], torch.tensor([[1, 5, 6]]).expand(38, -1))


def test_requests_for_more_pixels_than_a_batch_has_are_refused(make_manager: Any) -> None:
    half = PixelRequest(torch.zeros(25, 3, dtype=torch.long))
    with pytest.raises(
        ValueError,
        match="priors ask for 50 pixels of a batch that has 40; raise --pipeline.datamanager.train-num-rays-per-batch",
    ):
        make_manager().next_train(0, [half, half])


def test_an_unreadable_prior_is_named(make_manager: Any, tiny_llff_scene: Path) -> None:
    manager = make_manager()
    path = manager.fewshot_metadata.depth_prior_filenames[1]
    path.write_bytes(b"not a png")
    with pytest.raises(ValueError, match=path.name):
        requests_of(manager, 4)


def test_a_dataparser_of_nerfstudio_is_refused(make_manager: Any, tiny_nerfstudio_scene: Path) -> None:
    with pytest.raises(ValueError, match="needs a few-shot dataparser .*ns-train sparsenerf-lite --data DIR llff-data"):
        make_manager(NerfstudioDataParserConfig(data=tiny_nerfstudio_scene, downscale_factor=1))


def test_evaluation_views_come_one_by_one(make_manager: Any) -> None:
    manager = make_manager()
    assert isinstance(manager, VanillaDataManager)
    assert isinstance(manager, FewShotDataManager)
    assert len(manager.fixed_indices_eval_dataloader) == len(manager.fewshot_metadata.test_indices)
    camera, batch = manager.next_eval_image(0)
    height, width = int(camera.height), int(camera.width)
    assert camera.size == 1 and batch["image"].shape == (height, width, 3)
    camera, batch = next(iter(manager.fixed_indices_eval_dataloader))
    assert batch["image"].shape == (int(camera.height), int(camera.width), 3)


def test_the_folder_may_be_given_for_the_manager(tiny_llff_scene: Path) -> None:
    config = FewShotDataManagerConfig(dataparser=LLFFDataParserConfig(), data=tiny_llff_scene)
    assert len(config.setup(device="cpu").train_dataset) == 3


def test_first_steps_see_the_middle_of_the_images(make_manager: Any) -> None:
    manager = make_manager(crop_steps=3, crop_fraction=0.5, single_image_batches=True)
    height, width = manager.train_images.heights[0], manager.train_images.widths[0]
    for step in range(6):
        batches = [manager.next_train(step)[1]["indices"] for _ in range(10)]
        assert all(len(batch[:, 0].unique()) == 1 for batch in batches)
        _, row, column = torch.cat(batches).unbind(-1)
        inside = (row >= height // 4) & (row < 3 * height // 4) & (column >= width // 4) & (column < 3 * width // 4)
        assert inside.all() == (step < 3)
    with pytest.raises(ValueError, match="fraction up to 1 that leaves pixels of 24x32, got 0.01"):
        make_manager(crop_steps=3, crop_fraction=0.01)


def test_a_mask_that_leaves_nothing_is_named(make_manager: Any, masked_scene: Path) -> None:
    name = "frame_00006.png"
    cv2.imwrite(str(masked_scene / "masks" / name), np.zeros((24, 32), np.uint8))
    with pytest.raises(ValueError, match=rf"masks/{name}: expected pixels to train on"):
        make_manager(FewShotNerfstudioDataParserConfig(data=masked_scene, train_indices=(1, 6)))


def test_all_that_is_measured_is_checked_and_its_sizes_are_known(make_blender_scene, tmp_path):
    scene = make_blender_scene(tmp_path / "scene", counts=(4, 3, 2))
    config = FewShotDataManagerConfig(dataparser=FewShotBlenderDataParserConfig(data=scene, testskip=1))
    manager = config.setup(device="cpu")
    assert manager.eval_dataset.fewshot.image_indices == (7, 8), "the validation split"
    assert manager.check_files() == [(20, 20)] * 5, "and the test split beside it"
    path = scene / "test" / "r_2.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"test/r_2\.png: expected a complete image"):
        manager.check_files()
    # Where the training views are measured, the others are read by an evaluation of held-out ones all the same.
    manager.evaluate_training_views()
    with pytest.raises(ValueError, match=r"test/r_2\.png"):
        manager.check_files()


def test_copies_of_training_photos_are_on_record(tiny_nerfstudio_scene, capsys):
    images = tiny_nerfstudio_scene / "images"
    shutil.copy(images / "frame_00001.png", images / "frame_00008.png")
    parser = FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene, train_indices=(1, 2), test_indices=(3, 8))
    manager = FewShotDataManagerConfig(dataparser=parser).setup(device="cpu")
    assert manager.fewshot_metadata.equal_photos == (("frame_00008.png", "frame_00001.png"),)
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 held-out photos have the same bytes as one that trains (frame_00008.png is frame_00001.png)" in said
