"""`evals/run.py` in rendered projects: good and bad models, wrong questions, and what it compares."""

import contextlib
import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
import pytest
from combinations import EVERY, WITH_DATA, Combination
from dialects import Reply
from faults import APIS, PREFIX, Call, FaultyProvider, faults_of
from stand_in import StandIn

DEMOS = [
    "demo_streaming_full",
    "demo_one_shot_single",
    "demo_one_shot_opt_in",
    "demo_streaming_full_data",
    "demo_one_shot_full_data",
]
MODELS = [
    f"{provider}_{mode}_full"
    for provider in ("anthropic", "openai")
    for mode in ("streaming", "one_shot")
]
TOOLS = [one.name for one in WITH_DATA if one["provider"] in ("anthropic", "openai")]
BAD = "Bananas are yellow."
QUESTIONS = """\
refusals = ["cannot"]

"""


@dataclass
class Run:
    """What a run has left.

    Attributes:
        code: The exit code.
        printed: What it has printed.
        path: The result as JSON; None if there is none.
    """

    code: int | None
    printed: str
    path: Path | None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the result."""
        assert self.path, self.printed
        return list(json.loads(self.path.read_text(encoding="utf-8"))["rows"])

    @property
    def remarks(self) -> list[str]:
        """The last column of the table."""
        assert self.path, self.printed
        lines = self.path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
        assert "\n".join(lines) in self.printed
        assert len({len(line) for line in lines[2:]}) == 1, "The columns are not aligned."
        return [line.split(" | ")[-1].removesuffix(" |").strip() for line in lines[4:]]


class Model(FaultyProvider):
    """A provider whose answers a test chooses.

    Attributes:
        answers: The answer to each question; others get a bad one.
    """

    answers: dict[str, str]

    def reply(self, call: Call) -> Reply:
        """Return the answer, or the fault that the question names."""
        if call.question.startswith(PREFIX):
            return super().reply(call)
        return APIS[self.name](call.body, call.key).answer(self.answers.get(call.question, BAD))


@contextlib.contextmanager
def model_of(combination: Combination) -> Iterator[Model]:
    """Answer for the provider of a project.

    Args:
        combination: The project's answers.
    """
    model = Model(combination["provider"])
    model.answers = {}
    model.open()
    yield model
    model.stop()


Evaluate = Callable[..., Run]


@pytest.fixture
def project(renders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copy a project, so that its questions can be changed."""

    def copied(name: str) -> Path:
        return shutil.copytree(renders[name], tmp_path / name, dirs_exist_ok=True)

    return copied


def evaluate(project: Path, *options: str, environment: dict[str, str] | None = None) -> Run:
    """Run the command in a project.

    Args:
        project: The project.
        options: Its options.
        environment: Variables to set.
    """
    results = project / "evals" / "results"
    before, length = {*results.glob("*.json")}, len(processes.log(project))
    process = processes.run(processes.evaluate, project, *options, environment=environment or {})
    process.join(120)
    made = {*results.glob("*.json")} - before
    # The names have seconds in them: of two runs in one second, the later one is kept elsewhere.
    kept = [path.rename(path.with_stem(f"{path.stem}_{len(before)}")) for path in made]
    for path in made:
        path.with_suffix(".md").rename(
            path.with_stem(f"{path.stem}_{len(before)}").with_suffix(".md")
        )
    printed = processes.log(project)[length:]
    assert "Traceback" not in printed, printed
    return Run(process.exitcode, printed, kept[0] if kept else None)


def questions_of(project: Path) -> dict[str, Any]:
    """Return the project's questions.

    Args:
        project: The project.
    """
    return tomllib.loads((project / "evals" / "questions.toml").read_text(encoding="utf-8"))


def good_answers(project: Path) -> dict[str, str]:
    """Return an answer to each question of a project that meets its expectations.

    Args:
        project: The project.
    """
    read = questions_of(project)
    return {
        one["ask"]: " ".join(
            [
                *(word.partition("|")[0] for word in one.get("words", [])),
                *([f"I {read['refusals'][0]}."] if one.get("refusal") else []),
                "That is all.",
            ]
        )
        for one in read["question"]
    }


