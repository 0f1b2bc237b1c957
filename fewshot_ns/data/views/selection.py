"""Which views of a scene train and which test: the published protocols, and explicit indices that always win."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Literal, Optional, Sequence, Tuple

import numpy as np

MIN_TRAIN_VIEWS = 2
"""A radiance field needs parallax, so one view is an error, but for methods that look at source views."""
DEFAULT_VIEWS = 3
"""Training views where neither the user nor the scene says how many."""

DtuProtocol = Literal["pixelnerf", "pixelnerf_reduced_testset", "every8", "all"]

BlenderProtocol = Literal["dietnerf", "dietnerf-unseen", "occluded-a", "occluded-b", "first", "seeded"]

DTU_TRAIN_ORDER = (25, 22, 28, 40, 44, 48, 0, 8, 13)
"""Training views in the order in which 3, 6 and 9 of them are taken (PixelNeRF's, kept by RegNeRF and SparseNeRF)."""
DTU_BAD_EXPOSURE = (3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 36, 37, 38, 39)
"""Views that the protocol neither trains on nor tests, for their exposure."""
DTU_EXTRA_TRAIN = (24, 30, 41, 47, 43, 29, 45, 34, 33)
"""Views that 'pixelnerf_reduced_testset' moves from the test set to the training pool, in its order."""
BLENDER_8_VIEWS = (26, 86, 2, 55, 75, 93, 16, 73)
"""Eight training views of DietNeRF; with four views its first four."""
BLENDER_ONE_SIDED_VIEWS: Dict[BlenderProtocol, Tuple[int, ...]] = {
    "dietnerf-unseen": (2, 5, 8, 9, 10, 16, 34, 35, 40, 52, 53, 54, 58, 60),
    "occluded-a": (12, 28, 32, 33, 35, 36, 38, 44, 55, 66, 67, 88, 95, 96),
    "occluded-b": (2, 5, 10, 40, 52, 53, 69, 78, 83, 85, 90, 94, 96, 97),
}
"""Fourteen training views of lego that leave one of its sides unseen: DietNeRF's, and two of its JAX version."""


@dataclass(frozen=True)
class ViewSelection:
    """The chosen views of a scene."""

    protocol: str
    """Name for tables, e.g. 'llff-3', or 'indices' where the user listed the training views."""
    train: Tuple[int, ...]
    """Training views in protocol order."""
    test: Tuple[int, ...]
    """Held-out views; none where every view trains."""
    pool: Tuple[int, ...] = ()
    """Views that the training ones were chosen from, in the order of the scene; the cameras of those that were not
    chosen are known, and their images are not used."""
    rendered: Tuple[int, ...] = ()
    """Further test cameras, of which there is no photo: they are rendered, not measured."""

    @property
    def views(self) -> Tuple[int, ...]:
        """Training and test views in the order of the scene, each once."""
        return tuple(sorted({*self.train, *self.test}))


@dataclass(frozen=True)
class Protocol:
    """A published rule: a pool of training candidates, how n of them are picked, and the test views."""

    name: str
    """Name without the number of views."""
    num_images: int
    """Views that the rule chooses among: the first ones of the scene's list."""
    pool: Tuple[int, ...]
    """Training candidates, in order."""
    test: Tuple[int, ...]
    """Test views."""
    pick: Callable[[Sequence[int], int], Tuple[int, ...]]
    """(pool, n) -> the n training views."""
    default_views: int = DEFAULT_VIEWS
    """Training views where the user names no number; 0: the whole pool."""


def pick_first(pool: Sequence[int], count: int) -> Tuple[int, ...]:
    """Returns the first `count` entries of the pool."""
    return tuple(pool[:count])


def pick_evenly(pool: Sequence[int], count: int) -> Tuple[int, ...]:
    """Returns `count` entries at equal steps from the first to the last, half-way positions rounded to even."""
    positions = np.round(np.linspace(0, len(pool) - 1, count)).astype(int)
    return tuple(pool[position] for position in positions)


def every_eighth_protocol(num_images: int, name: str = "llff") -> Protocol:
    """The LLFF rule: every eighth view from the first tests, the rest is the pool, picked at equal steps."""
    test = tuple(range(0, num_images, 8))
    pool = tuple(index for index in range(num_images) if index % 8 != 0)
    return Protocol(name, num_images, pool, test, pick_evenly)


def dtu_protocol(num_images: int, kind: DtuProtocol) -> Protocol:
    """The DTU rules; 'pixelnerf' is the published one (its 25 test views stay the same for every number of views).

    Args:
        num_images: Views of the scan.
        kind: 'pixelnerf', 'pixelnerf_reduced_testset' (18 training candidates, 16 test views), 'every8' or 'all'.

    Raises:
        ValueError: an unknown rule.
    """
    usable = [index for index in range(num_images) if index not in DTU_BAD_EXPOSURE]
    if kind == "pixelnerf":
        pool = DTU_TRAIN_ORDER
    elif kind == "pixelnerf_reduced_testset":
        pool = DTU_TRAIN_ORDER + DTU_EXTRA_TRAIN
    elif kind == "every8":
        rule = every_eighth_protocol(num_images)
        return Protocol("dtu-every8", num_images, rule.pool, rule.test, pick_first)
    elif kind == "all":
        everything = tuple(range(num_images))
        return Protocol("dtu-all", num_images, everything, everything, pick_first)
    else:
        raise ValueError(
            f"unknown DTU view protocol {kind!r}; expected pixelnerf, pixelnerf_reduced_testset, every8, all"
        )
    name = "dtu" if kind == "pixelnerf" else "dtu-reduced-testset"
    return Protocol(name, num_images, pool, tuple(index for index in usable if index not in pool), pick_first)


def photos_protocol(num_images: int, held_out: Sequence[int]) -> Protocol:
    """The rule of a capture that says itself which views are held out, perhaps none: all others train."""
    held = set(held_out)
    pool = tuple(index for index in range(num_images) if index not in held)
    return Protocol("photos", num_images, pool, tuple(sorted(held)), pick_evenly, default_views=0)


def _pick_blender(pool: Sequence[int], count: int) -> Tuple[int, ...]:
    published = BLENDER_8_VIEWS[:count]
    if count <= len(BLENDER_8_VIEWS) and set(published) <= set(pool):
        return published
    return pick_evenly(pool, count)


def pick_seeded(seed: int) -> Callable[[Sequence[int], int], Tuple[int, ...]]:
    """A rule that draws views at random, the same ones for the same seed; n views are the first n of n + 1."""

    def pick(pool: Sequence[int], count: int) -> Tuple[int, ...]:
        # numpy's old generator, by which DietNeRF drew its views; seed 0 of 100 frames gives its published ones.
        order = np.random.RandomState(seed).permutation(len(pool))
        return tuple(pool[int(position)] for position in order[:count])

    return pick


def pick_listed(views: Sequence[int]) -> Callable[[Sequence[int], int], Tuple[int, ...]]:
    """A rule that takes the listed views that are in the pool, whatever number is asked for."""
    return lambda pool, count: tuple(view for view in views if view in pool)


def blender_protocol(
    num_train: int, num_test: int, testskip: int, kind: BlenderProtocol = "dietnerf", seed: int = 0
) -> Protocol:
    """Rules for the synthetic scenes, in a list that holds all training frames and then all test frames.

    Args:
        num_train: Training frames.
        num_test: Test frames.
        testskip: Every how many test frames one is taken.
        kind: 'dietnerf': up to eight views are its published list, which was drawn from 100 frames; more, or views of a
            shorter capture, are taken at equal steps. 'first': the first frames (RegNeRF, depth-mipnerf). 'seeded':
            drawn at random. Others: the fourteen views of `BLENDER_ONE_SIDED_VIEWS`, whatever number is asked for.
        seed: Of 'seeded'.

    Raises:
        ValueError: an unknown rule, or one whose views the capture does not have.
    """
    rules: Dict[str, Tuple[str, Callable[[Sequence[int], int], Tuple[int, ...]]]] = {
        "dietnerf": ("blender", _pick_blender),
        "first": ("blender-first", pick_first),
        "seeded": (f"blender-seed{seed}", pick_seeded(seed)),
        **{name: (f"blender-{name}", pick_listed(views)) for name, views in BLENDER_ONE_SIDED_VIEWS.items()},
    }
    if kind not in rules:
        raise ValueError(f"unknown Blender view protocol {kind!r}; expected {', '.join(rules)}")
    if max(BLENDER_ONE_SIDED_VIEWS.get(kind, (0,))) >= num_train:
        raise ValueError(
            f"the view protocol {kind} trains on frames {list(BLENDER_ONE_SIDED_VIEWS[kind])}, but "
            f"transforms_train.json has only {num_train}"
        )
    name, pick = rules[kind]
    test = tuple(range(num_train, num_train + num_test, testskip))
    default = min(len(BLENDER_8_VIEWS), num_train)
    return Protocol(name, num_train + num_test, tuple(range(num_train)), test, pick, default)


def _check_indices(name: str, indices: Sequence[int], num_images: int, where: str) -> None:
    outside = [index for index in indices if not 0 <= index < num_images]
    if outside:
        raise ValueError(f"{where}: {name} must lie in 0..{num_images - 1} ({num_images} views), got {outside}")
    repeated = sorted(index for index, count in Counter(indices).items() if count > 1)
    if repeated:
        raise ValueError(f"{where}: {name} must name each view once, got {repeated} more than once")


def select_views(
    protocol: Protocol,
    num_views: Optional[int],
    train_indices: Optional[Sequence[int]] = None,
    test_indices: Optional[Sequence[int]] = None,
    where: str = "scene",
    least: int = MIN_TRAIN_VIEWS,
) -> ViewSelection:
    """Chooses the training and test views of a scene.

    Explicit indices win over the protocol. Where only one of the two lists is given, the other comes from the protocol
    without the views that the given one claims. Where more training views are asked for than the protocol has
    candidates, and exactly as many as the scene has beside --test-indices, all of these train. So nothing is held out
    of three photos of which three are to train; any other number that is too large is an error.

    Args:
        protocol: The rule of the dataset.
        num_views: Number of training views; 0 takes the whole pool of the protocol, None as many as the protocol says,
            or all where the scene has fewer.
        train_indices: Explicit training views, or None.
        test_indices: Explicit test views, or None; an empty list holds nothing out.
        where: The scene's folder, for error messages.
        least: Number of training views below which there is an error.

    Returns:
        The selection. Training and test views are disjoint but for the DTU rule 'all', which tests on everything. The
        test views are empty where nothing is left to test on.

    Raises:
        ValueError: an index out of range, repeated or in both lists; too few training views; or more views
            asked for than the pool holds, but not all.
    """
    num_images = protocol.num_images
    if train_indices is not None:
        _check_indices("--train-indices", train_indices, num_images, where)
    if test_indices is not None:
        _check_indices("--test-indices", test_indices, num_images, where)
    if train_indices is not None and test_indices is not None:
        both = sorted(set(train_indices) & set(test_indices))
        if both:
            raise ValueError(
                f"{where}: views {both} are in --train-indices and in --test-indices; a view can be in one"
            )

    pool = [index for index in protocol.pool if index not in set(test_indices or ())]
    free = tuple(index for index in range(num_images) if index not in set(test_indices or ()))
    candidates = sum(index < num_images for index in pool)
    if num_views is None or (num_views == 0 and candidates == 0):
        num_views = min(protocol.default_views, len(free))
    everything = num_views == len(free) > candidates
    if train_indices is not None:
        name, train = "indices", tuple(train_indices)
    elif everything:
        name, train, pool = f"{protocol.name}-{num_views}", free, list(free)
    else:
        count = len(pool) if num_views == 0 else num_views
        if len(pool) < least <= count:
            raise ValueError(
                f"{where}: training needs at least {least} views, found {len(pool)} that may train by the protocol "
                f"{protocol.name} and have a photo; give --train-indices, or add photos"
            )
        if count < 0 or count > len(pool):
            raise ValueError(
                f"{where}: --num-views must lie in {least}..{len(pool)} for the protocol {protocol.name} "
                f"(0 takes all of these; {len(free)} all views that --test-indices does not name, and holds no other "
                f"out), got {num_views}"
            )
        train = protocol.pick(pool, count)
        name = f"{protocol.name}-{len(train)}"
        _check_protocol(train, num_images, name, where)
    if len(train) < least:
        raise ValueError(f"{where}: training needs at least {least} views, got {len(train)}: {list(train)}")

    if test_indices is not None:
        name, test = "indices", tuple(test_indices)
    elif train_indices is not None or everything:
        test = tuple(index for index in protocol.test if index not in set(train) and index < num_images)
    else:
        test = protocol.test
    return ViewSelection(name, train, test, tuple(sorted(index for index in pool if index < num_images)))


def _check_protocol(train: Sequence[int], num_images: int, name: str, where: str) -> None:
    missing = [index for index in train if index >= num_images]
    if missing:
        raise ValueError(
            f"{where}: the protocol {name} trains on views {list(train)}, but the scene has only {num_images} views "
            f"(0..{num_images - 1}); give --train-indices and --test-indices"
        )
