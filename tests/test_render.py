"""Every combination renders the project that was meant: its files, their form and what they hold."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from combinations import (
    CHOICES,
    COMBINATIONS,
    PAIRS,
    PROVIDERS,
    QUESTIONS,
    ROOT,
    WITH_FILES,
    Combination,
    choices,
    is_asked,
)
from conftest import EVERY_COMBINATION, assert_ruff_is_content, assert_types, git

SDK = {
    "demo": set(),
    "anthropic": {"anthropic"},
    "openai": {"openai"},
    "openai_compatible": {"openai"},
}
ALL = [*COMBINATIONS, *PAIRS]
TOOLS = Path(sys.executable).parent
LONGEST_README = 150  # lines

FILES = [
    ".copier-answers.yml",
    ".dockerignore",
    ".env.example",
    ".gitattributes",
    ".github/workflows/ci.yml",
    ".github/workflows/update.yml",
    ".gitignore",
    "Dockerfile",
    "README.md",
    "compose.yaml",
    "gunicorn.conf.py",
    "pyproject.toml",
    "src/PACKAGE/__init__.py",
    "src/PACKAGE/__main__.py",
    "src/PACKAGE/app.py",
    "src/PACKAGE/attachments.py",
    "src/PACKAGE/chat.py",
    "src/PACKAGE/dashboard.py",
    "src/PACKAGE/history.py",
    "src/PACKAGE/notices.py",
    "src/PACKAGE/provider.py",
    "src/PACKAGE/settings.py",
    "src/PACKAGE/web/__init__.py",
    "src/PACKAGE/web/access.py",
    "src/PACKAGE/web/answers.py",
    "src/PACKAGE/web/chat.css",
    "src/PACKAGE/web/chat.js",
    "src/PACKAGE/web/component.py",
    "src/PACKAGE/web/conversation.py",
    "src/PACKAGE/web/drawing.js",
    "src/PACKAGE/web/endpoint.py",
    "src/PACKAGE/web/events.py",
    "src/PACKAGE/web/limits.py",
    "src/PACKAGE/web/markdown.js",
    "src/PACKAGE/web/pings.py",
    "tests/conftest.py",
    "tests/test_access.py",
    "tests/test_app.py",
    "tests/test_chat.py",
    "tests/test_endpoint.py",
    "tests/test_history.py",
    "tests/test_requests.py",
]

# Which answers may change a file: whatever is not named here renders the same for all of them.
MAY_DIFFER_BY = {
    ".copier-answers.yml": {"provider", "streaming", "multi_turn", "auth", "file_upload"},
    ".env.example": {"provider", "auth"},
    "README.md": {"provider", "streaming", "multi_turn", "auth", "file_upload"},
    "pyproject.toml": {"provider"},
    "src/PACKAGE/app.py": {"provider"},
    "src/PACKAGE/attachments.py": {"provider", "file_upload"},
    "src/PACKAGE/chat.py": {"provider", "streaming", "multi_turn"},
    "src/PACKAGE/history.py": {"multi_turn", "file_upload"},
    "src/PACKAGE/notices.py": {"provider", "multi_turn", "file_upload", "auth"},
    "src/PACKAGE/provider.py": {"provider", "streaming", "file_upload"},
    "src/PACKAGE/settings.py": {"provider", "auth"},
    "src/PACKAGE/web/__init__.py": {"multi_turn"},
    "src/PACKAGE/web/access.py": {"auth"},
    "src/PACKAGE/web/chat.js": {"multi_turn", "file_upload"},
    "src/PACKAGE/web/component.py": {"provider", "multi_turn", "file_upload"},
    "src/PACKAGE/web/conversation.py": {"multi_turn", "file_upload"},
    "src/PACKAGE/web/drawing.js": {"file_upload"},
    "src/PACKAGE/web/endpoint.py": {"multi_turn"},
    "tests/conftest.py": {"provider", "streaming", "auth"},
    "tests/test_access.py": {"auth"},
    "tests/test_app.py": {"provider", "auth"},
    "tests/test_chat.py": {"provider", "streaming", "multi_turn", "file_upload"},
    "tests/test_endpoint.py": {"streaming"},
    "tests/test_history.py": {"multi_turn", "file_upload"},
    "tests/test_requests.py": {"multi_turn", "file_upload"},
}


def files(project: Path, combination: Combination) -> dict[str, str]:
    """Return the text of each file of a render, with the package's name taken out of both.

    Args:
        project: The rendered project.
        combination: Its answers.
    """
    return {
        path.relative_to(project).as_posix().replace(combination.name, "PACKAGE"): (
            path.read_text(encoding="utf-8")
            .replace(combination.name, "PACKAGE")
            .replace(combination.label, "COMMAND")
        )
        for path in project.rglob("*")
        if path.is_file()
    }


def test_every_choice_is_covered() -> None:
    """Look for each two answers together, unless the one keeps the other's question from being asked."""
    answers = [(question, choice) for question in CHOICES for choice in CHOICES[question]]
    for (question, choice), (other, another) in itertools.combinations(answers, 2):
        together = any(one.get(question) == choice and one.get(other) == another for one in ALL)
        assert together or question == other or not is_asked(other, {question: choice})
    assert len({one.name for one in ALL}) == len(ALL)
    assert len(COMBINATIONS) >= 32


