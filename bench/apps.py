"""What is measured: rendered projects and the documentation's code, installed and served like any other."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import processes
import psutil
from copier import run_copy
from stand_in import StandIn

HERE = Path(__file__).parent
PROVIDERS = ("anthropic", "openai")
GEVENT = ("--worker-class=gevent", "--workers=2")
UV = os.environ.get("UV") or shutil.which("uv") or "uv"

# What the owner of this machine may have set: nothing of it may count.
OWNERS = ("_KEY", "_BASE_URL", "_PROXY", "_proxy", "VIRTUAL_ENV")


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


class Apps:
    """Rendered projects, with their own gunicorn.conf.py, and the documentation's code."""

    def __init__(self, provider: StandIn, folder: Path) -> None:
        """Render and install the projects, and copy the documentation's code beside them.

        Args:
            provider: The stand-in for the providers.
            folder: An empty directory.
        """
        self._provider = provider
        self._folder = folder
        shutil.copytree(HERE / "documentation", folder / "documentation")
        for name in PROVIDERS:
            for mode in ("streaming", "one_shot"):
                data = {"provider": name, "streaming": mode == "streaming"}
                project = self.project(name, mode)
                run_copy(str(HERE.parent), project, data, vcs_ref="HEAD", defaults=True, quiet=True)
            install = [UV, "sync", "--quiet", "--no-dev", "--compile-bytecode"]
            project = self.project(name)
            subprocess.run(install, cwd=project, env=self.environment(name), check=True)

    def project(self, provider: str, mode: str = "streaming") -> Path:
        """Return the directory of a rendered project; the one that streams is installed.

        Args:
            provider: Its provider.
            mode: How its answers come: `streaming` or `one_shot`.
        """
        return self._folder / f"{provider}_{mode}"

    def environment(self, provider: str) -> dict[str, str]:
        """Return the variables that an app runs with.

        Args:
            provider: Its provider.
        """
        inherited = {name: one for name, one in os.environ.items() if not name.endswith(OWNERS)}
        return inherited | processes.UNLIMITED | self._provider.environment(provider)

    @contextmanager
    def rendered(self, provider: str, mode: str = "streaming") -> Iterator[Server]:
        """Serve a rendered project.

        Args:
            provider: Its provider.
            mode: How its answers come: `streaming` or `one_shot`.
        """
        project = self.project(provider, mode)
        with self._serving(provider, project, project / "src", "my_chat.app:app") as server:
            yield server

    @contextmanager
    def documented(
        self, provider: str, mode: str = "streaming", options: tuple[str, ...] = GEVENT
    ) -> Iterator[Server]:
        """Serve the documentation's code, from the environment of the rendered project.

        Args:
            provider: Its provider.
            mode: How its answers come: `streaming` or `one_shot`.
            options: What gunicorn is told.
        """
        code = self._folder / "documentation"
        with self._serving(provider, code, code, f"{provider}_{mode}:app", *options) as server:
            yield server

    @contextmanager
    def _serving(
        self, provider: str, folder: Path, code: Path, app: str, *options: str
    ) -> Iterator[Server]:
        """Serve an app with gunicorn from a folder, and give it once its first page has come."""
        port = processes.free_port()
        program = self.project(provider) / ".venv" / "bin" / "gunicorn"
        with (folder / "gunicorn.log").open("wb") as log:
            begin = time.perf_counter()
            process = psutil.Popen(
                [program, app, *options, "--bind", f"127.0.0.1:{port}"],
                cwd=folder,
                env=self.environment(provider) | {"PYTHONPATH": str(code)},
                stdout=log,
                stderr=log,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            processes.wait_for(url)
            yield Server(url, time.perf_counter() - begin, process)
        finally:
            process.terminate()
            process.wait()
