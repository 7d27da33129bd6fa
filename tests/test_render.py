"""Every combination renders the project that was meant: its files, their form and what they hold."""

import ast
import itertools
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from combinations import (
    CHOICES,
    COMBINATIONS,
    EVERY,
    PAIRS,
    PROVIDERS,
    QUESTIONS,
    RELATIVES,
    ROOT,
    Combination,
    choices,
    is_asked,
)
from conftest import EVERY_COMBINATION, assert_ruff_is_content, assert_types, files_of, git
from faults import PACKAGES, packages

ALL = [*COMBINATIONS, *PAIRS]
LONGEST_README = 152  # lines
ABOUT_DATA = 12  # more lines, about what leaves the server and what is not promised
ABOUT_RATINGS = 6  # more lines, about the file that keeps what users think
LONGEST_RELATIVE = 60  # lines of its provider.py.jinja
MOST_EVALS = 300  # lines of Python in evals/, blank ones not counted
FROM_FEEDBACK = 80  # more of these, which make questions of bad answers

FILES = [
    ".copier-answers.yml",
    ".dockerignore",
    ".env.example",
    ".gitattributes",
    ".github/dependabot.yml",
    ".github/workflows/ci.yml",
    ".github/workflows/evals.yml",
    ".github/workflows/update.yml",
    ".gitignore",
    "Dockerfile",
    "README.md",
    "compose.yaml",
    "evals/from_feedback.py",
    "evals/questions.py",
    "evals/questions.toml",
    "evals/run.py",
    "evals/table.py",
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
    "src/PACKAGE/tools.py",
    "src/PACKAGE/web/__init__.py",
    "src/PACKAGE/web/access.py",
    "src/PACKAGE/web/answering.py",
    "src/PACKAGE/web/answers.py",
    "src/PACKAGE/web/bodies.py",
    "src/PACKAGE/web/charts.py",
    "src/PACKAGE/web/chat.css",
    "src/PACKAGE/web/chat.js",
    "src/PACKAGE/web/clients.py",
    "src/PACKAGE/web/component.py",
    "src/PACKAGE/web/connection.py",
    "src/PACKAGE/web/context.js",
    "src/PACKAGE/web/context.py",
    "src/PACKAGE/web/conversation.py",
    "src/PACKAGE/web/counts.py",
    "src/PACKAGE/web/data.js",
    "src/PACKAGE/web/data.py",
    "src/PACKAGE/web/description.py",
    "src/PACKAGE/web/downloads.py",
    "src/PACKAGE/web/drawing.js",
    "src/PACKAGE/web/endpoint.py",
    "src/PACKAGE/web/events.py",
    "src/PACKAGE/web/feedback.js",
    "src/PACKAGE/web/feedback.py",
    "src/PACKAGE/web/limits.py",
    "src/PACKAGE/web/login.html",
    "src/PACKAGE/web/logins.py",
    "src/PACKAGE/web/markdown.js",
    "src/PACKAGE/web/panel.css",
    "src/PACKAGE/web/panel.js",
    "src/PACKAGE/web/panel.py",
    "src/PACKAGE/web/passwords.py",
    "src/PACKAGE/web/pings.py",
    "src/PACKAGE/web/protection.py",
    "src/PACKAGE/web/queries.py",
    "src/PACKAGE/web/query_process.py",
    "src/PACKAGE/web/tokens.py",
    "tests/conftest.py",
    "tests/test_access.py",
    "tests/test_app.py",
    "tests/test_chat.py",
    "tests/test_data.py",
    "tests/test_endpoint.py",
    "tests/test_feedback.py",
    "tests/test_history.py",
    "tests/test_requests.py",
]

