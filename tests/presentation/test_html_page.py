"""The HTML page: everything embedded, everything escaped."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from fewshot_ns.presentation.html_page import Download, Picture, ReportPage, Section, Video, render_page, write_page
from fewshot_ns.presentation.tables import Column, Table

TABLE = Table(
    columns=[Column("run"), Column("PSNR", 2, True), Column("LPIPS", 3, False), Column("steps")],
    rows=[["with <prior>", 18.456, 0.25, 500], ["without", 12.0, None, 500], ["third", 18.4559, 0.3, 400]],
    caption="Means over 3 views & more",
)


class Reader(HTMLParser):
    """Collects the addresses, the tags left open and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.bold: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [(tag, value or "") for name, value in attrs if name in ("src", "href", "poster", "srcset")]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())
            if self.open[-1] == "strong":
                self.bold.append(data)


def decode(address: str) -> bytes:
    return base64.b64decode(address.split(",", 1)[1])


@pytest.fixture
def film(tmp_path: Path) -> Path:
    writer = imageio_ffmpeg.write_frames(str(tmp_path / "film.mp4"), (32, 32), fps=5, macro_block_size=16)
    writer.send(None)
    for level in (0, 120, 240):
        writer.send(np.full((32, 32, 3), level, dtype=np.uint8))
    writer.close()
    return tmp_path / "film.mp4"


def test_page_holds_all_and_asks_for_nothing(tmp_path: Path, film: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "sheet.png")
    page = ReportPage(
        title="Three photos <b>",
        sections=[
            Section("Results & more", paragraphs=["a < b"], tables=[TABLE]),
            Section(
                videos=[Video(film, "a spiral")],
                pictures=[Picture(tmp_path / "sheet.png", 'said "so"'), Picture(image.astype(np.float32) / 255)],
            ),
        ],
    )
    write_page(page, tmp_path / "out" / "index.html")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]
    reader = Reader((tmp_path / "out" / "index.html").read_text("utf8"))
    assert reader.open == []
    assert all(address.startswith("data:") for _, address in reader.addresses)
    sources = [(tag, address) for tag, address in reader.addresses if tag != "link"]
    assert [tag for tag, _ in sources] == ["video", "img", "img"]
    assert sources[0][1].startswith("data:video/mp4;base64,") and decode(sources[0][1]) == film.read_bytes()
    assert decode(sources[1][1]) == (tmp_path / "sheet.png").read_bytes()
    with Image.open(io.BytesIO(decode(sources[2][1]))) as embedded:
        assert np.array_equal(np.array(embedded), image)
    for text in (
        "Three photos <b>",
        "Results & more",
        "a < b",
        "with <prior>",
        "Means over 3 views & more",
        "a spiral",
    ):
        assert text in reader.text
    for outside in ("http:", "https:", "@import", "url("):
        assert outside not in (tmp_path / "out" / "index.html").read_text("utf8")


def test_table_prints_numbers_by_column_and_marks_the_best() -> None:
    reader = Reader(render_page(ReportPage("t", [Section(tables=[TABLE])])))
    cells = reader.text[reader.text.index("with <prior>") :]
    expected = ["with <prior>", "18.46", "0.250", "500", "without", "12.00", "n/a", "500", "third", "18.46", "0.300"]
    assert cells[: len(expected)] == expected
    # Both 18.46 are best as printed; steps has no better direction.
    assert reader.bold == ["18.46", "0.250", "18.46"]
    assert "PSNR ↑" in reader.text and "LPIPS ↓" in reader.text and "steps" in reader.text


def test_bad_descriptions_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent.mp4: expected a video, found no file"):
        render_page(ReportPage("t", [Section(videos=[Video(tmp_path / "absent.mp4")])]))
    with pytest.raises(ValueError, match=r"film.avi: expected a video of type .mp4, .webm, .gif, found .avi"):
        render_page(ReportPage("t", [Section(videos=[Video(tmp_path / "film.avi")])]))
    (tmp_path / "index.html").write_text("old", "utf8")
    with pytest.raises(FileNotFoundError):
        write_page(ReportPage("t", [Section(pictures=[Picture(tmp_path / "absent.png")])]), tmp_path / "index.html")
    assert (tmp_path / "index.html").read_text("utf8") == "old"


def test_files_beside_the_page_are_linked_not_held(tmp_path: Path) -> None:
    name = "more/a b#1.ply"
    link = Download(name, "4 Gaussians <here>")
    page = ReportPage("Splats", [Section("The file", ["It is this:"], downloads=[link])])
    with pytest.raises(FileNotFoundError, match="a b#1.ply: expected a file that the page links"):
        write_page(page, tmp_path / "index.html")
    assert not list(tmp_path.iterdir())
    (tmp_path / "more").mkdir()
    (tmp_path / name).write_bytes(b"a unique content")
    write_page(page, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text(encoding="utf8")
    reader = Reader(text)
    assert ("a", "more/a%20b%231.ply") in reader.addresses and "4 Gaussians <here>" in reader.text
    assert "unique" not in text and not reader.open
