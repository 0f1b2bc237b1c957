"""Speed and memory of ID-NeRF and MatchNeRF against a plain PyTorch twin, in rendering and in training.

    python benchmarks/idnerf_speed.py                                # rendering, all cases, 512 rays
    python benchmarks/idnerf_speed.py --cases idnerf --modes train --repeats 3

Three source views of 128x160, neighbouring rays of a target between them, 128 samples. Source views are encoded and the
latent is inferred before rays are timed: that happens once per set of source views and once per target, and is timed by
itself at the end. A training step is forward, loss and backward of the rays down to the source views' features and the
decoder's parameters, and AdamW; the encoder is left out, since it is the same for both. `idnerf-bilinear` is `idnerf`
without its window of 3x3 look-ups, `idnerf-lite` has 48 samples, width 64 and no window. How the variants take turns is
said in `turns.py`.
"""

from __future__ import annotations

import statistics
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Dict, Literal, Tuple

import tyro
from turns import Step, TurnArguments, compare

VARIANTS = ("twin float32", "fewshot_ns float32", "fewshot_ns bfloat16")
Case = Literal["idnerf", "idnerf-bilinear", "matchnerf", "idnerf-lite"]
SIZE = (128, 160)
"""Height and width."""
NEAR, FAR = 2.125, 4.525
"""Of DTU."""
TWIN_BLOCK = 32
"""Rays that the twin renders at once: with 32 it is up to twice as fast as with 512."""


@dataclass
class Arguments(TurnArguments):
    """Flags of the benchmark."""

    rays: int = 512
    """Rays per step."""
    repeats: int = 5
    """Timed steps of each variant, after one that warms up."""
    cases: Tuple[Case, ...] = ("idnerf", "idnerf-bilinear", "matchnerf", "idnerf-lite")
    """Which cases are measured."""
    modes: Tuple[Literal["render", "train"], ...] = ("render",)
    """Whether rendering, training or both are measured."""
    variants: Tuple[str, ...] = VARIANTS
    """What is measured; the first is what the others are compared to."""


def product(case: Case, compute_dtype: str, size: Tuple[int, int] = SIZE) -> Tuple[Any, Any]:
    """The product's model with random weights, and three source views with a target between them (`Conditioning`)."""
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    import torch
    from nerfstudio.data.scene_box import SceneBox

    from fewshot_ns.cameras.scene_geometry import SceneGeometry
    from fewshot_ns.configs import idnerf as presets
    from fewshot_ns.data.records.metadata import METADATA_KEY, FewShotMetadata
    from fewshot_ns.data.records.scene import Conditioning

    preset = {"matchnerf": presets.matchnerf, "idnerf-lite": presets.idnerf_lite}.get(case, presets.idnerf)
    config: Any = deepcopy(preset.pipeline.model)
    config.compute_dtype = compute_dtype
    if case == "idnerf-bilinear":
        config.window = "off"
    geometry = SceneGeometry("metric", NEAR, FAR)
    record = FewShotMetadata(geometry, "synthetic", "train", (0,), (0,), (0,), torch.eye(4)[None, :3])
    box = SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, metadata={METADATA_KEY: record}).eval()
    poses = torch.eye(4)[:3].repeat(4, 1, 1)
    poses[:, :2, 3] = torch.tensor([[-0.3, 0.0], [0.3, 0.1], [0.0, -0.3], [0.0, 0.0]])
    height, width = size
    lens = torch.tensor([1.1 * width, 1.1 * width, width / 2, height / 2]).repeat(4, 1)
    conditioning = Conditioning(
        images=torch.rand(1, 3, height, width, 3),
        camera_to_worlds=poses[None, :3],
        intrinsics=lens[None, :3],
        near=torch.tensor([NEAR]),
        far=torch.tensor([FAR]),
        target_to_worlds=poses[3:],
        target_intrinsics=lens[3:],
    )
    return model, conditioning


