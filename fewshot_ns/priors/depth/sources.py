"""Where the depth prior's maps come from: the scene's files, a monocular network, or the photos themselves."""

from __future__ import annotations

from typing import Literal, Sequence

from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.files.depth_formats import resolve_polarity
from fewshot_ns.data.records.metadata import FewShotMetadata
from fewshot_ns.priors.depth.photo_depths import PhotoDepths

DepthSource = Literal["files", "mono", "stereo", "mvs", "auto"]
FEW = 0.05
"""Share of valid pixels below which maps from photos are doubtful."""


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
    align = " --align ..." if metric else ""
    return "; ".join(
        [
            *named,
            f"write maps by `ns-fewshot depth{align}`",
            "name the folder of maps by the dataparser's --depth-dir",
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
    if max(depths.valid) < FEW:
        CONSOLE.print(
            f"[bold yellow]In every view less than {FEW:.0%} of the pixels has a depth: the poses may be wrong, or the "
            "views do not overlap.[/bold yellow]",
            soft_wrap=True,
        )
