"""Releases: the changelog, the versions and the tags agree, and one command makes the next of each."""

import datetime
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from combinations import ROOT
from conftest import commit, copier, git
from packaging.version import Version

ENTRY = re.compile(r"^## (?:(\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})|Unreleased)\n\n\S", re.MULTILINE)
TOOLS = Path(sys.executable).parent


def version_in(pyproject: str) -> str:
    """Return the version that a pyproject.toml gives.

    Args:
        pyproject: Its text.
    """
    return str(tomllib.loads(pyproject)["project"]["version"])


def test_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = list(ENTRY.finditer(text))
    assert len(entries) == text.count("\n## "), "An entry lacks its version, its date or its text."
    assert all(entry[1] for entry in entries[1:]), "Only the first entry may be unreleased."
    released = [(Version(entry[1]), entry[2]) for entry in entries if entry[1]]
    assert released == sorted(released, reverse=True)
    assert len({version for version, _ in released}) == len(released)
    newest, date = released[0]
    assert str(newest) == version_in((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert datetime.date.fromisoformat(date)


def test_tags_are_what_the_changelog_says() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not (ROOT / ".git").exists():
        pytest.skip("This is no clone: it has no tags.")
    for tag in git("tag", "--list", "v*", directory=ROOT).split():
        assert f"\n## {tag[1:]} - " in changelog, f"The changelog has no entry for {tag}."
        assert version_in(git("show", f"{tag}:pyproject.toml", directory=ROOT)) == tag[1:]


@pytest.fixture
def clone(template: Path, tmp_path: Path) -> Path:
    """The working tree as a repository of its own."""
    copy = shutil.copytree(template, tmp_path / "clone")
    git("init", "--quiet", directory=copy)
    written(copy, "")
    return copy


def written(clone: Path, unreleased: str) -> None:
    """Replace what a changelog has not released yet, and commit it.

    Args:
        clone: The repository.
        unreleased: The entry.
    """
    path = clone / "CHANGELOG.md"
    text = path.read_text(encoding="utf-8")
    start = re.search(r"^## (Unreleased|\d)", text, re.MULTILINE)
    newest = re.search(r"^## \d", text, re.MULTILINE)
    assert start and newest
    path.write_text(text[: start.start()] + unreleased + text[newest.start() :], encoding="utf-8")
    commit(clone)


def release(clone: Path) -> subprocess.CompletedProcess[str]:
    """Run the command that makes a release.

    Args:
        clone: The repository.
    """
    environment = {name: text for name, text in os.environ.items() if "PYTEST" not in name}
    return subprocess.run(
        [TOOLS / "bump-my-version", "bump", "minor"],
        cwd=clone,
        env=environment | {"PATH": f"{TOOLS}{os.pathsep}{environment['PATH']}"},
        capture_output=True,
        text=True,
    )


def test_one_command_makes_a_release(clone: Path) -> None:
    old = version_in((clone / "pyproject.toml").read_text(encoding="utf-8"))
    written(clone, "## Unreleased\n\n- A change.\n\n")
    run = release(clone)
    assert run.returncode == 0, run.stdout + run.stderr
    new = version_in((clone / "pyproject.toml").read_text(encoding="utf-8"))
    assert Version(new) > Version(old)
    assert git("describe", directory=clone) == f"v{new}\n"
    today = datetime.date.today().isoformat()
    changed = git("show", "--format=", "--unified=0", "--name-only", directory=clone).split()
    assert changed == ["CHANGELOG.md", "pyproject.toml", "uv.lock"]
    assert f"\n## {new} - {today}\n\n- A change.\n" in (clone / "CHANGELOG.md").read_text("utf-8")
    lock = tomllib.loads((clone / "uv.lock").read_text(encoding="utf-8"))["package"]
    assert [one["version"] for one in lock if one["source"] == {"virtual": "."}] == [new]
    assert not git("status", "--porcelain", directory=clone)


@pytest.mark.parametrize(
    ("unreleased", "says"),
    [
        ("", "Did not find '## Unreleased'"),
        ("## Unreleased\n\n", "An entry lacks its version, its date or its text."),
    ],
    ids=["nothing", "empty"],
)
def test_nothing_to_release_is_refused(clone: Path, unreleased: str, says: str) -> None:
    written(clone, unreleased)
    run = release(clone)
    assert run.returncode != 0
    assert says in run.stdout + run.stderr
    assert not git("tag", directory=clone)
    assert git("log", "-1", "--format=%s", directory=clone) == "Changes\n"


def test_uncommitted_work_is_refused(clone: Path) -> None:
    written(clone, "## Unreleased\n\n- A change.\n\n")
    (clone / "README.md").write_text("Half done.", encoding="utf-8")
    run = release(clone)
    assert run.returncode != 0
    assert "not clean" in run.stdout + run.stderr
    assert not git("tag", directory=clone)


def test_owner_follows_releases(clone: Path, tmp_path: Path) -> None:
    """A plain copy takes the newest release, a plain update the next, and neither what is unreleased."""
    project = tmp_path / "project"

    def recorded() -> str:
        found = re.search(r"^_commit: (.+)$", (project / ".copier-answers.yml").read_text(), re.M)
        assert found
        return found[1]

    def released(change: str) -> str:
        (clone / "template" / ".gitattributes").write_text(f"{change}\n", encoding="utf-8")
        written(clone, f"## Unreleased\n\n- {change}\n\n")
        assert release(clone).returncode == 0
        return git("describe", directory=clone).strip()

    first = released("# First")
    (clone / "template" / ".gitattributes").write_text("# Not yet\n", encoding="utf-8")
    commit(clone)
    run = copier("copy", "--defaults", str(clone), str(project), directory=tmp_path)
    assert run.returncode == 0, run.stderr
    assert recorded() == first
    assert (project / ".gitattributes").read_text(encoding="utf-8") == "# First\n"
    git("init", "--quiet", directory=project)
    commit(project)
    check = ("check-update", "--quiet")
    assert copier(*check, directory=project).returncode == 0
    second = released("# Second")
    assert copier(*check, directory=project).returncode == 2
    run = copier("update", "--defaults", directory=project)
    assert run.returncode == 0, run.stderr
    assert recorded() == second
    assert (project / ".gitattributes").read_text(encoding="utf-8") == "# Second\n"


@pytest.mark.skipif(sys.platform == "win32", reason="GitHub publishes from Linux.")
def test_workflow_publishes_the_entry_of_its_tag(clone: Path) -> None:
    written(clone, "## Unreleased\n\n- A change.\n\n")
    assert release(clone).returncode == 0
    path = clone / ".github" / "workflows" / "release.yml"
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML takes `on` for a boolean
    (step,) = (one for one in workflow["jobs"]["publish"]["steps"] if "gh release" in str(one))
    tag = git("describe", directory=clone).strip()
    notes = subprocess.run(
        ["bash", "-c", step["run"].partition("|")[0]],
        cwd=clone,
        env=os.environ | {"GITHUB_REF_NAME": tag},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert notes.strip() == "- A change."
