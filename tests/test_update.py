"""`copier update` by its real command: from every old version, with an owner's edits, to other answers."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
import yaml
from combinations import (
    CHOICES,
    COMBINATIONS,
    PAIRS,
    PROVIDERS,
    QUESTIONS,
    ROOT,
    Combination,
    choices,
    is_asked,
)
from conftest import COPIER, commit, copier, files_of, git, render
from copier import run_copy
from copier.__main__ import CopierApp
from copier._template import load_template_config
from pytest_copie.plugin import Copie

TEMPLATE = ("copier.yml", "template", "providers", "auth", "macros")
FIRST = "template/src/{{ package_name }}/web/endpoint.py.jinja"  # supported versions have it
MOST = 4  # versions beside the releases; more would take too long
QUESTIONS_OF_THE_OWNER = "evals/questions.toml"  # no update changes it
# Early versions rendered them for every answer; Copier leaves files alone that `_exclude` names.
LEFT_ALONE = ("login.html", "passwords.py")


def listed(*arguments: str) -> list[str]:
    """Return the lines that git prints about this repository; none where it is no repository.

    Args:
        arguments: What follows `git` in the command.
    """
    try:
        return git(*arguments, directory=ROOT).split()
    except subprocess.CalledProcessError:
        return []


def old_versions() -> list[str]:
    """Return the commits to update from, the oldest first: each release, and some in between."""
    first = listed("log", "--first-parent", "--format=%H", "--diff-filter=A", "--", FIRST)[-1:]
    if not first:
        return ["HEAD"]
    since = [*first, *listed("rev-list", "--reverse", "--first-parent", f"{first[0]}..HEAD")]
    changes = set(listed("log", "--first-parent", "--format=%H", "--", *TEMPLATE))
    releases = listed("rev-list", "--no-walk", "--tags=v*") or listed(
        "log", "--format=%H", "-G^## [0-9]", "--", "CHANGELOG.md"
    )
    others = [commit for commit in since if commit in changes]
    if listed("rev-parse", "--is-shallow-repository") == ["true"]:
        warnings.warn(
            f"This clone is shallow: updates are tested from {len(others)} versions.", stacklevel=1
        )
    step = max(1, -(-len(others) // MOST))
    kept = {*releases, *others[::step], *others[-1:]}
    return [commit for commit in since if commit in kept]


VERSIONS = old_versions()
# From these, projects are updated with an owner's edits, from the others without.
EDITED = {*VERSIONS[:1], VERSIONS[len(VERSIONS) // 2], *VERSIONS[-1:]}


def knows(version: str, combination: Combination) -> bool:
    """Return whether a version of the template has a combination's provider.

    Args:
        version: The commit.
        combination: The answers.
    """
    return bool(listed("ls-tree", version, f"providers/{combination['provider']}/facts.jinja"))


# One project of each provider, each of another mode and policy than its neighbour.
SAMPLES = [
    next(
        one
        for one in COMBINATIONS
        if one["provider"] == provider
        and one["streaming"] is (number % 2 == 0)
        and one["multi_turn"] == choices("multi_turn")[number % len(choices("multi_turn"))]
    )
    for number, provider in enumerate(PROVIDERS)
]


def changes() -> Iterator[tuple[Combination, Combination]]:
    """Yield single-answer changes: each way from one choice to another once, from ever new starts."""
    starts = [*COMBINATIONS, *PAIRS]
    for question in CHOICES:
        for old in choices(question):
            for new in choices(question):
                if old != new:
                    start = next(one for one in starts if one.get(question) == old)
                    starts.append(starts.pop(starts.index(start)))
                    yield start, Combination(start | {question: new})


def label(value: object) -> str:
    """Return how a parameter is shown.

    Args:
        value: A combination or a commit.
    """
    return value.label if isinstance(value, Combination) else str(value)[:7]


@pytest.fixture(scope="session")
def history(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with its history, and the working tree as its newest version."""
    clone = tmp_path_factory.mktemp("history") / "template"
    git("clone", "--quiet", str(ROOT), str(clone), directory=ROOT)
    for path in clone.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(template, clone, dirs_exist_ok=True)
    commit(clone)
    return clone


