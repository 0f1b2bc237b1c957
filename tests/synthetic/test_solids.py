"""The generated set of objects: sizes, seeds, splits, and that the files say where the cameras stood."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import List

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import numpy as np
import pytest

from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.multiscene.images import SceneImages
from fewshot_ns.scripts.cli import main
from fewshot_ns.synthetic.raytracer import AreaLight, World
from fewshot_ns.synthetic.solids import KINDS, RADIUS, build_solid
from fewshot_ns.synthetic.solids_set import SolidsConfig, object_cameras, render_solid, write_solids

TINY = SolidsConfig(objects=7, views=4, size=24, supersample=2)
LIGHT = AreaLight((0.0, 3.0, 0.0), half_size=0.0, strength=0.5, ambient=0.5)


@pytest.fixture(scope="module")
def tiny_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "solids"
    assert write_solids(folder, TINY)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_objects_lie_within_their_radius_and_differ(kind):
    generator = np.random.default_rng(0)
    outwards = generator.normal(size=(1500, 3))
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    # Rays that run inwards from far away, beside and through the object.
    targets = generator.uniform(-0.5, 0.5, size=(1500, 3))
    shapes = set()
    for seed in range(40):
        world = World(build_solid(kind, (seed,)), LIGHT)
        origins = targets + 4.0 * outwards
        t, _ = world.first_hit(origins, -outwards)
        hits = (origins - t[:, None] * outwards)[np.isfinite(t)]
        assert len(hits) > 50
        assert np.linalg.norm(hits, axis=1).max() < RADIUS
        shapes.add((len(hits), *hits.mean(axis=0)))
    assert len(shapes) == 40


def test_cameras_stand_on_the_sphere_and_see_the_middle():
    config = SolidsConfig(views=30)
    poses = object_cameras(config, 0.7)
    positions = poses[:, :, 3]
    np.testing.assert_allclose(np.linalg.norm(positions, axis=1), config.camera_distance)
    np.testing.assert_allclose(positions / config.camera_distance, poses[:, :, 2], atol=1e-12)
    elevation = np.rad2deg(np.arcsin(positions[:, 1] / config.camera_distance))
    assert elevation.min() > config.lowest and elevation.max() < config.highest and (np.diff(elevation) > 0).all()
    azimuth = np.sort(np.rad2deg(np.arctan2(positions[:, 0], positions[:, 2])))
    assert np.diff(azimuth).max() < 30


def test_files_and_world_agree(tiny_set):
    """Rays of the parsed cameras hit the object where its images are not white."""
    parser = SRNDataParserConfig(data=tiny_set).setup()
    for split, number in (("train", 0), ("test", 2)):
        entry = next(entry for entry in parser.scene_table(split) if entry.scene_id.startswith("chair"))
        scene = parser.open_scene(entry)
        world = World(build_solid("chair", (TINY.seed, number, 0)), LIGHT)
        images = SceneImages().images(scene, range(TINY.views))
        agree = []
        for view in range(TINY.views):
            rays = scene.cameras.generate_rays(camera_indices=view, keep_shape=True)
            origins, directions = rays.origins.reshape(-1, 3).numpy(), rays.directions.reshape(-1, 3).numpy()
            # z up in the files, y up in the world of the objects.
            turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
            t, _ = world.first_hit(origins @ turn.T, directions @ turn.T)
            hit = np.isfinite(t)
            seen = (images[view].reshape(-1, 3) < 0.8).any(dim=-1).numpy()
            agree.append((hit == seen).mean())
            assert scene.near < t[hit].min() and t[hit].max() < scene.far
            assert 0.05 < hit.mean() < 0.6
        assert np.mean(agree) > 0.97


def test_only_rays_near_the_object_are_traced():
    config = replace(TINY, size=40, supersample=1)
    world = World(build_solid("table", (3,)), LIGHT, sky=(1.0, 1.0, 1.0), shadows=False)
    pose = object_cameras(config, 0.2)[2]
    quick = render_solid(world, pose, config)
    far_light = World([*world.shapes], LIGHT, sky=(0.0, 0.0, 0.0), shadows=False)
    seen = render_solid(far_light, pose, config).sum(-1) > 0
    assert (quick[~seen] == 1.0).all() and 0.05 < seen.mean() < 0.5


def test_splits_and_names(tiny_set):
    assert TINY.counts() == {"train": 5, "val": 1, "test": 1}
    names = {
        split: sorted(p.name for p in (tiny_set / f"solids_{split}").iterdir() if p.is_dir()) for split in TINY.counts()
    }
    assert [len(found) for found in names.values()] == [5, 1, 1]
    assert len({name for found in names.values() for name in found}) == 7
    record = json.loads((tiny_set / "solids_set.json").read_text())
    assert record["config"]["objects"] == 7


def files_in(folder: Path) -> List[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_the_same_seed_gives_the_same_files(tiny_set, tmp_path):
    assert not write_solids(tiny_set, TINY)
    assert write_solids(tmp_path / "again", TINY) and write_solids(tmp_path / "other", replace(TINY, seed=1))
    files = sorted(path.relative_to(tiny_set) for path in tiny_set.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    image = next(path for path in files if path.suffix == ".png")
    for path in files:
        assert (tiny_set / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    assert (tiny_set / image).read_bytes() != (tmp_path / "other" / image).read_bytes()


def test_more_objects_leave_the_first_ones_as_they_are(tiny_set, tmp_path):
    write_solids(tmp_path / "more", replace(TINY, objects=10))
    for path in (tiny_set / "solids_train").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "more" / path.relative_to(tiny_set)).read_bytes()


def test_view_numbers_mean_the_same_for_all_test_objects(tmp_path):
    write_solids(tmp_path / "set", replace(TINY, objects=9, test_share=0.4))
    texts = {split: set() for split in ("train", "test")}
    for split, found in texts.items():
        for path in (tmp_path / "set" / f"solids_{split}").glob("*/pose/000001.txt"):
            found.add(path.read_text())
    assert len(texts["test"]) == 1 and len(texts["train"]) > 1


def test_other_files_are_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="expected an empty or new folder, found files that are no such set"):
        write_solids(tmp_path, TINY)
    assert (tmp_path / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"objects": 2}, "--objects to be at least 3, got 2"),
        ({"views": 1}, "--views to be at least 2, got 1"),
        ({"size": 4}, "--size to be at least 8, got 4"),
        ({"val_share": 0.6, "test_share": 0.4}, "shares below 1 in all"),
        ({"camera_distance": 0.4}, "cameras beyond 0.5 of the middle"),
        ({"lowest": 80.0}, "elevations in order"),
    ],
)
def test_wrong_settings(flags, message):
    with pytest.raises(ValueError, match=message):
        SolidsConfig(**flags)


def test_the_command(tmp_path, capsys):
    arguments = ["solids", "--output", str(tmp_path / "set"), "--objects", "6", "--views", "2", "--size", "8"]
    assert main(arguments) == 0
    assert "6 objects (4 train, 1 val, 1 test) of 2 views, 8x8 pixels, near 0.8, far 1.8." in capsys.readouterr().out
    assert main(arguments) == 0
    assert "it was there already" in capsys.readouterr().out
    assert main([*arguments, "--size", "4"]) == 1
