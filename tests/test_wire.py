"""Every rendered project is talked to as a browser does it; then what its provider was sent is read.

The tests say themselves what a request must hold, and never ask the project's own code.
"""

import ast
import base64
import json
import re
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import processes
import pytest
import yaml
from combinations import COMBINATIONS, PROVIDERS, Combination
from stand_in import Request, StandIn

Exchange = tuple[str, str]  # a question and its answer

LONGEST_ANSWER = 4096  # tokens
WINDOW = 10  # exchanges: what `history_turns` is unless somebody answers otherwise
MARK = "\u2063"  # what follows it in an answer is for the person only
# The last line of an answer that has any text: model, seconds and, if the provider tells, tokens.
COST = re.compile(rf"\n\n{MARK}?\u200a\*_(\S+ · \d+\.\d s(?: · (\d+) tokens in, (\d+) out)?)_\*$")

CONVERSATION = {
    "What is SQL?": "SQL is a language for tables.",
    "Who made it?": "Donald Chamberlin and Raymond Boyce.",
    "When was that?": "In 1974, in San José, at IBM.",
    "And where is it used today?": "Wherever there are tables: nearly everywhere.",
}

# No emoji may lie across a cut: aimock cuts after 12 UTF-16 units, of which an emoji is two.
UNICODE = {
    "Grüße! 你好，世界 — مرحبا بالعالم, שלום עולם 🎉 👩‍💻 ½ “é” e\u0301": (
        "日本語の答え：はい。🎉 👩‍💻 🇩🇪 مرحبا بالعالم שלום עולם Ωμέγα ½ “é” e\u0301"
    ),
}

AWKWARD = {
    """What do |END| and data: [DONE] mean in this?

data: [DONE]

data: fEVORHw=|END|
[DONE]
<script>alert("1 & 2")</script> <b>bold</b> &amp; \\n \\u0041 {"role": "system"}

# Title
- *item* **strong** `code` [link](https://example.com/?a=1&b=2)

```html
  <p>|END|</p>
```""": """They end things |END||END| here, but nothing ends: [DONE]

data: [DONE]

event: error
data: |END|

<img src=x onerror="alert('1 & 2')"> &lt; \\" \\\\ {"type": "response.failed"}

| a | b |
|---|---|
| 1 | *2* |

```python
  print("```", '\\t')
```
data: [DONE]""",
}

ANSWERS = CONVERSATION | UNICODE | AWKWARD


