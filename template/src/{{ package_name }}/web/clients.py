"""Slow and vanished clients, under gunicorn; the development server waits for slow ones."""

import io
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from werkzeug.exceptions import RequestTimeout

BODY_SECONDS = 20  # for all of a request to arrive
READER_SECONDS = 300  # for a client to take a script or a part of an answer


class TimedBody(io.RawIOBase):
    """The body of a request, which raises `RequestTimeout` if it does not arrive in time."""

    def __init__(self, body: IO[bytes]) -> None:
        """Start the clock."""
        self._body = body
        self._end = time.monotonic() + BODY_SECONDS

    def readable(self) -> bool:
        """Return that this can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return how many bytes came; 0 at the end."""
        from gevent import Timeout

        with Timeout(max(0, self._end - time.monotonic()), RequestTimeout()):
            part = self._body.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


def limit_waiting(environ: dict[str, Any]) -> None:
    """Set deadlines for a client that sends or reads slowly.

    Args:
        environ: The request, as gunicorn hands it over.
    """
    connection, body = environ.get("gunicorn.socket"), environ["wsgi.input"]
    if connection and not isinstance(body, TimedBody):
        connection.settimeout(READER_SECONDS)
        environ["wsgi.input"] = TimedBody(body)


def run_while_connected(
    work: Callable[[], None], connection: socket.socket, gone: Callable[[], None]
) -> Callable[[], None]:
    """Start work for a client of gunicorn, and return a function that ends it.

    Args:
        work: Runs beside the caller.
        connection: The connection to the client, who sends nothing more.
        gone: Is called when the client closes it.
    """
    from gevent import killall, spawn

    def watch() -> None:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.poll()
        with suppress(ConnectionError, ValueError):  # TLS cannot look ahead
            if connection.recv(1, socket.MSG_PEEK):
                return
        gone()

    greenlets = [spawn(work), spawn(watch)]

    def end() -> None:
        killall(greenlets)

    return end