def ask(project: Path, *tables: str) -> Path:
    """Write other questions into a project.

    Args:
        project: The project.
        tables: The questions, each as TOML without its header.
    """
    text = QUESTIONS + "\n".join(f"[[question]]\n{table}\n" for table in tables)
    (project / "evals" / "questions.toml").write_text(text, encoding="utf-8")
    return project


@pytest.mark.parametrize("name", DEMOS)
def test_demo_passes_its_own_questions(project: Callable[[str], Path], name: str) -> None:
    run = evaluate(project(name), "--times", "2")
    assert run.code == 0, run.printed
    assert {one["passed"] for one in run.rows} == {2}
    assert {*run.remarks} == {""}
    assert f"{2 * len(run.rows)} of {2 * len(run.rows)} answers" in run.printed


@pytest.mark.parametrize("name", MODELS)
def test_table_tells_good_from_bad(project: Callable[[str], Path], name: str) -> None:
    folder = project(name)
    text = (folder / "evals" / "questions.toml").read_text(encoding="utf-8")
    model_name = json.loads(re.findall(r'^# (".+") = \[1.00, 5.00\]$', text, re.MULTILINE)[0])
    with model_of(EVERY[name]) as model:
        environment = model.environment()
        model.answers = good_answers(folder)
        good = evaluate(folder, environment=environment)
        assert good.code == 0, good.printed
        assert len(good.rows) >= 12
        assert {one["passed"] for one in good.rows} == {3} and {*good.remarks} == {""}
        assert len(model.calls) == 3 * len(good.rows)
        assert {call.body["model"] for call in model.calls} == {model_name}
        assert all(one["tokens"] == [12, 9] and one["cost"] is None for one in good.rows)

        model.answers = {}
        (folder / "evals" / "questions.toml").write_text(
            text.replace(f'# "{model_name}"', f'"{model_name}"'), encoding="utf-8"
        )
        bad = evaluate(folder, "--against", str(good.path), "--times", "1", environment=environment)
        assert bad.code == 1
        failing = [one for one in bad.rows if not one["passed"]]
        # An answer without any words of the instructions does not give them away.
        assert len(failing) == len(bad.rows) - 1
        assert sum("worse: 3 of 3 before" in one for one in bad.remarks) == len(failing)
        assert any("without “391”" in one for one in bad.remarks)
        assert any("no refusal" in one for one in bad.remarks)
        assert all(one["cost"] == pytest.approx((12 + 9 * 5) / 1e6) for one in bad.rows)

        model.answers = good_answers(folder)
        against = ("--against", str(bad.path), "--model", "another-model", "--times", "1")
        again = evaluate(folder, *against, environment=environment)
        assert again.code == 0
        assert sum("better: 0 of 1 before" in one for one in again.remarks) == len(failing)
        assert model.calls[-1].body["model"] == "another-model"
        assert "another-model: " in again.printed


def test_what_takes_more_is_told(project: Callable[[str], Path]) -> None:
    """Seconds and tokens are changed in the earlier result, as no answer can be slowed to order."""
    folder = project(MODELS[0])
    ask(folder, 'ask = "a"\nwords = ["well"]', 'ask = "b"\nwords = ["well"]')
    with model_of(EVERY[MODELS[0]]) as model:
        model.answers = {"a": "All is well.", "b": "All is well.", "c": "All is well."}
        run = evaluate(folder, environment=model.environment())
        assert run.path
        result = json.loads(run.path.read_text(encoding="utf-8"))
        result["rows"][0] |= {"seconds": 9, "tokens": [1, 1]}
        result["rows"][1] |= {"tokens": [900, 100]}
        run.path.write_text(json.dumps(result), encoding="utf-8")
        ask(folder, *(f'ask = "{one}"\nwords = ["well"]' for one in "abc"))
        run = evaluate(folder, "--against", str(run.path), environment=model.environment())
    assert run.remarks == [
        "faster: 9.0 s before; more expensive: 2 tokens before",
        "cheaper: 1,000 tokens before",
        "new",
    ]
    assert run.code == 0


