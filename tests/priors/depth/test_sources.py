"""Where the depth prior's maps come from: the photos themselves, the scene's files, a network that fills holes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import numpy.typing as npt
import pytest
import torch
from nerfstudio.cameras.camera_utils import radial_and_tangential_undistort
from PIL import Image

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.metric import SIGMA_KEY
from fewshot_ns.data.files.depth_formats import NPZ_KEY
from fewshot_ns.data.stereo.estimate import StereoConfig, StereoError
from fewshot_ns.data.stereo.flat_regions import FlatRegionConfig
from fewshot_ns.data.stereo.views import sample
from fewshot_ns.pretrained import monocular_depth as monocular
from fewshot_ns.pretrained.itermvs.network import IterMVS
from fewshot_ns.pretrained.monocular_depth import MonocularDepthConfig
from fewshot_ns.pretrained.multiview_depth import MultiViewDepthConfig
from fewshot_ns.pretrained.weights import WeightsNotFoundError
from fewshot_ns.priors.depth import photo_depths as photo_depths_module
from fewshot_ns.priors.depth.photo_depths import photo_depths

FLAG = "--pipeline.depth.mvs.weights"
STEREO = StereoConfig(device="cpu")


@pytest.fixture
def scene(make_llff_scene: Any, tmp_path: Path) -> Path:
    """Folder of a scene of 64x48 photos without depth maps."""
    folder = make_llff_scene(tmp_path / "scene", size=(48, 64), detailed=True)
    shutil.rmtree(folder / "depth_maps")
    return folder


def dataset_of(scene: Path, split: str = "train", **flags: Any) -> FewShotDataset:
    return FewShotDataset(LLFFDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs(split))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """Numbers of views that stereo was asked for."""
    seen: List[int] = []
    real = photo_depths_module.stereo_depths

    def counted(config: Any, views: Any) -> Any:
        seen.append(len(views))
        return real(config, views)

    monkeypatch.setattr(photo_depths_module, "stereo_depths", counted)
    return seen


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Function (views) after whose call stereo confirms nothing in these views."""

    def make(*views: int) -> None:
        real = photo_depths_module.stereo_depths

        def partly(config: Any, photos: Any) -> Any:
            found = real(config, photos)
            return [
                replace(depth, valid=torch.zeros_like(depth.valid)) if view in views else depth
                for view, depth in enumerate(found)
            ]

        monkeypatch.setattr(photo_depths_module, "stereo_depths", partly)

    return make


def true_depth(dataset: FewShotDataset, view: int) -> npt.NDArray[np.float32]:
    """Planar depth of the plane z = -4 of the files' world, in world units."""
    rays = dataset.cameras.generate_rays(camera_indices=view, keep_shape=True)
    assert rays.metadata is not None
    transform = dataset.file_to_world
    point = dataset.world_scale * (transform[:, :3] @ torch.tensor([0.0, 0.0, -4.0]) + transform[:, 3])
    normal = transform[:, 2]
    distance = ((point - rays.origins) * normal).sum(-1) / (rays.directions * normal).sum(-1)
    return (distance / rays.metadata["directions_norm"][..., 0]).numpy()


def test_depth_is_in_world_units_and_comes_with_a_sigma(scene: Path) -> None:
    dataset = dataset_of(scene)
    depths = photo_depths(dataset, STEREO, FLAG)
    dataset.use_depth_maps(depths.files, depths.encoding)
    assert depths.source == "stereo" and depths.names == tuple(path.name for path in dataset.image_filenames)
    for view in range(3):
        found, truth = dataset.metric_depth(view), true_depth(dataset, view)
        assert found.valid.mean() == pytest.approx(depths.valid[view], abs=1e-6) and depths.valid[view] > 0.3
        error = np.abs(found.z_depth - truth)[found.valid] / truth[found.valid]
        assert np.median(error) < 0.01
        assert (
            found.sigma is not None and (found.sigma[found.valid] > 0).all() and (found.sigma[~found.valid] == 0).all()
        )
        relative = depths.relative_sigma[view]
        assert relative == pytest.approx(np.median((found.sigma / found.z_depth.clip(1e-9))[found.valid]), rel=1e-5)