# Which answers may change a file: whatever is not named here renders the same for all of them.
MAY_DIFFER_BY = {
    ".copier-answers.yml": {*CHOICES},
    ".env.example": {"provider", "auth", "feedback"},
    ".github/workflows/evals.yml": {"provider"},
    "README.md": {*CHOICES},
    "evals/from_feedback.py": {"feedback"},
    "evals/questions.py": {"data"},
    "evals/questions.toml": {"provider", "multi_turn", "data"},
    "evals/run.py": {"data"},
    "pyproject.toml": {"provider", "data", "feedback"},
    "src/PACKAGE/app.py": {"provider", "data", "placement"},
    "src/PACKAGE/attachments.py": {"provider", "file_upload"},
    "src/PACKAGE/chat.py": {"provider", "streaming", "multi_turn", "data"},
    "src/PACKAGE/dashboard.py": {"data"},
    "src/PACKAGE/history.py": {"multi_turn", "file_upload"},
    "src/PACKAGE/notices.py": {*CHOICES} - {"streaming"},
    "src/PACKAGE/provider.py": {"provider", "streaming", "data", "placement", "file_upload"},
    "src/PACKAGE/settings.py": {"provider", "auth", "feedback"},
    "src/PACKAGE/tools.py": {"data"},
    "src/PACKAGE/web/__init__.py": {"multi_turn", "data", "placement", "feedback"},
    "src/PACKAGE/web/access.py": {"auth"},
    "src/PACKAGE/web/answering.py": {"data", "file_upload"},
    "src/PACKAGE/web/answers.py": {"data"},
    "src/PACKAGE/web/charts.py": {"data"},
    "src/PACKAGE/web/chat.css": {*CHOICES} - {"provider", "streaming"},
    "src/PACKAGE/web/chat.js": {*CHOICES} - {"provider", "streaming"},
    "src/PACKAGE/web/component.py": {*CHOICES} - {"streaming"},
    "src/PACKAGE/web/connection.py": {"provider"},
    "src/PACKAGE/web/context.js": {"placement"},
    "src/PACKAGE/web/context.py": {"data", "placement"},
    "src/PACKAGE/web/conversation.py": {"multi_turn", "data", "placement", "file_upload"},
    "src/PACKAGE/web/data.js": {"data"},
    "src/PACKAGE/web/data.py": {"data"},
    "src/PACKAGE/web/description.py": {"data"},
    "src/PACKAGE/web/downloads.py": {"data"},
    "src/PACKAGE/web/drawing.js": {"data", "placement", "file_upload", "auth", "feedback"},
    "src/PACKAGE/web/endpoint.py": {"multi_turn", "placement"},
    "src/PACKAGE/web/feedback.js": {"feedback"},
    "src/PACKAGE/web/feedback.py": {"feedback", "auth"},
    "src/PACKAGE/web/limits.py": {"auth"},
    "src/PACKAGE/web/events.py": {"data"},
    "src/PACKAGE/web/login.html": {"auth"},
    "src/PACKAGE/web/logins.py": {"provider"},
    "src/PACKAGE/web/panel.css": {"placement"},
    "src/PACKAGE/web/panel.js": {"placement"},
    "src/PACKAGE/web/panel.py": {"placement"},
    "src/PACKAGE/web/passwords.py": {"auth"},
    "src/PACKAGE/web/queries.py": {"data"},
    "src/PACKAGE/web/query_process.py": {"data"},
    "src/PACKAGE/web/tokens.py": {"file_upload"},
    "tests/conftest.py": {"provider", "streaming", "data", "auth"},
    "tests/test_access.py": {"auth"},
    "tests/test_app.py": {"provider", "placement", "auth"},
    "tests/test_chat.py": {"provider", "streaming", "multi_turn", "data", "file_upload"},
    "tests/test_data.py": {"data", "streaming"},
    "tests/test_endpoint.py": {"streaming"},
    "tests/test_feedback.py": {"feedback", "auth"},
    "tests/test_history.py": {"multi_turn", "file_upload"},
    "tests/test_requests.py": {"multi_turn", "placement", "file_upload", "auth"},
}