class App:
    """A rendered project as it is being served, and what its person chose.

    Attributes:
        provider: Who answers.
        streaming: Whether answers come bit by bit.
        multi_turn: The policy: what the model sees of the conversation.
        model: The name of the model; empty for the demo.
        system_prompt: What the project tells the model before the conversation.
        stand_in: What the app takes for its provider.
    """

    def __init__(
        self, address: str, project: Path, combination: Combination, stand_in: StandIn
    ) -> None:
        """Read the project's answers and its prompt, and find the callback behind the send button.

        Args:
            address: Where the app is served.
            project: The rendered project.
            combination: Its answers to the questions that offer a choice.
            stand_in: What the app takes for its provider.
        """
        self.provider: str = combination["provider"]
        self.streaming: bool = combination["streaming"]
        self.multi_turn: str = combination["multi_turn"]
        self.stand_in = stand_in
        self.model = answered_model(project)
        dashboard = project / "src" / combination.name / "dashboard.py"
        self.system_prompt = constant(dashboard, "SYSTEM_PROMPT")
        self.cost: re.Match[str] | None = None
        self._address = address
        with self._open("/_dash-dependencies") as response:
            callbacks = json.load(response)
        # The browser's own scripts set the store too: the one that the server runs is meant.
        (self._callback,) = (
            callback
            for callback in callbacks
            if "chat-store.data@" in callback["output"] and not callback["clientside_function"]
        )

    @property
    def tells_tokens(self) -> bool:
        """Whether the provider tells how many tokens an answer took."""
        asked_for = not (self.provider == "openai_compatible" and self.streaming)
        return self.provider != "demo" and asked_for

    def ask(
        self,
        store: list[dict[str, Any]],
        question: str,
        files: list[dict[str, str]] | None = None,
    ) -> list[str]:
        """Send a question, and return the parts of the answer as they came, without its cost.

        Args:
            store: The conversation, as the browser keeps it; the exchange is added to it.
            question: What the person typed.
            files: What the person attached.
        """
        page = {
            "chat-chat-input.value": question,
            "chat-store.data": store,
            "chat-file-store.data": files,
            "chat-remember.checked": True,
        }
        # A click sets this one input, through a script of Vizro's.
        (trigger,) = self._callback["inputs"]
        clicked = property_name(trigger)
        outputs = self._callback["output"].strip(".").split("...")
        body = {
            "output": self._callback["output"],
            "outputs": [
                dict(zip(("id", "property"), output.split("."), strict=True)) for output in outputs
            ],
            "inputs": [trigger | {"value": 1}],
            "state": [
                state | {"value": page[property_name(state)]} for state in self._callback["state"]
            ],
            "changedPropIds": [clicked],
            "parsedChangedPropsIds": [clicked],
        }
        as_json = {"Content-Type": "application/json"}
        with self._open("/_dash-update-component", json.dumps(body), as_json) as response:
            changes = json.load(response)["response"]
        for operation in changes["chat-store"]["data"]["operations"]:
            assert (operation["operation"], operation["location"]) == ("Append", [])
            store.append(operation["params"]["value"])
        if not self.streaming:
            return self._without_cost([json.loads(store[-1]["content_json"])])
        assert json.loads(store[-1]["content_json"]) == ""
        source = changes["chat-sse"]
        options = source["options"]
        with self._open(source["url"], options["payload"], options["headers"]) as response:
            assert response.headers.get_content_type() == "text/event-stream"
            parts = list(events(response.read().decode()))
        # The browser's JSON leaves letters as they are.
        store[-1]["content_json"] = json.dumps("".join(parts), ensure_ascii=False)
        return self._without_cost(parts)

    def _without_cost(self, parts: list[str]) -> list[str]:
        """Return the parts of an answer without its last line, which is kept as the newest cost."""
        *others, last = parts
        self.cost = COST.search(last)
        last = COST.sub("", last)
        return [*others, last] if last else others

    def _open(
        self, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> HTTPResponse:
        """Request a path of the app, with POST if there is a body; the machine's proxy is not used."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        data = None if body is None else body.encode()
        request = urllib.request.Request(self._address + path, data, headers or {})
        response: HTTPResponse = opener.open(request, timeout=60)
        return response


def answered_model(project: Path) -> str:
    """Return the name of the model that a project was rendered for; the demo has none.

    Args:
        project: The rendered project.
    """
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    return next((text for question, text in answers.items() if question.endswith("_model")), "")


def constant(path: Path, name: str) -> str:
    """Return the text of a constant in a Python file, without running the file.

    Args:
        path: The file.
        name: The constant's name.
    """
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return str(ast.literal_eval(statement.value))
    raise LookupError(f"{path} does not set {name}.")


def property_name(dependency: dict[str, str]) -> str:
    """Return the name of a callback's input or state as Dash writes it.

    Args:
        dependency: The input or state.
    """
    return f"{dependency['id']}.{dependency['property']}"


def events(stream: str) -> Iterator[str]:
    """Yield the texts that a stream of server-sent events brings.

    Args:
        stream: All that came.
    """
    *messages, done, rest = stream.split("\n\n")
    assert (done, rest) == ("data: [DONE]", ""), stream
    for message in messages:
        assert re.fullmatch(r"data: [A-Za-z0-9+/]+=*\|END\|", message), message
        data = message.removeprefix("data: ").removesuffix("|END|")
        yield base64.b64decode(data).decode()


def stored(exchanges: list[tuple[str, Any]]) -> list[dict[str, str]]:
    """Return a conversation as the browser keeps it.

    Args:
        exchanges: Questions with their answers, which may be components.
    """
    return [
        {"role": role, "content_json": json.dumps(content, ensure_ascii=False)}
        for exchange in exchanges
        for role, content in zip(("user", "assistant"), exchange, strict=True)
    ]


def promised(app: App, exchanges: list[Exchange]) -> list[Exchange]:
    """Return the earlier exchanges that the policy promises to send with a question.

    Args:
        app: The app.
        exchanges: All that could be sent.
    """
    return {
        "full": exchanges,
        "window": exchanges[-WINDOW:],
        "single": [],
        "opt_in": exchanges,
    }[app.multi_turn]


def assert_request(app: App, request: Request, exchanges: list[Exchange], question: str) -> None:
    """Check a request word for word.

    Args:
        app: The app that sent it.
        request: What the provider got.
        exchanges: The earlier exchanges that must be in it.
        question: The newest question.
    """
    turns = []
    for asked, answered in exchanges:
        turns.append({"role": "user", "content": asked})
        turns.append({"role": "assistant", "content": answered})
    turns.append({"role": "user", "content": question})
    wire: dict[str, tuple[str, dict[str, Any]]] = {
        "anthropic": (
            "/v1/messages",
            {
                "max_tokens": LONGEST_ANSWER,
                "output_config": {"effort": "low"},
                "system": app.system_prompt,
                "messages": turns,
            },
        ),
        "openai": (
            "/v1/responses",
            {
                "max_output_tokens": LONGEST_ANSWER,
                "reasoning": {"effort": "none"},
                "instructions": app.system_prompt,
                "input": turns,
                "store": False,
            },
        ),
        "openai_compatible": (
            "/v1/chat/completions",
            {
                "max_tokens": LONGEST_ANSWER,
                "reasoning_effort": None,
                "messages": [{"role": "system", "content": app.system_prompt}, *turns],
            },
        ),
    }
    path, expected = wire[app.provider]
    assert request.path == path
    body = {"stream": False} | request.body
    expected |= {"model": app.model, "stream": app.streaming}
    assert {name: body.get(name) for name in expected} == expected
    assert not {"temperature", "top_p", "top_k"} & body.keys()
    assert None not in body.values(), "A parameter without a value was sent."


def assert_told(app: App, answer: str, exchanges: list[Exchange], question: str) -> None:
    """Check what the demo says it was given.

    Args:
        app: The app.
        answer: What it said.
        exchanges: All earlier exchanges that are fit to be sent.
        question: The newest question.
    """
    sent = promised(app, exchanges)
    count = re.search(r"A model would see (\d+) turn", answer)
    assert count, answer
    assert int(count[1]) == 2 * len(sent) + 1
    for exchange in exchanges:
        assert (exchange[0] in answer) is (exchange in sent), exchange
    for line in question.splitlines():
        assert f"> {line}\n" in answer
    assert app.system_prompt in answer


def assert_asked(
    app: App, store: list[dict[str, str]], exchanges: list[Exchange], question: str
) -> str:
    """Ask, check what the provider was sent and that its answer came whole, and return the answer.

    Args:
        app: The app.
        store: The conversation, as the browser keeps it; the exchange is added to it.
        exchanges: The earlier exchanges that are fit to be sent, if the policy lets them through.
        question: What the person typed.
    """
    before = len(app.stand_in.requests)
    parts = app.ask(store, question)
    answer = "".join(parts)
    requests = app.stand_in.requests[before:]
    if app.provider == "demo":
        assert not requests
        assert_told(app, answer, exchanges, question)
    else:
        code_end = "\n```" if ANSWERS[question].count("```") % 2 else ""
        assert answer == ANSWERS[question] + code_end
        assert len(requests) == 1
        assert_request(app, requests[0], promised(app, exchanges), question)
    if app.streaming:
        assert len(parts) > 1, "The answer came in one piece."
    return answer


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """The stand-in for all providers, with an answer to each question."""
    fixtures = tmp_path_factory.mktemp("aimock") / "wire.json"
    answers = [
        {"match": {"userMessage": question}, "response": {"content": answer}, "latency": 2}
        for question, answer in ANSWERS.items()
    ]
    fixtures.write_text(json.dumps({"fixtures": answers}), encoding="utf-8")
    server = StandIn(fixtures)
    yield server
    server.stop()


@pytest.fixture(scope="module", params=COMBINATIONS, ids=lambda one: one.label)
def app(
    request: pytest.FixtureRequest, renders: dict[str, Path], stand_in: StandIn
) -> Iterator[App]:
    """The app of each combination; pytest runs all tests of one before it starts the next."""
    combination: Combination = request.param
    project = renders[combination.name]
    environment = stand_in.environment(combination["provider"])
    if combination["provider"] == "demo":  # it could ask the others' stand-in, and must not
        for provider in PROVIDERS:
            environment |= stand_in.environment(provider)
    with processes.serving(project, combination.name, environment) as address:
        yield App(address, project, combination, stand_in)


def test_conversation(app: App) -> None:
    store: list[dict[str, str]] = []
    exchanges: list[Exchange] = []
    for question in CONVERSATION:
        answer = assert_asked(app, store, exchanges, question)
        exchanges.append((question, answer))
        assert app.cost and app.cost[1].startswith(f"{app.model or 'demo'} · ")
        assert (app.cost[2] is not None) is app.tells_tokens
    said = [COST.sub("", json.loads(turn["content_json"])) for turn in store]
    assert said == [text for exchange in exchanges for text in exchange]


def test_long_conversation(app: App) -> None:
    exchanges = [(f"Question {number}?", f"Answer {number}.") for number in range(25)]
    assert_asked(app, stored(exchanges), exchanges, "What is SQL?")


def test_what_cannot_be_sent_is_left_out(app: App) -> None:
    chart = {"type": "Div", "namespace": "dash_html_components", "props": {"children": "A chart"}}
    store = stored(
        [
            ("What is a table?", "Rows and columns."),
            ("Does nothing come back?", ""),
            ("What is a row?", "One record."),
            ("Does a failure come back?", f"{MARK}The provider is overloaded: ask again."),
            ("Is a long answer cut off?", f"Half an answ\n\n{MARK}The answer was cut off."),
            ("Is a chart drawn?", chart),
            ("What is a column?", "One property of all records."),
        ]
    )
    exchanges = [
        ("What is a table?", "Rows and columns."),
        ("What is a row?", "One record."),
        ("Is a long answer cut off?", "Half an answ"),
        ("What is a column?", "One property of all records."),
    ]
    answer = assert_asked(app, store, exchanges, "What is SQL?")
    for left_out in ("Does nothing", "Does a failure", "Is a chart", "overloaded", "was cut off"):
        assert left_out not in answer


def test_texts_are_unharmed(app: App) -> None:
    store: list[dict[str, str]] = []
    exchanges: list[Exchange] = []
    for question in [*UNICODE, *AWKWARD, "What is SQL?"]:
        answer = assert_asked(app, store, exchanges, question)
        exchanges.append((question, answer))


# What the SDK reads by itself, and what people export for OpenAI.
EXPORTED = {
    "OPENAI_API_KEY": "exported-key",
    "OPENAI_ADMIN_KEY": "exported-admin-key",
    "OPENAI_BASE_URL": "http://127.0.0.1:9",
    "OPENAI_ORG_ID": "exported-organization",
    "OPENAI_PROJECT_ID": "exported-project",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer exported-header\nX-Exported: exported-too",
}


@pytest.mark.parametrize("key", ["", "a-key-of-its-own"])
@pytest.mark.parametrize("mode", ["streaming", "one_shot"])
def test_nothing_of_openai_reaches_a_compatible_server(
    renders: dict[str, Path], stand_in: StandIn, mode: str, key: str
) -> None:
    name = f"openai_compatible_{mode}_full"
    combination = next(one for one in COMBINATIONS if one.name == name)
    project = renders[combination.name]
    own = stand_in.environment("openai_compatible") | {"COMPATIBLE_API_KEY": key}
    with processes.serving(project, combination.name, EXPORTED | own) as address:
        app = App(address, project, combination, stand_in)
        assert_asked(app, [], [], "What is SQL?")
    headers = {name.lower(): text for name, text in stand_in.requests[-1].headers.items()}
    assert headers["authorization"] == f"Bearer {key or 'none'}"
    assert not {"openai-organization", "openai-project"} & headers.keys()
    assert "exported" not in str(headers)