def test_a_second_call_reads_only(scene: Path, calls: List[int], monkeypatch: pytest.MonkeyPatch) -> None:
    first = photo_depths(dataset_of(scene), STEREO, FLAG)
    assert calls == [3]
    assert photo_depths(dataset_of(scene), STEREO, FLAG) == first
    # The photos that are matched do not depend on the size that is trained at, nor on where it runs.
    assert photo_depths(dataset_of(scene, downscale_factor=2), replace(STEREO, device="auto"), FLAG) == first
    assert calls == [3] and first.files[0].parents[1].name == "stereo"
    others = [
        photo_depths(dataset_of(scene), replace(STEREO, max_side=48), FLAG),
        photo_depths(dataset_of(scene, train_indices=(1, 5)), STEREO, FLAG),
        photo_depths(dataset_of(scene, ray_space="metric"), STEREO, FLAG),
    ]
    monkeypatch.setattr(photo_depths_module, "STEREO_VERSION", -1)
    others.append(photo_depths(dataset_of(scene), STEREO, FLAG))
    assert calls == [3, 3, 2, 3, 3]
    assert len({depths.files[0] for depths in (first, *others)}) == 5


def test_another_photo_makes_all_maps_anew(scene: Path, calls: List[int]) -> None:
    first = photo_depths(dataset_of(scene), STEREO, FLAG)
    path = dataset_of(scene).image_filenames[1]
    Image.fromarray(np.asarray(Image.open(path))[::-1]).save(path)
    second = photo_depths(dataset_of(scene), STEREO, FLAG)
    assert calls == [3, 3] and not set(first.files) & set(second.files)


@pytest.mark.parametrize("damage", ["cut", "gone", "negative", "no sigma"])
def test_a_damaged_entry_is_computed_again(scene: Path, calls: List[int], damage: str) -> None:
    path = photo_depths(dataset_of(scene), STEREO, FLAG).files[1]
    whole = dict(np.load(path))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "gone":
        path.unlink()
    else:
        changed = {NPZ_KEY: -whole[NPZ_KEY]} if damage == "negative" else {SIGMA_KEY: 0 * whole[SIGMA_KEY]}
        np.savez(path, **{**whole, **changed})
    photo_depths(dataset_of(scene), STEREO, FLAG)
    assert calls == [3, 3]
    assert np.array_equal(np.load(path)[NPZ_KEY], whole[NPZ_KEY])


def test_one_photo_is_not_enough(scene: Path) -> None:
    outputs = LLFFDataParserConfig(data=scene).setup().outputs_of_views([1], "train")
    with pytest.raises(StereoError, match="expected at least two photos to find depth from, found image001.png"):
        photo_depths(FewShotDataset(outputs), STEREO, FLAG)


@pytest.fixture
def config(scene: Path, tiny_pipeline_config: Any) -> Any:
    config = tiny_pipeline_config(LLFFDataParserConfig(data=scene))
    config.depth.stereo = STEREO
    return config


@pytest.mark.parametrize("loss", ["ranking", "pearson", "cdf", "l2", "urf", "ds-nerf"])
@pytest.mark.parametrize("empty_view", [False, True])
def test_every_loss_trains_on_depth_from_the_photos(
    config: Any, loss: str, empty_view: bool, blind: Callable[..., None], capsys: pytest.CaptureFixture
) -> None:
    if empty_view:
        blind(1)
    config.depth.loss, config.depth.fade_ratio = loss, 1.0
    pipeline = config.setup(device="cpu", test_mode="val")
    resolved = pipeline.resolved()["depth"]
    assert resolved["source"] == "stereo" and list(resolved["valid"]) == [
        "image001.png",
        "image005.png",
        "image011.png",
    ]
    assert (resolved["valid"]["image005.png"] == 0) == empty_view and resolved["valid"]["image001.png"] > 0.3
    shown = " ".join(capsys.readouterr().out.split())
    share = f"{resolved['valid']['image001.png']:.0%}"
    assert f"depth of the training views from the photos (stereo): image001.png {share}, image005.png" in shown
    assert "(the scene has no depth maps)" in shown
    for step in range(2):
        _, losses, _ = pipeline.get_train_loss_dict(step)
        terms = {name: term for name, term in losses.items() if name.startswith("depth_")}
        assert terms and all(term.isfinite() for term in terms.values())
        total = torch.stack(list(losses.values())).sum()
        total.backward()
    if loss == "ranking":
        quads = pipeline.priors.all["depth"].quads
        drawn = quads.sample(300)
        assert set(drawn[:, 0].tolist()) == ({0, 2} if empty_view else {0, 1, 2})
        assert quads.valid.lookup(drawn).all()


