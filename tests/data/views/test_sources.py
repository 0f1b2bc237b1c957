"""Source and target views: lists, presets, viewlists, nearest, random, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from fewshot_ns.data.records.scene import Scene, SceneEntry, SceneError
from fewshot_ns.data.views.sources import (
    SourceViews,
    SourceViewsConfig,
    TargetViewsConfig,
    camera_distances,
    nearest_numbers,
    target_views,
)
from fewshot_ns.data.views.viewlist import read_viewlist


def scene_of(
    count: int,
    name: str = "chair",
    category: str = "",
    pool: Optional[Tuple[int, ...]] = None,
    numbers: Optional[Tuple[int, ...]] = None,
) -> Scene:
    """A scene whose cameras stand in a row, one unit apart, and turn from view to view."""
    poses = torch.eye(4)[:3].repeat(count, 1, 1)
    poses[:, 0, 3] = torch.arange(count).float()
    angle = 0.1 * torch.arange(count).float()
    poses[:, 0, 2], poses[:, 2, 2] = torch.sin(angle), torch.cos(angle)
    return Scene(
        entry=SceneEntry(name, category, Path("set") / name),
        cameras=Cameras(poses, 10.0, 10.0, 4.0, 4.0, 8, 8),
        image_filenames=tuple(Path(f"{view}.png") for view in range(count)),
        near=1.0,
        far=2.0,
        planar_range=(1.0, 2.0),
        background="white",
        pool=pool,
        view_indices=numbers,
    )


def select(scene: Scene, target: Optional[torch.Tensor] = None, exclude: Tuple[int, ...] = (), seed: int = 0, **flags):
    return SourceViews(SourceViewsConfig(**flags)).select(scene, target, exclude, seed)


def test_published_lists():
    scan = scene_of(49)
    assert select(scan, mode="dtu-1") == (25,)
    assert select(scan, mode="dtu-3") == (25, 22, 28)
    assert select(scan, mode="dtu-6") == (25, 22, 28, 40, 44, 48)
    assert select(scan, mode="dtu-9") == (25, 22, 28, 40, 44, 48, 0, 8, 13)
    assert select(scene_of(251), mode="srn-1") == (64,)
    assert select(scene_of(251), mode="srn-2") == (64, 104)
    with pytest.raises(SceneError, match=r"set/chair: expected views among 0..23 .*source views dtu-1, got \[25\]"):
        select(scene_of(24), mode="dtu-1")


def test_of_srn_the_nearest_views_that_exist(capsys: pytest.CaptureFixture) -> None:
    # 105 views are enough, and nothing is said of them.
    assert select(scene_of(105), mode="srn-2") == (64, 104)
    assert capsys.readouterr().out == ""
    sources = SourceViews(SourceViewsConfig(mode="srn-2"))
    assert [sources.select(scene_of(count)) for count in (104, 65, 24, 2)] == [(64, 103), (64, 63), (23, 22), (1, 0)]
    said = " ".join(capsys.readouterr().out.split())
    assert said == (
        "chair: of the published source views srn-2, 64 and 104, a scene of 104 views has not all; the nearest are "
        "taken: 64 and 103. This is not the published protocol"
    )
    assert select(scene_of(24), mode="srn-1") == (23,)
    # As the files number them: positions of 60 and 110.
    assert select(scene_of(4, numbers=(3, 60, 110, 200)), mode="srn-2") == (1, 2)


def test_nearest_numbers() -> None:
    assert nearest_numbers((64, 104), range(251)) == (64, 104)
    assert nearest_numbers((64, 104), (104, 10)) == (10, 104)  # what is there is not given away
    assert nearest_numbers((64, 104), (62, 66)) == (62, 66)
    assert nearest_numbers((64, 104), (7,)) == (7,)


def test_views_given_by_hand():
    assert select(scene_of(5), mode="views", views=(4, 1)) == (4, 1)
    with pytest.raises(SceneError, match=r"expected views among 0..4 \(5 views\) by --views, got \[5, -1\]"):
        select(scene_of(5), mode="views", views=(1, 5, -1))
    with pytest.raises(SceneError, match="expected each view once by --views"):
        select(scene_of(5), mode="views", views=(1, 1))
    with pytest.raises(ValueError, match="'views' need --views"):
        SourceViews(SourceViewsConfig(mode="views"))


def test_views_are_numbered_as_in_the_files():
    scene = scene_of(3, numbers=(4, 22, 25))
    assert select(scene, mode="views", views=(25, 4)) == (2, 0)
    assert select(scene, mode="dtu-1") == (2,)
    with pytest.raises(SceneError, match=r"got \[1\]"):
        select(scene, mode="views", views=(1,))
    assert target_views(scene, (2,), TargetViewsConfig(exclude_dtu_bad=True)) == (1,)
    assert target_views(scene, (2,), TargetViewsConfig(views=(22, 4))) == (1, 0)


def test_nearest():
    scene = scene_of(8)
    target = scene.cameras.camera_to_worlds[3].clone()
    target[0, 3] = 3.2
    assert select(scene, target, mode="nearest", count=3) == (3, 4, 2)
    assert select(scene, target, (3,), mode="nearest", count=3) == (4, 2, 5)
    assert select(scene, target, mode="nearest", count=2, pool=(7, 0, 6)) == (6, 0)
    limited = scene_of(8, pool=(0, 1))
    assert select(limited, target, mode="nearest", count=2) == (1, 0)
    with pytest.raises(SceneError, match="expected 3 views to look at beside the target, found 2 of 8"):
        select(limited, target, mode="nearest", count=3)
    with pytest.raises(ValueError, match="need a target camera, got none"):
        select(scene, mode="nearest")
    assert SourceViews(SourceViewsConfig(mode="nearest")).depends_on_target
    assert not SourceViews(SourceViewsConfig(mode="random")).depends_on_target


def test_nearby_views_are_drawn_among_the_nearest():
    scene = scene_of(8)
    target = scene.cameras.camera_to_worlds[3]
    nearby = SourceViews(SourceViewsConfig(mode="nearby", count=2, among=4))
    nearest = set(select(scene, target, exclude=(3,), mode="nearest", count=4))
    draws = {nearby.select(scene, target, exclude=(3,), seed=seed, target_view=3) for seed in range(40)}
    assert len(draws) == 6 and all(set(views) < nearest and views == tuple(sorted(views)) for views in draws)
    # A camera that is none of the scene's has no draw of its own.
    assert nearby.select(scene, target) == select(scene, target, mode="nearest", count=2)
    assert nearby.depends_on_target


def test_distances_of_cameras():
    generator = np.random.default_rng(0)
    poses = torch.from_numpy(generator.normal(size=(20, 3, 4))).float()
    poses[:, :, 2] = torch.nn.functional.normalize(poses[:, :, 2], dim=-1)
    target = poses[4]
    apart = (poses[:, :, 3] - target[:, 3]).numpy()
    np.testing.assert_allclose(camera_distances(poses, target, "l1"), np.abs(apart).sum(-1), rtol=1e-6)
    np.testing.assert_allclose(camera_distances(poses, target, "l2"), np.linalg.norm(apart, axis=-1), rtol=1e-6)
    turned = poses[4].clone()
    turned[:, 2] *= -1
    turned[:, 3] += 0.01
    beside = poses[4].clone()
    beside[:, 3] += 0.015
    both = torch.stack([turned, beside])
    assert camera_distances(both, target, "l2").argmin() == 0
    assert camera_distances(both, target, "rotation").argmin() == 1
    same_place = torch.stack([turned - 0.0, poses[4]])
    same_place[:, :, 3] = target[:, 3] + 0.02
    assert camera_distances(same_place, target, "rotation").argmin() == 1


def test_random_views_depend_on_seed_and_scene():
    draws = {select(scene_of(20), mode="random", count=3, seed=seed) for seed in range(20)}
    assert len(draws) > 10 and all(len(set(views)) == 3 and views == tuple(sorted(views)) for views in draws)
    assert select(scene_of(20), mode="random", count=3) == select(scene_of(20), mode="random", count=3)
    by_scene = {select(scene_of(20, name=f"object_{number}"), mode="random", count=3) for number in range(20)}
    assert len(by_scene) > 10
    drawn = {view for seed in range(40) for view in select(scene_of(6), exclude=(2,), seed=seed, mode="random")}
    assert drawn == {0, 1, 3, 4, 5}
    assert set(select(scene_of(6, pool=(1, 4)), mode="random", count=2)) == {1, 4}
    with pytest.raises(SceneError, match="expected 7 views to look at beside the target, found 6 of 6"):
        select(scene_of(6), mode="random", count=7)
    with pytest.raises(ValueError, match="--count of source views to be at least 1, got 0"):
        SourceViews(SourceViewsConfig(mode="random", count=0))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_viewlist(tmp_path):
    path = write(tmp_path / "views.txt", "02691156 a1 3\n\n03001627 b2 0 5\n")
    flags = {"mode": "viewlist", "viewlist": path}
    assert select(scene_of(6, "02691156/a1", "02691156"), **flags) == (3,)
    assert select(scene_of(6, "b2"), **flags) == (0, 5)
    with pytest.raises(SceneError, match="expected one line .<category> c3 <views>. in 2 lines, found none"):
        select(scene_of(6, "c3"), **flags)
    with pytest.raises(SceneError, match=r"set/b2: expected views among 0..3 .* by .*views.txt line 3, got \[5\]"):
        select(scene_of(4, "b2"), **flags)
    with pytest.raises(ValueError, match="need --viewlist FILE, got none"):
        SourceViews(SourceViewsConfig(mode="viewlist"))


def test_the_record_knows_what_a_list_says(tmp_path):
    config = SourceViewsConfig(mode="viewlist", viewlist=write(tmp_path / "views.txt", "a b 4\n"))
    before = config.record()
    assert before["mode"] == "viewlist" and before == config.record()
    write(tmp_path / "views.txt", "a b 5\n")
    assert config.record() != before


def test_the_whole_pool():
    assert select(scene_of(6, pool=(1, 3, 4)), mode="pool") == (1, 3, 4)
    assert select(scene_of(6, pool=(1, 3, 4)), mode="pool", pool=(5, 0)) == (5, 0)
    assert select(scene_of(3), mode="pool") == (0, 1, 2)


def test_one_name_in_two_categories(tmp_path):
    path = write(tmp_path / "views.txt", "chairs a 1\ntables a 2\n")
    assert select(scene_of(6, "tables/a", "tables"), mode="viewlist", viewlist=path) == (2,)
    with pytest.raises(SceneError, match="expected one line .* found lines 1, 2"):
        select(scene_of(6, "a"), mode="viewlist", viewlist=path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("a b 1\nc d\n", r"views.txt line 2: expected '<category> <object> <view> ...' .* found 'c d'"),
        ("a b 1\n\na c x\n", "views.txt line 3: .* found 'a c x'"),
        ("a b -1\n", "views.txt line 1"),
        ("a b 1\na b 2\n", "views.txt line 2: expected each object once, found b in line 1"),
        ("\n", "views.txt: .* found an empty file"),
    ],
)
def test_damaged_viewlists(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_viewlist(write(tmp_path / "views.txt", text))


def test_a_missing_viewlist(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.txt: expected a list of source views"):
        read_viewlist(tmp_path / "none.txt")


def test_target_views():
    scan = scene_of(49)
    bad = {3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 36, 37, 38, 39}
    targets = target_views(scan, (25, 22, 28), TargetViewsConfig(exclude_dtu_bad=True))
    assert targets == tuple(view for view in range(49) if view not in bad | {25, 22, 28})
    assert target_views(scene_of(4), (1,), TargetViewsConfig(include_sources=True)) == (0, 1, 2, 3)
    assert target_views(scene_of(4), (1,), TargetViewsConfig(exclude=(0, 9))) == (2, 3)
    assert target_views(scene_of(4), (1,), TargetViewsConfig(views=(3, 1, 0))) == (3, 0)
    with pytest.raises(SceneError, match="expected a view to compare beside the source views, found none"):
        target_views(scene_of(2), (0, 1), TargetViewsConfig())
    with pytest.raises(SceneError, match=r"by --views, got \[4\]"):
        target_views(scene_of(4), (), TargetViewsConfig(views=(4,)))
