"""The loop of tools of each provider, through the real SDK: what is asked, run, shown and sent back."""

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from agui import Answer
from combinations import WITH_DATA, Combination
from stand_in import Request, StandIn
from test_wire import App

PROJECTS = [one for one in WITH_DATA if one["provider"] != "demo"]
ROUNDS, CALLS = 8, 20  # that the README promises
LOOK = (
    'SELECT "continent", max("lifeExp") AS "looked" FROM "gapminder" GROUP BY ALL ORDER BY 2 DESC'
)
DRAW = LOOK.replace("looked", "drawn")
CHART = {"sql": DRAW, "title": "Longest lives", "kind": "bar", "x": "continent", "y": "drawn"}
SLOW = "SELECT max(sin(a.range + b.range)) FROM range(1000000) a, range(1000000) b"


def call(name: str, arguments: object) -> dict[str, str]:
    """Return a call of a tool, as aimock has it.

    Args:
        name: The name of the tool.
        arguments: Its arguments; text is sent as it is.
    """
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"name": name, "arguments": text}


def fixtures() -> Iterator[dict[str, Any]]:
    """Yield what the model does for each question."""
    asked = {"userMessage": "Which continent lives longest?"}
    yield {
        "match": asked | {"hasToolResult": False},
        "response": {"content": "Let me see.", "toolCalls": [call("query", {"sql": LOOK})]},
    }
    yield {
        "match": asked | {"toolResultContains": "looked"},
        "response": {"toolCalls": [call("show_chart", CHART)]},
    }
    yield {
        "match": asked | {"toolResultContains": "drawn"},
        "response": {"content": "Oceania, as the chart shows."},
    }
    wrong = [
        call("query", {"query": LOOK}),
        call("look", {"sql": LOOK}),
        call("query", {"sql": LOOK, "rows": 5}),
    ]
    yield {
        "match": {"userMessage": "Ask badly", "hasToolResult": False},
        "response": {"toolCalls": wrong},
    }
    yield {
        "match": {"userMessage": "Ask badly", "hasToolResult": True},
        "response": {"content": "I could not find out."},
    }
    yield {
        "match": {"userMessage": "Ask brokenly", "hasToolResult": False},
        "response": {"toolCalls": [call("query", '{"sql": "SELECT')]},
    }
    yield {
        "match": {"userMessage": "Ask brokenly", "hasToolResult": True},
        "response": {"content": "I could not find out."},
    }
    yield {
        "match": {"userMessage": "Ask thoughtfully", "hasToolResult": False},
        "response": {"reasoning": "Hm.", "toolCalls": [call("query", {"sql": LOOK})]},
    }
    yield {
        "match": {"userMessage": "Ask thoughtfully", "hasToolResult": True},
        "response": {"content": "That was all."},
    }
    yield {
        "match": {"userMessage": "Ask for ever"},
        "response": {"toolCalls": [call("query", {"sql": LOOK})]},
    }
    yield {
        "match": {"userMessage": "Ask all at once", "hasToolResult": False},
        "response": {"toolCalls": [call("query", {"sql": LOOK})] * (CALLS + 2)},
    }
    yield {
        "match": {"userMessage": "Ask all at once", "hasToolResult": True},
        "response": {"content": "That is all."},
    }
    yield {
        "match": {"userMessage": "Ask for too much"},
        "response": {"toolCalls": [call("query", {"sql": SLOW})]},
    }


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """The stand-in for all providers."""
    path = tmp_path_factory.mktemp("aimock") / "tools.json"
    with StandIn.answering([*fixtures()], path) as server:
        yield server


@pytest.fixture(scope="module", params=PROJECTS, ids=lambda one: one.label)
def app(
    request: pytest.FixtureRequest, renders: dict[str, Path], stand_in: StandIn
) -> Iterator[App]:
    """The app of each provider in each mode; pytest runs all tests of one before the next."""
    combination: Combination = request.param
    project = renders[combination.name]
    environment = stand_in.environment(combination["provider"])
    with processes.serving(project, combination.name, environment) as address:
        yield App(address, project, combination, stand_in)


def ask(app: App, question: str) -> tuple[Answer, list[Request]]:
    """Return the answer to a question, and what the provider was sent.

    Args:
        app: The app.
        question: The question.
    """
    before = len(app.stand_in.requests)
    answer = app.ask([], question)
    return answer, app.stand_in.requests[before:]


def tool_choice(request: Request) -> str:
    """Return whether the model may call tools, in the provider's word.

    Args:
        request: What the provider was sent.
    """
    choice = request.body.get("tool_choice") or request.body["toolConfig"]
    (found,) = re.findall("auto|none", str(choice).lower())
    return str(found)