def test_auto_takes_the_scenes_own_maps_where_they_serve(
    make_llff_scene: Any, tiny_pipeline_config: Any, tmp_path: Path, calls: List[int]
) -> None:
    config = tiny_pipeline_config(LLFFDataParserConfig(data=make_llff_scene(tmp_path / "with")))
    assert config.depth.source == "auto"
    pipeline = config.setup(device="cpu", test_mode="val")
    assert pipeline.resolved()["depth"]["source"] == "files" and calls == []
    assert pipeline.datamanager.fewshot_metadata.depth_encoding.polarity == "inverse_depth"
    # Maps that only say what is nearer are none for a loss that needs their scale.
    config.depth.loss = "cdf"
    pipeline = config.setup(device="cpu", test_mode="val")
    assert pipeline.resolved()["depth"]["source"] == "stereo" and calls == [3]
    assert (pipeline.datamanager.next_train(0)[1]["depth_sigma"] > 0).any()


@pytest.mark.parametrize(
    "part, fields, flag",
    [
        ("stereo", {"num_planes": 3}, r"--pipeline\.depth\.stereo\.num-planes: expected at least 16, found 3"),
        ("stereo", {"max_side": 8}, r"--pipeline\.depth\.stereo\.max-side: expected at least 32, found 8"),
        ("stereo", {"min_views": 3}, r"--pipeline\.depth\.stereo\.min-views: expected at most 2, the other views"),
        ("stereo", {"sweep_radii": (0,)}, r"--pipeline\.depth\.stereo\.sweep-radii: expected radii of at least 1"),
        (
            "flat_regions",
            {"min_area": 2.0},
            r"--pipeline\.depth\.flat-regions\.min-area: expected a share of at most",
        ),
        ("flat_regions", {"tolerance": 0.0}, r"--pipeline\.depth\.flat-regions\.tolerance: expected a positive number"),
        ("mvs", {"max_side": 8}, r"--pipeline\.depth\.mvs\.max-side: expected at least 64 pixels, found 8"),
    ],
)
def test_values_that_mean_nothing_are_named_by_their_flags(
    config: Any, bare_capture: Path, part: str, fields: Any, flag: str
) -> None:
    setattr(config.depth, part, replace(getattr(config.depth, part), **fields))
    config.depth.source = "mvs" if part == "mvs" else "stereo"
    with pytest.raises(ValueError, match=flag):
        config.setup(device="cpu", test_mode="val")
    capture = FewShotNerfstudioDataParserConfig(data=bare_capture).setup().get_dataparser_outputs("train")
    finder = config.depth.bounds_finder()
    with pytest.raises(ValueError, match=flag):
        finder(FewShotDataset(capture), "--pipeline.depth")


def test_auto_takes_a_sensors_depth(tiny_nerfstudio_scene: Path, tiny_pipeline_config: Any, calls: List[int]) -> None:
    config = tiny_pipeline_config(FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene))
    config.depth.loss = "cdf"
    pipeline = config.setup(device="cpu", test_mode="val")
    assert pipeline.resolved()["depth"]["source"] == "files" and calls == []


def test_maps_of_some_views_stop_nothing_but_what_reads_them(
    make_llff_scene: Any, tiny_pipeline_config: Any, tmp_path: Path, calls: List[int], capsys: pytest.CaptureFixture
) -> None:
    """As `ns-fewshot depth` leaves them that was run for other views."""
    scene = make_llff_scene(tmp_path / "some")
    (scene / "depth_maps" / "depth_image005.png").unlink()
    config = tiny_pipeline_config(LLFFDataParserConfig(data=scene))
    assert config.setup(device="cpu", test_mode="val").resolved()["depth"]["source"] == "stereo" and calls == [3]
    assert "depth_image005.png: expected the depth prior of view 5" in " ".join(capsys.readouterr().out.split())
    config.depth.source = "files"
    with pytest.raises(ValueError, match=r"depth_image005\.png: expected the depth prior of view 5.* Ways out: "):
        config.setup(device="cpu", test_mode="val")
    config.depth.enabled = False
    config.setup(device="cpu", test_mode="val")


def test_photos_that_confirm_nothing_stop_training_with_the_ways_out(
    config: Any, blind: Callable[..., None], capsys: pytest.CaptureFixture
) -> None:
    blind(0, 1, 2)
    config.depth.source = "stereo"
    with pytest.raises(ValueError) as caught:
        config.setup(device="cpu", test_mode="val")
    text = str(caught.value)
    for part in ("in none of image001.png, image005.png, image011.png", "poses may be"):
        assert part in text
    for way in ("source mvs", "source mono", "ns-fewshot depth", "--depth-dir", "--pipeline.depth.enabled False"):
        assert way in text
    assert "source stereo" not in text


