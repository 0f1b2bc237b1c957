"""The few-shot protocols by name: which dataparser with which flags, and how papers measure on it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence, Tuple

from fewshot_ns.evaluation.metrics.regions import MASKED_PREFIX, REGION_PREFIXES, Region

OCCLUDED_VIEWS = (2, 5, 8, 9, 10, 16, 34, 35, 40, 52, 53, 54, 58, 60)
"""The 14 training views of Lego that see it from one side only (DietNeRF)."""
INDICES = "indices"
"""The protocol of one's own views: the scene names its dataparser and --train-indices."""
ACROSS = "srn-1, srn-2, sn64-1, sn64-unseen-1, pixelnerf-dtu-1, -3, -6, -9, matchnerf-dtu-3 or multi-object"
NAMES = (
    "llff-N, dtu-N, blender-N, blender-first-N, nvs-kinect-N, nvs-zed-N, nvs-iphone-N (N training views), "
    f"blender-occluded-14, rgbd-all, indices, {ACROSS}"
)
VIEWLIST = "--viewlist"
"""The flag of `ns-fewshot eval` whose file lies in the folder of the dataset."""
OWN_SOURCES = {
    "views": "--source-views",
    "random": "--random-sources",
    "nearest": "--nearest-sources",
    "viewlist": VIEWLIST,
}
"""Ways to choose source views, and the flag of `ns-fewshot eval` of each."""
_EXPECTED = {
    "views": "numbers of views",
    "random": "one number of views, at least 1",
    "nearest": "one number of views, at least 1",
    "viewlist": "one file",
}
_NUMBERED = re.compile(r"(llff|dtu|blender|blender-first|nvs-kinect|nvs-zed|nvs-iphone)-(\d+)")


@dataclass(frozen=True)
class BenchProtocol:
    """One protocol."""

    name: str
    """As recipes name it."""
    dataset: Optional[str]
    """Data set in whose published tables the figures with these views stand; None where there are none."""
    parser: Optional[str]
    """Name of the dataparser; None: the scene names it."""
    flags: Tuple[str, ...] = ()
    """Flags of the dataparser."""
    num_views: Optional[int] = None
    """Training views; None: what the scene's flags say."""
    masked: bool = False
    """Whether papers measure the object alone."""
    region: Region = "whole"
    """Part of the image that papers measure where that is no object."""
    sources: Tuple[str, ...] = ()
    """Flags of `ns-fewshot eval` that say which views are looked at, where one training is for many scenes."""
    overrides: Tuple[str, ...] = ()
    """Flags of ns-train that belong to the protocol."""

    @property
    def across(self) -> bool:
        """Whether one training is for many scenes, so that a scene of the recipe is a dataset."""
        return bool(self.sources)

    def metric(self, name: str) -> str:
        """The metric that the papers' column of this name holds."""
        prefix = MASKED_PREFIX if self.masked else REGION_PREFIXES.get(self.region, "")
        return f"{prefix}{name}"


def find_protocol(name: str) -> BenchProtocol:
    """The protocol of a name.

    Raises:
        ValueError: an unknown one; the message lists the known.
    """
    if name == INDICES:
        return BenchProtocol(name, None, None)
    if name == "rgbd-all":
        # The scene's own split: depth-mipnerf's ScanNet and Matterport scenes train on all of theirs.
        return BenchProtocol(name, None, "rgbd-data", ("--num-views", "0"))
    if name == "blender-occluded-14":
        views = tuple(str(view) for view in OCCLUDED_VIEWS)
        flags = ("--train-indices", *views)
        return BenchProtocol(name, "blender-occluded", "fewshot-blender-data", flags, len(views))
    match = _NUMBERED.fullmatch(name)
    if match is None and name in _published():
        return _published()[name]
    if match is None or int(match.group(2)) < 2:
        raise ValueError(f"unknown protocol {name!r}; expected {NAMES}")
    family, views = match.group(1), int(match.group(2))
    number = ("--num-views", str(views))
    if family == "llff":
        return BenchProtocol(name, "llff", "llff-data", number, views)
    if family == "dtu":
        return BenchProtocol(name, "dtu", "dtu-data", (*number, "--view-protocol", "pixelnerf"), views, masked=True)
    if family.startswith("nvs-"):
        return BenchProtocol(name, None, "llff-data", (*number, "--view-protocol", family), views)
    first = family == "blender-first"
    flags = (*number, "--view-protocol", "first" if first else "dietnerf")
    # DietNeRF's eight views are a list of its own; all other published numbers of views are the first frames.
    dataset = "blender" if first != (views == 8) else None
    return BenchProtocol(name, dataset, "fewshot-blender-data", flags, views)