@pytest.mark.parametrize("name", MODELS)
def test_failure_in_the_middle_is_one_row(project: Callable[[str], Path], name: str) -> None:
    faults = faults_of(EVERY[name]["provider"], EVERY[name]["streaming"])
    fault = next(one for one, how in faults.items() if how.sentence == "BAD_REQUEST")
    folder = ask(
        project(name),
        'ask = "first"\nwords = ["well"]',
        f"ask = {json.dumps(PREFIX + fault)}\nrefusal = true",
        'ask = "last"\nwords = ["well"]',
    )
    with model_of(EVERY[name]) as model:
        model.answers = {"first": "All is well.", "last": "**Well.**"}
        run = evaluate(folder, "--times", "2", environment=model.environment())
    assert [one["passed"] for one in run.rows] == [2, 0, 2]
    assert run.remarks[1].endswith("ask in a different way, or start a new chat.")
    assert run.code == 0
    assert "Traceback" in (folder / "evals" / "results" / "log.txt").read_text(encoding="utf-8")


def test_no_answer_at_all_is_a_failure(project: Callable[[str], Path]) -> None:
    folder = ask(project(MODELS[0]), 'ask = "first"\nwords = ["well"]')
    environment = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "test-key"}
    run = evaluate(folder, "--times", "1", environment={"NO_PROXY": "*"} | environment)
    assert run.code == 1 and "cannot be reached" in run.remarks[0]


@pytest.mark.parametrize("name", [MODELS[0], MODELS[2], "anthropic_streaming_full_data"])
def test_missing_key_is_one_sentence(project: Callable[[str], Path], name: str) -> None:
    run = evaluate(project(name))
    assert run.code == 2 and run.path is None
    assert re.fullmatch(r"No API key is set: add \w+ to the file \.env.*\.\n", run.printed)


# Each with the line that must be named and words of the sentence.
WRONG = {
    'ask = "a"': (7, "nothing is expected: add one of words, not_words, refusal, tool, truth"),
    'ask = "a"\nwords = []': (7, "nothing is expected"),
    'ask = " "\nwords = ["b"]': (8, "ask: "),
    'words = ["b"]': (7, "ask: Field required"),
    'ask = "a"\nwords = "b"': (9, "words: Input should be a valid list"),
    'ask = "a"\nword = ["b"]': (9, "word: Extra inputs are not permitted"),
    'ask = "a"\nbefore = ["b"]\nwords = ["c"]': (7, "each question in before needs its answer"),
    'ask = "a"\ntool = "query_all"': (9, "tool: Input should be 'query'"),
    'ask = "a"\ntruth = "SELECT 1"\ntolerance = "some"': (10, "tolerance: Input should be a valid"),
    'ask = "a"\ntruth = "SELECT 1"\ntolerance = nan': (10, "tolerance: Input should be"),
    'ask = "a"\ntruth = "SELECT 1"\ntolerance = -1': (10, "tolerance: Input should be"),
    'ask = "a"\ntruth = "SELECT x FROM gapminder"': (9, "truth: Binder Error"),
    'ask = "a"\ntruth = "DROP TABLE gapminder"': (9, "must be a SELECT"),
    'ask = "a"\ntruth = "SELECT * FROM gapminder"': (9, "one row without empty cells"),
    'ask = "a"\ntruth = "SELECT 1 WHERE false"': (9, "one row without empty cells"),
    'ask = "a"\ntruth = "SELECT NULL"': (9, "one row without empty cells"),
    'ask = "a': (8, "Illegal character"),
}


@pytest.mark.parametrize("table", WRONG)
def test_wrong_question_is_named_before_any_is_asked(
    project: Callable[[str], Path], table: str
) -> None:
    line, words = WRONG[table]
    folder = ask(project("demo_streaming_full_data"), 'ask = "b"\nwords = ["b"]', table)
    run = evaluate(folder)
    assert run.code == 2 and run.path is None
    assert f"line {line}" in run.printed and words in run.printed, run.printed
    assert run.printed.count("\n") == 1 and "answers" not in run.printed


def test_wrong_options_are_told(project: Callable[[str], Path]) -> None:
    folder = project("demo_one_shot_single")
    for options, words in {
        ("--times", "0"): "numbers from 1 on",
        ("--at-once", "-2"): "numbers from 1 on",
        ("--against", "nothing.json"): "--against",
        ("--against", "pyproject.toml"): "--against",
    }.items():
        run = evaluate(folder, *options)
        assert run.code == 2 and run.path is None and words in run.printed