@pytest.mark.parametrize("loss", ["ranking", "cdf"])
def test_auto_trains_without_the_prior_where_photos_say_nothing(
    loss: Any, config: Any, blind: Callable[..., None], capsys: pytest.CaptureFixture
) -> None:
    blind(0, 1, 2)
    config.depth.loss = loss
    pipeline = config.setup(device="cpu", test_mode="val")
    shown = " ".join(capsys.readouterr().out.split())
    assert "the scene has no depth maps, and found no depth in the photos" in shown and "source mvs" in shown
    assert "Training goes on without the depth prior." in shown
    assert pipeline.resolved()["depth"] == {**pipeline.resolved()["depth"], "loss": "none", "source": "none"}
    pipeline.train()
    _, losses, _ = pipeline.get_train_loss_dict(0)
    assert not any(name.startswith("depth") for name in losses)


def test_photos_that_cannot_be_matched_stop_training_with_the_ways_out(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: Any, views: Any) -> Any:
        raise StereoError("no two photos see the same things")

    monkeypatch.setattr(photo_depths_module, "stereo_depths", refuse)
    config.depth.source, config.depth.loss = "stereo", "cdf"
    with pytest.raises(ValueError, match="no two photos see the same things. Ways out: ") as caught:
        config.setup(device="cpu", test_mode="val")
    # A monocular map has no scale.
    for way in ("source stereo", "source mvs", "source mono"):
        assert way not in str(caught.value)
    assert "ns-fewshot depth --align" in str(caught.value)


