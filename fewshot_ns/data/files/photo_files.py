"""Photos by the names that files give them, names that tell photos apart, and the files that belong to photos by name.

A file belongs to a photo by its path: `depth_maps/left/0005.npy` to `images/left/0005.png`. The bare name alone,
`depth_maps/0005.npy`, will do where one photo has it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Callable, Dict, FrozenSet, List, Optional, Sequence, Tuple

from fewshot_ns.data.files.images import IMAGE_SUFFIXES
from fewshot_ns.data.files.inside import lies_inside
from fewshot_ns.data.files.scene_folder import Files
from fewshot_ns.data.records.photo_name import PhotoName

FileNames = Callable[[str], Tuple[str, ...]]
"""Name of a photo without suffix -> names without suffix that its file may have, preferred first."""
_FOLDERS_ABOVE = 2
"""How many of the folders that hold all photos may stand in the path of a photo's file too."""


def photo_names(images: Sequence[Path], counts: Optional[Sequence[int]] = None) -> Tuple[PhotoName, ...]:
    """Names of the photos of a scene.

    Args:
        images: N files.
        counts: Lengths of the lists that they are joined from, such as the splits of a layout, in which the same names
            come again; None: one list.

    Returns:
        (N) names that hold within the photo's list.
    """
    names: List[PhotoName] = []
    for count in (len(images),) if counts is None else counts:
        names += _names_of_list(images[len(names) : len(names) + count])
    return tuple(names)


