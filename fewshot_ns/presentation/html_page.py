"""One self-contained HTML page of text, tables, pictures and videos.

Everything that it shows is embedded: the page opens from a disk, a mail or a web server, and fetches nothing from
elsewhere. Files beside it can be linked. Its HTML and style are the templates in `templates/`.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Sequence, Union
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from fewshot_ns.presentation.pictures import ImageLike, to_uint8
from fewshot_ns.presentation.tables import Table
from fewshot_ns.utils.files import write_text

VIDEO_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif"}
PICTURE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}


@dataclass(frozen=True)
class Picture:
    """An image on the page."""

    source: Union[Path, ImageLike]
    """A PNG, JPEG or GIF file, or an image (H, W, 3) as float in [0, 1] or uint8."""
    caption: str = ""
    """Text below; also for screen readers."""


@dataclass(frozen=True)
class Video:
    """A video on the page; it plays by itself, silent and in a loop."""

    path: Path
    """An mp4, webm or GIF file."""
    caption: str = ""
    """Text below."""


@dataclass(frozen=True)
class Download:
    """A file beside the page that a link opens; the page does not hold it."""

    name: str
    """Its path as seen from the folder of the page, with /."""
    title: str
    """Text of the link."""


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, links, plots, tables, videos and pictures, in this order."""

    heading: str = ""
    """Heading; empty: none."""
    paragraphs: Sequence[str] = ()
    """Plain text."""
    tables: Sequence[Table] = ()
    """Tables."""
    videos: Sequence[Video] = ()
    """Videos."""
    pictures: Sequence[Picture] = ()
    """Pictures; several stand in rows."""
    downloads: Sequence[Download] = ()
    """Links to files beside the page."""
    plots: Sequence[str] = ()
    """Interactive figures as trusted HTML that is complete in itself, such as plotly's `to_html(full_html=False)`."""


@dataclass(frozen=True)
class ReportPage:
    """The whole page."""

    title: str
    """Title of the window and of the page."""
    sections: Sequence[Section] = field(default_factory=tuple)
    """The parts, in order."""


def write_page(page: ReportPage, path: Path) -> None:
    """Writes the page as one HTML file, whole or not at all; the folder is made.

    Args:
        page: what it shows.
        path: file to write.

    Raises:
        FileNotFoundError: a picture or video file, or one that is linked, does not exist.
        ValueError: a file of a format that browsers do not show.
    """
    for download in (download for section in page.sections for download in section.downloads):
        if not (path.parent / download.name).is_file():
            raise FileNotFoundError(f"{path.parent / download.name}: expected a file that the page links, found none")
    write_text(path, render_page(page))


def render_page(page: ReportPage) -> str:
    """The page as HTML text; errors as in `write_page`."""
    template = _environment().get_template("page.html.j2")
    return template.render(page=page, picture_address=_picture_address, video_address=_video_address, quote=quote)


@cache
def _environment() -> Environment:
    loader = PackageLoader("fewshot_ns.presentation")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)


def _picture_address(picture: Picture) -> str:
    if isinstance(picture.source, Path):
        return _file_as_address(picture.source, PICTURE_TYPES, "picture")
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(picture.source)).save(buffer, format="PNG")
    return _as_address(buffer.getvalue(), "image/png")


def _video_address(video: Video) -> str:
    return _file_as_address(video.path, VIDEO_TYPES, "video")


def _file_as_address(path: Path, types: dict[str, str], what: str) -> str:
    if path.suffix.lower() not in types:
        raise ValueError(f"{path}: expected a {what} of type {', '.join(types)}, found {path.suffix or 'no suffix'}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a {what}, found no file")
    return _as_address(path.read_bytes(), types[path.suffix.lower()])


def _as_address(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
