"""Batches of many scenes: rays, colours, source views, and what unusable scenes do."""

from pathlib import Path
from typing import Any, Callable, Optional

import pytest
import torch
from PIL import Image

from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.multiscene.batches import BatchOptions, SceneBatches, load_sources
from fewshot_ns.data.multiscene.images import SceneImages
from fewshot_ns.data.multiscene.library import BadScenes, SceneLibrary
from fewshot_ns.data.multiscene.order import SceneOrder
from fewshot_ns.data.records.scene import SCENE_INDEX_KEY, SceneError
from fewshot_ns.data.views.sources import SourceViews, SourceViewsConfig

RAYS = 40


@pytest.fixture
def make_batches() -> Callable[..., SceneBatches]:
    """Function (folder of the set, bad scenes, options) -> batches of two scenes."""

    def build(data: Path, bad: Optional[BadScenes] = None, **options: Any) -> SceneBatches:
        library = SceneLibrary(SRNDataParserConfig(data=data).setup())
        entries = library.table("train")
        chosen = BatchOptions(**{"num_sources": (2,), "rays_per_scene": RAYS, **options})
        return SceneBatches(library, entries, SceneOrder(len(entries), 2, seed=5), chosen, bad or BadScenes())

    return build


def test_rays_and_colours_are_those_of_the_scenes(make_batches: Callable[..., SceneBatches], solids_once: Path):
    batches = make_batches(solids_once)
    rays, batch = batches.draw(3)
    assert len(rays) == 2 * RAYS and batch["image"].shape == batch["indices"].shape == (2 * RAYS, 3)
    assert rays.metadata[SCENE_INDEX_KEY][:, 0].tolist() == [0] * RAYS + [1] * RAYS
    images = SceneImages()
    for row, name in enumerate(batch["scenes"]):
        scene = batches.library.open(batches.library.find(name, "train"))
        part = slice(row * RAYS, (row + 1) * RAYS)
        views, rows, columns = batch["indices"][part].unbind(-1)
        truth = images.images(scene, range(5))[views, rows, columns]
        torch.testing.assert_close(batch["image"][part], truth)
        # The ray goes through the middle of the pixel: projecting a point of it gives it back.
        pose = scene.cameras.camera_to_worlds[views]
        local = torch.einsum("rji,rj->ri", pose[:, :, :3], rays.directions[part])
        pixel = local[:, :2] / -local[:, 2:] * torch.tensor([1.0, -1.0]) * scene.cameras.fx[views]
        centre = torch.cat([scene.cameras.cx, scene.cameras.cy], dim=-1)[views]
        torch.testing.assert_close(pixel + centre, torch.stack([columns, rows], -1) + 0.5, atol=1e-3, rtol=0)
        given = batch["conditioning"]
        sources = batch["sources"][row]
        assert len(set(sources)) == 2
        torch.testing.assert_close(given.images[row], images.images(scene, sources))
        torch.testing.assert_close(given.camera_to_worlds[row], scene.cameras.camera_to_worlds[list(sources)])
        assert given.intrinsics[row, 0].tolist() == pytest.approx(
            [float(getattr(scene.cameras, name)[sources[0]]) for name in ("fx", "fy", "cx", "cy")]
        )
        assert (float(given.near[row]), float(given.far[row])) == pytest.approx((scene.near, scene.far))


def test_a_batch_is_a_function_of_the_step(make_batches: Callable[..., SceneBatches], solids_once: Path):
    first, second = make_batches(solids_once), make_batches(solids_once)
    second.draw(0)
    again = [batches.draw(4)[1] for batches in (first, second)]
    assert again[0]["scenes"] == again[1]["scenes"] and again[0]["sources"] == again[1]["sources"]
    assert torch.equal(again[0]["indices"], again[1]["indices"])
    assert not torch.equal(again[0]["indices"], first.draw(5)[1]["indices"])


def test_the_number_of_sources_is_drawn_per_step(make_batches: Callable[..., SceneBatches], solids_once: Path):
    batches = make_batches(solids_once, num_sources=(1, 3))
    shapes = {batches.draw(step)[1]["conditioning"].images.shape[1] for step in range(20)}
    assert shapes == {1, 3}