def _names_of_list(images: Sequence[Path]) -> List[PhotoName]:
    if not images:
        return []
    if len({image.is_absolute() for image in images}) > 1:
        images = [Path(os.path.abspath(image)) for image in images]
    folder = Path(os.path.commonpath([image.parent for image in images]))
    paths = [image.relative_to(folder).as_posix() for image in images]
    by_bare: Dict[str, List[str]] = defaultdict(list)
    by_plain: Dict[str, List[str]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        by_bare[PurePosixPath(path).stem].append(path)
        by_plain[PurePosixPath(path).with_suffix("").as_posix()].append(path)
    names = []
    for path in paths:
        pure = PurePosixPath(path)
        plain = pure.with_suffix("").as_posix()
        alike = tuple(other for other in by_bare[pure.stem] if other != path)
        stem = path if len(by_plain[plain]) > 1 else plain if alike else pure.stem
        names.append(PhotoName(folder, path, path if alike else pure.name, stem, alike))
    return names


@dataclass(frozen=True)
class FilesOfPhotos:
    """What was found in a folder."""

    files: Files
    """One file per photo; None where there is none."""
    clashes: Tuple[Tuple[Path, PhotoName], ...]
    """Files of a bare name, and a photo without a file that is not the only one of that name."""

    def check(self, what: str) -> Files:
        """The files.

        Args:
            what: What such a file is, for the message.

        Raises:
            ValueError: a file may be of several photos.
        """
        for file, photo in self.clashes:
            raise ValueError(f"{file}: expected the {what} of one photo, found {alike_words(photo, file.parent)}")
        return self.files


def alike_words(photo: PhotoName, folder: Path) -> str:
    """Which photos are called alike, and where, in `folder`, the files of one of them belong."""
    where = (folder / photo.stem).parent
    return (
        f"{1 + len(photo.alike)} photos of that name, {photo.among()} in {photo.folder}; give each a file of its own "
        f"by its path: of {photo.path} in {where}" + ("" if "." not in photo.stem else f", as {photo.stem}.*")
    )


def files_of_photos(
    folder: Path, photos: Sequence[PhotoName], names: FileNames, suffixes: Sequence[str]
) -> FilesOfPhotos:
    """Looks up the file of each photo in a folder: by the photo's path, else by its bare name where it is the only one.

    Args:
        folder: Where to look; it need not exist.
        photos: Photos of the scene.
        names: Names that the files may have.
        suffixes: Suffixes that they may have; each name is tried with all of them.
    """
    present = _Present(folder)
    files: List[Optional[Path]] = []
    clashes: List[Tuple[Path, PhotoName]] = []
    for photo in photos:
        pure = PurePosixPath(photo.path)
        above = [part for part in photo.folder.parts if part not in (photo.folder.anchor, "..")][-_FOLDERS_ABOVE:]
        folders = [pure.parent, *(PurePosixPath(*above[-n:]) / pure.parent for n in range(1, len(above) + 1))]
        # Of a.png and a.jpg in one folder a file has to say which it is of, as a.png.npy.
        alone = photo.stem != photo.path
        plain = (pure.stem, pure.name) if alone else (pure.name,)
        named = [f"{name}{suffix}" for stem in plain for name in names(stem) for suffix in suffixes]
        own = [where / name for where in folders for name in named]
        bare = [PurePosixPath(f"{name}{suffix}") for name in names(pure.stem) for suffix in suffixes]
        found = present.first(own, photo)
        if found is None:
            shared = present.first(bare, photo)
            if shared is not None and photo.alike:
                clashes.append((shared, photo))
            else:
                found = shared
        files.append(found)
    return FilesOfPhotos(tuple(files), tuple(clashes))


def files_beside(images: Sequence[Path], folder: str, name: Callable[[str], str], what: str) -> Tuple[Path, ...]:
    """Files in a folder beside that of the photos, also where photos lie in folders of it: of `rgb/left/5.png` those
    are `target_depth/left/5.png`, or `target_depth/5.png` if no other photo is called 5.

    Args:
        images: The photos.
        folder: Name of the folder.
        name: From a photo's name without suffix to that of its file.
        what: What such a file is, for the message.

    Returns:
        A file per photo; of one without a file, where it is expected.

    Raises:
        ValueError: a file that may be of several photos.
    """
    found, owners = [], {}
    for image, photo in zip(images, photo_names(images), strict=True):
        file = name(image.stem)
        above = list(image.parents)[:3]
        places = [parent.parent / folder / image.relative_to(parent).parent / file for parent in above]
        places += [parent.parent / folder / file for parent in above[1:]]
        path = next((place for place in places if place.is_file()), places[0])
        if path.is_file() and owners.setdefault(path, image) != image:
            raise ValueError(f"{path}: expected the {what} of one photo, found {alike_words(photo, path.parent)}")
        found.append(path)
    return tuple(found)


class _Present:
    """The files of a folder and of those in it, each of which is listed once, when something is looked for there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: Dict[PurePosixPath, FrozenSet[str]] = {}

    def first(self, candidates: Sequence[PurePosixPath], photo: PhotoName) -> Optional[Path]:
        """The first candidate that is there and is not the photo itself."""
        for path in candidates:
            names = self._names.get(path.parent)
            if names is None:
                folder = self._folder / path.parent
                names = frozenset(file.name for file in folder.iterdir()) if folder.is_dir() else frozenset()
                self._names[path.parent] = names
            if path.name in names and not _same_file(self._folder / path, photo.file):
                return self._folder / path
        return None


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and os.path.samefile(one, other)


def folder_of_maps(file: Path, image: Path) -> Path:
    """The folder that a photo's file was looked for in: without the folders that it shares with the photo's path."""
    folder, beside = file.parent, image.parent
    while folder != beside and folder.name and folder.name == beside.name:
        folder, beside = folder.parent, beside.parent
    return folder


def find_photo(folder: Path, name: str, other_suffix: bool = False, inside: bool = False) -> Path:
    """The file of a photo by the name that a file of cameras gives it: with or without its suffix, with slashes of
    either kind, and, where it is the path of another machine, by the part of it that is there.

    Args:
        folder: That the name is relative to.
        name: As the file says.
        other_suffix: Whether a photo of the same name with another suffix will do.
        inside: Whether only what lies in the folder counts.

    Returns:
        The photo, or, where there is none, where it is expected.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    for path in (folder / name, *(folder / tail for tail in _spellings(parts))):
        found = _named(path, other_suffix) if not inside or lies_inside(folder, path.absolute()) else None
        if found is not None:
            return found
    expected = folder / parts
    return expected if _has_suffix(expected) else expected.with_name(f"{parts.name}{IMAGE_SUFFIXES[0]}")


def named_file(folder: Path, name: str, inside: bool = False) -> str:
    """The name of another file than a photo, such as a mask, with slashes of either kind and from any machine, as it
    has to be written for `folder`; with `inside` of a file in that folder, if there is any."""
    parts = PurePosixPath(name.replace("\\", "/"))
    for spelling in (name, *map(str, _spellings(parts))):
        if (folder / spelling).is_file() and (not inside or lies_inside(folder, spelling)):
            return spelling
    return str(parts)


def _spellings(path: PurePosixPath) -> List[PurePosixPath]:
    """A path, and the parts of it that may lie in a folder of this machine if it begins at the root of another's."""
    drive = bool(path.parts) and len(path.parts[0]) == 2 and path.parts[0].endswith(":")
    tails = range(1, len(path.parts)) if drive or path.is_absolute() else ()
    return [path, *(PurePosixPath(*path.parts[first:]) for first in tails)]


def _has_suffix(path: Path) -> bool:
    """Whether a name ends in a suffix, which has a letter, and not in a number: frame.0001."""
    return any(letter.isalpha() for letter in path.suffix)


def _named(path: Path, other_suffix: bool) -> Optional[Path]:
    """The file of a path, or that with the suffix of an image added, or in the place of another suffix."""
    if path.is_file() or not path.name:
        return path if path.name else None
    suffixes = [suffix for kind in IMAGE_SUFFIXES for suffix in (kind, kind.upper())]
    files = [] if _has_suffix(path) else [path.with_name(f"{path.name}{suffix}") for suffix in suffixes]
    if other_suffix and _has_suffix(path):
        files = [path.with_suffix(suffix) for suffix in suffixes]
    return next((file for file in files if file.is_file()), None)
