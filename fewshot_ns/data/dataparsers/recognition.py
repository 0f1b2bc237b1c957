"""Which dataparser a folder asks for, by the files in it. Opens no file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from fewshot_ns.data.files.colmap import find_model
from fewshot_ns.data.files.images import IMAGE_SUFFIXES

TRANSFORMS_PARSER = "fewshot-nerfstudio-data"
SCENE_FOLDER_PARSER = "scene-folder-data"
_PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif")
"""Photos that `ns-fewshot prepare` reads."""
_PHOTO_FOLDERS = (
    ".",
    "images",
    "images_2",
    "images_4",
    "images_8",
    "images_16",
    "photos",
    "input",
    "rgb",
    "color",
    "colour",
)
"""Where photos without poses are looked for, for the message."""
_DEPTH_FOLDERS, _TRAJECTORIES = ("depth", "depths"), ("*traj*", "*pose*", "*groundtruth*", "*odometry*")
"""Folders and files of what RGB-D reconstruction programs write, for the message."""
_SPLITS = ("train", "val", "test")
_NVS_RGBD = {"kinect": "nvs-kinect", "zed": "nvs-zed", "iphone": "nvs-iphone"}
"""Words in the path of a scene of NVS-RGBD that say by which camera it was taken."""
_NAME_IT = "where poses lie elsewhere, give the dataparser's name and flags after all others"


class NoPosesError(ValueError):
    """A folder of photos that nothing says the poses of."""


@dataclass(frozen=True)
class Recognition:
    """The format of a folder."""

    parser: str
    """Name of its dataparser."""
    sign: str
    """What in the folder says so."""
    also: Tuple[str, ...] = ()
    """What else it could be read as, in words."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the dataparser's config that the files decide."""
    of_scenes: Optional[Recognition] = None
    """Of a folder of scenes: the format of the scenes."""

    @property
    def in_words(self) -> str:
        """The dataparser and why, in one line."""
        inner = "" if self.of_scenes is None else f" of {self.of_scenes.parser}"
        more = "".join(f" --{name.replace('_', '-')} {value}" for name, value in self.settings.items())
        also = f"; would also be {', '.join(self.also)}" if self.also else ""
        return f"{self.parser}{inner}{more} by {self.sign}{also}"


@dataclass(frozen=True)
class Format:
    """One layout that can be recognised."""

    parser: str
    """Name of its dataparser."""
    looks_for: str
    """Its sign, in words."""
    sign_of: Callable[[Path], Optional[str]]
    """What in a folder is this sign; None where there is none."""


def _file(name: str) -> Callable[[Path], Optional[str]]:
    return lambda data: name if (data / name).is_file() else None


def _folder(name: str) -> Callable[[Path], Optional[str]]:
    return lambda data: f"{name}/" if (data / name).is_dir() else None


def _first(data: Path, *patterns: str) -> Optional[str]:
    """The first path below a folder that fits one of the patterns."""
    found = (path for pattern in patterns for path in sorted(data.glob(pattern)))
    path = next(found, None)
    return None if path is None else path.relative_to(data).as_posix()


def _rectified(data: Path) -> Optional[str]:
    return _first(data, *(f"rect_001_*{suffix}" for suffix in IMAGE_SUFFIXES))


def _multiscale(data: Path) -> Optional[str]:
    whole = (data / "metadata.json").is_file() and (data / "images_train").is_dir()
    return "metadata.json and images_train/" if whole else None


def _idr(data: Path) -> Optional[str]:
    name = next((name for name in ("cameras_sphere.npz", "cameras.npz") if (data / name).is_file()), None)
    return None if name is None or not (data / "image").is_dir() else f"{name} and image/"


def _reconstruction(data: Path) -> Optional[str]:
    folder = find_model(data)
    return None if folder is None else f"{folder.relative_to(data).as_posix()}/"


SINGLE: Tuple[Format, ...] = (
    Format("llff-data", "poses_bounds.npy", _file("poses_bounds.npy")),
    Format("dtu-data", "rect_001_*.png", _rectified),
    Format("multiscale-blender-data", "metadata.json and images_train/", _multiscale),
    Format("rgbd-data", "train/target_depth/", _folder("train/target_depth")),
    Format("fewshot-blender-data", "transforms_train.json", _file("transforms_train.json")),
    Format(TRANSFORMS_PARSER, "transforms.json", _file("transforms.json")),
    Format("idr-data", "cameras_sphere.npz or cameras.npz and image/", _idr),
    Format("fewshot-colmap-data", "COLMAP's cameras and images in sparse/0/", _reconstruction),
)
"""Layouts of one scene; the first that fits is taken."""


def _srn(data: Path) -> Optional[str]:
    # The set is named without its split, and then is no folder itself; `.` has no name.
    data = Path(os.path.abspath(data))
    for split in _SPLITS:
        beside = data.with_name(f"{data.name}_{split}")
        inside = sorted(data.glob(f"*_{split}")) if data.is_dir() else []
        for folder in (beside, *inside):
            if any(folder.glob("*/intrinsics.txt")) or any(folder.glob(f"*_{split}/*/intrinsics.txt")):
                return f"{folder.name}/*/intrinsics.txt"
    return None


