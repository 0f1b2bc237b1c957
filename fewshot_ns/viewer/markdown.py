"""Text and images in the panel of ns-viewer."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from nerfstudio.viewer.viewer_elements import ViewerElement


class ViewerMarkdown(ViewerElement[str]):
    """A text in Markdown, which nerfstudio has no element for.

    Args:
        content: the text at first.
    """

    def __init__(self, content: str = "") -> None:
        super().__init__("")
        self._content = content

    @property
    def content(self) -> str:
        """The text."""
        return self._content

    @content.setter
    def content(self, content: str) -> None:
        self._content = content
        if self.gui_handle is not None:
            self.gui_handle.content = content  # type: ignore[attr-defined]

    def _create_gui_handle(self, viser_server: Any) -> None:
        self.gui_handle = viser_server.gui.add_markdown(self._content)

    def install(self, viser_server: Any) -> None:
        """Puts it into the panel."""
        self._create_gui_handle(viser_server)


def embedded(picture: npt.NDArray[np.float32]) -> str:
    """An image (H, W, 3) in [0, 1] as Markdown that needs no file."""
    pixels = np.round(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)
    _, png = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))
    return f"![rendering](data:image/png;base64,{base64.b64encode(png.tobytes()).decode()})"
