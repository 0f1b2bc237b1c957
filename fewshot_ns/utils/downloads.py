"""Downloads that end complete or not at all."""

from __future__ import annotations

from pathlib import Path

import requests
import rich

from fewshot_ns.utils.files import replacing
from fewshot_ns.utils.hashing import file_hash

TIMEOUT = 10.0
"""Seconds that a server may stay silent before a download is given up."""


def download_file(url: str, target: Path, sha256: str = "") -> Path:
    """Downloads a file so that `target` appears complete or not at all.

    torch.hub's own download has no timeout, and keeps a file that broke off where no hash is known.

    Args:
        url: address of the file.
        target: where the file goes; its folder is made.
        sha256: leading hexadecimal digits that the file's SHA-256 must have; empty: not checked.

    Returns:
        `target`.

    Raises:
        OSError: no connection, the server refused, or the disk did.
        ValueError: the file that came is not the one expected.
    """
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}) as response:
            response.raise_for_status()
            length = int(response.headers.get("Content-Length") or 0)
            # A plain line and no progress bar: this may run while nerfstudio shows a live display of its own.
            rich.print(f"Downloading {url} ({length / 1e6:.0f} MB) to {target}")
            with replacing(target) as partial:
                with partial.open("wb") as file:
                    file.writelines(response.iter_content(1 << 20))
                received, found = partial.stat().st_size, file_hash(partial)
                if length and received != length:
                    raise ValueError(f"{url} broke off: expected {length} bytes, got {received}")
                if not found.startswith(sha256.lower()):
                    raise ValueError(f"{url}: expected SHA-256 {sha256}..., got {found[:16]}...")
    except OSError as error:  # the errors of requests are among them
        raise OSError(f"{url} could not be fetched ({error})") from error
    return target
