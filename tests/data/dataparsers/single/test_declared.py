"""What transforms files state of cameras and depth in the words of several programs: read right, or refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable, Dict

import cv2
import numpy as np
import pytest
import torch

from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset, depth_maps_record
from fewshot_ns.data.records.metadata import get_fewshot_metadata

Change = Callable[[Dict[str, Any]], Any]
FOCAL = 1.2
"""Focal length of the scenes' cameras, image widths."""


def blender(scene: Path, split: str = "train", **flags: Any):
    config = FewShotBlenderDataParserConfig(data=scene, **{"num_views": 3, **flags})
    return config.setup().get_dataparser_outputs(split)


def capture(scene: Path, split: str = "train", **flags: Any):
    return FewShotNerfstudioDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs(split)


def sensor(scene: Path, **flags: Any) -> FewShotDataset:
    return FewShotDataset(RGBDDataParserConfig(data=scene, **flags).setup().get_dataparser_outputs("train"))


def edit(path: Path, change: Change) -> None:
    """Changes the content of a transforms file."""
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def edit_blender(scene: Path, change: Change) -> None:
    for split in ("train", "test", "val"):
        edit(scene / f"transforms_{split}.json", change)


def geometry_of(outputs):
    return get_fewshot_metadata(outputs.metadata).geometry


# ---------------------------------------------------------------- intrinsics


def test_blender_intrinsics_in_pixels(tiny_blender_scene):
    edit_blender(tiny_blender_scene, lambda meta: meta.update(w=40, h=40, fl_x=50.0, fl_y=44.0, cx=26.0, cy=15.0))
    for split in ("train", "test", "val"):
        cameras = blender(tiny_blender_scene, split).cameras
        for name, expected in (("fx", 25.0), ("fy", 22.0), ("cx", 13.0), ("cy", 7.5)):
            np.testing.assert_allclose(getattr(cameras, name).numpy(), expected, rtol=1e-6)


def test_blender_without_an_angle(tiny_blender_scene):
    def without(meta):
        del meta["camera_angle_x"]
        meta["fl_x"] = 30.0

    edit_blender(tiny_blender_scene, without)
    cameras = blender(tiny_blender_scene).cameras
    np.testing.assert_allclose(torch.cat([cameras.fx, cameras.fy]).numpy(), 30.0, rtol=1e-6)


def test_what_says_the_same_twice_reads_as_before(tiny_blender_scene):
    before = blender(tiny_blender_scene).cameras
    edit_blender(
        tiny_blender_scene,
        lambda meta: meta.update(w=20, h=20, fl_x=24.0000001, fl_y=24.0, cx=10.0, cy=10.0, k1=0.0, is_fisheye=False),
    )
    after = blender(tiny_blender_scene).cameras
    for name in ("fx", "fy", "cx", "cy"):
        assert torch.equal(getattr(before, name), getattr(after, name))
    assert after.distortion_params is None or not after.distortion_params.any()


def test_angle_of_a_frame(tiny_blender_scene):
    def narrow(meta):
        meta["frames"][4]["camera_angle_x"] = 2.0 * math.atan(0.5 / 2.0)

    edit(tiny_blender_scene / "transforms_train.json", narrow)
    fx = blender(tiny_blender_scene).cameras.fx[:, 0].tolist()
    assert fx == pytest.approx([20 * FOCAL, 40.0, 20 * FOCAL])
    # Where all frames have their own, the file needs none.
    edit(
        tiny_blender_scene / "transforms_train.json",
        lambda meta: [frame.setdefault("camera_angle_x", meta["camera_angle_x"]) for frame in meta["frames"]],
    )
    edit(tiny_blender_scene / "transforms_train.json", lambda meta: meta.pop("camera_angle_x"))
    assert blender(tiny_blender_scene).cameras.fx[:, 0].tolist() == pytest.approx(fx)


