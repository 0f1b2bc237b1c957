"""Speed and memory of pixelNeRF at the original's sizes against a plain PyTorch twin, in training and rendering.

    python benchmarks/pixelnerf_speed.py                       # all cases, 512 rays
    python benchmarks/pixelnerf_speed.py --cases srn-1 --modes train

Cases are SRN's 128x128 images with one and two source views, and three views as for DTU, at 128x128. A training step
is the encoder on four objects, forward, both colour losses, backward and Adam; a rendering step shows the same number
of rays of one object, whose source views were encoded before. How the variants take turns is said in `turns.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Literal, Tuple

import tyro
from turns import Step, TurnArguments, compare

VARIANTS = ("twin float32", "fewshot_ns float32", "fewshot_ns bfloat16")
CASES: Dict[str, Tuple[int, float, float, float]] = {
    "srn-1": (1, 131.25, 0.8, 1.8),
    "srn-2": (2, 131.25, 0.8, 1.8),
    "dtu-3": (3, 120.0, 0.1, 5.0),
}
"""Source views, focal length in pixels, near and far."""
OBJECTS, SIDE = 4, 128


@dataclass
class Arguments(TurnArguments):
    """Flags of the benchmark."""

    rays: int = 512
    """Rays per step, in training of four objects together."""
    cases: Tuple[Literal["srn-1", "srn-2", "dtu-3"], ...] = ("srn-1", "srn-2", "dtu-3")
    """Which cases are measured."""
    modes: Tuple[Literal["train", "render"], ...] = ("train", "render")
    """Whether training, rendering or both are measured."""
    variants: Tuple[str, ...] = VARIANTS
    """What is measured; the first is what the others are compared to."""


def scenes(case: str, objects: int, rays: int) -> Dict[str, Any]:
    """Random images (B, V, H, W, 3) of cameras around the origin, poses, lens, and rays towards it (B, R, 3)."""
    import torch

    views, focal, near, far = CASES[case]
    distance = 0.5 * (near + far)
    backward = torch.nn.functional.normalize(torch.randn(objects, views, 3), dim=-1)
    right = torch.nn.functional.normalize(torch.cross(torch.randn_like(backward), backward, dim=-1), dim=-1)
    axes = torch.stack([right, torch.cross(backward, right, dim=-1), backward], dim=-1)
    position = torch.nn.functional.normalize(torch.randn(objects, rays // objects, 3), dim=-1) * distance
    target = torch.rand(objects, rays // objects, 3) - 0.5
    return {
        "images": torch.rand(objects, views, SIDE, SIDE, 3),
        "poses": torch.cat([axes, distance * backward[..., None]], dim=-1),
        "focal": torch.full((objects, views, 2), focal),
        "centre": torch.full((objects, views, 2), SIDE / 2),
        "origins": position,
        "directions": torch.nn.functional.normalize(target - position, dim=-1),
        "near": torch.full((objects, rays // objects, 1), near),
        "far": torch.full((objects, rays // objects, 1), far),
        "target": torch.rand(objects, rays // objects, 3),
    }


def twin_step(case: str, mode: str, arguments: Arguments) -> Step:
    """Step of the twin."""
    import torch
    from pixelnerf_twin import Twin

    given, twin = scenes(case, OBJECTS if mode == "train" else 1, arguments.rays), Twin()
    rotations = given["poses"][..., :3].mT
    views = {
        "rotations": rotations,
        "translations": -(rotations @ given["poses"][..., 3:])[..., 0],
        "focal": given["focal"],
        "centre": given["centre"],
        "image_size": torch.tensor([SIDE, SIDE]),
    }
    images = given["images"].movedim(-1, 2) * 2 - 1
    if mode == "render":
        with torch.no_grad():
            views["maps"] = twin.eval().encode(images)

        @torch.no_grad()
        def render() -> float:
            return float(twin(given, views)[1].mean())

        return render
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-4)

    def step() -> float:
        views["maps"] = twin.encode(images)
        loss = torch.stack([((rgb - given["target"]) ** 2).mean() for rgb in twin(given, views)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def product_step(case: str, mode: str, compute_dtype: str, arguments: Arguments) -> Step:
    """Step of the product: model and optimizer of the method."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    import torch
    from nerfstudio.cameras.rays import RayBundle
    from nerfstudio.data.scene_box import SceneBox

    from fewshot_ns.cameras.scene_geometry import SceneGeometry
    from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
    from fewshot_ns.data.records.scene import SCENE_INDEX_KEY, Conditioning
    from fewshot_ns.encoders.resnet import ResNetEncoderConfig
    from fewshot_ns.models.pixelnerf import PixelNeRFModelConfig
    from fewshot_ns.utils.allocator import keep_freed_memory

    if mode == "train":
        keep_freed_memory()  # as the pipeline does when it trains on a CPU
    given = scenes(case, OBJECTS if mode == "train" else 1, arguments.rays)
    _, _, near, far = CASES[case]
    config: Any = PixelNeRFModelConfig(encoder=ResNetEncoderConfig(pretrained=False), compute_dtype=compute_dtype)  # type: ignore[arg-type]
    record = FewShotMetadata(
        SceneGeometry("metric", near, far), "synthetic", "train", (0,), (0,), (0,), torch.eye(4)[None, :3]
    )
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record})
    objects, count = given["near"].shape[:2]
    conditioning = Conditioning(
        images=given["images"],
        camera_to_worlds=given["poses"],
        intrinsics=torch.cat([given["focal"], given["centre"] + 0.5], dim=-1),
        near=torch.full((objects,), near),
        far=torch.full((objects,), far),
        background="white",
    )
    rays = RayBundle(
        origins=given["origins"].flatten(0, 1),
        directions=given["directions"].flatten(0, 1),
        pixel_area=torch.ones(objects * count, 1),
        metadata={SCENE_INDEX_KEY: torch.arange(objects).repeat_interleave(count)[:, None]},
    )
    if mode == "render":
        with torch.no_grad():
            model.eval().condition(conditioning)

        @torch.no_grad()
        def render() -> float:
            return float(model.get_outputs(rays)["rgb"].mean())

        return render
    (parameters,) = model.train().get_param_groups().values()
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    batch = {"image": given["target"].flatten(0, 1)}

    def step() -> float:
        model.condition(conditioning)
        loss = torch.stack(list(model.get_loss_dict(model.render_training_rays(rays), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def main(arguments: Arguments) -> None:
    """Measures all variants of each case and prints a table of it."""

    def make_step(name: str) -> Step:
        case, mode, variant = name.split(" ", 2)
        if variant.startswith("twin"):
            return twin_step(case, mode, arguments)
        return product_step(case, mode, variant.split()[1], arguments)

    output = arguments.output
    tables = []
    for case in arguments.cases:
        for mode in arguments.modes:
            names = [f"{case} {mode} {variant}" for variant in arguments.variants]
            compare(arguments, names, make_step, f"{CASES[case][0]} source view(s), 64 + 16 + 16 samples")
            if arguments.worker is not None:
                return
            if output is not None:
                tables.append(output.read_text())
    if output is not None:
        output.write_text("\n".join(tables))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
