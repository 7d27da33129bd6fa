"""What the tests share: the template as it stands in the working tree, and a render of each combination."""

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType

import pytest
from combinations import COMBINATIONS, EVERY, PAIRS, ROOT, WITH_DATA, Combination
from copier._jinja_ext import SandboxedEnvironment  # the class of all its environments
from filelock import FileLock
from pytest_copie.plugin import Copie

pytest_plugins = ["coverage_table", "in_browser"]
# Without it, each process that a test starts compiles again all that it imports.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

COPIER = Path(sys.executable).with_name("copier")
EVERY_COMBINATION = pytest.mark.parametrize(
    "combination",
    [*COMBINATIONS, *PAIRS, *(one for one in WITH_DATA if one["multi_turn"] == "full")],
    ids=lambda one: one.label,
)


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hide the developer's own Copier and git settings."""
    os.environ["COPIER_SETTINGS_PATH"] = str(tmp_path_factory.mktemp("settings") / "none.yml")
    os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    for role in ("AUTHOR", "COMMITTER"):
        os.environ[f"GIT_{role}_NAME"] = "Test"
        os.environ[f"GIT_{role}_EMAIL"] = "test@example.com"


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Compile each text of the template once; Copier compiles it again for each project and path."""
    compiled: dict[tuple[str, str | None], CodeType] = {}
    compile_text = SandboxedEnvironment.compile

    def compile_once(
        self: SandboxedEnvironment, source: str, name: str | None = None, *place: str
    ) -> CodeType:
        if (source, name) not in compiled:
            compiled[source, name] = compile_text(self, source, name, *place)
        return compiled[source, name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SandboxedEnvironment, "compile", compile_once)
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the template's files, as they are in the working tree and without its history."""
    copy = tmp_path_factory.mktemp("template")
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", directory=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def repository(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a git repository of one commit: what people copy from."""
    copy = tmp_path_factory.mktemp("repository") / "template"
    shutil.copytree(template, copy)
    git("init", "--quiet", directory=copy)
    commit(copy)
    return copy


class Renders(Mapping[str, Path]):
    """The rendered project of each combination, by name; the package is named like it.

    A project is rendered when it is first asked for, once for all of pytest's workers; each of them
    uses a copy of its own.
    """

    def __init__(self, copie: Copie, template: Path, shared: Path, own: Path) -> None:
        """Render nothing yet.

        Args:
            copie: What renders.
            template: The directory of the template.
            shared: The directory of what any worker has rendered.
            own: The directory of this worker's copies.
        """
        self._copie, self._template, self._shared, self._own = copie, template, shared, own
        shared.mkdir(exist_ok=True)

    def __getitem__(self, name: str) -> Path:
        """Return this worker's copy of a project."""
        rendered, copy = self._shared / name, self._own / name
        if not copy.exists():
            with FileLock(rendered.with_suffix(".lock")):
                if not rendered.exists():
                    shutil.move(render(self._copie, self._template, EVERY[name]), rendered)
            shutil.copytree(rendered, copy)
        return copy

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(EVERY)

    def __len__(self) -> int:
        """Return the number of projects."""
        return len(EVERY)


@pytest.fixture(scope="session")
def renders(
    template: Path, copie_session: Copie, tmp_path_factory: pytest.TempPathFactory
) -> Renders:
    """The rendered projects."""
    own = tmp_path_factory.mktemp("renders")
    # pytest's workers have their directories in one of the run.
    run = own.parent.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return Renders(copie_session, template, run / "rendered", own)


def render(copie: Copie, template: Path, combination: Combination, **others: object) -> Path:
    """Render one project and return its directory.

    Args:
        copie: What renders.
        template: The directory of the template.
        combination: The answers to the questions that offer a choice.
        others: Answers to other questions.
    """
    answers = {**combination, "package_name": combination.name, **others}
    result = copie.copy(answers, template_dir=template)
    assert result.exception is None, result.exception
    assert result.project_dir is not None
    asked = {name: result.answers[name] for name in answers}
    assert asked == answers, "The render did not take the answers."
    return result.project_dir


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder in order, without those of git and those that running makes.

    Args:
        folder: The folder.
    """
    others = {".git", "__pycache__", "instance"}
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not others & {*path.relative_to(folder).parts}
    ]


def git(*arguments: str, directory: Path) -> str:
    """Run git and return what it prints.

    Args:
        arguments: What follows `git` in the command.
        directory: Where to run it.
    """
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=directory, check=True, capture_output=True, text=True, encoding="utf-8"
    ).stdout


def commit(repository: Path, message: str = "Changes") -> None:
    """Commit all that a repository holds.

    Args:
        repository: The repository.
        message: What to say of it.
    """
    git("add", "--all", directory=repository)
    git("commit", "--quiet", "--allow-empty", "--message", message, directory=repository)


def copier(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the real `copier` command, with nobody at the keyboard.

    Args:
        arguments: What follows `copier` in the command.
        directory: Where to run it.
    """
    assert "--trust" not in arguments
    return subprocess.run(
        [COPIER, *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"},
    )


def assert_ruff_is_content(*paths: Path | str) -> None:
    """Check that ruff would neither format nor mend anything, whatever it did before.

    Args:
        paths: Files and directories, absolute or below the template's root.
    """
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["format", "--diff"], ["check"]):
        run = subprocess.run(
            [ruff, *command, "--no-cache", *paths], cwd=ROOT, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout + run.stderr


def assert_types(project: Path) -> None:
    """Check that a rendered project's types are sound.

    Args:
        project: The rendered project.
    """
    ty = Path(sys.executable).with_name("ty")
    run = subprocess.run(
        [ty, "check", "--python", sys.prefix], cwd=project, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how long each part took."""
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid.partition("[")[0]] += report.duration
    terminalreporter.section("seconds by part, on all workers together")
    for part, duration in sorted(seconds.items(), key=lambda item: -item[1]):
        if duration >= 1:
            terminalreporter.write_line(f"{duration:7.1f}  {part}")