def _views(preset: str) -> Tuple[str, ...]:
    # Here, since this loads torch, and a recipe of single scenes is read without.
    from fewshot_ns.data.views.sources import PRESETS

    return ("--source-views", *(str(view) for view in PRESETS[preset]))


@functools.lru_cache(maxsize=1)
def _published() -> Mapping[str, BenchProtocol]:
    """pixelNeRF's and MatchNeRF's protocols: many scenes, one training, views that are looked at."""
    srn = [BenchProtocol(f"srn-{n}", "srn", "srn-data", (), n, sources=_views(f"srn-{n}")) for n in (1, 2)]
    nmr = [
        BenchProtocol(f"{name}-1", name, "nmr-data", ("--list-prefix", lists), 1, sources=(VIEWLIST, file))
        for name, lists, file in (("sn64", "softras_", "src_dvr.txt"), ("sn64-unseen", "gen_", "src_gen.txt"))
    ]
    dropped = ("--pipeline.datamanager.targets.exclude-dtu-bad", "True")
    dtu = [
        BenchProtocol(
            name=f"pixelnerf-dtu-{n}",
            dataset="pixelnerf-dtu",
            parser="dvr-dtu-data",
            num_views=n,
            sources=_views(f"dtu-{n}"),
            overrides=dropped,
        )
        for n in (1, 3, 6, 9)
    ]
    chairs = BenchProtocol("multi-object", None, "multi-object-data", (), 2, sources=("--random-sources", "2"))
    nearest = BenchProtocol(
        name="matchnerf-dtu-3",
        dataset="matchnerf-dtu",
        parser="mvsnet-dtu-data",
        num_views=3,
        region="true-depth",
        sources=("--nearest-sources", "3"),
        overrides=("--pipeline.evaluation.region", "true-depth", "--pipeline.datamanager.sources.distance", "l1"),
    )
    return {protocol.name: protocol for protocol in (*srn, *nmr, *dtu, nearest, chairs)}


def own_sources(name: str, kind: str, value: Tuple[str, ...]) -> BenchProtocol:
    """A protocol of one's own source views; the scene names its dataparser.

    Args:
        name: of the protocol, in tables.
        kind: 'views', 'random', 'nearest' (a number of views) or 'viewlist' (a file in the folder of the dataset).
        value: words of the flag.

    Raises:
        ValueError: the name is that of a known protocol, or the value does not fit the kind.
    """
    if protocol_or_none(name) is not None:
        raise ValueError(f"{name!r} is the name of a known protocol; give your own source views another")
    numbers = kind != "viewlist"
    if (numbers and not all(word.isdigit() for word in value)) or (kind != "views" and len(value) != 1):
        raise ValueError(f"expected {_EXPECTED[kind]}, found {' '.join(value)}")
    count = None if not numbers else len(value) if kind == "views" else int(value[0])
    if count == 0:
        raise ValueError(f"expected {_EXPECTED[kind]}, found {' '.join(value)}")
    return BenchProtocol(name, None, None, num_views=count, sources=(OWN_SOURCES[kind], *value))


def protocol_or_none(name: str) -> Optional[BenchProtocol]:
    """The protocol of a name, None for an unknown one."""
    try:
        return find_protocol(name)
    except ValueError:
        return None


def why_not_together(protocols: Sequence[BenchProtocol]) -> str:
    """Why these cannot be evaluations of one training; '' where they can."""
    if len(protocols) == 1:
        return ""
    alone = [protocol.name for protocol in protocols if not protocol.across]
    if alone:
        return f"several are for training across scenes only, found {alone[0]!r}; give each protocol a scene of its own"
    names = [protocol.name for protocol in protocols]
    if len(set(names)) < len(names):
        return f"expected different protocols, found {names}"
    named = [protocol for protocol in protocols if protocol.parser is not None]
    if len({(protocol.parser, protocol.flags, protocol.overrides) for protocol in named}) > 1:
        return f"expected protocols of the same data, found {names}; give each a scene of its own"
    return ""
