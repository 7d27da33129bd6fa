"""Processes for rendered projects, forked from one that has loaded Vizro and the SDKs already."""

import contextlib
import importlib
import multiprocessing
import os
import runpy
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

# Tests ask faster than users, and what one test counts is nothing to the next.
UNLIMITED = {
    "CHAT_RATE_LIMIT": "off",
    "CHAT_DAILY_LIMIT": "off",
    "RATE_LIMIT_STORAGE": "memory://",
}
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["preloaded"])


def run(
    target: object, project: Path, *arguments: object, environment: dict[str, str]
) -> BaseProcess:
    """Start a function of this module in a process of its own, inside a rendered project.

    Args:
        target: The function.
        project: The rendered project, which becomes the working directory.
        arguments: What else the function takes.
        environment: Variables to set.
    """
    process = CONTEXT.Process(target=_enter, args=(target, project, environment, *arguments))
    with pytest.MonkeyPatch.context() as patch:
        # The process that all others fork from starts here; Python 3.11 tells it no other path.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        process.start()
    return process


def _enter(target: object, project: Path, environment: dict[str, str], *arguments: object) -> None:
    """Make this process look like one that was started in the project, then call the function."""
    assert callable(target)
    os.chdir(project)
    assert METHOD == "spawn" or "preloaded" in sys.modules, "Python ignores what fails to load."
    for name in ("PYTEST_ADDOPTS", "PYTHONPATH"):  # meant for our tests, not for the project's
        os.environ.pop(name, None)
    os.environ.update(environment)
    sys.dont_write_bytecode = True  # a project holds nothing but what was rendered
    sys.path.insert(0, str(project / "src"))
    log = os.open(project.parent / f"{project.name}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    sys.exit(target(*arguments))


def own_tests() -> int:
    """Run the project's own tests, first those that make actions, as no order may be needed."""
    ours = ("copie", "hypothesispytest", "xdist")  # plugins that a project does not install
    without = [option for name in ("cacheprovider", *ours) for option in ("-p", f"no:{name}")]
    files = sorted(Path("tests").glob("test_*.py"), key=lambda one: one.name != "test_chat.py")
    return int(pytest.main(["-q", *without, *map(str, files)]))


def serve(package: str) -> None:
    """Serve the project's app, as the project's command would.

    Args:
        package: The name of the project's package.
    """
    importlib.import_module(f"{package}.app").main()


def run_module(name: str) -> None:
    """Run a module of a dashboard that has a chat beside it or none, as `python -m` would.

    Args:
        name: The name of the module.
    """
    sys.path[:0] = [".", "chat/src"]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def evaluate(*options: str) -> None:
    """Run the project's command that asks its model the questions of its owner.

    Args:
        options: What follows `evals/run.py` in the command.
    """
    sys.argv = ["evals/run.py", *options]
    sys.path.insert(0, "evals")  # as Python does for a script
    runpy.run_path("evals/run.py", run_name="__main__")


def log(project: Path) -> str:
    """Return what a project's processes have printed.

    Args:
        project: The rendered project.
    """
    path = project.parent / f"{project.name}.log"
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(url: str, seconds: float = 60) -> str:
    """Return what a server answers, as soon as it does.

    Args:
        url: What to ask for.
        seconds: How long to keep asking.
    """
    end = time.monotonic() + seconds
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(url, timeout=10) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as refusal:
            return str(refusal.read().decode())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Return as soon as a condition holds.

    Args:
        condition: What is waited for.
        seconds: How long to wait at most.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.02)


def start(project: Path, package: str, environment: dict[str, str], port: int) -> BaseProcess:
    """Serve a rendered project on a port of this machine, and return once it answers.

    Args:
        project: The rendered project.
        package: The name of its package.
        environment: Variables to set.
        port: Where to serve it.
    """
    address = {"HOST": "127.0.0.1", "PORT": str(port)}
    process = run(serve, project, package, environment=UNLIMITED | environment | address)
    wait_for(f"http://127.0.0.1:{port}/")
    return process


def assert_stops(project: Path, package: str, variable: str, environment: dict[str, str]) -> None:
    """Check that a setting stops a project's app with one line that says what is expected of it.

    Args:
        project: The rendered project; its log must be empty.
        package: The name of its package.
        variable: The setting that is wrong.
        environment: Variables to set.
    """
    process = run(serve, project, package, environment=environment)
    process.join(60)
    process.kill()
    lines = log(project).splitlines()
    assert process.exitcode == 1, lines
    assert len(lines) == 1 and lines[0].startswith(f"{variable} is invalid: set it to "), lines


@contextlib.contextmanager
def serving(project: Path, package: str, environment: dict[str, str]) -> Iterator[str]:
    """Serve a rendered project, and give the address of its app.

    Args:
        project: The rendered project.
        package: The name of its package.
        environment: Variables to set.
    """
    port = free_port()
    process = start(project, package, environment, port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()
