"""Gaussians as a .ply: what is in it, that nerfstudio's exporter writes the same, that a damaged one is not taken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import numpy as np
import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from fewshot_ns.cameras.scene_geometry import SceneGeometry
from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
from fewshot_ns.data.seeds.cloud import SeedCloud
from fewshot_ns.model_components.splatting.gaussians import initial_gaussians
from fewshot_ns.model_components.splatting.ply import find_splats, write_splats
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModel, SparseSplatfactoModelConfig


def some_gaussians(count: int = 7, sh_degree: int = 1) -> Dict[str, Tensor]:
    """Gaussians whose every number is another."""
    generator = torch.Generator().manual_seed(3)
    shapes = initial_gaussians(torch.zeros(count, 3), torch.zeros(count, 3), torch.ones(count), 1.0, 0.5, sh_degree)
    return {name: torch.randn(values.shape, generator=generator) for name, values in shapes.items()}


def read_naively(path: Path) -> Tuple[Dict[str, np.ndarray], bytes]:
    """Columns of a binary .ply of floats by their names, and all that is behind its header."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex"))
    names = [line.split()[2] for line in lines if line.startswith("property float")]
    values = np.frombuffer(body, "<f4").reshape(count, len(names))
    return {name: values[:, place] for place, name in enumerate(names)}, body


def test_the_file_holds_what_the_gaussians_are(tmp_path: Path) -> None:
    gaussians = some_gaussians()
    written = write_splats(gaussians, tmp_path / "new" / "a.ply", "key")
    found, body = read_naively(written.path)
    assert written.count == 7 and written.size == written.path.stat().st_size > len(body)
    expected = {"opacity": gaussians["opacities"][:, 0], "nx": torch.zeros(7), "ny": torch.zeros(7)}
    expected["nz"] = torch.zeros(7)
    for place in range(3):
        expected["xyz"[place]] = gaussians["means"][:, place]
        expected[f"f_dc_{place}"] = gaussians["features_dc"][:, place]
        expected[f"scale_{place}"] = gaussians["scales"][:, place]
        for number in range(3):
            # All of red, then all of green.
            expected[f"f_rest_{3 * place + number}"] = gaussians["features_rest"][:, number, place]
    for place in range(4):
        expected[f"rot_{place}"] = gaussians["quats"][:, place]
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values.numpy(), err_msg=name)


def test_what_cannot_be_drawn_is_left_out(tmp_path: Path) -> None:
    gaussians = some_gaussians()
    gaussians["scales"][1, 2] = torch.nan
    gaussians["means"][2, 0] = torch.inf
    gaussians["opacities"][4, 0] = -5.54
    gaussians["opacities"][5, 0] = -5.53
    written = write_splats(gaussians, tmp_path / "a.ply", "key")
    found, _ = read_naively(written.path)
    kept = [0, 3, 5, 6]
    assert written.count == 4
    np.testing.assert_array_equal(found["x"], gaussians["means"][kept, 0].numpy())
    gaussians["opacities"][:] = -9.0
    with pytest.raises(ValueError, match="b.ply: expected Gaussians that can be seen, found none"):
        write_splats(gaussians, tmp_path / "b.ply", "key")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ply"]


def test_a_file_is_known_by_its_key_and_taken_only_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    assert find_splats(path, "key") is None
    written = write_splats(some_gaussians(), path, "key")
    assert find_splats(path, "key") == written and find_splats(path, "other") is None
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"\0", whole[:40], b"", whole.replace(b"vertex 7", b"vertex x")):
        path.write_bytes(damaged)
        assert find_splats(path, "key") is None


@pytest.mark.parametrize("sh_degree", [0, 1])
def test_nerfstudios_exporter_writes_the_same(tmp_path: Path, monkeypatch: Any, sh_degree: int) -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    from nerfstudio.scripts import exporter

    model = small_model(sh_degree)
    monkeypatch.setattr(exporter, "eval_setup", lambda *_, **__: (None, SimpleNamespace(model=model), None, 0))
    exporter.ExportGaussianSplat(load_config=tmp_path / "config.yml", output_dir=tmp_path).main()
    own = write_splats({**model.gauss_params, "opacities": model.opacities}, tmp_path / "own.ply", "key")
    (theirs, expected), (found, body) = read_naively(tmp_path / "splat.ply"), read_naively(own.path)
    assert list(found) == list(theirs) and body == expected and own.count == 8


def small_model(sh_degree: int) -> SparseSplatfactoModel:
    """A model whose Gaussians have all kinds of values, one of them too faint to be seen."""
    record = FewShotMetadata(SceneGeometry("metric", 2.0, 6.0), "t", "t", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    points, view = torch.rand(9, 3), torch.zeros(9, dtype=torch.long)
    cloud = SeedCloud(points, torch.rand(9, 3), torch.rand(9) + 0.1, view, view == 0, "stereo", ("a.png",))
    config = SparseSplatfactoModelConfig(sh_degree=sh_degree)
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record}, initial_points=cloud)
    with torch.no_grad():
        for values in model.gauss_params.values():
            values.add_(torch.randn_like(values))
        model.gauss_params["opacities"][2] = -6.0
    return model.eval()
