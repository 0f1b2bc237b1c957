"""One self-contained HTML page of text, tables, pictures and videos.

Everything is embedded: the page opens from a disk, a mail or a web server, and asks for nothing from elsewhere.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import List, Sequence, Union

from PIL import Image

from fewshot_ns.presentation.pictures import ImageLike, to_uint8
from fewshot_ns.presentation.tables import Table
from fewshot_ns.utils.files import replacing

VIDEO_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif"}
PICTURE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}


@dataclass(frozen=True)
class Picture:
    """An image on the page."""

    source: Union[Path, ImageLike]
    """A PNG, JPEG or GIF file, or an image (H, W, 3) as float in [0, 1] or uint8."""
    caption: str = ""
    """Text below; also what a screen reader says."""


@dataclass(frozen=True)
class Video:
    """A film on the page; it starts by itself, silent and looping."""

    path: Path
    """An mp4, webm or GIF file."""
    caption: str = ""
    """Text below."""


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, then tables, videos and pictures."""

    heading: str = ""
    """Heading; empty: none."""
    paragraphs: Sequence[str] = ()
    """Plain text."""
    tables: Sequence[Table] = ()
    """Tables."""
    videos: Sequence[Video] = ()
    """Films."""
    pictures: Sequence[Picture] = ()
    """Images."""
    plots: Sequence[str] = ()
    """Interactive figures as HTML that is complete in itself, such as plotly's `to_html(full_html=False)`."""


@dataclass(frozen=True)
class ReportPage:
    """The whole page."""

    title: str
    """Title of the window and of the page."""
    sections: Sequence[Section] = field(default_factory=tuple)
    """The parts, in order."""


STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1180px; padding: 2rem 1.25rem 4rem; background: #fff; color: #1f2328;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: 1rem; border-top: 1px solid #e3e6ea; }
p { max-width: 75ch; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; }
th, td { padding: .4rem .9rem; text-align: right; border-bottom: 1px solid #e3e6ea; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #8a929b; }
figure { margin: 1.5rem 0; }
img, video { max-width: 100%; height: auto; display: block; border-radius: 4px; }
video { width: min(100%, 820px); }
figcaption, caption { color: #59636e; font-size: .9rem; padding-top: .5rem; }
"""


def write_page(page: ReportPage, path: Path) -> None:
    """Writes the page as one HTML file, whole or not at all; the folder is made.

    Args:
        page: what it shows.
        path: file to write.

    Raises:
        FileNotFoundError: a picture or video file does not exist.
        ValueError: a file of a format that browsers do not show.
    """
    html = render_page(page)
    with replacing(path) as partial:
        partial.write_text(html, "utf8")


def render_page(page: ReportPage) -> str:
    """The page as HTML text; errors as in `write_page`."""
    body = "\n".join(_section(section) for section in page.sections)
    # The empty icon keeps browsers from asking the server for one.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(page.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(page.title)}</h1>
{body}
</body>
</html>
"""


def _section(section: Section) -> str:
    parts: List[str] = [f"<h2>{escape(section.heading)}</h2>"] if section.heading else []
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    parts += [f"<figure>{plot}</figure>" for plot in section.plots]
    parts += [_table(table) for table in section.tables]
    parts += [_figure(_video(video), video.caption) for video in section.videos]
    parts += [_figure(_picture(picture), picture.caption) for picture in section.pictures]
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(column.heading)}</th>' for column in table.columns)
    lines = []
    for row in range(len(table.rows)):
        cells = [escape(table.text(row, column)) for column in range(len(table.columns))]
        cells = [f"<strong>{cell}</strong>" if table.is_best(row, i) else cell for i, cell in enumerate(cells)]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    body = "\n".join(lines)
    return f'<div class="wide"><table>{caption}<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}" + (f"<figcaption>{escape(caption)}</figcaption>" if caption else "") + "</figure>"


def _picture(picture: Picture) -> str:
    if isinstance(picture.source, Path):
        address = _file_as_address(picture.source, PICTURE_TYPES, "picture")
    else:
        buffer = io.BytesIO()
        Image.fromarray(to_uint8(picture.source)).save(buffer, format="PNG")
        address = _as_address(buffer.getvalue(), "image/png")
    return f'<img src="{address}" alt="{escape(picture.caption)}">'


def _video(video: Video) -> str:
    address = _file_as_address(video.path, VIDEO_TYPES, "video")
    if address.startswith("data:image/"):
        return f'<img src="{address}" alt="{escape(video.caption)}">'
    return f'<video src="{address}" controls autoplay loop muted playsinline></video>'


def _file_as_address(path: Path, types: dict[str, str], what: str) -> str:
    if path.suffix.lower() not in types:
        raise ValueError(f"{path}: expected a {what} of type {', '.join(types)}, found {path.suffix or 'no suffix'}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a {what}, found no file")
    return _as_address(path.read_bytes(), types[path.suffix.lower()])


def _as_address(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