def target_rays(conditioning: Any, count: int) -> Any:
    """`count` rays of the target camera, row by row from the middle of the image on."""
    import torch
    from nerfstudio.cameras.cameras import Cameras

    fx, fy, cx, cy = conditioning.target_intrinsics[0, :, None]
    height, width = conditioning.images.shape[2:4]
    camera = Cameras(conditioning.target_to_worlds, fx, fy, cx, cy, width, height)
    pixels = (torch.arange(count) + height * width // 2) % (height * width)
    coords = torch.stack([pixels // width, pixels % width], dim=-1) + 0.5
    return camera.generate_rays(torch.zeros(count, 1, dtype=torch.long), coords=coords)


def twin_of(model: Any, conditioning: Any, bundle: Any) -> Tuple[Any, Dict[str, Any], Dict[str, Any], Any]:
    """The twin with the decoder of a model, its rays and views, and its features.

    Args:
        model: that was shown the conditioning.
        conditioning: of one scene.
        bundle: rays of the target.
    """
    import torch
    from idnerf_twin import Twin

    config = model.config
    twin = Twin(config.refinement != "off", config.window == "mean", config.num_views, config.width)
    wanted = twin.state_dict().keys()
    state = {name: value for name, value in model.nerf_dec.state_dict().items() if not name.startswith("latent_layer")}
    assert state.keys() == wanted
    twin.load_state_dict(state)
    with torch.no_grad():
        features = [each[0].movedim(-1, 1).contiguous() for each in model.feat_enc(conditioning.images)]
    poses = conditioning.camera_to_worlds[0]
    rotations = poses[:, :, :3].mT
    near, far = conditioning.near, conditioning.far
    views = {
        "images": conditioning.images[0].movedim(-1, 1).contiguous(),
        "rotations": rotations,
        "translations": -(rotations @ poses[:, :, 3:])[..., 0],
        "focal": conditioning.intrinsics[0, :, :2],
        "centre": conditioning.intrinsics[0, :, 2:] - 0.5,
        **{"near": near, "far": far},
        "latent": model.targets.vectors[0].detach() if "latents" in model.provides else None,
    }
    length = bundle.metadata["directions_norm"]
    steps = torch.linspace(0.0, 1.0, config.num_samples, dtype=length.dtype)
    rays = {
        "origins": bundle.origins,
        "directions": bundle.directions * length,
        "length": length,
        "z": (near + (far - near) * steps).expand(len(length), -1),
    }
    return twin, rays, views, features


def twin_step(case: Case, mode: str, arguments: Arguments) -> Step:
    """Step of the twin."""
    import torch

    model, conditioning = product(case, "float32")
    with torch.no_grad():
        model.condition(conditioning)
    twin, rays, views, features = twin_of(model, conditioning, target_rays(conditioning, arguments.rays))
    if mode == "render":
        parts = [
            {name: value[i : i + TWIN_BLOCK] for name, value in rays.items()}
            for i in range(0, len(rays["z"]), TWIN_BLOCK)
        ]

        @torch.no_grad()
        def render() -> float:
            return float(torch.cat([twin(part, views, features) for part in parts]).mean())

        return render
    target = torch.rand(arguments.rays, 3)
    features = [each.requires_grad_() for each in features]
    optimizer = torch.optim.AdamW(twin.parameters(), lr=5e-5)

    def step() -> float:
        loss = ((twin(rays, views, features) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def product_step(case: Case, mode: str, compute_dtype: str, arguments: Arguments) -> Step:
    """Step of the product."""
    import torch

    from fewshot_ns.fields.matching_sources import MatchingSources
    from fewshot_ns.utils.allocator import keep_freed_memory

    model, conditioning = product(case, compute_dtype)
    bundle = target_rays(conditioning, arguments.rays)
    with torch.no_grad():
        model.condition(conditioning)
    if mode == "render":

        @torch.no_grad()
        def render() -> float:
            return float(model.get_outputs_for_camera_ray_bundle(bundle)["rgb"].mean())

        bundle = bundle.reshape((1, arguments.rays))
        return render
    keep_freed_memory()  # as the pipeline does when it trains on a CPU
    with torch.no_grad():
        features = [each.to(model.sources.rows[0].dtype) for each in model.feat_enc(conditioning.images)]
    features = [each.requires_grad_() for each in features]
    batch = {"image": torch.rand(arguments.rays, 3)}
    optimizer = torch.optim.AdamW(model.nerf_dec.parameters(), lr=5e-5)
    model.train()

    def step() -> float:
        near, far = (bound[:, None].expand(-1, 3) for bound in (conditioning.near, conditioning.far))
        model._sources = MatchingSources(conditioning, features, near, far, model.config.window)
        loss = torch.stack(list(model.get_loss_dict(model.render_training_rays(bundle), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def time_conditioning(case: Case, arguments: Arguments) -> None:
    """Prints the CPU seconds of what is done once: the encoder per set of source views, the latent per target."""
    import torch
    from rich.console import Console

    torch.set_num_threads(arguments.threads)
    model, conditioning = product(case, "float32")

    def seconds(new: bool) -> float:
        measured = []
        for _ in range(arguments.repeats + 1):
            # Views are known again by their content.
            images = torch.rand_like(conditioning.images) if new else conditioning.images
            start = time.process_time()
            with torch.no_grad():
                model.condition(replace(conditioning, images=images))
            measured.append(time.process_time() - start)
        return statistics.median(measured[1:])

    Console(width=120).print(
        f"{case}: encoder and latent {seconds(True):.2f} CPU s for new source views, {seconds(False):.2f} for known"
    )


def main(arguments: Arguments) -> None:
    """Measures all variants of each case and prints a table of it."""

    def make_step(name: str) -> Step:
        case, mode, variant = name.split(" ", 2)
        if variant.startswith("twin"):
            return twin_step(case, mode, arguments)  # type: ignore[arg-type]
        return product_step(case, mode, variant.split()[1], arguments)  # type: ignore[arg-type]

    output = arguments.output
    tables = []
    for case in arguments.cases:
        for mode in arguments.modes:
            names = [f"{case} {mode} {variant}" for variant in arguments.variants]
            compare(arguments, names, make_step, "3 source views of 128x160")
            if arguments.worker is not None:
                return
            if output is not None:
                tables.append(output.read_text())
        time_conditioning(case, arguments)
    if output is not None:
        output.write_text("\n".join(tables))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
