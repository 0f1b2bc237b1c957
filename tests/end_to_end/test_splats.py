"""Splats through nerfstudio's commands: trained, resumed, evaluated, rendered, exported and rendered from the file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict

import cv2
import numpy as np
import pytest
import torch
from command_output import HEIGHT, WIDTH, check_video, load_json
from nerfstudio.utils.eval_utils import eval_setup
from torch import Tensor

from fewshot_ns.model_components.splatting.rasterization import rasterization

pytestmark = pytest.mark.end_to_end

LAST = "nerfstudio_models/step-000000029.ckpt"


def test_a_run_says_what_it_starts_from(splat_run: Path) -> None:
    resolved = load_json(splat_run / "resolved.json")
    assert resolved["model"]["ray_space"] == "metric" and resolved["model"]["gaussians"] > 200
    words = resolved["initial_points"]["source"]
    assert words.startswith(f"stereo: {resolved['model']['gaussians']} points from views view_01.png, view_04.png")
    assert resolved["training"]["schedules"] == [30] * 6
    assert torch.load(splat_run / LAST, weights_only=True)["step"] == 29


def test_a_resumed_run_is_bit_equal_also_with_the_ray_space_given(
    splat_run: Path, train_splats: Callable[..., Path], scene: Path
) -> None:
    resumed = train_splats(
        *("sparse-splatfacto-lite", "resumed", 30, "--load-dir", splat_run / "nerfstudio_models", "--load-step", 12),
        parser=("llff-data", "--data", scene, "--ray-space", "metric"),
    )
    expected, found = (torch.load(run / LAST, weights_only=True)["pipeline"] for run in (splat_run, resumed))
    assert expected.keys() == found.keys()
    assert [name for name, value in expected.items() if not torch.equal(value, found[name])] == []
    # It has made no points, and keeps the record of those that it started from.
    first, second = (load_json(run / "resolved.json")["initial_points"] for run in (splat_run, resumed))
    assert first == second


def test_evaluation(splat_run: Path, run_command: Callable[..., str], tmp_path: Path) -> None:
    run_command("ns-eval", "--load-config", splat_run / "config.yml", "--output-path", tmp_path / "eval.json")
    results = load_json(tmp_path / "eval.json")["results"]
    rows = [json.loads(line) for line in (splat_run / "eval" / "step-000000029.jsonl").read_text().splitlines()]
    assert [row["view_index"] for row in rows] == [0, 8]
    assert results["psnr"] == pytest.approx(np.mean([row["psnr"] for row in rows])) and 10 < results["psnr"] < 60


def test_render_camera_path(splat_run: Path, run_command: Callable[..., str], tmp_path: Path) -> None:
    path, video, config = tmp_path / "path.json", tmp_path / "video.mp4", splat_run / "config.yml"
    run_command(
        *("ns-fewshot", "camera-path", "--load-config", config, "--kind", "llff-spiral"),
        *("--frames", 4, "--fps", 4, "--output", path),
    )
    run_command(
        *("ns-render", "camera-path", "--load-config", config, "--camera-path-filename", path),
        *("--output-path", video, "--rendered-output-names", "rgb", "depth"),
    )
    frames = check_video(video, 2 * WIDTH, HEIGHT, at_least=4)
    assert np.abs(frames[0].astype(float) - frames[1]).mean() > 0.5, "the camera does not move"


@pytest.mark.parametrize(
    "kind, flags",
    [
        ("interpolate", ("--pose-source", "train", "--interpolation-steps", 2)),
        ("spiral", ("--seconds", 0.2, "--frame-rate", 15)),
    ],
)
def test_render_videos(
    kind: str, flags: tuple, splat_run: Path, run_command: Callable[..., str], tmp_path: Path
) -> None:
    video = tmp_path / "video.mp4"
    run_command("ns-render", kind, "--load-config", splat_run / "config.yml", *flags, "--output-path", video)
    check_video(video, WIDTH, HEIGHT, at_least=3)


def test_render_dataset(splat_run: Path, run_command: Callable[..., str], tmp_path: Path) -> None:
    run_command(
        *("ns-render", "dataset", "--load-config", splat_run / "config.yml", "--split", "test"),
        *("--image-format", "png", "--output-path", tmp_path),
    )
    folder = tmp_path / "test"
    assert {"rgb", "gt-rgb", "depth", "accumulation"} <= {path.name for path in folder.iterdir()}
    images = sorted(folder.glob("rgb/**/*.png"))
    assert [path.name for path in images] == ["view_00.png", "view_08.png"]
    pipeline = loaded(splat_run)
    for index, path in enumerate(images):
        written = cv2.imread(str(path))
        assert written is not None
        rendered = outputs_of(pipeline, index)["rgb"].numpy()
        np.testing.assert_allclose(written[..., ::-1] / 255.0, rendered, atol=1.01 / 255)


def loaded(run: Path) -> Any:
    """The pipeline of a run, as nerfstudio's commands load it."""
    _, pipeline, _, _ = eval_setup(run / "config.yml", test_mode="test")
    return pipeline