def project_of(
    history: Path, project: Path, combination: Combination, version: str, **others: object
) -> Path:
    """Render a project from a version of the template, and commit it.

    Args:
        history: The template.
        project: Where to render it.
        combination: The answers.
        version: The commit.
        others: Answers to questions that offer no choice.
    """
    answers = {**combination, "package_name": combination.name, **others}
    run_copy(str(history), project, answers, vcs_ref=version, defaults=True, quiet=True)
    git("init", "--quiet", directory=project)
    commit(project)
    return project


def updated(project: Path, **answers: object) -> None:
    """Update a project to the working tree, as its owner would, and check that nothing conflicts.

    Args:
        project: The project.
        answers: Answers to change.
    """
    data = [option for name in answers for option in ("--data", f"{name}={answers[name]}")]
    command = ["copier", "update", "--defaults", "--vcs-ref", "HEAD", *data]
    with contextlib.chdir(project):  # in this process, as Python and Copier take a second to start
        _, status = CopierApp.run(command, exit=False)
    assert status == 0
    assert not git("ls-files", "--unmerged", directory=project), "Two versions are in conflict."
    assert not list(project.rglob("*.rej"))


def fresh_copy(history: Path, copy: Path, project: Path, combination: Combination) -> Path:
    """Render a project anew with the answers that an old one recorded, such as its model.

    Args:
        history: The template.
        copy: Where to render it.
        project: The old project.
        combination: Its answers to the questions that offer a choice.
    """
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    others = {name: answers[name] for name in answers if name in QUESTIONS and not choices(name)}
    return project_of(history, copy, combination, "HEAD", **others)