# Machinery that exists with one answer only.
ONLY_WITH: dict[str, tuple[str, set[str | bool]]] = {
    "evals/from_feedback.py": ("feedback", {True}),
    "src/PACKAGE/web/charts.py": ("data", {True}),
    "src/PACKAGE/web/connection.py": ("provider", {*PROVIDERS} - {"demo"}),
    "src/PACKAGE/web/context.js": ("placement", {"popup"}),
    "src/PACKAGE/web/context.py": ("placement", {"popup"}),
    "src/PACKAGE/web/data.js": ("data", {True}),
    "src/PACKAGE/web/data.py": ("data", {True}),
    "src/PACKAGE/web/description.py": ("data", {True}),
    "src/PACKAGE/web/downloads.py": ("data", {True}),
    "src/PACKAGE/web/feedback.js": ("feedback", {True}),
    "src/PACKAGE/web/feedback.py": ("feedback", {True}),
    "src/PACKAGE/web/logins.py": ("provider", {"azure_openai", "bedrock", "gemini"}),
    "src/PACKAGE/web/login.html": ("auth", {"password"}),
    "src/PACKAGE/web/panel.css": ("placement", {"popup"}),
    "src/PACKAGE/web/panel.js": ("placement", {"popup"}),
    "src/PACKAGE/web/panel.py": ("placement", {"popup"}),
    "src/PACKAGE/web/passwords.py": ("auth", {"password"}),
    "src/PACKAGE/web/queries.py": ("data", {True}),
    "src/PACKAGE/web/query_process.py": ("data", {True}),
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
        for path in files_of(project)
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
    assert {path.name for path in (ROOT / "providers").iterdir()} == set(PROVIDERS)


def test_every_question_can_be_answered_by_default() -> None:
    for name, question in QUESTIONS.items():
        assert {"type", "help", "default"} <= set(question), name
        assert name in CHOICES or "validator" in question, f"{name} takes any text"


def test_questions_fit_into_a_terminal() -> None:
    """80 columns, of which Copier takes some for itself, and 6 for "(y/N)"."""
    for question in QUESTIONS.values():
        texts = [question["help"], *question.get("choices", {})]
        assert [text for text in texts if len(text) > 72] == []


@EVERY_COMBINATION
def test_files(renders: dict[str, Path], combination: Combination) -> None:
    expected = {*FILES}
    for name, (question, answers) in ONLY_WITH.items():
        if combination[question] not in answers:
            expected.remove(name)
    assert files(renders[combination.name], combination).keys() == expected


@EVERY_COMBINATION
def test_nothing_is_left_unrendered(renders: dict[str, Path], combination: Combination) -> None:
    for name, text in files(renders[combination.name], combination).items():
        assert not re.search(r"{%|%}|{#|#}|(?<!\$){{ |\bUndefined\b|jinja", text), name
        assert "\r" not in text, name
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{name} has trailing blanks"
        assert "\n\n\n\n" not in text, f"{name} has a gap"


@EVERY_COMBINATION
def test_formatted_and_lint_clean(renders: dict[str, Path], combination: Combination) -> None:
    """What ruff would write otherwise would be in conflict with every later update."""
    assert_ruff_is_content(renders[combination.name])


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
    (rows,) = re.findall(r"\| to change \| answer \|\n\|---\|---\|\n((?:\|.*\n)+)", readme)
    shown = re.findall(r"`(\w+)=(.+?)`", rows)
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
    more = ABOUT_DATA * combination["data"] + ABOUT_RATINGS * combination["feedback"]
    assert len(readme.splitlines()) <= LONGEST_README + more


@pytest.mark.parametrize("provider", sorted(RELATIVES))
def test_relative_says_only_what_differs(provider: str) -> None:
    text = (ROOT / "providers" / provider / "provider.py.jinja").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_RELATIVE


@EVERY_COMBINATION
def test_evals_are_short(renders: dict[str, Path], combination: Combination) -> None:
    modules = (renders[combination.name] / "evals").glob("*.py")
    lines = [line for path in modules for line in path.read_text("utf-8").splitlines() if line]
    assert len(lines) <= MOST_EVALS + FROM_FEEDBACK * combination["feedback"]


@EVERY_COMBINATION
def test_only_the_chosen_sdk_is_there(renders: dict[str, Path], combination: Combination) -> None:
    project, expected = renders[combination.name], packages(combination["provider"])
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
    for sdk in PACKAGES:
        assert (sdk in required) == (sdk in expected), f"{sdk} among the dependencies"
        assert (sdk.partition("-")[0] in imported) == (sdk in expected), f"{sdk} among the imports"


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


# The private names that may be used, all in provider.py: both SDKs document `_request_id` as public,
# and the client of OpenAI's has no other name for headers that it takes from the environment.
PRIVATE = {"_request_id", "_custom_headers"}


def private_names(path: Path) -> set[str]:
    """Return the names with an underscore before them that a module uses and does not define.

    Args:
        path: The module.
    """
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    own, used = set(), set()
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                own.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.keyword(arg=str(name)):
                used.add(name)
            case ast.Import(names=names):
                used |= {part for one in names for part in one.name.split(".")}
            case ast.ImportFrom(module=str(module), names=names):
                used |= {*module.split("."), *(one.name for one in names)}
            case ast.Call(args=[_, ast.Constant(value=str(name)), *_]):  # getattr and its like
                used.add(name)
    return {one for one in used - own if re.match(r"_(?!_\w+__$)\w", one)}


@EVERY_COMBINATION
def test_no_private_name_is_used(renders: dict[str, Path], combination: Combination) -> None:
    """Names that begin with an underscore may change in any release of Dash, Vizro and others."""
    project = renders[combination.name]
    modules = {path.relative_to(project).as_posix(): path for path in project.rglob("*.py")}
    for name, path in modules.items():
        found = private_names(path) - (PRIVATE if name.endswith("/provider.py") else set())
        assert not found, f"{name} uses {found}."
    for path in project.glob("src/*/web/*.js"):
        script = path.read_text(encoding="utf-8")
        names = re.findall(r"(?:\.|\[\s*[\"'`])_\w+", script)
        assert not names, f"{path.name} uses {names}."


def test_files_differ_only_by_the_answers_they_may(renders: dict[str, Path]) -> None:
    """Compare each two renders that differ in one answer; app.py by its class's name, `data` and `placement`."""
    rendered = list(EVERY.values())
    texts = {one.name: files(renders[one.name], one) for one in rendered}
    seen: dict[str, set[str]] = {name: set() for name in FILES}
    for one in rendered:
        for other in rendered:
            changed = {question for question in one if one[question] != other.get(question)}
            if len(changed) == 1:
                for name in FILES:
                    if texts[one.name].get(name) != texts[other.name].get(name):
                        seen[name] |= changed
    assert {name: by for name, by in seen.items() if by} == MAY_DIFFER_BY
    apps = {
        re.sub(
            r"\b(Demo|Claude|Bedrock|(Azure)?OpenAI|Gemini|OpenAICompatible)Chat\b",
            "CLASS",
            text["src/PACKAGE/app.py"],
        )
        for text in texts.values()
    }
    assert len(apps) == len(choices("data")) * len(choices("placement"))


@EVERY_COMBINATION
def test_each_class_that_is_styled_is_used(
    renders: dict[str, Path], combination: Combination
) -> None:
    web = renders[combination.name] / "src" / combination.name / "web"
    source = "".join(path.read_text("utf-8") for path in web.iterdir() if path.suffix != ".css")
    # These functions, of component.py and data.js, make the class of what they are given.
    made = re.findall(r'\b(?:button|scrolled)\("([\w-]+)"', source)
    source += " ".join(f"chat-{name}" for name in made)
    for path in web.glob("*.css"):
        styled = set(re.findall(r"[.#](chat-[\w-]+)", path.read_text(encoding="utf-8")))
        assert styled
        unused = {name for name in styled if not re.search(rf"(?<![\w-]){name}(?![\w-])", source)}
        assert not unused, f"{path.name} styles what is not there."


@EVERY_COMBINATION
def test_answers_file(renders: dict[str, Path], combination: Combination) -> None:
    text = (renders[combination.name] / ".copier-answers.yml").read_text(encoding="utf-8")
    answers = yaml.safe_load(text)
    asked = {name for name in QUESTIONS if is_asked(name, combination)}
    assert {name for name in answers if not name.startswith("_")} == asked


def test_the_template_itself_is_formatted_and_lint_clean() -> None:
    own = git("ls-files", "--cached", "--others", "--exclude-standard", "*.py", directory=ROOT)
    assert_ruff_is_content(*own.splitlines())