def test_sizes_that_differ(tiny_blender_scene):
    photo = tiny_blender_scene / "train" / "r_4.png"
    cv2.imwrite(str(photo), cv2.resize(cv2.imread(str(photo), cv2.IMREAD_UNCHANGED), (30, 12)))
    cameras = blender(tiny_blender_scene).cameras
    assert cameras.width[:, 0].tolist() == [20, 30, 20] and cameras.height[:, 0].tolist() == [20, 12, 20]
    np.testing.assert_allclose(cameras.fx[:, 0].numpy(), [24.0, 36.0, 24.0], rtol=1e-6)
    # Pixels are square, whatever the proportions.
    np.testing.assert_allclose(cameras.fy[:, 0].numpy(), [24.0, 36.0, 24.0], rtol=1e-6)
    edit(tiny_blender_scene / "transforms_train.json", lambda meta: meta.update(w=20, h=20))
    with pytest.raises(ValueError, match=r"r_4\.png: expected the proportions of its frame's w and h \(20x20"):
        blender(tiny_blender_scene)


def test_distortion_counts(tiny_blender_scene):
    edit(tiny_blender_scene / "transforms_train.json", lambda meta: meta.update(k1=0.1, p2=-0.02))
    cameras = blender(tiny_blender_scene).cameras
    np.testing.assert_allclose(cameras.distortion_params.numpy(), [[0.1, 0, 0, 0, 0, -0.02]] * 3, rtol=1e-6)
    test = blender(tiny_blender_scene, "test").cameras.distortion_params
    assert not test.any()


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ({"camera_angle_x": 2.0 * math.atan(0.5 / 1.5)}, (48.0, 48.0, 16.0, 12.0)),
        (
            {"camera_angle_x": 2.0 * math.atan(0.5 / 1.5), "camera_angle_y": 2.0 * math.atan(0.5 / 1.9)},
            (48.0, 45.6, 16.0, 12.0),
        ),
        ({"fl_x": 40.0}, (40.0, 40.0, 16.0, 12.0)),
        ({"fl_y": 40.0, "cx": 15.0}, (40.0, 40.0, 15.0, 12.0)),
        ({"x_fov": math.degrees(2.0 * math.atan(0.5 / 1.5))}, (48.0, 48.0, 16.0, 12.0)),
    ],
)
def test_a_capture_that_states_little(kept, expected, tiny_nerfstudio_scene):
    whole = capture(tiny_nerfstudio_scene)

    def strip(meta):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            del meta[key]
        meta.update(kept)

    edit(tiny_nerfstudio_scene / "transforms.json", strip)
    outputs = capture(tiny_nerfstudio_scene)
    found = [getattr(outputs.cameras, name)[:, 0].tolist() for name in ("fx", "fy", "cx", "cy")]
    assert [values[0] for values in found] == pytest.approx(expected, rel=1e-5)
    assert outputs.image_filenames == whole.image_filenames
    torch.testing.assert_close(outputs.cameras.camera_to_worlds, whole.cameras.camera_to_worlds)
    files = [get_fewshot_metadata(o.metadata).depth_prior_filenames for o in (outputs, whole)]
    assert files[0] == files[1] and files[0] is not None


def test_a_frame_s_own_camera_wins_over_the_file_s(tiny_nerfstudio_scene):
    def zoomed(meta):
        meta["frames"][5].update(fl_x=50.0, fl_y=50.0)

    edit(tiny_nerfstudio_scene / "transforms.json", zoomed)
    outputs = capture(tiny_nerfstudio_scene)
    assert [path.name for path in outputs.image_filenames][1] == "frame_00005.png"
    assert outputs.cameras.fx[:, 0].tolist() == pytest.approx([32 * FOCAL, 50.0, 32 * FOCAL])


