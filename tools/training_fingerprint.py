"""Losses and weights of short trainings of every method, to prove that a refactoring moved no number.

    python tools/training_fingerprint.py record before.json        # on the old tree
    python tools/training_fingerprint.py compare before.json       # on the new one: exit code 1 where a bit differs

Every method trains on the built-in scenes (forward-facing in NDC and in metric space, a few generated objects, a tiny
set in MVSNet's layout) with the networks of its preset and few rays per step. Frozen networks are tiny random ones of
the real classes. Bits agree on one machine, with one version of torch and one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, List, Tuple

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import nerfstudio.configs.method_configs  # noqa: F401, E402 - nerfstudio's modules import each other in this order only
import numpy as np  # noqa: E402
import torch  # noqa: E402

from fewshot_ns import registry  # noqa: E402

TESTS = Path(__file__).resolve().parents[1] / "tests"
STEPS = 30


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _set(config: Any, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        config = getattr(config, parent)
    if not hasattr(config, name):
        raise AttributeError(f"{path}: {type(config).__name__} has no such field")
    setattr(config, name, value)


def _save_image_encoder(folder: Path) -> Path:
    import open_clip

    torch.manual_seed(2)
    text = {"context_length": 4, "vocab_size": 10, "width": 8, "heads": 2, "layers": 1}
    vision = {"image_size": 16, "layers": 2, "width": 16, "patch_size": 8, "head_width": 8}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.save(open_clip.model.CLIP(**config).state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


class Cases:
    """The trainings, by name. Makes the scenes they need in a folder."""

    def __init__(self, folder: Path) -> None:
        from fewshot_ns.synthetic.scene import DemoSceneConfig, write_demo_scene
        from fewshot_ns.synthetic.solids_set import SolidsConfig, write_solids

        self.llff, self.solids, self.folder = folder / "scene", folder / "solids", folder
        write_demo_scene(self.llff, DemoSceneConfig(width=48, height=36, supersample=1, columns=5, rows=1))
        write_solids(self.solids, SolidsConfig(objects=5, views=6, size=32, supersample=1))
        tests = _module(TESTS / "conftest.py")
        self.mvsnet = tests.write_mvsnet_set(folder / "dtu")
        self.blender = tests.write_blender_scene(folder / "lego")
        tiny = _module(next(TESTS.rglob("tiny_diffusion.py")))
        self.clip = _save_image_encoder(folder / "clip")
        self.diffusion, self.image_clip = tiny.save_diffusion(folder / "sd"), tiny.save_clip(folder / "image_clip")

    def all(self) -> Dict[str, Tuple[str, Dict[str, Any], Any]]:
        """Name -> (method, fields that change, dataparser)."""
        parsers = {name: registry._load(registry.DATAPARSERS[name].config) for name in registry.DATAPARSERS}
        ndc = lambda: parsers["llff_data"](data=self.llff)  # noqa: E731
        metric = lambda: parsers["llff_data"](data=self.llff, ray_space="metric")  # noqa: E731
        blender = lambda: parsers["fewshot_blender_data"](data=self.blender, num_views=3)  # noqa: E731
        cases: Dict[str, Tuple[str, Dict[str, Any], Any]] = {}
        family = ("mipnerf_fewshot", "regnerf", "freenerf", "sparsenerf", "free_sparsenerf")
        for name in (*family, *(f"{each}_lite" for each in family)):
            for space, parser in (("ndc", ndc), ("metric", metric)):
                cases[f"{name}/{space}"] = name, {}, parser()
        for name in ("depth_mipnerf", "depth_mipnerf_lite"):
            flags = {"pipeline.datamanager.train_num_rays_per_batch": 64}
            for loss in ("cdf", "l2", "urf", "ds-nerf"):
                cases[f"{name}/{loss}"] = name, {**flags, "pipeline.depth.loss": loss}, self._sensor(parsers)
        semantic = {
            "pipeline.semantic.encoder.weights": self.clip,
            "pipeline.semantic.views.grid_size": 8,
            "pipeline.semantic.start_step": 0,
        }
        for name in ("dietnerf", "dietnerf_lite", "dietnerf_jax", "dietnerf_jax_coarse", "simplified_nerf"):
            cases[name] = name, semantic, blender()
        # Priors of one method on another.
        cases["mipnerf_fewshot+semantic"] = (
            "mipnerf_fewshot",
            {**semantic, "pipeline.semantic.enabled": True},
            metric(),
        )
        cases["regnerf+depth+smoothness"] = (
            "regnerf",
            {"pipeline.depth.enabled": True, "pipeline.smoothness.factor": 1.0},
            ndc(),
        )
        cases["dietnerf+smoothness"] = "dietnerf", {**semantic, "pipeline.smoothness.enabled": True}, blender()
        diffusion = {
            "pipeline.diffusion.weights": self.diffusion,
            "pipeline.diffusion.image_encoder_weights": self.image_clip,
        }
        cases["sparsenerf_lite+diffusion"] = (
            "sparsenerf_lite",
            {**diffusion, "pipeline.diffusion.enabled": True, "pipeline.diffusion.views.grid_size": 8},
            metric(),
        )
        few = {"pipeline.datamanager.rays_per_scene": 8, "pipeline.datamanager.scenes_per_batch": 2}
        pretrained = {"pipeline.model.encoder.pretrained": False}
        for name in ("pixelnerf", "pixelnerf_lite"):
            cases[name] = (
                name,
                {**few, **pretrained, "pipeline.datamanager.sources.mode": "random"},
                parsers["srn_data"](data=self.solids),
            )
        dtu = lambda: parsers["mvsnet_dtu_data"](data=self.mvsnet, num_views=6, train_lights=(2, 3))  # noqa: E731
        for name in ("idnerf", "idnerf_released", "matchnerf", "idnerf_lite", "matchnerf_lite"):
            fields = {"pipeline.datamanager.rays_per_scene": 8, "pipeline.model.num_samples": 8, **pretrained}
            fields |= {"pipeline.datamanager.sources.pool": (), "pipeline.datamanager.targets.views": (0, 3)}
            cases[name] = name, {**fields, **(diffusion if name == "idnerf" else {})}, dtu()
        return cases

    def _sensor(self, parsers: Dict[str, Any]) -> Any:
        if not (self.folder / "sensor").exists():
            sys.modules["conftest"].write_nerfstudio_scene(self.folder / "sensor")
        return parsers["fewshot_nerfstudio_data"](data=self.folder / "sensor")

    def run(self, name: str) -> Dict[str, Any]:
        """Losses of each step and a hash of the weights at the end."""
        method, fields, parser = self.all()[name]
        config = deepcopy(registry.method_specification(method).config)
        manager = config.pipeline.datamanager
        manager.dataparser = parser
        if hasattr(manager, "train_num_rays_per_batch"):
            manager.train_num_rays_per_batch = 64
        pipeline = config.pipeline
        pipeline.smoothness.num_patches, pipeline.smoothness.num_poses = 2, 20
        if pipeline.depth.num_quads is not None:
            pipeline.depth.num_quads = 8
        pipeline.evaluation.metrics = ("psnr",)
        for path, value in fields.items():
            _set(config, path, value)
        config.max_num_iterations = STEPS
        config.steps_per_save, config.steps_per_eval_image, config.steps_per_eval_all_images = 10**6, 0, 0
        config.output_dir, config.experiment_name, config.timestamp = self.folder / "runs", "fingerprint", name
        config.vis, config.machine.device_type, config.machine.seed = "tensorboard", "cpu", 42
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        trainer = config.setup()
        trainer.setup()
        losses: List[Dict[str, str]] = []
        step_of = trainer.pipeline.get_train_loss_dict

        def recorded(step: int) -> Any:
            outputs, terms, metrics = step_of(step)
            losses.append({key: value.detach().item().hex() for key, value in sorted(terms.items())})
            return outputs, terms, metrics

        trainer.pipeline.get_train_loss_dict = recorded
        trainer.train()
        digest = hashlib.sha256()
        for _, value in sorted(trainer.pipeline.model.state_dict().items()):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return {"losses": losses, "weights": digest.hexdigest()}


def main() -> int:
    """Records or compares; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", default=None, help="names that begin so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(options.file.read_text()) if options.action == "compare" or options.file.exists() else {}
    differing = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FEWSHOT_CACHE"] = str(Path(folder) / "cache")
        cases = Cases(Path(folder))
        for name in cases.all():
            if options.only and not any(name.startswith(start) for start in options.only):
                continue
            if options.action == "record" and name in known:
                continue
            try:
                found = cases.run(name)
            except Exception as error:  # noqa: BLE001 - a report of all is wanted
                found = {"error": f"{type(error).__name__}: {error}"[:500]}
            if options.action == "record":
                known[name] = found
                options.file.write_text(json.dumps(known, indent=0))
                print(name, found.get("error", found.get("weights", "")[:12]), flush=True)
                continue
            same = found == known.get(name)
            if not same:
                differing.append(name)
            print(name, "same" if same else f"DIFFERS {_first_difference(known.get(name), found)}", flush=True)
    print(
        f"{len(differing)} differ: {' '.join(differing)}" if options.action == "compare" else f"{len(known)} recorded"
    )
    return int(bool(differing))


def _first_difference(before: Any, after: Any) -> str:
    if before is None or "losses" not in before or "losses" not in after:
        return f"{(after or {}).get('error', '')}"
    for step, (old, new) in enumerate(zip(before["losses"], after["losses"], strict=False)):
        if old != new:
            names = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
            key = names[0]
            values = [float.fromhex(each[key]) if key in each else None for each in (old, new)]
            return f"step {step}: {names}, {key} {values[0]} -> {values[1]}"
    return "weights alone"


if __name__ == "__main__":
    sys.exit(main())
