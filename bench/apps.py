"""The apps that are measured, installed and served as their documentation says."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import processes
import psutil
from copier import run_copy
from stand_in import StandIn

HERE = Path(__file__).parent
PROVIDERS = ("anthropic", "openai")
GEVENT = ("--worker-class=gevent", "--workers=2")
CHAINLIT = "chainlit==2.12.0"
UV = os.environ.get("UV") or shutil.which("uv") or "uv"

# What the owner of this machine may have set: nothing of it may count.
OWNERS = ("_KEY", "_BASE_URL", "_PROXY", "_proxy", "VIRTUAL_ENV")


@dataclass
class Server:
    """A served app.

    Attributes:
        url: Its address.
        process: The process that was started; its children are the workers.
        has_endpoint: Whether it answers at `POST /chat`, and not at the library's own address.
    """

    url: str
    process: psutil.Process
    has_endpoint: bool = False

    def memory(self) -> float:
        """Return the memory of all its processes, in MB; what they share counts once."""
        return sum(one.memory_full_info().pss for one in tree(self.process)) / 1e6


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that it has started.

    Args:
        process: The process.
    """
    return [process, *process.children(recursive=True)]


def cpu(processes: list[psutil.Process]) -> dict[int, float]:
    """Return the seconds that each process has computed, without those that have ended.

    Args:
        processes: The processes.
    """
    seconds = {}
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            seconds[one.pid] = sum(one.cpu_times()[:2])
    return seconds


class Apps:
    """Rendered projects with their own gunicorn.conf.py, the documentation's code, and Chainlit."""

    def __init__(self, provider: StandIn, folder: Path) -> None:
        """Copy what is not rendered.

        Args:
            provider: The stand-in for the providers.
            folder: An empty directory.
        """
        self._provider = provider
        self._folder = folder
        self.project = cache(self._project)
        for name in ("documentation", "chainlit_apps"):
            shutil.copytree(HERE / name, folder / name)

    def _project(self, provider: str, commit: str) -> Path:
        """Return the directory of a rendered project, installed.

        Args:
            provider: Its provider.
            commit: The template's commit; HEAD has uncommitted changes too.
        """
        project = self._folder / f"{provider}-{commit.replace('^', '-')}"
        data = {"provider": provider}
        run_copy(str(HERE.parent), project, data, vcs_ref=commit, defaults=True, quiet=True)
        install = [UV, "sync", "--quiet", "--no-dev", "--compile-bytecode"]
        subprocess.run(install, cwd=project, env=self._environment(provider), check=True)
        return project

    def _environment(self, provider: str) -> dict[str, str]:
        """Return the variables that an app runs with.

        Args:
            provider: Its provider.
        """
        inherited = {name: one for name, one in os.environ.items() if not name.endswith(OWNERS)}
        return inherited | processes.UNLIMITED | self._provider.environment(provider)

    @contextmanager
    def rendered(self, provider: str, commit: str = "HEAD") -> Iterator[Server]:
        """Serve a rendered project.

        Args:
            provider: Its provider.
            commit: The template's commit.
        """
        project = self.project(provider, commit)
        has_endpoint = (project / "src" / "my_chat" / "web" / "endpoint.py").exists()
        # Before the endpoint, a blank limit was none.
        no_limits = {} if has_endpoint else dict.fromkeys(processes.UNLIMITED, "")
        app = "my_chat.app:app"
        with self._gunicorn(provider, commit, project / "src", app, **no_limits) as server:
            server.has_endpoint = has_endpoint
            yield server

    @contextmanager
    def documented(self, provider: str) -> Iterator[Server]:
        """Serve the documentation's code, from the environment of the rendered project.

        Args:
            provider: Its provider.
        """
        code = self._folder / "documentation"
        app = f"{provider}_streaming:app"
        with self._gunicorn(provider, "HEAD", code, app, *GEVENT) as server:
            yield server

    @contextmanager
    def chainlit(self, provider: str) -> Iterator[Server]:
        """Serve a Chainlit app with Chainlit's own command, in an environment of its own.

        Args:
            provider: Its provider.
        """
        port = processes.free_port()
        sdks = (f"--with={name}=={version(name)}" for name in PROVIDERS)
        uv = [UV, "run", "--isolated", "--no-project", f"--with={CHAINLIT}", *sdks]
        app = ["chainlit", "run", f"{provider}_streaming.py", "--headless", f"--port={port}"]
        with self._serving(provider, self._folder / "chainlit_apps", port, [*uv, *app]) as server:
            yield server

    @contextmanager
    def _gunicorn(
        self, provider: str, commit: str, code: Path, app: str, *options: str, **variables: str
    ) -> Iterator[Server]:
        """Serve an app with the gunicorn of a rendered project."""
        port = processes.free_port()
        project = self.project(provider, commit)
        program = project / ".venv" / "bin" / "gunicorn"
        command = [program, app, *options, "--bind", f"127.0.0.1:{port}", "--pythonpath", code]
        folder = project if code.is_relative_to(project) else code
        with self._serving(provider, folder, port, command, **variables) as server:
            yield server

    @contextmanager
    def _serving(
        self, provider: str, folder: Path, port: int, command: list[str | Path], **variables: str
    ) -> Iterator[Server]:
        """Run a command that serves an app, and give it once its first page has come."""
        environment = self._environment(provider) | variables
        with (folder / "server.log").open("ab") as log:
            process = psutil.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            processes.wait_for(url)
            yield Server(url, process)
        finally:
            for one in reversed(tree(process)):
                one.terminate()
            process.wait()