def test_every_provider_has_a_folder() -> None:
    assert {path.name for path in (ROOT / "providers").iterdir()} == set(PROVIDERS) == set(SDK)


def test_every_question_can_be_answered_by_default() -> None:
    for name, question in QUESTIONS.items():
        assert {"type", "help", "default"} <= set(question), name
        assert name in CHOICES or "validator" in question, f"{name} takes any text"


@EVERY_COMBINATION
def test_files(renders: dict[str, Path], combination: Combination) -> None:
    assert sorted(files(renders[combination.name], combination)) == sorted(FILES)


@EVERY_COMBINATION
def test_nothing_is_left_unrendered(renders: dict[str, Path], combination: Combination) -> None:
    for name, text in files(renders[combination.name], combination).items():
        assert not re.search(r"{%|%}|{#|#}|(?<!\$){{ |\bUndefined\b|jinja", text), name
        assert "\r" not in text, name
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{name} has trailing blanks"
        assert "\n\n\n\n" not in text, f"{name} has a gap"


@pytest.fixture(scope="module")
def findings(renders: dict[str, Path]) -> str:
    """What ruff finds in all renders at once, formatted or not."""
    root = next(iter(renders.values())).parent
    runs = [
        subprocess.run([TOOLS / "ruff", *command, root], capture_output=True, text=True)
        for command in (
            ["format", "--check", "--no-cache"],
            ["check", "--no-cache", "--output-format", "concise"],
        )
    ]
    assert all(run.returncode in (0, 1) for run in runs), runs
    return "".join(run.stdout + run.stderr for run in runs)


@EVERY_COMBINATION
def test_formatted_and_lint_clean(
    renders: dict[str, Path], findings: str, combination: Combination
) -> None:
    project = renders[combination.name]
    found = [line for line in findings.splitlines() if f"{project.name}/" in line]
    assert found == [], "This is not what ruff would write: every later update would conflict."


@EVERY_COMBINATION
def test_types(renders: dict[str, Path], combination: Combination) -> None:
    assert_types(renders[combination.name])


@EVERY_COMBINATION
def test_toml_and_yaml_can_be_read(renders: dict[str, Path], combination: Combination) -> None:
    project = renders[combination.name]
    tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    for path in [*project.rglob("*.yml"), *project.rglob("*.yaml")]:
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path


@EVERY_COMBINATION
def test_readme_shows_every_change_of_mind(
    renders: dict[str, Path], combination: Combination
) -> None:
    readme = (renders[combination.name] / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"`uvx copier update --defaults --data (\w+)=(.+)` \|", readme)
    offered = {
        (question, str(choice).lower() if isinstance(choice, bool) else choice)
        for question in combination
        for choice in choices(question)
        if choice != combination[question]
    }
    texts = {
        question
        for question in QUESTIONS
        if not choices(question) and is_asked(question, combination)
    }
    assert {(question, answer) for question, answer in shown if choices(question)} == offered
    assert {question for question, _ in shown if not choices(question)} == texts - {"package_name"}
    assert len(shown) == len(set(shown))