def test_terms_that_nerfstudio_passes_over(tiny_nerfstudio_scene):
    edit(tiny_nerfstudio_scene / "transforms.json", lambda meta: meta.update(k4=0.05))
    expected = [[0, 0, 0, 0.05, 0, 0]] * 3
    np.testing.assert_allclose(capture(tiny_nerfstudio_scene).cameras.distortion_params.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("rows", [3, "mixed"])
def test_matrices_of_three_rows(rows, tiny_nerfstudio_scene):
    whole = capture(tiny_nerfstudio_scene)

    def cut(meta):
        for frame in meta["frames"] if rows == 3 else meta["frames"][::2]:
            frame["transform_matrix"] = frame["transform_matrix"][:3]

    edit(tiny_nerfstudio_scene / "transforms.json", cut)
    outputs = capture(tiny_nerfstudio_scene)
    assert torch.equal(outputs.cameras.camera_to_worlds, whole.cameras.camera_to_worlds)
    assert outputs.image_filenames == whole.image_filenames


# ---------------------------------------------------------------- lenses

LENSES: Dict[str, Change] = {
    "fisheye": lambda meta: meta.update(is_fisheye=True),
    "camera_model 'OPENCV_FISHEYE'": lambda meta: meta.update(camera_model="OPENCV_FISHEYE"),
    "camera_model 'opencv_fisheye'": lambda meta: meta.update(camera_model="opencv_fisheye"),
    "FULL_OPENCV": lambda meta: meta.update(camera_model="FULL_OPENCV"),
    "equirectangular": lambda meta: meta.update(camera_model="EQUIRECTANGULAR"),
    "latlong": lambda meta: meta.update(latlong=True),
    "f-theta": lambda meta: meta.update(ftheta_p0=0.1, ftheta_p1=0.2),
    "orthographic": lambda meta: meta.update(orthographic=True),
    "frame 2: .*fisheye": lambda meta: meta["frames"][2].update(camera_model="THIN_PRISM_FISHEYE"),
    "rolling shutter": lambda meta: meta.update(rolling_shutter=[0.0, 0.0, 0.03]),
    "frame 1: .*rolling shutter": lambda meta: meta["frames"][1].update(rolling_shutter_time=0.01),
    "k5": lambda meta: meta.update(k5=0.01),
    "'s1'": lambda meta: meta.update(s1=0.01),
    "'distortion_coefficients'": lambda meta: meta.update(distortion_coefficients=[0.1, 0.0]),
}


@pytest.mark.parametrize("found", LENSES)
def test_other_lenses_are_refused(found, tiny_nerfstudio_scene, tiny_blender_scene):
    edit(tiny_nerfstudio_scene / "transforms.json", LENSES[found])
    message = rf"transforms.*json.*expected a perspective camera model.*{found.split(': .*')[-1]}"
    with pytest.raises(ValueError, match=message):
        capture(tiny_nerfstudio_scene)
    with pytest.raises(ValueError, match=message):
        sensor(tiny_nerfstudio_scene)
    edit(tiny_blender_scene / "transforms_train.json", LENSES[found])
    with pytest.raises(ValueError, match=message):
        blender(tiny_blender_scene)


def test_known_models_are_listed_and_taken_in_any_case(tiny_nerfstudio_scene):
    path = tiny_nerfstudio_scene / "transforms.json"
    edit(path, lambda meta: meta.update(camera_model="FULL_OPENCV"))
    with pytest.raises(ValueError, match="can be SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV"):
        capture(tiny_nerfstudio_scene)
    edit(path, lambda meta: meta.update(camera_model="OPENCV", is_fisheye=False, rolling_shutter=[0, 0, 0], k5=0.0))
    expected = capture(tiny_nerfstudio_scene).cameras
    for name in ("opencv", "Pinhole", "perspective"):
        edit(path, lambda meta, name=name: meta.update(camera_model=name))
        found = capture(tiny_nerfstudio_scene).cameras
        torch.testing.assert_close(found.fx, expected.fx)
        torch.testing.assert_close(found.camera_to_worlds, expected.camera_to_worlds)


def test_lists_of_distortion_are_of_nerfstudio_s_six(tiny_nerfstudio_scene):
    path = tiny_nerfstudio_scene / "transforms.json"
    edit(path, lambda meta: meta.update(distortion_params=[0.1, 0.2, 0.0, 0.0, 0.01, 0.02]))
    found = capture(tiny_nerfstudio_scene).cameras.distortion_params
    np.testing.assert_allclose(found[0].numpy(), [0.1, 0.2, 0.0, 0.0, 0.01, 0.02], rtol=1e-6)
    edit(path, lambda meta: meta.update(distortion_params=[0.1, 0.2, 0.01, 0.02]))
    with pytest.raises(ValueError, match="expected 'distortion_params' k1, k2, k3, k4, p1, p2, found"):
        capture(tiny_nerfstudio_scene)


# ---------------------------------------------------------------- poses


def test_one_photo_with_two_poses(tiny_nerfstudio_scene, tiny_blender_scene):
    def twice(meta):
        other = json.loads(json.dumps(meta["frames"][2]))
        other["file_path"] = "./" + other["file_path"]
        meta["frames"].append(other)

    def shifted(meta):
        meta["frames"][-1]["transform_matrix"][0][3] += 0.5

    path = tiny_nerfstudio_scene / "transforms.json"
    expected = capture(tiny_nerfstudio_scene).image_filenames
    edit(path, twice)
    assert capture(tiny_nerfstudio_scene).image_filenames == expected
    edit(path, shifted)
    both = r"frame_00002\.png: frame 2 \(images/frame_00002\.png\) and frame 12 \(\./images/frame_00002\.png\)"
    with pytest.raises(ValueError, match=rf"transforms\.json: expected one pose for each photo, found two of {both}"):
        capture(tiny_nerfstudio_scene)
    edit(tiny_blender_scene / "transforms_train.json", lambda meta: (twice(meta), shifted(meta)))
    with pytest.raises(ValueError, match=r"found two of r_2\.png: transforms_train\.json, frame 2 .* frame 10"):
        blender(tiny_blender_scene)


@pytest.mark.parametrize("layout", ["transforms.json", "Blender"])
def test_scaled_rotations_are_named_first(layout, tiny_nerfstudio_scene, tiny_blender_scene):
    def scaled(meta):
        for frame in meta["frames"]:
            matrix = np.array(frame["transform_matrix"])
            matrix[:3, :3] *= 1.7
            frame["transform_matrix"] = matrix.tolist()

    scene = tiny_nerfstudio_scene if layout == "transforms.json" else tiny_blender_scene
    for path in scene.glob("transforms*.json"):
        edit(path, scaled)
    with pytest.raises(ValueError, match=r"expected a rotation .*: axes of length 1\.7, as of a camera below a scaled"):
        (capture if layout == "transforms.json" else blender)(scene)


def opencv_axes(meta):
    for frame in meta["frames"]:
        matrix = np.array(frame["transform_matrix"])
        matrix[:3, 1:3] *= -1.0
        frame["transform_matrix"] = matrix.tolist()


def ring(meta, radius=4.0, turn=0.0):
    """Cameras around the origin that look at it."""
    count = len(meta["frames"])
    for index, frame in enumerate(meta["frames"]):
        angle = turn + 2.0 * math.pi * index / count
        matrix = np.eye(4)
        matrix[:3, 0] = -math.sin(angle), math.cos(angle), 0.0
        matrix[:3, 1] = 0.0, 0.0, 1.0
        matrix[:3, 2] = math.cos(angle), math.sin(angle), 0.0
        matrix[:3, 3] = radius * matrix[:3, 2]
        frame["transform_matrix"] = matrix.tolist()


def test_opencv_axes_get_a_hint(tiny_nerfstudio_scene, tiny_blender_scene, capsys):
    path = tiny_nerfstudio_scene / "transforms.json"
    edit(path, ring)
    capture(tiny_nerfstudio_scene)
    assert "OpenCV" not in capsys.readouterr().out
    edit(path, opencv_axes)
    with pytest.raises(ValueError, match="cameras look away .*OpenCV's axes .*second and third column .*--near and"):
        capture(tiny_nerfstudio_scene)
    capture(tiny_nerfstudio_scene, near=0.1, far=2.0)
    assert "all cameras look away" in capsys.readouterr().out
    edit_blender(tiny_blender_scene, lambda meta: (ring(meta), opencv_axes(meta)))
    assert geometry_of(blender(tiny_blender_scene)).near == 2.0
    assert "all cameras look away" in capsys.readouterr().out


def test_cameras_in_one_place(tiny_nerfstudio_scene, capsys):
    def together(meta):
        for frame in meta["frames"]:
            for row, place in enumerate((0.3, -1.2, 2.0)):
                frame["transform_matrix"][row][3] = place

    path = tiny_nerfstudio_scene / "transforms.json"
    edit(path, together)
    with pytest.raises(ValueError, match=r"transforms\.json: expected cameras at several places, found all at one"):
        capture(tiny_nerfstudio_scene)
    flags = {"auto_scale_poses": False, "near": 0.5, "far": 9.0}
    cameras = capture(tiny_nerfstudio_scene, **flags).cameras
    assert cameras.camera_to_worlds.isfinite().all() and cameras.camera_to_worlds[..., 3].abs().max() < 1e-5
    assert "look away" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="--near and --far"):
        capture(tiny_nerfstudio_scene, auto_scale_poses=False)
    edit(path, lambda meta: meta.update(frames=meta["frames"][:1]))
    with pytest.raises(ValueError, match=r"transforms\.json: expected at least 2 frames, found one"):
        capture(tiny_nerfstudio_scene)


