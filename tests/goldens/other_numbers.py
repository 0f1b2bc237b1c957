"""Further sets of SparseNeRF's reference arrays: other numbers, sizes and scenes, by the naive code beside this.

They hold what `test_sparsenerf.py` reads of the four files whose numbers go through a network, a composition or an
inverse; both precisions, as the original's sets do. `python other_numbers.py FOLDER [SEED]` writes one set.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import numpy as np
import torch
from naive_sparsenerf import (
    EPSILON,
    blurred,
    clipped,
    distortion,
    drawn,
    even_positions,
    first_fenceposts,
    levels,
    mean_distance,
    network,
    normals,
    opacity,
    percentile,
    training_losses,
)
from torch import Tensor

Arrays = Dict[str, np.ndarray]
SHAPES = {"ndc": "cylinder", "cone": "cone", "llff": "cylinder", "dtu": "cone"}
OCTAVES, VIEW_OCTAVES = 16, 4
SIDE = 8
"""Of a patch, pixels."""


def single(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


PADDING = single(0.01)
"""Of the weights that are resampled."""


def tensors(arrays: Arrays, dtype: torch.dtype) -> Dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(value)).to(dtype) for name, value in arrays.items()}


def in_both(compute: Callable[[torch.dtype], Dict[str, Tensor]]) -> Arrays:
    """What a function of a precision gives, in float32, and as NAME_f64 in float64."""
    found = {}
    for dtype, suffix in ((torch.float32, ""), (torch.float64, "_f64")):
        found |= {name + suffix: value.detach().numpy() for name, value in compute(dtype).items()}
    return found


def prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + name: value for name, value in arrays.items()}


def random_rays(random: np.random.Generator, case: str, count: int) -> Arrays:
    """Rays of one ray space, whose directions are no unit vectors."""
    ndc = SHAPES[case] == "cylinder"
    sideways = random.uniform(-1, 1, (count, 2)) * (0.3 if ndc else 0.5)
    towards = np.full((count, 1), 2.0 if ndc else random.uniform(0.7, 1.3))
    directions = np.concatenate([sideways, towards], axis=1)
    start = random.uniform(-1.2, 1.2, (count, 2)) * (1.0 if ndc else 0.5)
    origins = np.concatenate([start, np.full((count, 1), -1.0 if ndc else 0.0)], axis=1)
    # Of LLFF the original's view directions are no unit vectors.
    viewdirs = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    viewdirs *= random.uniform(1.0, 1.1, (count, 1)) if ndc else 1.0
    radii = random.uniform(2e-3, 4e-3, (count, 1)) if ndc else random.uniform(1e-3, 2e-3, (count, 1))
    near, far = (0.0, 1.0) if ndc else (random.uniform(0.3, 0.8), random.uniform(2.5, 6.0))
    ends = {"near": np.full((count, 1), near), "far": np.full((count, 1), far)}
    rays = {"origins": origins, "directions": directions, "viewdirs": viewdirs, "radii": radii, **ends}
    return {name: single(value) for name, value in rays.items()}


def random_parameters(random: np.random.Generator, width: int, colour_width: int, num_layers: int = 8) -> Arrays:
    """A network whose densities go from empty to opaque."""
    columns, found = 6 * OCTAVES, {}
    sizes = [(columns if i == 0 else width + (columns if i == 5 else 0), width) for i in range(num_layers)]
    for index, (rows, outputs) in enumerate(sizes):
        reach = np.sqrt((6.0 if rows == outputs else 3.0) / rows) * (1.6 if rows > width else 1.0)
        found[f"layer_{index}_kernel"] = random.uniform(-reach, reach, (rows, outputs))
    heads = {
        "density": (width, 1),
        "bottleneck": (width, width),
        "view_0": (width + 3 + 6 * VIEW_OCTAVES, colour_width),
    }
    for name, (rows, outputs) in {**heads, "rgb": (colour_width, 3)}.items():
        reach = np.sqrt(3.0 / rows) * (3.0 if name == "rgb" else 1.0)
        found[f"{name}_kernel"] = random.uniform(-reach, reach, (rows, outputs))
    for name in list(found):
        found[name.replace("kernel", "bias")] = 0.05 * random.standard_normal(found[name].shape[1])
    # The raw density of random places gets a spread of 3 around 1.
    values = tensors({name: single(value) for name, value in found.items()}, torch.float64)
    values["density_bias"] = torch.full((1,), 60.0, dtype=torch.float64)
    places = torch.from_numpy(random.uniform(-1, 1, (400, 1, 3)))
    density, _ = network(values, places, torch.full_like(places, 1e-5), places[:, 0])
    raw = density - 59.0
    found["density_kernel"] *= 3.0 / float(raw.std())
    found["density_bias"] = np.array([1.0 - 3.0 * float(raw.mean() / raw.std())])
    return {name: single(value) for name, value in found.items()}


def compositing_file(random: np.random.Generator) -> Arrays:
    count, samples = int(random.integers(8, 20)), int(random.integers(20, 90))
    t = np.sort(random.uniform(0, random.uniform(1, 6), (count, samples + 1)), axis=1)
    density = random.exponential(1.0, (count, samples)) * np.exp(random.uniform(-3, 3, (count, 1)))
    density[[0, count // 2]] = 0.0
    density[1] = 0.0
    density[1, samples // 3] = 1e6
    # Nearly transparent: this is where the original loses digits.
    density[2] *= 2e-3 / (density[2] * np.diff(t[2])).sum() * np.exp(random.uniform(-1, 1))
    given = {
        "t": t,
        "density": density,
        "rgb": random.uniform(0, 1, (count, samples, 3)),
        "directions": random.uniform(-1, 2, (count, 3)),
        "normals": random.standard_normal((count, samples, 3)),
    }
    given["normals"] /= np.linalg.norm(given["normals"], axis=-1, keepdims=True)
    given = {name: single(value) for name, value in given.items()}
    rays = np.array([ray for ray in range(count) if density[ray].any()], dtype=np.int32)
    coefficients = single(random.standard_normal(len(rays)))

    def composed(dtype: torch.dtype) -> Dict[str, Tensor]:
        x = tensors(given, dtype)
        t, density = x["t"], x["density"].requires_grad_()
        found = opacity(density, t, x["directions"])
        acc, distance = found.weights.sum(-1), mean_distance(found.weights, t)
        middle = (t[:, 1:] + t[:, :-1]) / 2
        variance = (found.weights * (middle - distance[:, None]) ** 2).sum(-1) / acc.clamp(min=1e-30)
        values = {
            "delta": found.lengths,
            "alpha": found.alpha,
            "trans": found.transmittance,
            "weights": found.weights,
            "acc": acc,
            "distance_mean": distance,
            "distance_mean_save": mean_distance(found.weights, t, EPSILON),
            "distance_std": variance.sqrt(),
            "distance_median": percentile(found.weights, t, 0.5),
            "dist_loss": distortion(found.weights, t),
        }
        values |= {f"distance_percentile_{p}": percentile(found.weights, t, p / 100) for p in (5, 25, 75, 95)}
        for name in ("rgb", "normals"):
            black = (found.weights[..., None] * x[name]).sum(1)
            values |= {f"black_{name}": black, f"white_{name}": black + (1 - acc)[:, None]}
        chosen = mean_distance(found.weights[rays], t[rays])
        (gradient,) = torch.autograd.grad((torch.from_numpy(coefficients).to(dtype) * chosen).sum(), density)
        return {**values, "grad_density": gradient[rays]}

    return {**given, "grad_ray_index": rays, "grad_coeff": coefficients, **in_both(composed)}


def resampling_file(random: np.random.Generator) -> Arrays:
    count, samples = 2 * int(random.integers(5, 10)), int(random.integers(30, 140))
    near = single(np.repeat([0.0, 0.5], count // 2)[:, None])
    far = single(np.repeat([1.0, random.uniform(2, 5)], count // 2)[:, None])
    t = single(near + (far - near) * np.sort(random.uniform(0, 1, (count, samples + 1)), axis=1))
    weights = random.dirichlet(np.full(samples, 0.3), count) * random.uniform(0.3, 1, (count, 1))
    weights[0] = 0.0
    weights[1] = 0.0
    weights[1, samples // 2] = 0.9
    weights[2, random.uniform(size=samples) < 0.3] = 0.0
    given = {"near": near, "far": far, "t": t, "weights": single(weights)}
    strata = single((np.arange(samples + 1) + random.uniform(0, 0.999, (count, samples + 1))) / (samples + 1))
    jitter = single(random.uniform(0, 1, (count, samples + 1)))

    def resampled(dtype: torch.dtype) -> Dict[str, Tensor]:
        x = tensors(given, dtype)
        u = even_positions(samples + 1, x["t"])
        padded = {f"t_new_{name}": blurred(x["weights"], p) for name, p in (("pad001", 0.01), ("pad0", 0.0))}
        found = {name: drawn(x["t"], weights, u) for name, weights in padded.items()}
        return {**found, "t_pdf_only": drawn(x["t"], x["weights"], u)}

    x = tensors(given, torch.float32)
    level0 = first_fenceposts(x["near"], x["far"], samples)
    middle = (level0[:, 1:] + level0[:, :-1]) / 2
    low, high = torch.cat([level0[:, :1], middle], 1), torch.cat([middle, level0[:, -1:]], 1)
    rest = {
        "rand_t_new_pad001": drawn(x["t"], blurred(x["weights"], 0.01), torch.from_numpy(strata)),
        "level0_t": level0,
        "level0_rand_t": low + (high - low) * torch.from_numpy(jitter),
    }
    rest = {name: value.numpy() for name, value in rest.items()}
    return {**given, "rand_u": strata, "level0_rand_u": jitter, **rest, **in_both(resampled)}


def model_file(random: np.random.Generator, width: int) -> Arrays:
    parameters, rays, samples = random_parameters(random, width, width // 2), int(random.integers(20, 60)), 24
    places = int(random.integers(15, 30)), int(random.integers(2, 6)), 3
    given = {
        "means": single(random.uniform(-1, 1, places)),
        "cov_diag": single(10.0 ** random.uniform(-9, -3, places)),
        "viewdirs": single(random.standard_normal((places[0], 3))),
    }

    def of_network(dtype: torch.dtype) -> Dict[str, Tensor]:
        values, inputs = tensors(parameters, dtype), tensors(given, dtype)
        density, rgb = network(values, **inputs)
        return {"density": density, "rgb": rgb, "normals": normals(values, **inputs)}

    found = {"num_samples": np.array(samples, np.int32), "resample_padding": PADDING}
    found |= {**prefixed("param_", parameters), **prefixed("mlp_", {**given, **in_both(of_network)})}
    for case in ("ndc", "cone"):
        bundle = random_rays(random, case, rays)

        def of_levels(dtype: torch.dtype, case: str = case, bundle: Arrays = bundle) -> Dict[str, Tensor]:
            values, rendered = tensors(parameters, dtype), {}
            with torch.no_grad():
                made = levels(values, tensors(bundle, dtype), SHAPES[case], samples, float(PADDING))
            for number, level in enumerate(made):
                parts = {
                    "rgb": (level.weights[..., None] * level.rgb).sum(1),
                    "distance_mean": mean_distance(level.weights, level.t),
                    "distance_mean_save": mean_distance(level.weights, level.t, EPSILON),
                    "distance_median": percentile(level.weights, level.t, 0.5),
                    "acc": level.weights.sum(-1),
                    "t": level.t,
                    "weights": level.weights,
                }
                rendered |= {f"level{number}_{name}": value for name, value in parts.items()}
            return rendered

        found |= prefixed(f"{case}_", {**bundle, **in_both(of_levels)})
    return found


def training_file(random: np.random.Generator) -> Arrays:
    samples, found = int(random.integers(12, 24)), {}
    for dataset in ("llff", "dtu"):
        parameters = random_parameters(random, 24, 16)
        seen, patches = random_rays(random, dataset, 4 * int(random.integers(6, 12))), patch_rays(random, dataset)
        target = single(random.uniform(0, 1, (len(seen["origins"]), 3)))
        weight = single(random.uniform(0.05, 2.0))

        def of_step(
            dtype: torch.dtype,
            dataset: str = dataset,
            given: Tuple[Any, ...] = (parameters, seen, patches, target, weight),
        ) -> Tuple[Dict[str, Tensor], Dict[str, Tensor], Dict[str, Tensor]]:
            values = {name: value.requires_grad_() for name, value in tensors(given[0], dtype).items()}
            both = [levels(values, tensors(rays, dtype), SHAPES[dataset], samples, 0.01) for rays in given[1:3]]
            colours = torch.from_numpy(given[3]).to(dtype)
            losses = training_losses(both[0], both[1], colours, dataset, float(given[4]))
            gradients = torch.autograd.grad(losses["loss"], list(values.values()), allow_unused=True)
            by_name = dict(zip(values, gradients, strict=True))
            return (losses, *clipped({name: value for name, value in by_name.items() if value is not None}))

        _, gradients, figures = of_step(torch.float64)
        stored = {**prefixed("param_", parameters), **prefixed("rays_", seen), **prefixed("patch_", patches)}
        stored |= {"rgb_gt": target, "tv_weight": weight}
        stored |= in_both(lambda dtype, step=of_step: step(dtype)[0])
        stored |= {f"{name}_f64": value.numpy() for name, value in figures.items()}
        stored |= {f"grad_{name}": single(value.numpy()) for name, value in gradients.items()}
        found |= prefixed(f"{dataset}_", stored)
    return {**found, "num_samples": np.array(samples, np.int32)}


def patch_rays(random: np.random.Generator, dataset: str) -> Arrays:
    """One patch, whose rays lie beside each other."""
    rays = random_rays(random, dataset, 1)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE * 0.1
    found = {name: np.repeat(value, SIDE**2, axis=0) for name, value in rays.items()}
    found["directions"][:, 0] += columns.ravel().astype(np.float32)
    found["directions"][:, 1] += rows.ravel().astype(np.float32)
    return found


FILES: Dict[str, Callable[[np.random.Generator], Arrays]] = {
    "volumetric_rendering": compositing_file,
    "resample": resampling_file,
    "train_step": training_file,
    "model_forward_small": lambda random: model_file(random, 32),
    "model_forward_full": lambda random: model_file(random, 64),
}


def arrays_of(name: str, seed: int) -> Arrays:
    """One file of the set of a seed."""
    return FILES[name](np.random.default_rng([seed, list(FILES).index(name)]))


def write(folder: Path, seed: int) -> None:
    """Writes a whole set as FOLDER/sparsenerf/*.npz."""
    (folder / "sparsenerf").mkdir(parents=True, exist_ok=True)
    for name in FILES:
        np.savez_compressed(folder / "sparsenerf" / f"{name}.npz", **arrays_of(name, seed))  # type: ignore[arg-type]


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