def _lists(*names: str) -> Callable[[Path], Optional[str]]:
    return lambda data: _first(data, *names, *(f"*/{name}" for name in names))


def _mvsnet(data: Path) -> Optional[str]:
    whole = (data / "Rectified").is_dir() and (data / "Cameras" / "train").is_dir()
    return "Cameras/train/ and Rectified/" if whole else None


def _multi_object(data: Path) -> Optional[str]:
    for split in _SPLITS:
        for path, folders, files in os.walk(data / split):
            folders.sort()
            if "transforms.json" in files:
                scene = Path(path)
                # Of all scenes one is enough, and there may be thousands.
                named = _first(scene, "*_obj.png", "*/*_obj.png")
                return None if named is None else (scene / named).relative_to(data).as_posix()
    return None


MANY: Tuple[Format, ...] = (
    Format("srn-data", "NAME_train/OBJECT/intrinsics.txt", _srn),
    Format("mvsnet-dtu-data", "Cameras/train/ and Rectified/", _mvsnet),
    Format("dvr-dtu-data", "new_train.lst", _lists("new_train.lst", "new_val.lst", "new_test.lst")),
    Format(
        "nmr-data",
        "softras_*.lst or gen_*.lst",
        _lists(*(f"{prefix}_{split}.lst" for prefix in ("softras", "gen") for split in _SPLITS)),
    ),
    Format("multi-object-data", "train/SCENE/transforms.json beside *_obj.png", _multi_object),
)
"""Layouts of many scenes; the first that fits is taken, after those of one scene."""


def recognise(data: Path, many_scenes: bool = False) -> Recognition:
    """The format of a scene's folder, of a transforms.json, or of a data set of many scenes.

    Args:
        data: The folder or file; of SRN's layout also the name of the set without its split.
        many_scenes: Whether data sets of many scenes count too.

    Raises:
        FileNotFoundError: nothing is there.
        NoPosesError: bare photos; the message says what makes a scene of them.
        ValueError: no format fits; the message says what was looked for, what is there and what to do.
    """
    if data.is_file():
        if data.suffix.lower() == ".json":
            return Recognition(TRANSFORMS_PARSER, data.name)
        raise ValueError(f"{data}: expected the folder of a scene or a transforms.json (--data), found another file")
    found = _fitting(data, SINGLE) if data.is_dir() else []
    if found:
        return found[0]
    sets = _fitting(data, MANY)
    if sets and many_scenes:
        return sets[0]
    if not data.is_dir() and not sets:
        raise FileNotFoundError(f"{data}: expected the folder of a scene (--data), found nothing")
    scenes = {} if sets else _scenes_in(data)
    if many_scenes and scenes:
        return _of_scenes(data, scenes)
    bare = not sets and not scenes and _photos_in(data) is not None
    raise (NoPosesError if bare else ValueError)(f"{data}: {_nothing_fits(data, many_scenes, sets, scenes)}")


def many_instead_of_one(data: Path) -> str:
    """What ends the message of a dataparser of one scene that found no files, where the folder holds many scenes."""
    if not data.is_dir() or _fitting(data, SINGLE):
        return ""
    sets = _fitting(data, MANY)
    if sets:
        return f"; {data} is a data set of many scenes ({sets[0].in_words})"
    scene, one = next(iter(_scenes_in(data).items()), (data, None))
    return "" if one is None else f"; {data} holds scenes, as {scene.relative_to(data)} ({one.parser}): give one"


def one_instead_of_many(data: Path) -> str:
    """What ends the message of a dataparser of many scenes that found none, where the folder is one scene."""
    if not data.is_dir() or _fitting(data, MANY):
        return ""
    found = _fitting(data, SINGLE)
    return f"; {data} is one scene ({found[0].in_words})" if found else ""


def _fitting(data: Path, formats: Tuple[Format, ...]) -> List[Recognition]:
    """The formats that a folder fits, in their order; the first knows of the others."""
    signs = [(one.parser, one.sign_of(data)) for one in formats]
    found = [(parser, sign) for parser, sign in signs if sign is not None]
    if not found:
        return []
    also = tuple(f"{parser} ({sign})" for parser, sign in found[1:])
    parser, sign = found[0]
    settings = _nvs_rgbd(data) if parser == "llff-data" else {}
    return [Recognition(parser, sign, also, settings), *(Recognition(*other) for other in found[1:])]


def _nvs_rgbd(data: Path) -> Dict[str, Any]:
    """NVS-RGBD's protocol of a scene in LLFF's layout; empty where it is none, or the camera is not told."""
    if not any(next(data.glob(f"images*/*_train{suffix}"), None) for suffix in IMAGE_SUFFIXES):
        return {}
    if next(data.glob("depth_maps/*-depth_train.*"), None) is not None:
        return {"view_protocol": _NVS_RGBD["iphone"]}
    parts = [part.lower() for part in reversed(Path(os.path.abspath(data)).parts)]
    words = (word for part in parts for word in _NVS_RGBD if word in part)
    word = next(words, None)
    return {} if word is None else {"view_protocol": _NVS_RGBD[word]}