# ---------------------------------------------------------------- near and far of the Blender layout


@pytest.mark.parametrize(
    ("radius", "bounds", "said"),
    [(4.0, (2.0, 6.0), ""), (14.0, (7.0, 21.0), "cannot hold"), (0.5, (0.25, 0.75), "cannot hold")]
    + [(2.2, (2.0, 6.0), "leave little room"), (5.5, (2.0, 6.0), "leave little room")],
)
def test_bounds_are_checked_against_the_cameras(radius, bounds, said, tiny_blender_scene, capsys):
    edit_blender(tiny_blender_scene, lambda meta: ring(meta, radius))
    outputs = blender(tiny_blender_scene)
    record = get_fewshot_metadata(outputs.metadata)
    assert (record.geometry.near, record.geometry.far) == pytest.approx(bounds)
    assert record.bounds_from == ("cameras" if said == "cannot hold" else "scene")
    shown = capsys.readouterr().out
    assert said in shown and bool(said) == ("give --near and --far" in shown)
    assert geometry_of(blender(tiny_blender_scene, "test")) == record.geometry
    given = geometry_of(blender(tiny_blender_scene, near=1.0, far=30.0))
    assert (given.near, given.far) == (1.0, 30.0) and "point" not in capsys.readouterr().out


def test_bounds_that_the_file_states(tiny_blender_scene, capsys):
    edit_blender(tiny_blender_scene, lambda meta: (ring(meta, 14.0), meta.update(near=9.0, far=19.0)))
    geometry = geometry_of(blender(tiny_blender_scene))
    assert (geometry.near, geometry.far) == (9.0, 19.0) and "give --near" not in capsys.readouterr().out


