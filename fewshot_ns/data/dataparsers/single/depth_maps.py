"""Which depth maps a scene comes with, and what their numbers mean by its layout, their folder and the flags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Tuple

from fewshot_ns.data.dataparsers.single.scene_files import SceneFiles
from fewshot_ns.data.depth.encoding import NOTE_NAME, override_encoding, read_note
from fewshot_ns.data.depth.maps import DepthNames, depth_maps_of_photos
from fewshot_ns.data.files.depth_formats import implied_polarity
from fewshot_ns.data.files.photo_files import alike_words, folder_of_maps, photo_names
from fewshot_ns.data.files.scene_folder import Files, chosen_files
from fewshot_ns.data.records.metadata import DepthEncoding

_DEPTH_FILE = ("depth prior", "--depth-dir")
"""What such a file is, and the flag that says where it lies, for messages."""


def find_scene_depths(
    given: Optional[Path],
    scene_name: str,
    folders: Sequence[Path],
    images: Tuple[Path, ...],
    names: DepthNames,
    eight_bit: bool,
) -> Optional[Files]:
    """Depth maps of all views of a scene, from the first folder that holds any.

    Args:
        given: The user's folder, in which, or below which under the scene's name, the maps must lie; or None.
        scene_name: Name of the scene.
        folders: Usual folders, in order.
        images: All images of the scene.
        names: Names that the layout gives the maps, from the stem of an image.
        eight_bit: Whether the layout may hold depth in 8 bits.

    Returns:
        A path per view, where a view without a map has one that does not exist; None where no folder has any.

    Raises:
        FileNotFoundError: the user's folder holds no map of this scene.
        ValueError: the user's folder holds a map that may be of several images. In other folders such a view has none.
    """
    photos = photo_names(images)
    if given is not None:
        folders = [given, given / scene_name]
    for folder in folders:
        found = depth_maps_of_photos(folder, photos, names, eight_bit)
        if given is not None:
            found.check(_DEPTH_FILE[0])
        if found.clashes or any(path is not None for path in found.files):
            return tuple(
                path or folder / Path(photo.stem).parent / f"{names(Path(photo.stem).name)[0]}.png"
                for path, photo in zip(found.files, photos, strict=True)
            )
    if given is not None:
        raise FileNotFoundError(
            f"{given}: expected depth priors named like the images ({names(images[0].stem)[0]}.png, "
            f"{names(images[0].stem)[-1]}.npy, ...), found none"
        )
    return None


def depth_maps_of_views(
    scene: SceneFiles, chosen: Sequence[int], stated: Mapping[str, Any], required: bool
) -> Tuple[Optional[Tuple[Path, ...]], DepthEncoding]:
    """Depth maps of some views, and what their numbers mean: by the flags, else their folder's note, else the layout.

    Args:
        scene: The scene.
        chosen: Indices of the views.
        stated: Fields of `DepthEncoding` that the user gave, None for the others; lengths in units of the files.
        required: Whether it is an error if some of the views have none.

    Returns:
        One file per view, or None; and their encoding with its unit in world units.

    Raises:
        FileNotFoundError: a required file is missing.
        ValueError: a folder's note that cannot be read.
    """
    files = _files_of(scene, chosen, required)
    if files is None:
        return None, DepthEncoding()
    note = _note_of(files[0], scene.images[chosen[0]])
    encoding = override_encoding(scene.depth_encoding, **note)
    encoding = override_encoding(encoding, **stated)
    if stated.get("unit") is not None:
        encoding = replace(encoding, unit_from="--depth-unit")
    elif note.get("unit") is not None:
        encoding = replace(encoding, unit_from=f"{NOTE_NAME} beside the maps")
    elif encoding.unit is not None and encoding.unit_from is None:
        encoding = replace(encoding, unit_from="the layout")
    if encoding.unit is not None:
        low, high = encoding.min_depth, encoding.max_depth
        encoding = replace(
            encoding,
            unit=encoding.unit * scene.scale,
            min_depth=None if low is None else low / encoding.unit,
            max_depth=None if high is None else high / encoding.unit,
        )
    polarity = encoding.polarity
    if polarity is None:
        implied = implied_polarity(files[0])
        polarity = implied if all(implied_polarity(path) == implied for path in files) else None
    return files, replace(encoding, polarity=polarity)


def _files_of(scene: SceneFiles, chosen: Sequence[int], required: bool) -> Optional[Tuple[Path, ...]]:
    """`chosen_files`, whose error says what a bare name leaves open."""
    try:
        return chosen_files(scene.depths, chosen, *_DEPTH_FILE, required=required)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{alike_hint(scene, chosen)}") from error


def alike_hint(scene: SceneFiles, chosen: Sequence[int]) -> str:
    """What to do about the first of some views that has no depth map and is called like another; empty without one."""
    for index in chosen:
        path = None if scene.depths is None else scene.depths[index]
        if path is not None and not path.is_file() and scene.photos[index].alike:
            photo = scene.photos[index]
            folder = folder_of_maps(path, scene.images[index])
            return f"; there are {alike_words(photo, folder)}"
    return ""


def _note_of(file: Path, image: Path) -> Mapping[str, Any]:
    """The note beside a map, else in the folder in which maps lie by the paths of their photos."""
    return read_note(file.parent) or read_note(folder_of_maps(file, image))


def missing_depth_map(scene: SceneFiles, chosen: Sequence[int]) -> Optional[str]:
    """Which of some views, of a scene that has depth maps, has none, in words; None where the scene has no maps."""
    try:
        _files_of(scene, chosen, required=True)
    except FileNotFoundError as error:
        return str(error)
    return None
