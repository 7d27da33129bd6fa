"""What the README says is so: its table of questions and its commands."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from combinations import QUESTIONS, ROOT, choices

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def test_table_of_questions_is_in_step() -> None:
    rows = {name: (answers, default) for name, answers, default in ROW.findall(README)}
    assert set(rows) == set(QUESTIONS)
    for name, (answers, default) in rows.items():
        offered = [
            str(choice).lower() if choice in (True, False) else choice for choice in choices(name)
        ]
        assert re.findall(r"(?:^|<br>)`(\w+)`:", answers) == offered, name
        expected = QUESTIONS[name]["default"]
        if "{%" not in str(expected):
            shown = str(expected).lower() if isinstance(expected, bool) else str(expected)
            assert default.strip("`") == shown, name


def test_continuous_integration_runs_the_test_command() -> None:
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert f"```sh\n{command}\n```" in README


def test_code_is_what_is_rendered(renders: Mapping[str, Path]) -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (function,) = ast.parse(shown).body
    name = "anthropic_streaming_full"
    chat = (renders[name] / "src" / name / "chat.py").read_text(encoding="utf-8")
    rendered = next(
        one
        for one in ast.walk(ast.parse(chat))
        if isinstance(one, ast.FunctionDef) and one.name == "generate_response"
    )
    del rendered.body[0]  # its docstring
    assert ast.dump(function) == ast.dump(rendered)
