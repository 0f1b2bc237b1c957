"""Where the depth prior's maps come from: the scene's files, a monocular network, or the photos themselves."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, Literal, Optional, Sequence, Tuple

from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.files.depth_formats import resolve_polarity
from fewshot_ns.data.records.metadata import DepthEncoding, FewShotMetadata
from fewshot_ns.data.stereo.estimate import StereoConfig, StereoError
from fewshot_ns.data.stereo.flat_regions import FlatRegionConfig
from fewshot_ns.pretrained.monocular_depth import MonocularDepthConfig, monocular_depths
from fewshot_ns.pretrained.multiview_depth import MultiViewDepthConfig
from fewshot_ns.pretrained.weights import ways_out
from fewshot_ns.priors.base import PriorScene
from fewshot_ns.priors.depth.photo_depths import PhotoConfig, PhotoDepths, filled_by_maps, photo_depths
from fewshot_ns.utils.configs import FieldError

DepthSource = Literal["files", "mono", "stereo", "mvs", "auto"]
FEW = 0.15
"""Share of valid pixels below which maps from photos are doubtful."""


class NoDepthError(ValueError):
    """Photos that give no depth; the message names the ways out."""


@dataclass
class DepthSourceConfig:
    """Where depth maps come from."""

    source: DepthSource = "files"
    """files: depth maps of the scene; mono: a monocular network; stereo, mvs: the training photos, matched with each
    other, mvs by a network, which give depth of known scale; auto: files where the scene has some that the loss can
    use, else stereo; where the photos give none, training goes on without the prior, which the log says. What is
    missing is computed before training and kept."""
    mono: MonocularDepthConfig = field(default_factory=MonocularDepthConfig)
    """The network of source mono."""
    stereo: StereoConfig = field(default_factory=StereoConfig)
    """How photos are matched: source stereo."""
    mvs: MultiViewDepthConfig = field(default_factory=MultiViewDepthConfig)
    """The network of source mvs."""
    flat_regions: FlatRegionConfig = field(default_factory=FlatRegionConfig)
    """Planes for what has one colour, a table or a wall, where stereo and mvs confirm nothing."""
    fill: Literal["none", "mono", "files"] = "none"
    """mono: pixels that stereo or mvs does not confirm get the depth of the monocular network, fitted to that
    of the others; files: that of the scene's own maps, fitted likewise; none: they have no depth."""
    cache_dir: Optional[Path] = None
    """Folder of maps that were computed from photos. None: FEWSHOT_CACHE, else the user's cache folder."""


@dataclass(frozen=True)
class FoundMaps:
    """Maps that the dataset of a prior now uses."""

    source: str
    """files, mono, stereo or mvs; none where auto found nothing."""
    photo_depths: Optional[PhotoDepths] = None
    """Those that were made from the photos."""

    def resolved(self) -> Dict[str, Any]:
        """For log and record."""
        if self.photo_depths is None:
            return {"source": self.source}
        pairs = zip(self.photo_depths.names, self.photo_depths.valid, strict=True)
        return {"source": self.source, "valid": {name: round(share, 4) for name, share in pairs}}


def find_maps(config: DepthSourceConfig, scene: PriorScene, flag: str, metric: bool) -> FoundMaps:
    """Decides where maps come from, makes them where they are not there, and gives them to the scene's dataset.

    Args:
        config: the source that was asked for.
        scene: the training views.
        flag: how the prior's flags begin.
        metric: whether the loss needs known scale.

    Raises:
        WeightsNotFoundError: a network is not found.
        ValueError: there are no maps; the message names the ways out.
    """
    dataset = scene.dataset
    unfit = unfit_files(dataset.fewshot, metric)
    source = config.source
    if source == "auto" and unfit:
        try:
            return FoundMaps("stereo", _from_photos(config, config.stereo, scene, flag, metric, unfit))
        except NoDepthError as error:
            CONSOLE.print(f"[bold yellow]{error}[/bold yellow]", soft_wrap=True)
            CONSOLE.print("[bold yellow]Training goes on without the depth prior.[/bold yellow]")
            return FoundMaps("none")
    if source == "auto":
        source = "files"
        CONSOLE.print("depth of the training views: the scene's own maps")
    if config.fill != "none" and source in ("files", "mono"):
        CONSOLE.print(f"[yellow]{flag}.fill {config.fill}: maps of source {source} are not filled[/yellow]")
    if source == "mono":
        images, background = dataset.image_filenames, scene.geometry.background
        with ways_out(ways_to_depth(flag, metric, ("mono",))):
            depths = monocular_depths(config.mono, images, background, f"{flag}.mono.weights")
        dataset.use_depth_maps(depths.files, depths.encoding)
    elif source == "files":
        if dataset.fewshot.depth_prior_filenames is None:
            lack = dataset.fewshot.depth_prior_problem or f"{scene.data} has no depth maps"
            raise ValueError(f"the depth prior is on, but {lack}. Ways out: {ways_to_depth(flag, metric)}")
    else:
        matching = config.mvs if source == "mvs" else config.stereo
        return FoundMaps(source, _from_photos(config, matching, scene, flag, metric, ""))
    return FoundMaps(source)


@contextmanager
def fields_as_flags(flag: str) -> Iterator[None]:
    """Lets errors in the fields of a source's configs name their flags.

    Args:
        flag: how the prior's flags begin.

    Raises:
        ValueError: in the place of `FieldError`.
    """
    try:
        yield
    except FieldError as error:
        parts = {StereoConfig: "stereo", MultiViewDepthConfig: "mvs", FlatRegionConfig: "flat-regions"}
        raise ValueError(error.of_flag(f"{flag}.{parts[error.owner]}.")) from error


