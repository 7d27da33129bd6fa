"""The servers that are measured: each under gunicorn, as a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import processes
import psutil

# Requests come from one address here; a key or a proxy of this machine's owner must not count.
NEUTRAL = {"CHAT_RATE_LIMIT": "", "CHAT_DAILY_LIMIT": "", "HOST": "127.0.0.1"}
OWNERS = ("_KEY", "_BASE_URL", "_PROXY", "_proxy")


@dataclass
class Server:
    """A served app.

    Attributes:
        url: Its address.
        start: The seconds from the start of its process to its first page.
        process: gunicorn, whose children are the workers.
    """

    url: str
    start: float
    process: psutil.Process

    def memory(self) -> float:
        """Return the memory of gunicorn and its workers, in MB; what they share counts once."""
        tree = [self.process, *self.process.children(recursive=True)]
        return sum(one.memory_full_info().pss for one in tree) / 1e6


@contextmanager
def serving(folder: Path, app: str, *options: str, environment: dict[str, str]) -> Iterator[Server]:
    """Serve an app with gunicorn, and give it once its first page came.

    Args:
        folder: The directory to serve it from, with the code in `src` or right there.
        app: What gunicorn loads.
        options: What else gunicorn is told.
        environment: Variables to set.
    """
    port = processes.free_port()
    command = [sys.executable, "-m", "gunicorn", app, *options, "--bind", f"127.0.0.1:{port}"]
    clean = {name: value for name, value in os.environ.items() if not name.endswith(OWNERS)}
    code = {"PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder}", "PORT": str(port)}
    log = folder / "gunicorn.log"
    with log.open("wb") as output:
        begin = time.perf_counter()
        process = psutil.Popen(
            command,
            cwd=folder,
            env=clean | NEUTRAL | code | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        processes.wait_for(url)
        yield Server(url, time.perf_counter() - begin, process)
    finally:
        process.terminate()
        process.wait()