@pytest.mark.parametrize(("near", "far"), [(2.0, 6.0), (15.0, 40.0), (0.1, 13.0)])
def test_bounds_of_the_file_that_leave_out_what_its_cameras_look_at(near, far, tiny_blender_scene, capsys):
    edit_blender(tiny_blender_scene, lambda meta: (ring(meta, 14.0), meta.update(near=near, far=far)))
    record = get_fewshot_metadata(blender(tiny_blender_scene).metadata)
    # What a file says is kept, since only its author knows what the cameras see.
    assert (record.geometry.near, record.geometry.far, record.bounds_from) == (near, far, "scene")
    shown = " ".join(capsys.readouterr().out.split())
    assert f"14 to 14 before them, which near {near:g} and far {far:g} of the file leave out" in shown
    blender(tiny_blender_scene, near=9.0, far=19.0)
    assert "leave out" not in capsys.readouterr().out


def test_bounds_of_the_file_behind_all_cameras(tiny_blender_scene, capsys):
    def turned(meta):
        ring(meta, 4.0)
        meta.update(near=2.0, far=6.0)
        for frame in meta["frames"]:
            for row in frame["transform_matrix"][:3]:
                row[1:3] = [-row[1], -row[2]]

    edit_blender(tiny_blender_scene, turned)
    geometry = geometry_of(blender(tiny_blender_scene))
    assert (geometry.near, geometry.far) == (2.0, 6.0)
    shown = " ".join(capsys.readouterr().out.split())
    assert "what near 2 and far 6 of the file bound lies behind such cameras" in shown and "look away" in shown