def _scenes_in(data: Path) -> Dict[Path, Recognition]:
    """Formats of the scenes in a folder's sub-folders, or in those of its splits."""
    splits = [data / split for split in _SPLITS if (data / split).is_dir()]
    folders = [folder for parent in splits or [data] for folder in _sub_folders(parent)]
    found = {folder: _fitting(folder, SINGLE) for folder in folders}
    return {folder: formats[0] for folder, formats in found.items() if formats}


def _sub_folders(data: Path) -> Iterator[Path]:
    with os.scandir(data) as entries:
        yield from sorted(data / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _of_scenes(data: Path, scenes: Dict[Path, Recognition]) -> Recognition:
    """A folder of scenes.

    Raises:
        ValueError: they are not all in one format.
    """
    (first, one), *others = scenes.items()
    for folder, other in others:
        if other.parser != one.parser:
            raise ValueError(
                f"{data}: expected scenes of one format, found {one.parser} ({first.relative_to(data)}) and "
                f"{other.parser} ({folder.relative_to(data)})"
            )
    sign = f"{first.relative_to(data).as_posix()}/{one.sign}"
    return Recognition(SCENE_FOLDER_PARSER, sign, of_scenes=one)


def _nothing_fits(data: Path, many: bool, sets: List[Recognition], scenes: Dict[Path, Recognition]) -> str:
    """What was expected, what is there, and what to do."""
    if sets:
        return (
            f"expected one scene, found a data set of many ({sets[0].in_words}); name one by `{sets[0].parser} --scene "
            "NAME` after the flags"
        )
    if scenes:
        names = ", ".join(f"{folder.relative_to(data)} ({one.parser})" for folder, one in list(scenes.items())[:3])
        more = f" and {len(scenes) - 3} more" if len(scenes) > 3 else ""
        return f"expected one scene, found scenes below: {names}{more}; give one of them as --data"
    formats = (*SINGLE, *MANY) if many else SINGLE
    wanted = ", ".join(f"{one.looks_for} ({one.parser})" for one in formats)
    return f"expected the files of a scene, one of {wanted}; found {_contents(data, many)}"


def _photos_in(data: Path) -> Optional[Tuple[str, int]]:
    """Name of the folder in `data` that holds photos, and how many; None where none does."""
    for name in _PHOTO_FOLDERS:
        folder = data / name
        count = sum(path.suffix.lower() in _PHOTO_SUFFIXES for path in folder.glob("*")) if folder.is_dir() else 0
        if count:
            return name, count
    return None


def _contents(data: Path, many: bool) -> str:
    """What a folder holds that is no scene, and the command that helps."""
    photos = _photos_in(data)
    if photos is not None:
        name, count = photos
        folder = data / name
        number = f"{count} photo{'s' if count > 1 else ''}" + ("" if name == "." else f" in {name}/")
        trajectory = _rgbd(data, name)
        if trajectory is not None:
            depth, poses = trajectory
            return (
                f"{number}, depth maps in {depth}/ and poses in {poses}, an RGB-D capture whose poses no dataparser "
                "reads. Write them and the camera's fl_x, fl_y, cx, cy into a transforms.json beside the folders, per "
                "frame file_path, depth_file_path and transform_matrix (camera to world, OpenGL axes: a matrix with "
                "OpenCV's axes times diag(1, -1, -1, 1)), and name `rgbd-data` after the other flags; or let "
                f"`ns-fewshot prepare --images {folder} --output SCENE` find poses anew; {_NAME_IT}"
            )
        one = "`ns-fewshot photo IMAGE` shows one photo of an object by pixelNeRF, without poses; " if many else ""
        return (
            f"{number}, no poses. {one}`ns-fewshot prepare --images {folder} --output SCENE` makes a scene of photos, "
            f"`ns-fewshot photos {folder}` a trained one at once; {_NAME_IT}"
        )
    names = sorted(path.name + "/" * path.is_dir() for path in data.iterdir())
    if not names:
        return (
            "an empty folder; `ns-fewshot prepare --images PHOTOS --output SCENE` makes a scene of photos, or of a "
            "video"
        )
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}; {_NAME_IT}"


def _rgbd(data: Path, photos: str) -> Optional[Tuple[str, str]]:
    """Folder of depth maps and file of poses beside the folder of an RGB-D capture's photos; None where it is none."""
    depth = next((name for name in _DEPTH_FOLDERS if (data / name).is_dir()), None)
    files = (path for pattern in _TRAJECTORIES for path in sorted(data.glob(pattern)))
    poses = next((path.name for path in files if path.is_file()), None)
    return None if photos == "." or depth is None or poses is None else (depth, poses)
