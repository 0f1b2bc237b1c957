"""Flags of `ns-fewshot view`, and released weights as it loads them; the page itself is tested in end_to_end/."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest
import torch
from torchvision.models import resnet34

from fewshot_ns.fields.nerf_field import NeRFField
from fewshot_ns.scripts.cli import main
from fewshot_ns.scripts.runs import released_method, released_pipeline
from fewshot_ns.scripts.view import ViewCommand, _start, known_cameras
from fewshot_ns.viewer.serving import FIRST_PORT, free_port, is_local, page_address


@pytest.fixture
def dietnerf_file(tmp_path: Path) -> Path:
    """In DietNeRF's layout, with networks of the published size and random weights."""
    names = {"trunk.": "pts_linears.", "colour.": "views_linears.0.", "bottleneck.": "feature_linear."}
    names |= {"density.": "alpha_linear.", "rgb.": "rgb_linear."}
    state: Dict[str, Any] = {}
    torch.manual_seed(0)
    for network in ("network_fn_state_dict", "network_fine_state_dict"):
        own = NeRFField(num_layers=8, width=256, skip_layer=5, num_octaves=10, view_octaves=4, colour_width=128)
        state[network] = {
            theirs + name.removeprefix(ours): value
            for name, value in own.state_dict().items()
            for ours, theirs in names.items()
            if name.startswith(ours)
        }
    torch.save(state, tmp_path / "lego.tar")
    return tmp_path / "lego.tar"


@pytest.fixture
def pixelnerf_file(tmp_path: Path) -> Path:
    """In pixelNeRF's layout, with networks of the published size and random weights."""
    torch.manual_seed(0)
    state = {f"encoder.model.{name}": value for name, value in resnet34().state_dict().items() if "fc." not in name}
    for network in ("mlp_coarse", "mlp_fine"):
        layers = {"lin_in": (512, 42), "lin_out": (4, 512), **{f"lin_z.{index}": (512, 512) for index in range(3)}}
        layers |= {f"blocks.{index}.fc_{part}": (512, 512) for index in range(5) for part in range(2)}
        for name, shape in layers.items():
            state[f"{network}.{name}.weight"] = 0.02 * torch.randn(shape)
            state[f"{network}.{name}.bias"] = torch.zeros(shape[0])
    torch.save(state, tmp_path / "pixel_nerf_latest")
    return tmp_path / "pixel_nerf_latest"


def test_weights_that_are_a_scene(dietnerf_file: Path):
    assert released_method(dietnerf_file) == "dietnerf"
    pipeline, folder, step = ViewCommand(dietnerf_file)._load()
    assert folder == dietnerf_file.parent and step == 0
    # Where the photos stood is not known, so no camera is shown, and a page begins on the sphere of the sliders.
    assert known_cameras(pipeline) is None
    pose, distance = _start(pipeline, None)
    assert pose.shape == (3, 4) and 2.0 <= distance <= 6.0
    with pytest.raises(ValueError, match=r"--data, --scene and --source-views: .*lego.tar is of dietnerf"):
        ViewCommand(dietnerf_file, data=dietnerf_file.parent)._load()
    with pytest.raises(ValueError, match=r"--method: expected one of .*dietnerf-jax.*, got 'nerfacto'"):
        ViewCommand(dietnerf_file, method="nerfacto")._load()


def test_weights_that_need_a_scene(pixelnerf_file: Path, tiny_llff_scene: Path):
    assert released_method(pixelnerf_file) == "pixelnerf"
    with pytest.raises(ValueError, match=r"pixel_nerf_latest: weights of pixelnerf, which renders .* give --data DIR"):
        ViewCommand(pixelnerf_file)._load()
    pipeline: Any = ViewCommand(pixelnerf_file, data=tiny_llff_scene, source_views=(3,))._load()[0]
    cameras = known_cameras(pipeline)
    assert cameras is not None and [file.name for file in cameras.image_filenames] == ["image003.png"]
    camera = cameras.cameras[0:1]
    camera.rescale_output_resolution(0.25)

    def rendered() -> torch.Tensor:
        torch.manual_seed(0)  # points on rays are drawn
        with torch.no_grad():
            return pipeline.model.get_outputs_for_camera(camera)["rgb"]

    first = rendered()
    assert first.shape == (6, 8, 3) and first.isfinite().all()
    # It is the file's encoder that has looked at the source view, not the one of before.
    pipeline.render_scene(pipeline.datamanager.active)
    assert torch.equal(rendered(), first)