def camera_of(pipeline: Any, index: int) -> Any:
    return pipeline.datamanager.eval_dataset.cameras[index : index + 1]


def outputs_of(pipeline: Any, index: int) -> Dict[str, Tensor]:
    return pipeline.model.get_outputs_for_camera(camera_of(pipeline, index))


def read_ply(path: Path) -> Dict[str, np.ndarray]:
    """Properties of the vertices of a binary .ply of floats."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    (count,) = (int(line.split()[2]) for line in lines if line.startswith("element vertex "))
    names = [line.split()[2] for line in lines if line.startswith("property ")]
    assert all(line.split()[1] == "float" for line in lines if line.startswith("property "))
    table = np.frombuffer(body, dtype="<f4").reshape(count, len(names))
    return {name: table[:, column] for column, name in enumerate(names)}


def splats_of(ply: Dict[str, np.ndarray], degree: int) -> Dict[str, Tensor]:
    """Gaussians of a .ply by the convention of Kerbl et al.'s viewer."""

    def columns(*names: str) -> Tensor:
        return torch.from_numpy(np.stack([ply[name] for name in names], axis=-1))

    rest = (degree + 1) ** 2 - 1
    assert {name for name in ply if name.startswith("f_rest")} == {f"f_rest_{index}" for index in range(3 * rest)}
    harmonics = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    if rest:
        # All coefficients of red, then all of green, then all of blue.
        by_channel = columns(*(f"f_rest_{index}" for index in range(3 * rest))).reshape(-1, 3, rest)
        harmonics = torch.cat([harmonics, by_channel.transpose(1, 2)], dim=1)
    return {
        "means": columns("x", "y", "z"),
        "quats": columns("rot_0", "rot_1", "rot_2", "rot_3"),
        "scales": columns("scale_0", "scale_1", "scale_2").exp(),
        "opacities": torch.sigmoid(columns("opacity")[:, 0]),
        "colors": harmonics,
    }


def rendered(splats: Dict[str, Tensor], camera: Any, degree: int, background: Tensor) -> Tensor:
    """(H, W, 3) colours of Gaussians in a camera of nerfstudio."""
    pose = torch.eye(4)
    pose[:3] = camera.camera_to_worlds[0]
    # From OpenGL's axes to OpenCV's.
    world_to_camera = torch.linalg.inv(pose @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])))
    intrinsics = torch.tensor(
        [[float(camera.fx), 0, float(camera.cx)], [0, float(camera.fy), float(camera.cy)], [0, 0, 1]]
    )
    image, _, _ = rasterization(
        **splats,  # type: ignore[arg-type]
        viewmats=world_to_camera[None],
        Ks=intrinsics[None],
        width=int(camera.width),
        height=int(camera.height),
        sh_degree=degree,
        backgrounds=background[None],
    )
    return image[0]