def contents(project: Path) -> dict[str, str]:
    """Return the text of each file, without what Copier records of where the project is from.

    Args:
        project: The project.
    """
    texts = {
        path.relative_to(project).as_posix(): re.sub(
            r"^_(commit|src_path): .*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        for path in files_of(project)
    }
    assert texts.pop(QUESTIONS_OF_THE_OWNER)
    return texts


@pytest.mark.parametrize(
    ("version", "combination"),
    [
        (version, one)
        for version in VERSIONS
        for one in SAMPLES
        if version not in EDITED and knows(version, one)
    ],
    ids=label,
)
def test_old_becomes_new(
    history: Path,
    tmp_path: Path,
    version: str,
    combination: Combination,
) -> None:
    project = project_of(history, tmp_path / "project", combination, version)
    web = Path("src", combination.name, "web")
    left = {f"{web.as_posix()}/{name}" for name in LEFT_ALONE if (project / web / name).exists()}
    updated(project)
    fresh = fresh_copy(history, tmp_path / "fresh", project, combination)
    updated_files = contents(project)
    assert all(len(updated_files.pop(name).splitlines()) == 1 for name in left)
    assert updated_files == contents(fresh)


@pytest.mark.parametrize(("before", "after"), list(changes()), ids=label)
def test_changed_mind(
    history: Path,
    template: Path,
    copie: Copie,
    tmp_path: Path,
    before: Combination,
    after: Combination,
) -> None:
    project = project_of(history, tmp_path / "project", before, "HEAD")
    edit(project, before)
    commit(project)
    (changed,) = (name for name in after if after[name] != before[name])
    updated(project, **{changed: after[changed]})
    fresh = render(copie, template, after)
    edit(fresh, after)
    expected = {
        name.replace(after.name, before.name): text.replace(after.name, before.name).replace(
            after.label, before.label
        )
        for name, text in contents(fresh).items()
    }
    assert contents(project) == expected


# The package's name is left out: another would move every file.
OTHER_TEXTS = {
    "project_name": 'Sales "2027"',
    "anthropic_model": "claude-other",
    "openai_model": "gpt-other",
    "azure_model": "other-deployment",
    "bedrock_model": "anthropic.claude-other",
    "gemini_model": "gemini-other",
    "compatible_base_url": "http://localhost:9999/v1",
    "compatible_model": "other",
    "history_turns": 3,
}


@pytest.mark.parametrize(
    "question", [one for one in QUESTIONS if not choices(one) and one != "package_name"]
)
def test_changed_text(history: Path, tmp_path: Path, question: str) -> None:
    combination = next(one for one in COMBINATIONS if is_asked(question, one))
    project = project_of(history, tmp_path / "project", combination, "HEAD")
    edit(project, combination)
    commit(project)
    changed = {question: OTHER_TEXTS[question]}
    updated(project, **changed)
    fresh = project_of(history, tmp_path / "fresh", combination, "HEAD", **changed)
    edit(fresh, combination)
    assert contents(project) == contents(fresh)
    (answer,) = changed.values()
    assert str(answer) in (project / ".copier-answers.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("version", "combination"),
    [(version, one) for version in sorted(EDITED) for one in SAMPLES if knows(version, one)],
    ids=label,
)
def test_what_the_owner_wrote_stays(
    history: Path,
    tmp_path: Path,
    version: str,
    combination: Combination,
) -> None:
    project = project_of(history, tmp_path / "project", combination, version)
    edit(project, combination)
    commit(project)
    updated(project)
    fresh = fresh_copy(history, tmp_path / "fresh", project, combination)
    edit(fresh, combination)
    assert contents(project) == contents(fresh)
    tests = processes.run(processes.own_tests, project, environment={})
    tests.join()
    assert tests.exitcode == 0, processes.log(project)


def edit(project: Path, combination: Combination) -> None:
    """Change a project where owners do, next to the template's own lines too.

    Args:
        project: The project.
        combination: Its answers.
    """
    package = project / "src" / combination.name
    after = {
        package / "dashboard.py": {
            "            *pages,\n": (
                '            vm.Page(title="Other", components=[vm.Card(text="Other.")]),\n'
            ),
            'SYSTEM_PROMPT = """\\\n': "You like numbers.\n",
        },
        package / "app.py": {
            "        system_prompt=dashboard.SYSTEM_PROMPT,\n": (
                '        model="another-model",\n        max_tokens=100,\n'
            ),
        },
        project / "pyproject.toml": {'    "vizro>=1.0,<2",\n': '    "pandas>=2",\n'},
    }
    for path, edits in after.items():
        text = path.read_text(encoding="utf-8")
        for line, added in edits.items():
            assert text.count(line) == 1, f"{path.name} has lost a line: {line}"
            text = text.replace(line, line + added)
        path.write_text(text, encoding="utf-8")
    (package / "numbers_of_ours.py").write_text("ANSWER = 42\n", encoding="utf-8")
    (project / "Dockerfile").unlink()
    readme = project / "README.md"
    text = readme.read_text(encoding="utf-8")
    serve = "## Serve it\n"
    assert text.count(serve) == 1
    text = text.replace(serve, f"## House rules\n\nBe kind.\n\n{serve}")
    readme.write_text(text, encoding="utf-8")


def test_questions_stay_until_their_owner_deletes_them(history: Path, tmp_path: Path) -> None:
    combination = next(one for one in COMBINATIONS if one["provider"] == "demo")
    project = project_of(history, tmp_path / "project", combination, "HEAD")
    questions = project / QUESTIONS_OF_THE_OWNER
    questions.write_text("# Mine.\n", encoding="utf-8")
    commit(project)
    updated(project, provider="anthropic")
    assert questions.read_text(encoding="utf-8") == "# Mine.\n"
    questions.unlink()
    commit(project)
    updated(project, data=True)
    others = {"provider": "anthropic", "data": True}
    fresh = project_of(history, tmp_path / "fresh", combination, "HEAD", **others)
    assert questions.read_text("utf-8") == (fresh / QUESTIONS_OF_THE_OWNER).read_text("utf-8")


@pytest.mark.parametrize("combination", SAMPLES, ids=label)
def test_nothing_new_changes_nothing(
    history: Path, tmp_path: Path, combination: Combination
) -> None:
    project = project_of(history, tmp_path / "project", combination, "HEAD")
    updated(project)
    assert not git("status", "--porcelain", directory=project)


def test_conflict_is_marked_where_it_is(history: Path, tmp_path: Path) -> None:
    """The owner rewrote a line that the template has rewritten since."""
    combination = SAMPLES[0]
    line = '"""The application: `app` is the WSGI object, `main` runs the development server."""'
    project = project_of(history, tmp_path / "project", combination, "HEAD")
    app = project / "src" / combination.name / "app.py"
    app.write_text(app.read_text(encoding="utf-8").replace(line, '"""Mine."""'), encoding="utf-8")
    commit(project)
    newer = shutil.copytree(history, tmp_path / "newer")
    (theirs,) = newer.glob("template/src/*/app.py.jinja")
    text = theirs.read_text(encoding="utf-8")
    assert line in text
    theirs.write_text(text.replace(line, '"""Theirs."""'), encoding="utf-8")
    commit(newer)
    answers = project / ".copier-answers.yml"
    source = answers.read_text(encoding="utf-8").replace(str(history), str(newer))
    answers.write_text(source, encoding="utf-8")
    commit(project)
    run = copier("update", "--defaults", "--vcs-ref", "HEAD", directory=project)
    assert run.returncode == 0, run.stderr
    unmerged = git("diff", "--name-only", "--diff-filter=U", directory=project).split()
    assert unmerged == [app.relative_to(project).as_posix()]
    text = app.read_text(encoding="utf-8")
    assert all(part in text for part in ("<<<<<<<", '"""Mine."""', '"""Theirs."""', ">>>>>>>"))
    found = subprocess.run(["git", "diff", "--check"], cwd=project, capture_output=True, text=True)
    assert "leftover conflict marker" in found.stdout


def test_recopy_is_a_way_out(history: Path, renders: dict[str, Path], tmp_path: Path) -> None:
    combination = SAMPLES[0]
    project = project_of(history, tmp_path / "project", combination, VERSIONS[0])
    edit(project, combination)
    commit(project)
    run = copier("recopy", "--defaults", "--overwrite", "--vcs-ref", "HEAD", directory=project)
    assert run.returncode == 0, run.stderr
    ours = project / "src" / combination.name / "numbers_of_ours.py"
    assert ours.is_file()
    ours.unlink()
    assert contents(project) == contents(renders[combination.name])


NEEDS_THE_OWNER = {"the same lines", "a refused push", "no right to ask"}


@pytest.mark.skipif(sys.platform == "win32", reason="GitHub runs the workflow on Linux.")
@pytest.mark.parametrize(
    "case", ["newer", "nothing newer", "asked before", "no template", *sorted(NEEDS_THE_OWNER)]
)
def test_workflow_asks_for_the_update(history: Path, tmp_path: Path, case: str) -> None:
    """The script of the project's workflow, with real git and Copier; GitHub's command is recorded."""
    combination = SAMPLES[0]
    newer = shutil.copytree(history, tmp_path / "newer")
    project = project_of(newer, tmp_path / "project", combination, "HEAD")
    readme = "template/README.md.jinja"
    if case == "the same lines":
        rewritten(project / "README.md", "Mine.")
    commit(project)
    if case != "nothing newer":
        rewritten(newer / readme, "Theirs.")
        commit(newer)
    if case == "no template":
        newer.rename(tmp_path / "elsewhere")
    remote = tmp_path / "remote"
    git("clone", "--quiet", "--bare", str(project), str(remote), directory=tmp_path)
    git("remote", "add", "origin", str(remote), directory=project)
    if case == "a refused push":
        hook = remote / "hooks" / "pre-receive"
        hook.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        hook.chmod(0o755)

    tools = tmp_path / "tools"
    tools.mkdir()
    found = "1" if case == "asked before" else "0"
    refused = "1" if case == "no right to ask" else "0"
    for name, script in {
        "uvx": f'shift; exec "{COPIER}" "$@"',
        "gh": f'echo "$1 $2" >> "{tmp_path / "asked"}"\n'
        f'case "$1 $2" in *" list") echo {found};; "pr create") exit {refused};; esac',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    workflow = yaml.safe_load((project / ".github/workflows/update.yml").read_text("utf-8"))
    steps = [one for one in workflow["jobs"]["update"]["steps"] if one.get("shell") == "bash"]
    assert ["env" in step for step in steps] == [False, True], "What is downloaded gets no token."
    printed = ""
    for step in steps:
        run = subprocess.run(
            # As GitHub does.
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=project,
            env=os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        printed += run.stdout
    asked = (tmp_path / "asked").read_text().split("\n") if (tmp_path / "asked").exists() else []
    assert ("::warning::" in printed) == (case == "no template")
    assert ("pr create" in asked) == (case in ("newer", "no right to ask"))
    assert ("issue create" in asked) == (case in NEEDS_THE_OWNER)
    branches = git("branch", "--list", "template-*", "--format=%(refname)", directory=remote)
    assert bool(branches) == (case in ("newer", "no right to ask"))
    if branches:
        assert "Theirs." in git("show", f"{branches.strip()}:README.md", directory=remote)


def rewritten(path: Path, text: str) -> None:
    """Replace the first line of a README that names Vizro.

    Args:
        path: The README.
        text: What to write.
    """
    old = path.read_text(encoding="utf-8")
    new = re.sub(r"^A \[Vizro\].*$", text, old, count=1, flags=re.MULTILINE)
    assert new != old
    path.write_text(new, encoding="utf-8")


@pytest.fixture(scope="session", params=VERSIONS, ids=label)
def old(
    request: pytest.FixtureRequest, history: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The files of an old version."""
    archive = subprocess.run(
        ["git", "archive", request.param], cwd=history, check=True, capture_output=True
    ).stdout
    directory = tmp_path_factory.mktemp("old")
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive, check=True)
    return directory


def test_rules_that_updates_live_by(old: Path) -> None:
    assert broken_rules(old, ROOT) == []


@pytest.mark.parametrize(
    ("path", "line", "replacement", "broken"),
    [
        (
            "copier.yml",
            'stand alone": single',
            'stand alone": alone',
            "The choice single of multi_turn is gone: its projects would move to the default.",
        ),
        (
            "copier.yml",
            "\nstreaming:\n",
            "\nstreamed:\n",
            "The question streaming is gone: its answers would be lost.",
        ),
        (
            "copier.yml",
            "  default: 10\n",
            "",
            "The question history_turns has no default: updates would stop to ask.",
        ),
        (
            "copier.yml",
            "_subdirectory:",
            "_tasks: [uv lock]\n_subdirectory:",
            "_tasks is set: updates would need --trust.",
        ),
        (
            "template/Dockerfile.jinja",
            "",
            "template/Containerfile.jinja",
            "The file Dockerfile is gone: what owners changed in it would be lost.",
        ),
        (
            "template/Dockerfile.jinja",
            "",
            "template/{% if streaming %}Dockerfile{% endif %}.jinja",
            "The file {% if streaming %}Dockerfile{% endif %} depends on an answer: "
            "another answer would delete it.",
        ),
    ],
    ids=["renamed choice", "renamed question", "no default", "task", "moved file", "conditional"],
)
def test_bad_changes_are_told(
    template: Path, tmp_path: Path, path: str, line: str, replacement: str, broken: str
) -> None:
    new = shutil.copytree(template, tmp_path / "new")
    if line:
        text = (new / path).read_text(encoding="utf-8")
        assert text.count(line) == 1
        (new / path).write_text(text.replace(line, replacement), encoding="utf-8")
    else:
        (new / path).rename(new / replacement)
    assert broken in broken_rules(template, new)


def broken_rules(old: Path, new: Path) -> list[str]:
    """Return how a version of the template would break updates from another.

    Args:
        old: The files of the version to update from.
        new: The files of the version to update to.
    """
    before, after = (load_template_config(root / "copier.yml") for root in (old, new))
    broken = [
        f"{setting} is set: updates would need --trust."
        for setting in ("_tasks", "_migrations", "_jinja_extensions")
        if setting in after
    ]
    for name, question in before.items():
        if name.startswith("_"):
            continue
        if name not in after:
            broken.append(f"The question {name} is gone: its answers would be lost.")
            continue
        broken += [
            f"The choice {offered} of {name} is gone: its projects would move to the default."
            for offered in values_of(question)
            if offered not in values_of(after[name])
        ]
    broken += [
        f"The question {name} has no default: updates would stop to ask."
        for name, question in after.items()
        if not name.startswith("_") and "default" not in question
    ]
    broken += [
        f"The file {name} is gone: what owners changed in it would be lost."
        for name in template_files(old) - template_files(new)
    ]
    return broken + [
        f"The file {name} depends on an answer: another answer would delete it."
        for name in template_files(new)
        if "{%" in name
    ]


def values_of(question: dict[str, Any]) -> list[Any]:
    """Return the choices of a question.

    Args:
        question: The question, as copier.yml has it.
    """
    offered = question.get("choices", [])
    return list(offered.values() if isinstance(offered, dict) else offered)


def template_files(root: Path) -> set[str]:
    """Return the paths that a template renders.

    Args:
        root: The template's root.
    """
    return {
        path.relative_to(root / "template").as_posix().removesuffix(".jinja")
        for path in files_of(root / "template")
    }