def test_files_that_are_neither(tmp_path: Path):
    torch.save({"step": 3, "pipeline": {}}, tmp_path / "step-3.ckpt")
    with pytest.raises(ValueError, match="found a checkpoint of a training; give the folder of its run"):
        released_method(tmp_path / "step-3.ckpt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match="expected weights of DietNeRF, pixelNeRF or mipnerf_pl, found others; .* --method"
    ):
        released_method(tmp_path / "other.pt")
    (tmp_path / "text").write_text("no weights", "utf8")
    with pytest.raises(ValueError, match="found a damaged file"):
        released_method(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match="expected a run or a file of released weights"):
        released_pipeline(tmp_path / "nothing", None)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


def test_ports(taken: int):
    assert free_port("127.0.0.1") >= FIRST_PORT
    with pytest.raises(ValueError, match=rf"expected a free port, found none \({taken}: .*\); give another by --port"):
        free_port("127.0.0.1", taken)
    with pytest.raises(ValueError, match="--port 70000: expected 1 to 65535"):
        free_port("127.0.0.1", 70000)
    # Of a block that is set aside for examples (RFC 5737): nobody's.
    with pytest.raises(ValueError, match="--host 192.0.2.1: expected an address of this machine"):
        free_port("192.0.2.1")
    assert is_local("127.0.0.1") and is_local("::1") and is_local("localhost")
    assert not is_local("0.0.0.0") and not is_local("192.0.2.1") and not is_local("example.org")
    assert page_address("127.0.0.1", 7007) == "http://127.0.0.1:7007/"
    assert page_address("0.0.0.0", 7007) == "http://127.0.0.1:7007/" and page_address("::1", 80) == "http://[::1]:80/"


def test_refusals_come_before_loading(taken: int, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["view", str(tmp_path), "--port", str(taken)]) == 1
    assert "expected a free port" in capsys.readouterr().err
    assert main(["view", str(tmp_path / "nothing")]) == 1
    assert "nothing: expected the config.yml of a training run, found no such file" in capsys.readouterr().err
    assert main(["view", str(tmp_path), "--method", "dietnerf"]) == 1
    assert "--method dietnerf" in capsys.readouterr().err
    assert ViewCommand(tmp_path).host == "127.0.0.1"


def test_scene_without_photos_is_read_from_the_run(
    tiny_llff_scene: Path, tmp_path: Path, tiny_pipeline_config: Callable[..., Any], capsys: pytest.CaptureFixture
):
    """The folder of the scene is there, its photos are not."""
    from fewshot_ns.data.datamanagers.fewshot import with_stored_scene_if_missing
    from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
    from fewshot_ns.data.dataparsers.single.stored import StoredSceneDataParserConfig, store_scene

    manager = tiny_pipeline_config(LLFFDataParserConfig(data=tiny_llff_scene)).datamanager
    parser = manager.dataparser.setup()
    store_scene(tmp_path, {split: parser.get_dataparser_outputs(split) for split in ("train", "test")})
    assert with_stored_scene_if_missing(manager, tmp_path) is manager
    for photo in (tiny_llff_scene / "images_4").iterdir():
        photo.unlink()
    capsys.readouterr()
    assert with_stored_scene_if_missing(manager, None) is manager
    stored = with_stored_scene_if_missing(manager, tmp_path)
    assert isinstance(stored.dataparser, StoredSceneDataParserConfig) and stored.data is None
    printed = capsys.readouterr().out
    assert "cannot be read (" in printed and "scene.json" in printed