# ---------------------------------------------------------------- units of depth maps


def rescale(folder: Path, factor: float) -> None:
    """Stores depth maps in another unit."""
    for path in folder.glob("*.png"):
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float64)
        cv2.imwrite(str(path), np.round(stored * factor).astype(np.uint16))


@pytest.mark.parametrize(
    ("key", "value"),
    [("integer_depth_scale", 0.0002), ("depth_scaling_factor", 5000.0), ("depth_unit_scale_factor", 0.0002)],
)
@pytest.mark.parametrize("named", ["depth_file_path", "depth_path", "folder"])
def test_a_stated_unit_counts(key, value, named, tiny_nerfstudio_scene):
    expected, before = sensor(tiny_nerfstudio_scene).metric_depth(1).z_depth, sensor(tiny_nerfstudio_scene)
    rescale(tiny_nerfstudio_scene / "depths", 5.0)

    def state(meta):
        meta[key] = value
        for frame in meta["frames"]:
            name = frame.pop("depth_file_path")
            if named != "folder":
                frame[named] = name

    path = tiny_nerfstudio_scene / "transforms.json"
    edit(path, state)
    found = sensor(tiny_nerfstudio_scene)
    np.testing.assert_allclose(found.metric_depth(1).z_depth, expected, rtol=1e-3)
    geometry = found.fewshot.geometry
    assert (geometry.near, geometry.far) == pytest.approx(
        (before.fewshot.geometry.near, before.fewshot.geometry.far), rel=1e-3
    )
    record = depth_maps_record(found)["depth_maps"]
    assert record["unit"] == pytest.approx(0.0002) and record["unit_from"] == f"transforms.json, {key}"
    # The flag wins, also for near and far.
    given = sensor(tiny_nerfstudio_scene, depth_unit=0.001)
    np.testing.assert_allclose(given.metric_depth(1).z_depth, 5.0 * expected, rtol=1e-3)
    assert given.fewshot.geometry.far == pytest.approx(5.0 * geometry.far, rel=1e-3)
    record = depth_maps_record(given)["depth_maps"]
    assert record["unit"] == pytest.approx(0.001) and record["unit_from"] == "--depth-unit"
    if named != "folder":
        outputs = capture(tiny_nerfstudio_scene)
        found = FewShotDataset(outputs)
        np.testing.assert_allclose(found.metric_depth(1).z_depth, outputs.dataparser_scale * expected, rtol=1e-3)


def test_a_unit_is_a_positive_number_and_one(tiny_nerfstudio_scene):
    path = tiny_nerfstudio_scene / "transforms.json"
    for value in (0, -1.0, "mm", True):
        edit(path, lambda meta, value=value: meta.update(integer_depth_scale=value))
        with pytest.raises(ValueError, match=r"transforms\.json: expected a positive number for 'integer_depth_scale'"):
            sensor(tiny_nerfstudio_scene)
    edit(path, lambda meta: meta.update(integer_depth_scale=0.001, depth_scaling_factor=5000))
    with pytest.raises(ValueError, match="expected one unit of the depth maps, found 0.001 .* and 0.0002"):
        sensor(tiny_nerfstudio_scene)


def test_maps_of_real_numbers_are_lengths_as_they_are(tiny_nerfstudio_scene):
    expected = sensor(tiny_nerfstudio_scene).metric_depth(1).z_depth

    def to_metres(meta):
        meta["integer_depth_scale"] = 0.0002
        for frame in meta["frames"]:
            path = tiny_nerfstudio_scene / frame["depth_file_path"]
            np.save(path.with_suffix(".npy"), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 1000.0)
            frame["depth_file_path"] = frame["depth_file_path"].replace(".png", ".npy")

    edit(tiny_nerfstudio_scene / "transforms.json", to_metres)
    np.testing.assert_allclose(sensor(tiny_nerfstudio_scene).metric_depth(1).z_depth, expected, rtol=1e-3)