@pytest.fixture(scope="module")
def dropout_run(train_splats: Callable[..., Path]) -> Path:
    """Folder of a run of sparse-splatfacto with colours that depend on the direction, dropout and densification."""
    return train_splats(
        *("sparse-splatfacto", "dropout", 30, "--pipeline.initial-points.stride", 2),
        *("--pipeline.model.sh-degree", 1, "--pipeline.model.sh-degree-interval", 4),
        *("--pipeline.model.opacity-dropout", 0.3, "--pipeline.model.dropout-start-step", 5),
        *("--pipeline.model.densification.start-step", 4, "--pipeline.model.densification.every", 6),
        *("--pipeline.model.densification.gradient", 1e-5, "--optimizers.features-rest.optimizer.lr", 0.05),
    )


@pytest.mark.parametrize("name, degree", [("splat_run", 0), ("dropout_run", 1)])
def test_the_exported_file_renders_as_the_run_does(
    name: str, degree: int, run_command: Callable[..., str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(name)
    run_command("ns-export", "gaussian-splat", "--load-config", run / "config.yml", "--output-dir", tmp_path)
    pipeline, splats = loaded(run), splats_of(read_ply(tmp_path / "splat.ply"), degree)
    model = pipeline.model
    background = model.background_colour
    for index in range(2):
        camera = camera_of(pipeline, index)
        own, again = outputs_of(pipeline, index)["rgb"], rendered(splats, camera, degree, background).clamp(0, 1)
        # What the export leaves out has less than 1/255 of opacity, and counts nowhere. By rounding, a few others fall
        # below it at a pixel or do not.
        torch.testing.assert_close(again, own, rtol=0, atol=4e-3)
        assert float((again - own).abs().mean()) < 1e-5
        assert own.std() > 0.03
        if degree > 0:
            # Neither the directions' colours nor the factor of dropout could be left out, nor channels be mixed up.
            rest = splats["colors"][:, 1:]
            others = [torch.zeros_like(rest), rest.transpose(1, 2).reshape(rest.shape)]
            changed = [{**splats, "colors": torch.cat([splats["colors"][:, :1], other], dim=1)} for other in others]
            changed.append({**splats, "opacities": splats["opacities"] / 0.7})
            for wrong in changed:
                image = rendered(wrong, camera, degree, background).clamp(0, 1)
                assert float((image - own).abs().max()) > 0.01
    if degree > 0:
        resolved = load_json(run / "resolved.json")
        assert model.num_points > resolved["model"]["gaussians"] and model.dropout == pytest.approx(0.3)


def test_a_pointcloud_is_refused_in_one_message(splat_run: Path, environment: Dict[str, str], tmp_path: Path) -> None:
    command = [
        str(Path(environment["PATH"]) / "ns-export"),
        "pointcloud",
        "--load-config",
        str(splat_run / "config.yml"),
    ]
    command += ["--output-dir", str(tmp_path), "--normal-method", "open3d", "--num-points", "1000"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0 and not list(tmp_path.iterdir())
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: SparseSplatfactoModel renders images, not rays: ") and "gaussian-splat" in last


def test_other_kinds_of_scenes(
    train_splats: Callable[..., Path],
    make_nerfstudio_scene: Any,
    make_blender_scene: Any,
    tmp_path: Path,
) -> None:
    capture = make_nerfstudio_scene(tmp_path / "capture", size=(48, 64), detailed=True)
    objects = make_blender_scene(tmp_path / "objects")
    for parser, data in (("fewshot-nerfstudio-data", capture), ("fewshot-blender-data", objects)):
        run = train_splats("sparse-splatfacto-lite", parser, 12, parser=(parser, "--data", data))
        resolved = load_json(run / "resolved.json")
        assert resolved["silhouette"] == {"photos_with_alpha": data == objects}
        assert resolved["model"]["gaussians"] == resolved["initial_points"]["points"] > 100
