"""OpenCV's own lines: silent inside, as before outside, whatever happens."""

from __future__ import annotations

import cv2
import pytest

from fewshot_ns.data.files.depth_formats import _LOGGING as logging
from fewshot_ns.data.files.depth_formats import quiet_opencv


def test_the_log_level_comes_back(tmp_path, capfd):
    before = logging.getLogLevel()
    (tmp_path / "cut.pfm").write_bytes(b"Pf\n7 5\n-1.0\n")
    with quiet_opencv():
        assert cv2.imread(str(tmp_path / "cut.pfm"), cv2.IMREAD_UNCHANGED) is None
    assert logging.getLogLevel() == before and capfd.readouterr().err == ""
    with pytest.raises(KeyError), quiet_opencv():
        raise KeyError
    assert logging.getLogLevel() == before