def _from_photos(
    config: DepthSourceConfig, matching: PhotoConfig, scene: PriorScene, flag: str, metric: bool, reason: str
) -> PhotoDepths:
    """Maps from the photos; `reason` says why they are wanted, in words."""
    dataset = scene.dataset
    own = dataset.fewshot.depth_prior_filenames, dataset.fewshot.depth_encoding
    begin = f"{flag}: {reason}, and " if reason else f"{flag}: "
    nothing = f"{begin}found no depth in the photos of {scene.data}"
    if config.fill == "files" and own[0] is None:
        lack = dataset.fewshot.depth_prior_problem or "found none"
        raise ValueError(
            f"{flag}.fill files: expected depth maps of the training views in {scene.data}, {lack}; give --depth-dir, "
            f"or {flag}.fill mono or none"
        )
    try:
        with fields_as_flags(flag), ways_out(ways_to_depth(flag, metric, ("mvs",))):
            depths = photo_depths(dataset, matching, f"{flag}.mvs.weights", config.cache_dir, config.flat_regions)
    except StereoError as error:
        # What the one cannot match, the other cannot either.
        ways = ways_to_depth(flag, metric, ("stereo", "mvs"))
        raise NoDepthError(f"{nothing}: {error}. Ways out: {ways}") from error
    if max(depths.valid) == 0:
        raise NoDepthError(
            f"{nothing}: in none of {', '.join(depths.names)} another photo confirms any; the poses may be wrong, or "
            f"the views do not overlap. Ways out: {ways_to_depth(flag, metric, (depths.source,))}"
        )
    dataset.use_depth_maps(depths.files, depths.encoding)
    if config.fill != "none":
        maps, encoding, origin = _filling(config, scene, flag, *own)
        depths = filled_by_maps(dataset, depths, maps, encoding, origin, config.cache_dir)
        dataset.use_depth_maps(depths.files, depths.encoding)
    report(depths, reason)
    return depths


def _filling(
    config: DepthSourceConfig, scene: PriorScene, flag: str, own: Optional[Sequence[Path]], encoding: DepthEncoding
) -> Tuple[Sequence[Path], DepthEncoding, str]:
    """Maps that fill holes, what their numbers mean, and where they come from; `own` are those of the scene, if any."""
    if config.fill == "files" and own is not None:
        return own, encoding, "the scene's maps"
    images, background = scene.dataset.image_filenames, scene.geometry.background
    with ways_out(f"{flag}.fill none (what the photos do not confirm stays unknown), or files (the scene's own maps)"):
        maps = monocular_depths(config.mono, images, background, f"{flag}.mono.weights")
    return maps.files, maps.encoding, config.mono.model


def unfit_files(record: FewShotMetadata, metric: bool) -> str:
    """Why the scene's own depth maps do not serve a loss, in words; empty where they do.

    Args:
        record: of the training views.
        metric: whether the loss needs their scale.
    """
    files, encoding = record.depth_prior_filenames, record.depth_encoding
    if files is None:
        return record.depth_prior_problem or "the scene has no depth maps"
    try:
        polarities = {resolve_polarity(path, encoding.polarity) for path in files}
    except ValueError as error:
        return str(error)
    if metric and (polarities != {"distance"} or encoding.unit is None):
        return f"the maps in {files[0].parent} have no known scale"
    return ""


def ways_to_depth(flag: str, metric: bool, leave_out: Sequence[str] = ()) -> str:
    """What a user can do who has no depth maps, as the end of a message.

    Args:
        flag: how the prior's flags begin.
        metric: whether the loss needs known scale.
        leave_out: sources that have failed already.
    """
    ways = {
        "stereo": "the photos themselves",
        "mvs": "a network that matches the photos",
        "mono": "a monocular network",
    }
    lacking = {*leave_out, *(["mono"] if metric else [])}
    named = [f"{flag}.source {source} ({way})" for source, way in ways.items() if source not in lacking]
    written = "write maps by `ns-fewshot depth`"
    meant = []
    if metric:
        written = "write maps by `ns-fewshot depth --align colmap` (or sensor, or near-far)"
        meant = [
            "if the maps have a scale, say so by the dataparser's --depth-polarity distance --depth-unit UNIT",
            f"{flag}.loss ranking (needs order alone)",
        ]
    return "; ".join(
        [
            *named,
            written,
            "name the folder of maps by the dataparser's --depth-dir",
            *meant,
            f"or train without: {flag}.enabled False",
        ]
    )


def report(depths: PhotoDepths, reason: str = "") -> None:
    """Says how much of each view is known, and warns where that is next to nothing.

    Args:
        depths: the maps.
        reason: why they were made, in words.
    """
    why = f" ({reason})" if reason else ""
    CONSOLE.print(
        f"depth of the training views from the photos ({depths.source}): {depths.shares()}{why}", soft_wrap=True
    )
    for problem in depths.problems:
        CONSOLE.print(f"[yellow]{problem}; its holes stay[/yellow]", soft_wrap=True)
    warn_of_few(depths)


def warn_of_few(depths: PhotoDepths) -> None:
    """Warns where next to nothing of every view is known."""
    if max(depths.valid) < FEW:
        CONSOLE.print(
            f"[bold yellow]In every view less than {FEW:.0%} of the pixels has a depth: the poses may be wrong, or the "
            "views do not overlap.[/bold yellow]",
            soft_wrap=True,
        )
