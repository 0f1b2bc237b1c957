"""nerfstudio's viewer beside a training: who reaches its page, and that what a page says ends no training."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator, Set

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.utils.rich_utils import CONSOLE

LOCAL_HOST = "127.0.0.1"
_FAULTS = (AssertionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError)
_SAID: Set[str] = set()


def local_viewer(num_rays_per_chunk: int = ViewerConfig.num_rays_per_chunk) -> ViewerConfig:
    """A viewer that programs of this machine alone reach; `--viewer.websocket-host 0.0.0.0` opens it to everybody.

    nerfstudio's default is open, and the web server behind its page gives out files outside of its folder.

    Args:
        num_rays_per_chunk: rays that it renders at once.
    """
    return ViewerConfig(websocket_host=LOCAL_HOST, num_rays_per_chunk=num_rays_per_chunk)


@contextmanager
def training_goes_on() -> Iterator[None]:
    """Around what the training's own thread does for the viewer.

    It works there with cameras and values of controls as a page has sent them, which viser does not check; each kind of
    fault is printed once.
    """
    try:
        yield
    except _FAULTS as error:
        words = f"{type(error).__name__}: {(str(error) or 'no reason').splitlines()[0][:200]}"
        if words not in _SAID:
            _SAID.add(words)
            CONSOLE.print(
                f"The viewer could not be brought up to date ({words}). The training goes on.",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
