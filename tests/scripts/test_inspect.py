"""`ns-fewshot inspect`: a self-contained page for every dataparser, with cameras where they are."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.encoding import write_note
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.presentation.scene_page import cameras_plot, depth_section, frustum_lines, metric_points, views_section
from fewshot_ns.scripts.cli import main

SCENES = {
    "tiny_llff_scene": ["llff-data"],
    "tiny_dtu_scene": ["dtu-data", "--depth-polarity", "distance"],
    "tiny_blender_scene": ["fewshot-blender-data", "--num-views", "4"],
    "tiny_nerfstudio_scene": ["rgbd-data"],
}


@pytest.mark.parametrize("fixture, flags", SCENES.items())
def test_a_page_of_every_layout(fixture, flags, request, tmp_path, capsys):
    scene, page = request.getfixturevalue(fixture), tmp_path / "page.html"
    assert main(["inspect", "--data", str(scene), "--output", str(page), *flags]) == 0
    assert "open it in a browser" in capsys.readouterr().out
    text = page.read_text()
    assert "Plotly.newPlot" in text and "Depth priors" in text and "video path" in text
    # Nothing is fetched from elsewhere: no script, style sheet or image by address.
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"(?!data:)", text)
    assert text.count("data:image/png") > 4
    for word in ("train view", "test view"):
        assert word in text


def test_a_page_of_three_photos_that_all_train(make_llff_scene, tmp_path):
    page = tmp_path / "page.html"
    assert main(["inspect", "--data", str(make_llff_scene(tmp_path / "scene", 3)), "--output", str(page)]) == 0
    text = page.read_text()
    assert "Nothing is held out." in text and "train view 2" in text and "test view" not in text


def test_the_layout_is_guessed_and_a_bad_name_refused(tiny_llff_scene, tmp_path, capsys):
    assert main(["inspect", "--data", str(tiny_llff_scene), "--output", str(tmp_path / "page.html")]) == 0
    assert main(["inspect", "--data", str(tiny_llff_scene), "--output", str(tmp_path / "page.txt")]) == 1
    assert "expected a file name ending in .html" in capsys.readouterr().err
    assert main(["inspect", "--data", str(tmp_path / "nowhere")]) == 1
    assert "nowhere: expected the folder of a scene" in capsys.readouterr().err


def test_frusta_are_where_the_cameras_look():
    """The corners of the drawn image project to the corners of the image."""
    angle = 0.4
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    poses = np.stack([np.concatenate([rotation, [[1.0], [2.0], [3.0]]], axis=1), np.eye(4)[:3]])
    lines = frustum_lines(poses, (0.5, 0.25), 2.0).reshape(2, -1, 3)
    for pose, line in zip(poses, lines, strict=True):
        assert np.isnan(line[-1]).all() and not np.isnan(line[:-1]).any()
        local = (line[:-1] - pose[:, 3]) @ pose[:, :3]
        centre = np.linalg.norm(local, axis=1) < 1e-12
        assert centre.sum() == 2
        drawn = local[~centre]
        np.testing.assert_allclose(drawn[:, 2], -2.0)
        np.testing.assert_allclose(np.abs(drawn[:, :2] / drawn[:, 2:]), [[0.5, 0.25]] * len(drawn))
        assert len(np.unique(np.round(drawn, 9), axis=0)) == 4


def dataset_of(scene, **flags) -> FewShotDataset:
    return FewShotDataset(LLFFDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs("train"))


def test_statistics_and_problems_of_the_priors(tiny_llff_scene):
    dataset = dataset_of(tiny_llff_scene)
    section = depth_section(dataset)
    assert "Larger values are nearer" in section.paragraphs[0] and "scale unknown" in section.paragraphs[0]
    rows = section.tables[0].rows
    assert [row[0] for row in rows] == [1, 5, 11] and all(row[3] == 100.0 and row[7] is None for row in rows)
    (tiny_llff_scene / "depth_maps" / "depth_image005.png").write_bytes(b"nonsense")
    section = depth_section(dataset)
    assert "depth_image005.png: expected a readable" in str(section.tables[0].rows[1][-1])
    assert "depth_image005.png" in views_section({"train": dataset}, 32).pictures[1].caption
    for path in (tiny_llff_scene / "depth_maps").iterdir():
        path.unlink()
    paragraphs = depth_section(dataset_of(tiny_llff_scene)).paragraphs
    assert paragraphs[0] == "The training views have none." and "--depth-source stereo" in paragraphs[1]


def test_alignment_and_depth_in_space(tiny_llff_scene):
    """Maps as `ns-fewshot depth --align` writes them: the plane z = -4 of the tiny scene."""
    folder = tiny_llff_scene / "depth_maps"
    rows = np.load(tiny_llff_scene / "poses_bounds.npy")
    for index in (1, 5, 11):
        (folder / f"depth_image{index:03d}.png").unlink()
        matrix = rows[index, :15].reshape(3, 5)
        right, up, backward, position = matrix[:, 1], -matrix[:, 0], matrix[:, 2], matrix[:, 3]
        column, row = np.meshgrid(np.arange(32) + 0.5, np.arange(24) + 0.5)
        local = np.stack([(column - 16) / (1.2 * 32), -(row - 12) / (1.2 * 32), -np.ones_like(row)], axis=-1)
        directions = local @ np.stack([right, up, backward])
        depth = (-4.0 - position[2]) / directions[..., 2]
        np.savez(folder / f"image{index:03d}.npz", depth=depth, sigma=0.02 * depth)
    views = [{"view": f"image{index:03d}.png", "points": 99, "inliers": 0.8, "problem": ""} for index in (1, 5, 11)]
    encoding = DepthEncoding("distance", "z_depth", unit=1.0)
    write_note(folder, encoding, model="a network", align="colmap", views=views)
    dataset = dataset_of(tiny_llff_scene)
    section = depth_section(dataset)
    assert section.tables[1].caption.startswith("Alignment of a network to colmap")
    assert section.tables[1].rows[0][:3] == ["image001.png", 99, 0.8]
    depth, sigma = section.tables[0].rows[0][7:9]
    assert float(sigma or 0) == pytest.approx(0.02 * float(depth or 0), rel=1e-3) and float(depth or 0) > 0
    outputs = dataset._dataparser_outputs
    transform = outputs.dataparser_transform.double().numpy()
    for view in range(3):
        cloud = metric_points(dataset, view)
        assert cloud is not None and cloud[1].dtype == np.uint8
        file_points = (cloud[0] / outputs.dataparser_scale - transform[:, 3]) @ transform[:, :3]
        np.testing.assert_allclose(file_points[:, 2], -4.0, atol=1e-3)
    cloud = metric_points(dataset, 0)
    assert cloud is not None
    html = cameras_plot({"train": dataset}, None, None, [("depth of view 1", cloud[0], cloud[1])])
    assert json.dumps("depth of view 1") in html
