"""Comment lines in a silent stream: proxies keep the connection, and a vanished client is noticed."""

from collections.abc import Generator, Iterator
from contextlib import closing
from queue import Empty, Queue
from threading import Event, Thread

SILENCE = 15  # seconds
PING = ": ping\n\n"


def with_pings(events: Generator[str, None, None]) -> Iterator[str]:
    """Yield events as they come, and a comment line after every 15 seconds without one.

    Args:
        events: The events; they are made in a thread of their own, and closed with the stream.
    """
    queue: Queue[str | None] = Queue()
    is_abandoned = Event()

    def produce() -> None:
        try:
            with closing(events):
                for event in events:
                    if is_abandoned.is_set():
                        return
                    queue.put(event)
        finally:
            queue.put(None)

    Thread(target=produce, daemon=True).start()
    try:
        while True:
            try:
                event = queue.get(timeout=SILENCE)
            except Empty:
                event = PING
            if event is None:
                return
            yield event
    finally:
        is_abandoned.set()
