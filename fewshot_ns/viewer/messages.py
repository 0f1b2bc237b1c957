"""What pages send to nerfstudio's viewer, checked before it is used.

viser 0.2.7 takes cameras of any values, and an error while it holds its lock leaves the lock taken for ever: the
training then waits for it without end.
"""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from functools import partial
from typing import Any, Iterator, Tuple

_CAMERA = "ViewerCameraMessage"
_FARTHEST = 1e9
_LARGEST_ASPECT = 100.0


def guard_messages(server: Any) -> None:
    """From now on cameras that are none are dropped, and errors leave no lock taken.

    Args:
        server: viser's. Of another version, whose inner parts have other names, it stays as it is.
    """
    sockets = getattr(server, "_websock_server", None)
    wanted = ("_handle_incoming_message", "_atomic_lock", "_locked_thread_id", "on_client_connect")
    if sockets is None or not all(hasattr(sockets, name) for name in wanted):
        return
    _guard(sockets)
    # After viser's own callback, so that its handlers are there.
    sockets.on_client_connect(_guard)


def is_camera(message: Any) -> bool:
    """Whether a page's camera can be rendered: finite numbers, as many as there have to be, and a picture with sides.

    Args:
        message: viser's ViewerCameraMessage.
    """
    vectors = ((message.wxyz, 4), (message.position, 3), (message.look_at, 3), (message.up_direction, 3))
    if not all(_is_vector(values, count) for values, count in vectors) or not _is_vector((message.fov,), 1):
        return False
    length = math.hypot(*message.wxyz)
    return (
        0.5 < length < 2.0
        and 0.0 < message.fov < math.pi
        and _is_vector((message.aspect,), 1)
        and 1.0 / _LARGEST_ASPECT < message.aspect < _LARGEST_ASPECT
    )


def _is_vector(values: Any, count: int) -> bool:
    return (
        isinstance(values, (tuple, list))
        and len(values) == count
        and all(isinstance(one, (int, float)) and abs(one) < _FARTHEST for one in values)
    )


def _guard(handler: Any) -> None:
    """Guards a connection, or the server of all."""
    handle = handler._handle_incoming_message

    def checked(client_id: int, message: Any) -> None:
        if type(message).__name__ != _CAMERA or is_camera(message):
            handle(client_id, message)

    handler._handle_incoming_message = checked
    handler.atomic = partial(_atomic, handler)


@contextmanager
def _atomic(handler: Any) -> Iterator[Tuple[()]]:
    """viser's `atomic`, which gives its lock back also after an error."""
    thread = threading.get_ident()
    if thread == handler._locked_thread_id:
        yield ()
        return
    with handler._atomic_lock:
        handler._locked_thread_id = thread
        try:
            yield ()
        finally:
            handler._locked_thread_id = -1