def test_boxes_until_a_step(make_batches: Callable[..., SceneBatches], solids_once: Path):
    batches = make_batches(solids_once, no_box_step=10, rays_per_scene=300)

    def share_inside(step: int) -> float:
        _, batch = batches.draw(step)
        inside = []
        for row, name in enumerate(batch["scenes"]):
            scene = batches.library.open(batches.library.find(name, "train"))
            boxes = batches.library.images.boxes(scene, range(5))
            views, rows, columns = batch["indices"][row * 300 : (row + 1) * 300].unbind(-1)
            box = boxes[views]
            inside.append((columns >= box[:, 0]) & (columns <= box[:, 2]) & (rows >= box[:, 1]) & (rows <= box[:, 3]))
        return float(torch.cat(inside).float().mean())

    assert share_inside(9) == 1.0
    assert share_inside(10) < 0.9


def test_colour_jitter_is_one_draw_for_all_images_of_a_scene(
    make_batches: Callable[..., SceneBatches], solids_once: Path
):
    plain, changed = (make_batches(solids_once, colour_jitter=amount, num_sources=(5,)) for amount in (0.0, 0.1))
    rays, batch = changed.draw(2)
    assert len(rays) == 2 * RAYS
    before, after = plain.draw(2)[1]["conditioning"].images, batch["conditioning"].images
    assert (before - after).abs().max() > 0.01 and 0.0 <= float(after.min()) and float(after.max()) <= 1.0
    for row in range(2):
        # All views are sources here, so every target colour is to be found in the changed source images.
        place = {view: position for position, view in enumerate(batch["sources"][row])}
        views, rows, columns = batch["indices"][row * RAYS : (row + 1) * RAYS].unbind(-1)
        expected = after[row][[place[int(view)] for view in views], rows, columns]
        torch.testing.assert_close(batch["image"][row * RAYS : (row + 1) * RAYS], expected)


def test_few_views_of_a_scene(make_batches: Callable[..., SceneBatches], solids_once: Path):
    only = SourceViews(SourceViewsConfig(mode="views", views=(1, 4)))
    _, batch = make_batches(solids_once, only=only, num_sources=(1,)).draw(0)
    assert set(batch["indices"][:, 0].tolist()) == {1, 4}
    assert all(set(sources) <= {1, 4} for sources in batch["sources"])


def test_rays_from_some_views(make_batches: Callable[..., SceneBatches], solids_once: Path):
    _, batch = make_batches(solids_once, target_views=2).draw(0)
    assert len(batch["indices"][:RAYS, 0].unique()) == 2


def test_too_few_views_end_the_run_with_the_scene_named(make_batches: Callable[..., SceneBatches], solids_once: Path):
    with pytest.raises(SceneError, match=r"expected 6 views to look at, found 5 .*on-bad-scene skip"):
        make_batches(solids_once, num_sources=(6,)).draw(0)


def test_bad_scenes_are_named_once_counted_and_left_out(
    make_batches: Callable[..., SceneBatches], solids: Path, damage: Callable[[Path], None], tmp_path: Path, capsys
):
    folders = sorted((solids / "solids_train").glob("*_*/"))
    for image in (folders[0] / "rgb").iterdir():
        damage(image)
    (folders[1] / "pose" / "000002.txt").write_text("not a pose")
    bad = BadScenes("skip", record=tmp_path / "bad_scenes.json")
    batches = make_batches(solids, bad)
    seen = {name for step in range(12) for name in batches.draw(step)[1]["scenes"]}
    assert seen == {folder.name for folder in folders[2:]}
    assert set(bad.reasons) == {folder.name for folder in folders[:2]}
    said = " ".join(capsys.readouterr().out.split())
    assert all(said.count(f"Scene {folder.name} is left out") == 1 for folder in folders[:2])
    assert '"count": 2' in (tmp_path / "bad_scenes.json").read_text()
    bad.report()
    assert "2 scenes were left out" in " ".join(capsys.readouterr().out.split())


def test_a_damaged_image_ends_the_run_with_the_file_named(
    make_batches: Callable[..., SceneBatches], solids: Path, damage: Callable[[Path], None]
):
    for folder in (solids / "solids_train").glob("*_*/"):
        damage(folder / "rgb" / "000000.png")
    batches = make_batches(solids)
    with pytest.raises(SceneError, match=r"scene .*000000\.png"):
        for step in range(10):
            batches.draw(step)


def test_not_one_usable_scene(make_batches: Callable[..., SceneBatches], solids: Path, damage: Callable[[Path], None]):
    for folder in (solids / "solids_train").glob("*_*/"):
        damage(folder / "pose" / "000001.txt")
    with pytest.raises(SceneError, match=r"found none of \d+; the first: .*000001\.txt"):
        make_batches(solids, BadScenes("skip")).draw(0)


