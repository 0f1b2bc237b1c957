"""Rows of `nvs-rgbd` and `depth-mipnerf-scannet` on tiny scenes in the layouts of these data sets."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewshot_ns.bench.planning.config_identity import identify_scene, resolve_config
from fewshot_ns.bench.planning.planner import make_plan
from fewshot_ns.bench.recipes.yaml_file import find_recipe, load_recipe


def row_on(name: str, scene: str, root: Path, out: Path) -> Any:
    """The cell of the only row of a recipe of the package on its first scene, which lies elsewhere."""
    recipe = load_recipe(find_recipe(name))
    here = replace(recipe.scenes[0], path=Path(scene))
    (cell,) = make_plan(replace(recipe, scenes=(here,)), root, out, "cpu").cells
    return cell


def identity_of(cell: Any) -> Any:
    config: Any = resolve_config(cell.method, (*cell.flags, *cell.parser))
    parser = config.pipeline.datamanager.dataparser
    parser.data = cell.data
    return identify_scene(parser)


def test_nvs_rgbd_trains_on_photos_called_so(data_root: Path, tmp_path: Path) -> None:
    scene = data_root / "plane"
    for file in [*(scene / "images_4").iterdir(), *(scene / "depth_maps").iterdir()]:
        if file.stem[-3:] in ("001", "004", "007"):
            file.rename(file.with_stem(f"{file.stem}_train"))
    cell = row_on("nvs-rgbd", "plane", data_root, tmp_path / "out")
    assert (cell.scene, cell.protocol, cell.steps, cell.test_views) == ("kinect-scene01", "nvs-kinect-3", 60000, 9)
    assert [Path(name).stem[-9:] for name in identity_of(cell).train_views] == ["001_train", "004_train", "007_train"]


@pytest.mark.parametrize("name", ["depth-mipnerf-scannet", "depth-mipnerf-matterport"])
def test_rooms_train_on_all_of_their_training_photos(name: str, tiny_nerfstudio_scene: Path, tmp_path: Path) -> None:
    source = json.loads((tiny_nerfstudio_scene / "transforms.json").read_text("utf8"))
    room = tmp_path / "data" / "room"
    for split, frames in (("train", source["frames"][:7]), ("test", source["frames"][7:])):
        found = []
        for folder, key in (("rgb", "file_path"), ("target_depth", "depth_file_path")):
            (room / split / folder).mkdir(parents=True)
            for frame in frames:
                shutil.copy(tiny_nerfstudio_scene / frame[key], room / split / folder)
        for frame in frames:
            path = f"{split}/rgb/{Path(frame['file_path']).name}"
            found.append({"file_path": path, "fx": source["fl_x"], "transform_matrix": frame["transform_matrix"]})
        meta = {"near": 0.3, "far": 9.0, "frames": found}
        (room / f"transforms_{split}.json").write_text(json.dumps(meta), "utf8")
    cell = row_on(name, "room", tmp_path / "data", tmp_path / "out")
    assert (cell.protocol, cell.steps, cell.test_views) == ("rgbd-all", 150000, 5)
    assert len(identity_of(cell).train_views) == 7
