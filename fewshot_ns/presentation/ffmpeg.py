"""Makes the ffmpeg program that imageio-ffmpeg brings along visible to everything that looks for `ffmpeg` on PATH."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Optional


def cache_folder() -> Path:
    """This package's own folder below XDG_CACHE_HOME (~/.cache where that is not set)."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fewshot_ns"


def ensure_ffmpeg_on_path() -> Optional[Path]:
    """Puts an ffmpeg on this process's PATH where there is none.

    `ns-render` and mediapy look for a program of that very name, and imageio-ffmpeg's binary has another. So a link
    named `ffmpeg` to it is made in the cache folder (a copy where links cannot be made) and its folder is appended to
    PATH. A program that the user has installed always comes first.

    Returns:
        Path of the program that is now found, or None where none is available (imageio-ffmpeg without a binary for
        this machine): whoever needs it then reports that.
    """
    found = shutil.which("ffmpeg")
    if found is not None:
        return Path(found)
    # Asking imageio-ffmpeg starts its program once to see that it runs, so only where it is needed.
    import imageio_ffmpeg

    try:
        binary = Path(imageio_ffmpeg.get_ffmpeg_exe()).resolve()
    except RuntimeError:
        return None
    name = "ffmpeg.exe" if sys.platform == "win32" else "ffmpeg"
    try:
        program = _place(binary, cache_folder() / "bin", name)
    except OSError:
        # A read-only home, for instance: a private folder that lives as long as this process.
        folder = Path(tempfile.mkdtemp(prefix="fewshot_ns-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        program = _place(binary, folder, name)
    os.environ["PATH"] = os.pathsep.join(filter(None, [os.environ.get("PATH", ""), str(program.parent)]))
    return program


def _place(binary: Path, folder: Path, name: str) -> Path:
    """Makes `folder/name` stand for `binary`; it appears at once and whole, whoever else does the same meanwhile."""
    program = folder / name
    if program.is_symlink() and program.resolve() == binary:
        return program
    if not program.is_symlink() and program.is_file() and program.stat().st_size == binary.stat().st_size:
        return program
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=".ffmpeg-", dir=folder) as temporary:
        fresh = Path(temporary) / name
        try:
            fresh.symlink_to(binary)
        except OSError:
            shutil.copy2(binary, fresh)
        os.replace(fresh, program)
    return program