def test_next_to_nothing_is_a_warning(
    config: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    real = photo_depths_module.stereo_depths

    def few(config: Any, views: Any) -> Any:
        def only_corner(valid: torch.Tensor) -> torch.Tensor:
            corner = torch.zeros_like(valid)
            corner[20:28, 20:28] = True
            return corner & valid

        return [replace(depth, valid=only_corner(depth.valid)) for depth in real(config, views)]

    monkeypatch.setattr(photo_depths_module, "stereo_depths", few)
    config.setup(device="cpu", test_mode="val")
    shown = " ".join(capsys.readouterr().out.split())
    assert "In every view less than 15% of the pixels has a depth: the poses may be wrong" in shown


@pytest.fixture
def network(tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch) -> MonocularDepthConfig:
    """A tiny random DPT whose outputs are inverse depth of the scene, up to scale and shift, but noise in view 5."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'priors'")
    torch.manual_seed(0)
    folder = tmp_path / "tiny-dpt"
    shape = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32)
    parts = dict(neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, reassemble_factors=[4, 2, 1, 0.5], is_hybrid=False)
    config = transformers.DPTConfig(**shape, **parts, image_size=32, patch_size=8, backbone_out_indices=[0, 1, 2, 3])
    transformers.DPTForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    dataset = dataset_of(scene)
    known = {}
    for view, path in enumerate(dataset.image_filenames):
        depth = true_depth(dataset, view)
        noise = np.random.default_rng(0).random(depth.shape)
        values = noise if view == 1 else 7.0 / depth + 3.0
        known[np.asarray(Image.open(path)).tobytes()] = values.astype(np.float32)
    monkeypatch.setattr(monocular._Network, "__call__", lambda self, images: [known[i.tobytes()] for i in images])
    return MonocularDepthConfig(model=str(folder), device="cpu")


def test_holes_are_filled_where_a_network_fits(
    config: Any, network: MonocularDepthConfig, capsys: pytest.CaptureFixture, calls: List[int]
) -> None:
    pipeline = config.setup(device="cpu", test_mode="val")
    plain = [pipeline.datamanager.train_dataset.metric_depth(view) for view in range(3)]
    config.depth.fill, config.depth.mono = "mono", network
    capsys.readouterr()
    pipeline = config.setup(device="cpu", test_mode="val")
    shown = " ".join(capsys.readouterr().out.split())
    assert "(stereo, filled by " in shown and "image005.png: " in shown and "its holes stay" in shown
    dataset = pipeline.datamanager.train_dataset
    for view in range(3):
        filled, known = dataset.metric_depth(view), plain[view]
        assert not known.valid.all()
        assert np.array_equal(filled.z_depth[known.valid], known.z_depth[known.valid])
        assert filled.sigma is not None and known.sigma is not None
        assert np.array_equal(filled.sigma[known.valid], known.sigma[known.valid])
        assert filled.valid.all() == (view != 1)
        if view != 1:
            truth = true_depth(dataset, view)
            assert (np.abs(filled.z_depth - truth) < 0.1 * truth)[~known.valid].mean() > 0.9
            assert (filled.sigma >= 0.0099 * filled.z_depth)[~known.valid].all()
        else:
            assert np.array_equal(filled.valid, known.valid)
    shares = pipeline.resolved()["depth"]["valid"]
    assert shares["image001.png"] == 1.0 > shares["image005.png"]
    # What was filled is kept as well, with the reason why a view was not.
    again = config.setup(device="cpu", test_mode="val")
    assert again.resolved()["depth"]["valid"] == shares and calls == [3]
    assert "its holes stay" in " ".join(capsys.readouterr().out.split())


def test_holes_are_filled_by_the_scenes_own_maps_of_unknown_scale(
    make_llff_scene: Any, tiny_pipeline_config: Any, tmp_path: Path, calls: List[int]
) -> None:
    """Of which one has pixels without a value, and one has nothing to do with its view."""
    folder = make_llff_scene(tmp_path / "own", size=(48, 64), detailed=True)
    holed, wrong = (folder / "depth_maps" / f"depth_image{index:03d}.png" for index in (1, 11))
    values = np.array(Image.open(holed))
    values[:, 40:] = 0
    Image.fromarray(values).save(holed)
    Image.fromarray(np.random.default_rng(0).integers(1, 65535, (48, 64), dtype=np.uint16)).save(wrong)
    config = tiny_pipeline_config(LLFFDataParserConfig(data=folder))
    config.depth.stereo, config.depth.source, config.depth.loss = STEREO, "stereo", "cdf"
    known = [config.setup(device="cpu").datamanager.train_dataset.metric_depth(view) for view in range(3)]
    config.depth.fill = "files"
    pipeline = config.setup(device="cpu", test_mode="val")
    dataset, prior = pipeline.datamanager.train_dataset, pipeline.priors.all["depth"]
    for view in range(3):
        filled, truth = dataset.metric_depth(view), true_depth(dataset, view)
        holes = ~known[view].valid
        assert holes.any() and np.array_equal(filled.z_depth[~holes], known[view].z_depth[~holes])
        new = holes & filled.valid
        has_value = np.ones_like(holes) if view else np.arange(64) < 40
        assert np.array_equal(new, holes & has_value & (view != 2))
        assert (np.abs(filled.z_depth / truth - 1.0)[new] < 0.02).all()
        assert filled.sigma is not None and (filled.sigma[new] > 0).all() and (filled.sigma[holes & ~new] == 0).all()
    assert prior.maps.photo_depths.source == "stereo, filled by the scene's maps"
    assert [problem.split(":")[0] for problem in prior.maps.photo_depths.problems] == ["image011.png"]
    # Other maps, other entries of the cache; the photos are matched once.
    shutil.copy(holed, wrong)
    again = config.setup(device="cpu", test_mode="val").priors.all["depth"].maps.photo_depths
    assert calls == [3] and [
        one == other for one, other in zip(again.files, prior.maps.photo_depths.files, strict=True)
    ] == [True, True, False]


@pytest.mark.parametrize("some", [False, True])
def test_holes_cannot_be_filled_by_maps_that_are_not_there(
    make_llff_scene: Any, tiny_pipeline_config: Any, tmp_path: Path, calls: List[int], some: bool
) -> None:
    folder = make_llff_scene(tmp_path / "own", size=(48, 64))
    if some:
        (folder / "depth_maps" / "depth_image005.png").unlink()
    else:
        shutil.rmtree(folder / "depth_maps")
    config = tiny_pipeline_config(LLFFDataParserConfig(data=folder))
    config.depth.source, config.depth.fill = "stereo", "files"
    with pytest.raises(ValueError, match="fill files: expected depth maps of the training views in .*own, ") as caught:
        config.setup(device="cpu", test_mode="val")
    text = str(caught.value)
    assert "--depth-dir" in text and "--pipeline.depth.fill mono or none" in text and calls == []
    assert ("depth_image005.png" in text) == some and ("found none" in text) != some


@pytest.mark.parametrize("enabled", [True, False])
def test_regions_of_one_colour_are_filled_unless_that_is_off(
    scene: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    seen: List[int] = []
    real = photo_depths_module.fill_flat_regions

    def counted(config: Any, views: Any, depths: Any) -> Any:
        seen.append(len(views))
        return real(config, views, depths)

    monkeypatch.setattr(photo_depths_module, "fill_flat_regions", counted)
    planes = FlatRegionConfig(enabled=enabled)
    first = photo_depths(dataset_of(scene), STEREO, FLAG, flat_regions=planes)
    assert seen == ([3] if enabled else [])
    without = photo_depths(dataset_of(scene), STEREO, FLAG)
    assert (without.files == first.files) != enabled
    finer = photo_depths(dataset_of(scene), STEREO, FLAG, flat_regions=replace(planes, max_grey_step=0.05))
    assert (finer.files == first.files) != enabled


def test_a_network_matches_the_photos(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random one, whose every pixel counts as confirmed."""
    files = []
    for seed in range(2):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.ckpt"
        torch.save({"model": {f"module.{name}": value for name, value in IterMVS().state_dict().items()}}, path)
        config.depth.source, config.depth.loss = "mvs", "cdf"
        config.depth.mvs = MultiViewDepthConfig(
            weights=path, max_side=64, adapt_range=False, min_consistent_views=0, device="cpu"
        )
        pipeline = config.setup(device="cpu", test_mode="val")
        resolved = pipeline.resolved()["depth"]
        assert resolved["source"] == "mvs" and set(resolved["valid"].values()) == {1.0}
        assert (pipeline.datamanager.next_train(0)[1]["depth_sigma"] > 0).any()
        files.append(pipeline.datamanager.fewshot_metadata.depth_prior_filenames)
    assert not set(files[0]) & set(files[1])
    monkeypatch.delenv("FEWSHOT_WEIGHTS", raising=False)
    config.depth.mvs.weights = None
    with pytest.raises(WeightsNotFoundError, match="--pipeline.depth.mvs.weights"):
        config.setup(device="cpu", test_mode="val")


def test_photos_of_a_lens_are_matched_as_those_of_a_pinhole_camera(
    make_nerfstudio_scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_nerfstudio_scene(tmp_path / "bent", size=(96, 128), detailed=True)
    lens = {"k1": -0.25, "k2": 0.05, "p1": 0.004, "p2": -0.003}
    order = torch.tensor([lens["k1"], lens["k2"], 0.0, 0.0, lens["p1"], lens["p2"]])
    path = scene / "transforms.json"
    meta = json.loads(path.read_text())
    intrinsics = torch.tensor([meta[key] for key in ("fl_x", "fl_y", "cx", "cy")])
    row, column = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    seen_at = (torch.stack([column, row], -1) - intrinsics[2:]) / intrinsics[:2]
    position = radial_and_tangential_undistort(seen_at, order) * intrinsics[:2] + intrinsics[2:]
    straight = {}
    for frame in meta["frames"]:
        photo = torch.from_numpy(np.asarray(Image.open(scene / frame["file_path"]))).float()
        straight[Path(frame["file_path"]).name] = photo / 255.0
        Image.fromarray(sample(photo, position).round().byte().numpy()).save(scene / frame["file_path"])
    path.write_text(json.dumps({**meta, **lens, "camera_model": "OPENCV"}))
    seen: List[Any] = []
    real = photo_depths_module.stereo_depths
    monkeypatch.setattr(
        photo_depths_module, "stereo_depths", lambda config, views: seen.extend(views) or real(config, views)
    )
    dataset = FewShotDataset(FewShotNerfstudioDataParserConfig(data=scene).setup().get_dataparser_outputs("train"))
    assert dataset.cameras.distortion_params is not None
    depths = photo_depths(dataset, STEREO, FLAG)
    for number, view in enumerate(seen):
        difference = (view.image - straight[view.name]).abs()[view.mask]
        bent_by = (dataset.get_image_float32(number) - straight[view.name]).abs()[view.mask]
        assert view.mask.float().mean() > 0.8 and difference.mean() < 0.3 * bent_by.mean()
    dataset.use_depth_maps(depths.files, depths.encoding)
    for view in range(3):
        found, truth = dataset.metric_depth(view), true_depth(dataset, view)
        assert found.valid.mean() > 0.3
        assert np.median(np.abs(found.z_depth / truth - 1.0)[found.valid]) < 0.01
    # The same photos without the lens are others.
    dataset.cameras.distortion_params = None
    assert not set(photo_depths(dataset, STEREO, FLAG).files) & set(depths.files)
