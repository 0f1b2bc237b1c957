"""Which dataparser a folder asks for, by what lies in it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from fewshot_ns.data.files.colmap import COLMAP_FOLDERS

if TYPE_CHECKING:
    from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig

PREPARE = "ns-fewshot prepare --images DIR --output SCENE"
"""The command that makes a scene of photos."""
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif")


@dataclass(frozen=True)
class Layout:
    """A layout that is known by a file."""

    name: str
    """Of its dataparser."""
    signs: Tuple[str, ...]
    """Patterns below the scene's folder, one of which has to be there."""
    config: str
    """Class of its dataparser's config, as `module:name` below `fewshot_ns.data.dataparsers`."""
    required: bool = True
    """Whether its dataparser reads nothing without one of these."""


SINGLE: Tuple[Layout, ...] = (
    Layout("llff-data", ("poses_bounds.npy",), "single.llff:LLFFDataParserConfig"),
    Layout("dtu-data", ("rect_001_*.png",), "single.dtu:DTUDataParserConfig", required=False),
    Layout(
        "multiscale-blender-data", ("metadata.json",), "single.multiscale_blender:MultiscaleBlenderDataParserConfig"
    ),
    Layout("rgbd-data", ("train/target_depth",), "single.rgbd:RGBDDataParserConfig", required=False),
    Layout("fewshot-blender-data", ("transforms_train.json",), "single.blender:FewShotBlenderDataParserConfig"),
    Layout("fewshot-nerfstudio-data", ("transforms.json",), "single.nerfstudio:FewShotNerfstudioDataParserConfig"),
    Layout(
        "fewshot-colmap-data",
        tuple(f"{folder}/images.{suffix}" for folder in COLMAP_FOLDERS for suffix in ("bin", "txt")),
        "single.colmap:FewShotColmapDataParserConfig",
    ),
)
"""Layouts of one scene; where several fit, the first counts."""

MULTI: Tuple[Layout, ...] = (
    Layout("nmr-data", ("*/softras_train.lst", "softras_train.lst"), "multi.nmr:NMRDataParserConfig"),
    Layout("dvr-dtu-data", ("new_train.lst", "*/new_train.lst"), "multi.dvr_dtu:DVRDTUDataParserConfig"),
    Layout("mvsnet-dtu-data", ("Cameras/train",), "multi.mvsnet_dtu:MVSNetDTUDataParserConfig"),
    Layout("srn-data", ("*_train", "*_test", "*_val"), "multi.srn:SRNDataParserConfig", required=False),
    Layout(
        "multi-object-data",
        ("train/*/transforms.json", "train/*/*/transforms.json"),
        "multi.multi_object:MultiObjectDataParserConfig",
    ),
)
"""Layouts of many scenes, for methods that train across scenes; they come first there."""


@dataclass(frozen=True)
class Recognised:
    """What a folder was taken for."""

    layout: Layout
    sign: str
    """Name of the file or folder by which it was recognised."""


def recognise(data: Path, many_scenes: bool = False) -> Recognised:
    """What a folder is.

    Args:
        data: The folder, or a transforms file.
        many_scenes: Whether a set of scenes may be meant.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: nothing known; the message says what was looked for, what was found, and which command would make a
            scene of it.
    """
    layouts = (*MULTI, *SINGLE) if many_scenes else SINGLE
    if data.suffix == ".json":
        return Recognised(layout_named("fewshot-nerfstudio-data"), data.name)
    if not data.is_dir():
        raise FileNotFoundError(f"{data}: expected the folder of a scene (--data), found nothing")
    for layout in layouts:
        sign = find_sign(data, layout)
        if sign is not None:
            return Recognised(layout, sign)
    looked = "; ".join(f"{layout.signs[0]} ({layout.name})" for layout in layouts)
    raise ValueError(
        f"{data}: expected a scene with one of {looked}; found {_content(data)}. Photos without poses become a "
        f"scene by {PREPARE}; another layout is read where its dataparser is named after the other flags."
    )


def find_sign(data: Path, layout: Layout) -> Optional[str]:
    """Name of the file by which a folder has a layout; None where it has not."""
    for pattern in layout.signs:
        found = next(iter(sorted(data.glob(pattern))), None)
        if found is not None:
            return str(found.relative_to(data))
    return None


def layout_named(name: str) -> Layout:
    """The layout of a dataparser.

    Raises:
        KeyError: none is known by a file.
    """
    return {layout.name: layout for layout in (*SINGLE, *MULTI)}[name]


def config_class(layout: Layout) -> Any:
    """Class of the config of a layout's dataparser."""
    module, _, name = layout.config.partition(":")
    return getattr(import_module(f"fewshot_ns.data.dataparsers.{module}"), name)


def parser_for(
    data: Path, configured: DataParserConfig, many_scenes: bool
) -> Tuple[DataParserConfig, Optional[Recognised]]:
    """The dataparser that reads a folder: the configured one where the folder has what it needs, else the one that the
    folder asks for, with the flags that all of them have.

    Args:
        data: The scene.
        configured: The method's own or the user's.
        many_scenes: Whether the method trains across scenes.

    Returns:
        The config, and what the folder was recognised as; None where only the configured parser itself can tell.

    Raises:
        ValueError: nothing fits.
    """
    own = next((layout for layout in (*SINGLE, *MULTI) if config_class(layout) is type(configured)), None)
    if own is None or not data.exists():
        return configured, None
    sign = data.name if data.suffix == ".json" else find_sign(data, own)
    if sign is not None and (data.suffix != ".json" or own.name == "fewshot-nerfstudio-data"):
        return configured, Recognised(own, sign)
    try:
        found = recognise(data, many_scenes)
    except ValueError:
        if own.required:
            raise
        return configured, None
    if found.layout == own:
        return configured, found
    changed = config_class(found.layout)()
    _carry_over(configured, changed)
    return changed, found


def _carry_over(old: Any, new: Any) -> None:
    """Copies what was set in a config to another that has such a field too."""
    known = {one.name: one for one in fields(old)}
    for one in fields(new):
        if one.name in ("_target", "data") or one.name not in known:
            continue
        default = known[one.name].default
        value = getattr(old, one.name)
        if default is not MISSING and value != default:
            setattr(new, one.name, value)


def _content(data: Path) -> str:
    """What a folder holds, in words."""
    names = sorted(path for path in data.iterdir() if not path.name.startswith("."))
    photos = [path for path in names if path.suffix.lower() in PHOTO_SUFFIXES]
    others: Dict[str, None] = {path.name + ("/" if path.is_dir() else ""): None for path in names if path not in photos}
    parts = [f"{len(photos)} photos without poses"] if photos else []
    listed = list(others)
    if listed:
        parts.append(", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else ""))
    return " and ".join(parts) or "an empty folder"
