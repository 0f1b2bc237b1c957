"""NVS-RGBD (Kinect, ZED, iPhone): what SparseNeRF's loaders of its own dataset know beyond the LLFF layout.

Training images end in `_train`, all others test. Depth comes from the sensor, so it has holes, and pairs are drawn in
small boxes with enough valid pixels. Values of `datasets_depth_{kinect,zed,iphone}.py` in the released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Sequence, Tuple

from fewshot_ns.data.depth.maps import DepthNames, usual_names
from fewshot_ns.data.records.metadata import DepthEncoding, PairBox
from fewshot_ns.data.views.selection import DEFAULT_VIEWS, Protocol, pick_evenly

TRAIN_SUFFIX = "_train"
"""Ending of the names of the training images."""


def same_name(stem: str) -> Tuple[str, ...]:
    """Kinect and ZED: the depth map is called like the image."""
    return tuple(reversed(usual_names(stem)))


def iphone_names(stem: str) -> Tuple[str, ...]:
    """iPhone: `X-depth_train` belongs to `X_train`, `X-depth` to `X`."""
    base = stem.removesuffix(TRAIN_SUFFIX)
    return (f"{base}-depth{stem[len(base) :]}", *same_name(stem))


@dataclass(frozen=True)
class Device:
    """One of the three cameras of the dataset."""

    images_dir: str
    """Folder of the images at the resolution of the published runs."""
    encoding: DepthEncoding
    """What the depth files hold: Kinect sensor depth, ZED and iPhone inverse depth, some of them in 8 bits."""
    box: PairBox
    """Boxes of the ranking pairs: more than ten valid pixels each."""
    names: DepthNames = same_name
    """Names of the depth maps."""


DEVICES: Dict[str, Device] = {
    "nvs-kinect": Device("images_2", DepthEncoding("distance", eight_bit=True), PairBox(side=5, min_valid=11)),
    "nvs-zed": Device("images_2", DepthEncoding("inverse_depth", eight_bit=True), PairBox(side=30, min_valid=11)),
    "nvs-iphone": Device(
        "images_8", DepthEncoding("inverse_depth", eight_bit=True), PairBox(side=30, min_valid=11), iphone_names
    ),
}
"""Devices by the name of their protocol."""


def nvs_rgbd_protocol(name: str, stems: Sequence[str], where: str) -> Protocol:
    """The rule of the dataset: images called `*_train` are the pool, the others, if any, test.

    Args:
        name: A key of `DEVICES`.
        stems: Names of all images without suffix, in order.
        where: Folder of the images, for the message.

    Raises:
        ValueError: no image is called `*_train`.
    """
    pool = tuple(index for index, stem in enumerate(stems) if stem.endswith(TRAIN_SUFFIX))
    test = tuple(index for index, stem in enumerate(stems) if not stem.endswith(TRAIN_SUFFIX))
    if not pool:
        raise ValueError(
            f"{where}: expected training photos called *{TRAIN_SUFFIX} (--view-protocol {name}), found none among "
            f"{len(test)}"
        )
    return Protocol(name, len(stems), pool, test, pick_evenly, min(DEFAULT_VIEWS, len(pool)))