@pytest.fixture
def odd_solids(solids: Path) -> Path:
    """The generated set, whose third training scene has images of another size."""
    folder = sorted((solids / "solids_train").glob("*_*/"))[2]
    for path in (folder / "rgb").iterdir():
        with Image.open(path) as image:
            image.resize((8, 8)).save(path)
    return solids


def test_a_scene_of_another_size_ends_the_run_with_its_name(
    make_batches: Callable[..., SceneBatches], odd_solids: Path
):
    first, _, odd, *_ = (path.name for path in sorted((odd_solids / "solids_train").glob("*_*/")))
    batches = make_batches(odd_solids)
    message = (
        rf"scene {odd}: .*like those of scene {first}, 16x16 .*found 8x8 .* on white.*--image-size.*bad-scene skip"
    )
    with pytest.raises(SceneError, match=message):
        for step in range(10):
            batches.draw(step)


def test_a_scene_of_another_size_is_left_out(make_batches: Callable[..., SceneBatches], odd_solids: Path):
    names = [path.name for path in sorted((odd_solids / "solids_train").glob("*_*/"))]
    bad = BadScenes("skip")
    batches = make_batches(odd_solids, bad)
    drawn = [batches.draw(step)[1] for step in range(8)]
    assert {name for batch in drawn for name in batch["scenes"]} == {*names} - {names[2]}
    assert all(len(batch["scenes"]) == 2 for batch in drawn) and set(bad.reasons) == {names[2]}
    # The same for a run that goes on in the middle, whatever scene it meets first.
    for step in range(8):
        again = make_batches(odd_solids, BadScenes("skip")).draw(step)[1]
        assert again["scenes"] == drawn[step]["scenes"] and torch.equal(again["indices"], drawn[step]["indices"])


def test_one_scene_in_a_step_may_have_any_size(make_batches: Callable[..., SceneBatches], odd_solids: Path):
    both = make_batches(odd_solids)
    batches = SceneBatches(both.library, both.entries, SceneOrder(5, 1, seed=5), both.options, BadScenes())
    shapes = {tuple(batches.draw(step)[1]["conditioning"].images.shape[2:4]) for step in range(5)}
    assert shapes == {(16, 16), (8, 8)}


def test_scenes_that_are_looked_at_together_are_alike(make_batches: Callable[..., SceneBatches], odd_solids: Path):
    library = make_batches(odd_solids).library
    scenes = [library.open(entry) for entry in library.table("train")]
    with pytest.raises(ValueError, match=rf"scene {scenes[2].entry.scene_id}: 8x8 \(height x width\) on white"):
        load_sources(library.images, [(scenes[0], (0,)), (scenes[2], (0,))])


@pytest.mark.parametrize(
    "options, flag",
    [
        ({"target_views": 0}, "target-views"),
        ({"rays_per_scene": 0}, "rays-per-scene"),
        ({"num_sources": (0,)}, "num-sources"),
    ],
)
def test_numbers_below_one_name_their_flag(
    make_batches: Callable[..., SceneBatches], solids_once: Path, options: Any, flag: str
):
    with pytest.raises(ValueError, match=f"--pipeline.datamanager.{flag}"):
        make_batches(solids_once, **options)


def test_sources_by_the_target(make_batches: Callable[..., SceneBatches], solids_once: Path):
    """Drawn among the views nearest to the one target, never the target itself, another draw with each step."""
    chosen = SourceViews(SourceViewsConfig("nearby", count=2, among=3))
    batches = make_batches(solids_once, target_views=1, by_target={2: chosen})
    seen = set()
    for step in range(12):
        _, batch = batches.draw(step)
        for row, name in enumerate(batch["scenes"]):
            scene = batches.library.open(batches.library.find(name, "train"))
            target = int(batch["indices"][row * RAYS, 0])
            poses = scene.cameras.camera_to_worlds
            apart = (poses[:, :, 3] - poses[target, :, 3]).norm(dim=-1)
            nearest = set(apart.argsort()[1:4].tolist())
            assert set(batch["sources"][row]) < nearest and len(batch["sources"][row]) == 2
            seen.add((name, target, batch["sources"][row]))
            torch.testing.assert_close(batch["conditioning"].target_to_worlds[row], poses[target])
    assert len({key[:2] for key in seen}) < len(seen)


def test_sources_by_the_target_need_one_target(make_batches: Callable[..., SceneBatches], solids_once: Path):
    chosen = {2: SourceViews(SourceViewsConfig("nearby", count=2))}
    with pytest.raises(ValueError, match="target-views 1, got None"):
        make_batches(solids_once, by_target=chosen)