def test_two_rounds(app: App) -> None:
    answer, requests = ask(app, "Which continent lives longest?")
    assert not answer.notice
    assert answer.text.endswith("Oceania, as the chart shows.")
    assert [(name, arguments) for name, arguments, _ in answer.calls] == [
        ("query", {"sql": LOOK}),
        ("show_chart", CHART),
    ]
    assert answer.steps == ["Asking the data", "Drawing a chart"]
    assert all(result.startswith("5 rows: Asia 82.6, ") for _, _, result in answer.calls)
    (chart,) = answer.components
    assert chart["type"] == "Graph"
    assert chart["props"]["figure"]["data"][0]["type"] == "bar"
    assert "template" not in chart["props"]["figure"]["layout"]  # it follows the page's theme
    assert [tool_choice(one) for one in requests] == ["auto"] * 3
    first, second, third = (json.dumps(one.body, ensure_ascii=False) for one in requests)
    assert r"\"looked\"" in second and r"\"drawn\"" in third
    for told in (first, second, third):
        assert "1704 rows" in told.replace(",", "")
        assert all(name in told for name in ("query", "show_table", "show_chart"))
    assert "Afghanistan" not in second.replace("such as 'Afghanistan'", ""), (
        "A row was sent unasked."
    )


def test_wrong_calls_are_answered(app: App) -> None:
    answer, requests = ask(app, "Ask badly")
    assert (answer.text, answer.notice) == ("I could not find out.", "")
    assert len(answer.calls) == 3
    told = json.dumps(requests[-1].body)
    assert "sql: Field required" in told
    assert "There is no such tool" in told
    assert "rows: Extra inputs are not permitted" in told


def test_broken_json_is_answered(app: App) -> None:
    answer, requests = ask(app, "Ask brokenly")
    assert (answer.text, answer.notice) == ("I could not find out.", "")
    assert len(answer.calls) == 1 and len(requests) == 2


def test_thinking_goes_back_encrypted(app: App) -> None:
    """It is not asked of models that do not think, which refuse it: they have no effort."""
    if app.provider not in ("openai", "azure_openai"):
        pytest.skip("Only the Responses API has thinking that must be asked for.")
    answer, requests = ask(app, "Ask thoughtfully")
    assert (answer.text, answer.notice) == ("That was all.", "")
    first, second = (one.body for one in requests)
    thoughts = [item for item in second["input"] if item.get("type") == "reasoning"]
    assert ("include" in first) == ("reasoning" in first) == (app.provider == "openai")
    assert thoughts and all(item["encrypted_content"] for item in thoughts)


def test_thinking_goes_back_with_calls(app: App) -> None:
    """DeepSeek refuses a request without it: https://api-docs.deepseek.com/guides/thinking_mode."""
    if app.provider != "openai_compatible":
        pytest.skip("Only compatible servers have this field.")
    answer, requests = ask(app, "Ask thoughtfully")
    assert (answer.text, answer.notice) == ("That was all.", "")
    turns = [one for one in requests[1].body["messages"] if one["role"] == "assistant"]
    assert [one["reasoning_content"] for one in turns] == ["Hm."]


def test_rounds_are_limited(app: App) -> None:
    answer, requests = ask(app, "Ask for ever")
    assert answer.notice.startswith("The model looked for too long")
    assert [tool_choice(one) for one in requests] == ["auto"] * ROUNDS + ["none"]
    results = [result for _, _, result in answer.calls]
    assert sum(result.startswith("5 rows") for result in results) == ROUNDS


def test_calls_are_limited(app: App) -> None:
    answer, requests = ask(app, "Ask all at once")
    assert answer.text == "That is all."
    assert [tool_choice(one) for one in requests] == ["auto", "none"]
    results = [result for _, _, result in answer.calls]
    assert sum(result.startswith("5 rows") for result in results) == CALLS
    assert results[CALLS:] == ["No more calls are possible: answer with what you know by now."] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="gunicorn does not run on Windows.")
@pytest.mark.parametrize("name", ["anthropic_streaming_full_data", "openai_one_shot_full_data"])
def test_stop_ends_a_running_query(
    renders: dict[str, Path], stand_in: StandIn, tmp_path: Path, name: str
) -> None:
    from test_data import query_processes, run
    from test_serving import Gunicorn

    provider = next(one["provider"] for one in PROJECTS if one.name == name)
    log = tmp_path / "gunicorn.log"
    server = Gunicorn(renders[name], log, WEB_CONCURRENCY="1", **stand_in.environment(provider))
    try:
        server.wait()
        assert run(server, "SELECT 42")[0] == 200
        (process,) = query_processes(renders[name])
        response = server.ask("Ask for too much")
        while b"STEP_STARTED" not in response.readline():
            pass
        time.sleep(0.5)  # until the query runs
        assert process in query_processes(renders[name])
        response.close()
        started = time.monotonic()
        processes.until(lambda: process not in query_processes(renders[name]))
        assert run(server, "SELECT 42")[0] == 200
        assert time.monotonic() - started < 3
        processes.until(lambda: "answer outcome=disconnected" in server.log())
    finally:
        server.kill()
