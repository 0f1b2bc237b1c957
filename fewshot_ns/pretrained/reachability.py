"""Whether a server answers at all, known within seconds.

Libraries that download ask a silent server again and again, for over a minute; and a lookup of names has no timeout.
"""

from __future__ import annotations

import threading
import time

import requests

PATIENCE_SECONDS = 4.0
"""How long a server may take to answer."""


class Probe:
    """Asks a server for the head of an address, in a thread that begins at once.

    It goes the way of a download: through a proxy where the environment names one, never past it.

    Args:
        address: with http or https.
        seconds: how long the answer may take, name lookup and encryption included.
    """

    def __init__(self, address: str, seconds: float = PATIENCE_SECONDS) -> None:
        self.address, self._seconds = address, seconds
        self._end = time.monotonic() + seconds
        self._reason = ""
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Waits for the answer.

        Raises:
            OSError: there was none in time, no connection, or the server says that it is out of order.
        """
        self._thread.join(max(0.0, self._end - time.monotonic()))
        if self._thread.is_alive():
            raise OSError(f"{self.address} did not answer within {self._seconds:g} s")
        if self._reason:
            raise OSError(self._reason)

    def _ask(self) -> None:
        try:
            with requests.head(self.address, timeout=self._seconds, allow_redirects=False) as answer:
                if answer.status_code >= 500:
                    self._reason = f"{self.address} answers with status {answer.status_code}"
        except requests.exceptions.ProxyError as error:
            self._reason = f"{self.address} cannot be reached through the proxy ({error})"
        except requests.exceptions.SSLError:
            # It has answered. Which certificates are trusted is for the library that downloads to say.
            return
        except OSError as error:  # the errors of requests are among them
            self._reason = f"{self.address} cannot be reached ({error})"