@EVERY_COMBINATION
def test_readme_is_short(renders: dict[str, Path], combination: Combination) -> None:
    """Details of one place to serve from belong into the template's docs/serving.md."""
    readme = (renders[combination.name] / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= LONGEST_README


@EVERY_COMBINATION
def test_only_the_chosen_sdk_is_there(renders: dict[str, Path], combination: Combination) -> None:
    project, expected = renders[combination.name], SDK[combination["provider"]]
    configuration = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    required = " ".join(
        [*configuration["project"]["dependencies"], *configuration["dependency-groups"]["dev"]]
    )
    imported = {
        name.partition(".")[0]
        for path in project.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    for sdk in {"anthropic", "openai"}:
        assert (sdk in required) == (sdk in expected), f"{sdk} among the dependencies"
        assert (sdk in imported) == (sdk in expected), f"{sdk} among the imports"


def own_imports(project: Path, package: str) -> dict[str, set[str]]:
    """Return which modules of its package each module of a project imports, by name.

    Args:
        project: The rendered project.
        package: The name of its package.
    """
    root = project / "src" / package
    names = {
        path: ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for path in root.rglob("*.py")
    }
    imported: dict[str, set[str]] = {}
    for path, name in names.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name} has a relative import."
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        imported[name] = {
            module
            for module in names.values()
            for one in found
            if f"{one}.".startswith(f"{package}.{module}.")
        }
    return imported


@EVERY_COMBINATION
def test_imports_go_one_way(renders: dict[str, Path], combination: Combination) -> None:
    """What owners edit builds on web/, which gets the action and the dashboard handed over."""
    imported = own_imports(renders[combination.name], combination.name)
    assert imported["notices"] == imported["settings"] == set()
    machinery = {name for name in imported if name.partition(".")[0] == "web"}
    assert {"web", "web.endpoint", "web.limits", "web.access", "web.component"} <= machinery
    for name in machinery:
        others = imported[name] - machinery - {"notices", "settings", "history"}
        assert not others, f"{name} imports what it must not know."
    assert imported["app"] >= {"chat", "dashboard", "provider", "settings", "web"}


def test_files_differ_only_by_the_answers_they_may(renders: dict[str, Path]) -> None:
    """Compare each two renders that differ in one answer; app.py by its class's name alone."""
    rendered = [*ALL, *WITH_FILES]
    texts = {one.name: files(renders[one.name], one) for one in rendered}
    seen: dict[str, set[str]] = {name: set() for name in FILES}
    for one in rendered:
        for other in rendered:
            changed = {question for question in one if one[question] != other.get(question)}
            if len(changed) == 1:
                for name in FILES:
                    if texts[one.name][name] != texts[other.name][name]:
                        seen[name] |= changed
    assert {name: by for name, by in seen.items() if by} == MAY_DIFFER_BY
    apps = {
        re.sub(
            r"\b(Demo|Claude|OpenAI|OpenAICompatible)Chat\b", "CLASS", text["src/PACKAGE/app.py"]
        )
        for text in texts.values()
    }
    assert len(apps) == 1


@EVERY_COMBINATION
def test_answers_file(renders: dict[str, Path], combination: Combination) -> None:
    text = (renders[combination.name] / ".copier-answers.yml").read_text(encoding="utf-8")
    answers = yaml.safe_load(text)
    asked = {name for name in QUESTIONS if is_asked(name, combination)}
    assert {name for name in answers if not name.startswith("_")} == asked


def test_the_template_itself_is_formatted_and_lint_clean() -> None:
    own = git("ls-files", "--cached", "--others", "--exclude-standard", "*.py", directory=ROOT)
    assert_ruff_is_content(*own.splitlines())
