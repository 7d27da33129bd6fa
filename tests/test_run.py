"""Every rendered project passes its own tests, and one of each provider is installed and started for real."""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import processes
import pytest
from combinations import PROVIDERS, Combination
from conftest import EVERY_COMBINATION, git
from faults import PACKAGES, packages

UV = os.environ.get("UV") or shutil.which("uv")

# What an owner may have lying about: the tests of a project must neither use nor spend it.
OWNERS_ENVIRONMENT = {
    "ANTHROPIC_API_KEY": "a-real-key",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
    "OPENAI_API_KEY": "a-real-key",
    "OPENAI_BASE_URL": "http://127.0.0.1:9",
    "AZURE_OPENAI_API_KEY": "a-real-key",
    "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9",
    "AWS_BEARER_TOKEN_BEDROCK": "a-real-key",
    "AWS_ACCESS_KEY_ID": "a-real-id",
    "AWS_SECRET_ACCESS_KEY": "a-real-key",
    "AWS_PROFILE": "real",
    "AWS_REGION": "eu-north-1",
    "ANTHROPIC_BEDROCK_MANTLE_BASE_URL": "http://127.0.0.1:9",
    "GOOGLE_API_KEY": "a-real-key",
    "GEMINI_API_KEY": "a-real-key",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
    "GOOGLE_GENAI_USE_ENTERPRISE": "true",
    "GOOGLE_CLOUD_PROJECT": "a-real-project",
    "GOOGLE_APPLICATION_CREDENTIALS": "/no/such/file",
    "COMPATIBLE_API_KEY": "a-real-key",
    "COMPATIBLE_BASE_URL": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "NO_PROXY": "",
    "no_proxy": "example.com",
    "SSL_CERT_FILE": "/no/such/file",
    "HOST": "0.0.0.0",
    "PORT": "1",
    "WEB_CONCURRENCY": "9",
    "CHAT_USERS": "owner:a-real-password",
    "CHAT_RATE_LIMIT": "1/hour",
    "CHAT_DAILY_LIMIT": "1",
    "RATE_LIMIT_STORAGE": "redis://127.0.0.1:9",
    "TRUSTED_PROXIES": "1",
    "AUTH_PROXY_HEADER": "Another",
    "AUTH_PROXY_ADDRESSES": "192.0.2.1",
}


@EVERY_COMBINATION
def test_own_tests_pass(renders: dict[str, Path], combination: Combination) -> None:
    project = renders[combination.name]
    process = processes.run(processes.own_tests, project, environment={})
    process.join()
    assert process.exitcode == 0, processes.log(project)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_own_tests_ignore_the_owners_environment(
    renders: dict[str, Path], provider: str, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(renders[f"{provider}_streaming_full"], project)
    lines = [f"{name}={value}" for name, value in OWNERS_ENVIRONMENT.items()]
    (project / ".env").write_text("\n".join(lines))
    process = processes.run(processes.own_tests, project, environment=OWNERS_ENVIRONMENT)
    process.join()
    assert process.exitcode == 0, processes.log(project)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_installed_project_starts(renders: dict[str, Path], provider: str, tmp_path: Path) -> None:
    """Follow the rendered README: install with uv, run the tests, start the app."""
    package = f"{provider}_one_shot_window"
    project = tmp_path / "project"
    shutil.copytree(renders[package], project)
    git("init", "--quiet", directory=project)
    uv("sync", directory=project)
    uv("run", "pytest", "-q", directory=project)
    installed = {
        one["name"] for one in tomllib.loads((project / "uv.lock").read_text("utf-8"))["package"]
    }
    assert installed & PACKAGES == packages(provider)
    assert git(
        "status", "--porcelain", "--ignored", "uv.lock", ".venv", directory=project
    ).split() == [
        "??",
        "uv.lock",
        "!!",
        ".venv/",
    ]

    servers = [package.replace("_", "-")]
    if provider == PROVIDERS[0]:  # the files that these two start are the same for all
        servers += [f"python -m {package}", f"gunicorn {package}.app:app"]
    for server in servers:
        with started(project, server):
            pass


def environment() -> dict[str, str]:
    """Return the variables of this process without those that say where it is installed."""
    ours = ("VIRTUAL_ENV", "UV", "PYTEST_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def uv(*arguments: str, directory: Path) -> None:
    """Run uv.

    Args:
        arguments: What follows `uv` in the command.
        directory: Where to run it.
    """
    assert UV, "uv is needed to install a project: start the tests with `uv run pytest`."
    command = [UV, *arguments]
    run = subprocess.run(command, cwd=directory, env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@contextmanager
def started(directory: Path, server: str) -> Iterator[str]:
    """Start an installed app, and give its address once it answers.

    Args:
        directory: Where to start it; its log is written beside.
        server: The command.
    """
    port = processes.free_port()
    with (directory.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(UV), "run", *server.split()],
            cwd=directory,
            env=environment() | {"PORT": str(port)},
            stdout=log,
            stderr=log,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        assert "<title>" in processes.wait_for(f"{address}/", seconds=120)
        yield address
    finally:
        process.terminate()
        process.wait()