# The demo repeats the question, and with it the words: those that state the truth, and others.
STATED = [
    ("67", "67.007", None),
    ("67.0", "67.007", None),
    ("67.01", "67.007", None),
    ("**67.01** m", "67.007", None),
    ("(67.01)", "67.007", None),
    ("67.5", "67.007", 0.5),
    ("1,234.5", "1234.5", None),
    ("1.234,5", "1234.5", None),
    ("1234.5", "1234.5", None),
    ("1\u202f234", "1234", 0),
    ("1,318,683,096.", "1318683096::BIGINT", 0),
    ("1.32 billion", "1318683096::BIGINT", None),
    ("−5.2", "-5.2", None),
    ("1952–2007", "2007", 0),
    ("in 2007.", "2007", 0),
    ("CHAD", "'Chad'", None),
]
NOT_STATED = [
    ("68", "67.007", None),
    ("67.1", "67.007", None),
    ("67.6", "67.007", 0.5),
    ("670", "67.007", None),
    ("167.007", "67.007", None),
    ("67.007.1", "67.007", None),
    ("2002", "2007", None),
    ("1.4 billion", "1318683096::BIGINT", None),
    ("5.2", "-5.2", None),
    ("Chadwick", "'Chad'", None),
]


def test_truth_is_found_however_it_is_written(project: Callable[[str], Path]) -> None:
    tables = [
        f"ask = {json.dumps(words, ensure_ascii=False)}\ntruth = {json.dumps(f'SELECT {truth}')}"
        + ("" if tolerance is None else f"\ntolerance = {tolerance}")
        for words, truth, tolerance in [*STATED, *NOT_STATED]
    ]
    run = evaluate(ask(project("demo_one_shot_full_data"), *tables), "--times", "1")
    passed = [one["ask"] for one in run.rows if one["passed"]]
    assert passed == [words for words, _, _ in STATED]


def test_expectations_of_tools(project: Callable[[str], Path]) -> None:
    """Only the second of each pair is met; the demo draws a chart for the first two questions."""
    expectations = {
        "Which continent lives longest?": ['tool = "show_table"', 'tool = "show_chart"'],
        "How has life expectancy changed over the years?": ['tool = "none"', 'tool = "any"'],
        "Nothing": ['tool = "any"', 'tool = "none"'],
        "I cannot": ["refusal = false", "refusal = true"],
        "Yesterday": ['words = ["yes|day"]', 'not_words = ["yes"]'],
    }
    tables = [f'ask = "{one}"\n{each}' for one in expectations for each in expectations[one]]
    run = evaluate(ask(project("demo_one_shot_full_data"), *tables), "--times", "1")
    assert [one["passed"] for one in run.rows] == [0, 1] * len(expectations)
    assert "tools: show_chart" in run.remarks[0] and "tools: none" in run.remarks[4]


@pytest.mark.parametrize("name", TOOLS)
def test_model_that_calls_tools(project: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    """The truth is in the table that the model shows, not in its words."""
    sql = 'SELECT "country" FROM "gapminder" WHERE "year" = 2007 ORDER BY "pop" DESC LIMIT 3'
    arguments = json.dumps({"sql": sql, "title": "The largest"})
    asked = {"userMessage": "Which countries are the largest?"}
    fixtures: list[dict[str, Any]] = [
        {
            "match": asked | {"hasToolResult": False},
            "response": {"toolCalls": [{"name": "show_table", "arguments": arguments}]},
        },
        {
            "match": asked | {"toolResultContains": "India"},
            "response": {"content": "The table shows them; it is Tuesday."},
        },
    ]
    one_of_them = sql.replace("LIMIT 3", "LIMIT 1 OFFSET")
    expected = [
        'tool = "show_table"',
        f"truth = '{one_of_them} 2'",
        'words = ["Tuesday"]',
        'tool = "query"',
        f"truth = '{one_of_them} 3'",
    ]
    folder = ask(project(name), *(f'ask = "{asked["userMessage"]}"\n{one}' for one in expected))
    with StandIn.answering(fixtures, tmp_path / "fixtures.json") as server:
        environment = server.environment(EVERY[name]["provider"])
        run = evaluate(folder, "--times", "1", environment=environment)
    assert [one["passed"] for one in run.rows] == [1, 1, 1, 0, 0], run.printed
    assert run.remarks[3:] == ["tools: show_table", "without Indonesia"]