def test_some_frames_without_a_map(tiny_nerfstudio_scene):
    edit(tiny_nerfstudio_scene / "transforms.json", lambda meta: meta["frames"][0].pop("depth_file_path"))
    record = get_fewshot_metadata(capture(tiny_nerfstudio_scene).metadata)
    assert record.depth_prior_filenames is not None and record.depth_prior_filenames[0].name == "frame_00001.png"
    edit(tiny_nerfstudio_scene / "transforms.json", lambda meta: meta["frames"][1].pop("depth_file_path"))
    with pytest.raises(FileNotFoundError, match=r"view 1 \(frame_00001\.png\)"):
        sensor(tiny_nerfstudio_scene)


def test_the_layout_of_dense_depth_priors(tiny_nerfstudio_scene, tmp_path):
    expected = sensor(tiny_nerfstudio_scene, train_indices=(0, 2, 4)).metric_depth(1).z_depth
    source = json.loads((tiny_nerfstudio_scene / "transforms.json").read_text())
    scene = tmp_path / "priors"
    for split, entries in (("train", source["frames"][:6]), ("test", source["frames"][6:])):
        frames = []
        for name in ("rgb", "depth"):
            (scene / split / name).mkdir(parents=True)
        for number, entry in enumerate(entries):
            photo = cv2.imread(str(tiny_nerfstudio_scene / entry["file_path"]))
            depth = cv2.imread(str(tiny_nerfstudio_scene / entry["depth_file_path"]), cv2.IMREAD_UNCHANGED)
            # Photos and maps need not have one name.
            cv2.imwrite(str(scene / split / "rgb" / f"{number}.jpg"), photo)
            cv2.imwrite(str(scene / split / "depth" / f"d{number}.png"), depth * 5)
            frames.append(
                {
                    "file_path": f"{split}/rgb/{number}.jpg",
                    "depth_file_path": f"{split}/depth/d{number}.png",
                    "transform_matrix": entry["transform_matrix"],
                    **{"fx": source["fl_x"], "fy": source["fl_x"], "cx": 16.0, "cy": 12.0},
                }
            )
        meta = {"depth_scaling_factor": 5000.0, "near": 0.3, "far": 9.0, "frames": frames}
        (scene / f"transforms_{split}.json").write_text(json.dumps(meta))
    found = sensor(scene, train_indices=(0, 2, 4))
    np.testing.assert_allclose(found.metric_depth(1).z_depth, expected, rtol=1e-3)
    assert depth_maps_record(found)["depth_maps"]["unit_from"] == "transforms_train.json, depth_scaling_factor"
    # Without a dataparser's name it is of the Blender layout, which reads the same.
    record = FewShotDataset(blender(scene, train_indices=(0, 2, 4)))
    np.testing.assert_allclose(record.metric_depth(1).z_depth, expected, rtol=1e-3)
    assert (record.fewshot.geometry.near, record.fewshot.geometry.far) == (0.3, 9.0)


def test_rendered_depth_of_a_blender_scene_in_a_stated_unit(tiny_blender_scene):
    for index in range(10):
        cv2.imwrite(str(tiny_blender_scene / "train" / f"r_{index}_depth.png"), np.full((20, 20), 15050, np.uint16))
    edit(tiny_blender_scene / "transforms_train.json", lambda meta: meta.update(depth_scaling_factor=5000))
    found = FewShotDataset(blender(tiny_blender_scene)).metric_depth(0)
    np.testing.assert_allclose(found.z_depth, 3.01, rtol=1e-6)


def test_a_principal_point_far_off_the_middle_is_said(tiny_nerfstudio_scene: Path, capsys: Any) -> None:
    path = tiny_nerfstudio_scene / "transforms.json"
    meta = json.loads(path.read_text())
    for cx, said in ((0.55 * 32, False), (32.0, True)):
        path.write_text(json.dumps({**meta, "cx": cx}))
        FewShotNerfstudioDataParserConfig(data=tiny_nerfstudio_scene).setup().get_dataparser_outputs("train")
        words = " ".join(capsys.readouterr().out.split())
        assert ("lies at 1.00 of its width" in words) == said
