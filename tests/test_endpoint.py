"""Whatever the internet sends to a rendered app gets a refusal or an answer, and the app lives on."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import agui
import faults
import processes
import pytest
from combinations import COMBINATIONS, WITH_FILES, Combination
from faults import FaultyProvider
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire import App, Message, constant, messages_of, part_of

MODES = [
    one
    for one in [*COMBINATIONS, *WITH_FILES]
    if one.name
    in ("demo_streaming_full", "demo_one_shot_opt_in", "demo_streaming_window_file_upload")
]
JSON = "application/json"
QUESTION = {"role": "user", "content": "Hello"}
FILE = part_of({"filename": "dot.gif", "content": "data:image/gif;base64,R0lGODlh"})

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
parts = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image", "document", "binary"]) | values,
        "text": st.text(max_size=20) | values,
        "source": st.just(FILE["source"]) | values,
        "metadata": st.just(FILE["metadata"]) | values,
    },
)
contents = st.text(max_size=20) | st.lists(parts | st.just(FILE) | values, max_size=3) | values
messages = st.fixed_dictionaries(
    {},
    optional={
        "id": values,
        "role": st.sampled_from(["user", "assistant", "system", "tool", ""]) | values,
        "content": contents,
        "toolCalls": values,
    },
)
conversations = st.lists(messages | st.just(QUESTION) | values, max_size=6) | values
requests = st.fixed_dictionaries(
    {},
    optional={
        "threadId": st.text(max_size=9) | values,
        "runId": st.text(max_size=9) | values,
        "messages": conversations,
        "tools": values,
        "state": values,
        "context": values,
        "forwardedProps": st.fixed_dictionaries({}, optional={"remember": values}) | values,
    },
)
bodies = (requests | values).map(lambda body: json.dumps(body).encode()) | st.binary(max_size=300)
callbacks = st.fixed_dictionaries(
    {},
    optional={
        "output": st.sampled_from(["chat-conversation.children", "..chat-store.data.."]) | values,
        "outputs": values,
        "inputs": values,
        "state": st.lists(values, max_size=3) | values,
        "changedPropIds": st.just(["chat-conversation.id"]) | values,
    },
)


class Server:
    """A served app, as anyone on the internet can reach it.

    Attributes:
        app: The app, as its own page reaches it.
        has_files: Whether users may attach files.
    """

    def __init__(self, address: str, project: Path, combination: Combination) -> None:
        """Find the app and its sentences.

        Args:
            address: Where the app is.
            project: The rendered project.
            combination: Its answers.
        """
        self.app = App(address, project, combination, stand_in=None)  # type: ignore[arg-type]
        self.has_files: bool = combination["file_upload"]
        self._host = urlsplit(address).netloc
        self._project = project
        self._notices = project / "src" / combination.name / "notices.py"

    def send(
        self, path: str, body: bytes, content_type: str = JSON, method: str = "POST"
    ) -> tuple[int, str]:
        """Return the status and what is answered.

        Args:
            path: The path to send to.
            body: What to send.
            content_type: What it is said to be.
            method: The HTTP method.
        """
        connection = http.client.HTTPConnection(self._host, timeout=20)
        try:
            connection.request(method, path, body, {"Content-Type": content_type})
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()

    def send_messages(self, messages: object) -> tuple[int, str]:
        """Return the status and what the chat answers.

        Args:
            messages: The conversation.
        """
        return self.send("/chat", json.dumps({"messages": messages}).encode())

    def sentence(self, name: str) -> str:
        """Return one of the project's sentences.

        Args:
            name: Its name.
        """
        return constant(self._notices, name)

    def log(self) -> str:
        """Return what the app has logged."""
        return processes.log(self._project)

    def assert_answers(self) -> None:
        """Check that the app still answers a user."""
        assert "model answers here" in self.app.ask([], "Are you well?").text

    def assert_refused_or_answered(self, status: int, text: str) -> None:
        """Check that the chat has answered with a sentence, or with a stream that is well-formed.

        Args:
            status: The status.
            text: What it has answered.
        """
        if status == 200:
            agui.read(text)
        else:
            names = {
                400: ("INVALID_REQUEST", "NO_QUESTION"),
                413: ("REQUEST_TOO_LARGE", "QUESTION_TOO_LONG"),
                415: ("INVALID_REQUEST",),
            }
            assert text in map(self.sentence, names[status])


@pytest.fixture(scope="module", params=MODES, ids=lambda one: one.label)
def server(request: pytest.FixtureRequest, renders: dict[str, Path]) -> Iterator[Server]:
    """The demo in both modes, with the switch and with files."""
    combination: Combination = request.param
    project = renders[combination.name]
    with processes.serving(project, combination.name, {}) as address:
        yield Server(address, project, combination)


NO_CONVERSATIONS: dict[str, object] = {
    "nothing": None,
    "no list": "Hello",
    "a number": 1,
    "no message": ["Hello"],
    "no role": [{"content": "Hello"}],
    "a role that is no text": [QUESTION | {"role": 1}],
    "no content": [{"role": "user"}],
    "null": [QUESTION | {"content": None}],
    "a number as content": [QUESTION | {"content": 1}],
    "an object as content": [QUESTION | {"content": {"type": "text", "text": "Hello"}}],
    "an answer in parts": [{"role": "assistant", "content": [{"type": "text"}]}, QUESTION],
    "a part without text": [QUESTION | {"content": [{"type": "text"}]}],
    "an unknown part": [QUESTION | {"content": [{"type": "audio", "text": "Hello"}]}],
    "deep content": [QUESTION | {"content": json.loads("[" * 150 + "]" * 150)}],
}
NO_QUESTIONS: dict[str, list[Message]] = {
    "nothing": [],
    "an answer last": messages_of([("Hello", "Hello!")]),
    "an answer alone": [{"role": "assistant", "content": "Hello"}],
    "only a system message": [{"role": "system", "content": "Hello"}],
    "no words": [QUESTION | {"content": ""}],
    "blanks": [QUESTION | {"content": " \n\t\u00a0"}],
    "no parts": [QUESTION | {"content": []}],
    "blank parts": [QUESTION | {"content": [{"type": "text", "text": " "}]}],
}
FORGED_FILES: dict[str, object] = {
    "an address": FILE | {"source": {"type": "url", "value": "http://127.0.0.1/secret"}},
    "an id": FILE | {"source": {"type": "file", "value": "file-1"}},
    "no source": {"type": "image"},
    "no kind": FILE | {"source": {"type": "data", "value": "R0lGODlh"}},
    "another part": FILE | {"type": "binary"},
}


@pytest.mark.parametrize("messages", NO_CONVERSATIONS.values(), ids=NO_CONVERSATIONS)
def test_no_conversation_is_refused(server: Server, messages: object) -> None:
    assert server.send_messages(messages) == (400, server.sentence("INVALID_REQUEST"))


@pytest.mark.parametrize("messages", NO_QUESTIONS.values(), ids=NO_QUESTIONS)
def test_no_question_is_refused(server: Server, messages: list[Message]) -> None:
    assert server.send_messages(messages) == (400, server.sentence("NO_QUESTION"))


@pytest.mark.parametrize("file", FORGED_FILES.values(), ids=FORGED_FILES)
def test_forged_file_is_refused(server: Server, file: object) -> None:
    words = {"type": "text", "text": "What is it?"}
    refusal = (400, server.sentence("INVALID_REQUEST"))
    assert server.send_messages([QUESTION | {"content": [file, words]}]) == refusal


def test_file_is_taken_where_files_are_wanted(server: Server) -> None:
    words = {"type": "text", "text": "What is it?"}
    status, text = server.send_messages([QUESTION | {"content": [FILE, words]}])
    if server.has_files:
        assert "Attached: dot.gif (image/gif)" in agui.read(text).text
    else:
        assert (status, text) == (400, server.sentence("INVALID_REQUEST"))


@pytest.mark.parametrize(
    "content", ["data:image/gif;base64,%%%", "data:image/gif;base64,AAA", "data:;base64,R0lG"]
)
def test_broken_file_is_said(server: Server, content: str) -> None:
    file = part_of({"filename": "half\ud83d.gif", "content": content})
    words = {"type": "text", "text": "What is it?"}
    status, text = server.send_messages([QUESTION | {"content": [file, words]}])
    if status == 200:
        assert server.has_files and agui.read(text).notice
    else:
        assert text == server.sentence("INVALID_REQUEST")


def test_half_an_emoji_is_survived(server: Server) -> None:
    body = json.dumps({"messages": [QUESTION | {"content": "Half \ud83d"}]}).encode()
    server.assert_refused_or_answered(*server.send("/chat", body))


def test_large_requests_are_refused(server: Server) -> None:
    refusal = (413, server.sentence("REQUEST_TOO_LARGE"))
    assert server.send_messages([QUESTION] * 1001) == refusal
    assert server.send_messages([QUESTION | {"content": "x" * 6_000_000}]) == refusal
    too_long = (413, server.sentence("QUESTION_TOO_LONG"))
    assert server.send_messages([QUESTION | {"content": "x" * 100_001}]) == too_long
    server.assert_answers()


def test_many_mistakes_cost_no_more_than_one(server: Server) -> None:
    begin = time.monotonic()
    for messages in ([QUESTION | {"content": [1] * 1_500_000}], [1] * 1_500_000):
        status, _ = server.send_messages(messages)
        assert status in (400, 413)
    assert time.monotonic() - begin < 8, "Each mistake has been noted down."


def test_long_conversation_is_answered(server: Server) -> None:
    messages = messages_of([("x" * 500_000, "y" * 500_000)])
    assert "z" * 1000 in server.app.ask(messages, "z" * 100_000).text
    exchanges = [(f"{number}?", f"{number}.") for number in range(499)]
    server.app.ask(messages_of(exchanges), "Are you well?")


def test_what_is_no_json_is_refused(server: Server) -> None:
    invalid = server.sentence("INVALID_REQUEST")
    for body in (b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"{}", b"[" * 100_000):
        assert server.send("/chat", body) == (400, invalid)
    body = json.dumps({"messages": [QUESTION]}).encode()
    for kind in ("text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert server.send("/chat", body, kind) == (415, invalid)
    for kind in (f"{JSON}; charset=utf-8", "Application/JSON"):
        assert server.send("/chat", body, kind)[0] == 200


def test_other_methods_reach_no_model(server: Server) -> None:
    before = server.log().count(":answer outcome=")
    body = json.dumps({"messages": [QUESTION]}).encode()
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        status, text = server.send("/chat", body, method=method)
        assert status in (200, 405)
        assert "RUN_STARTED" not in text
    assert server.log().count(":answer outcome=") == before


@settings(max_examples=200, deadline=None, derandomize=True)
@given(body=bodies)
def test_any_body_is_survived(server: Server, body: bytes) -> None:
    server.assert_refused_or_answered(*server.send("/chat", body))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(messages=conversations)
def test_any_conversation_is_survived(server: Server, messages: object) -> None:
    server.assert_refused_or_answered(*server.send_messages(messages))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(body=callbacks.map(lambda body: json.dumps(body).encode()) | bodies)
def test_any_callback_is_survived(server: Server, body: bytes) -> None:
    status, text = server.send("/_dash-update-component", body)
    assert status in (200, 204) or 400 <= status <= 500
    assert "Traceback" not in text and "RUN_STARTED" not in text


def test_it_still_answers_and_has_logged_no_failure(server: Server) -> None:
    """Stands last: what was sent before has left no traceback of the chat, and no stuck worker."""
    server.assert_answers()
    assert "Exception on /chat" not in server.log()
    if not server.has_files:  # a broken file is logged
        assert "The chat could not answer" not in server.log()


FORGED = {
    # What the library's own chat would listen to.
    "the library's": {
        "output": "..chat-store.data...chat-chat-input.value...chat-sse.url..",
        "outputs": [
            {"id": "chat-store", "property": "data"},
            {"id": "chat-chat-input", "property": "value"},
            {"id": "chat-sse", "property": "url"},
        ],
        "inputs": [{"id": "chat-send-button", "property": "n_clicks", "value": 1}],
        "state": [
            {"id": "chat-chat-input", "property": "value", "value": "Hello"},
            {"id": "chat-store", "property": "data", "value": []},
        ],
        "changedPropIds": ["chat-send-button.n_clicks"],
    },
    # The page's own, which runs in the browser.
    "ours": {
        "output": "chat-conversation.children",
        "outputs": {"id": "chat-conversation", "property": "children"},
        "inputs": [{"id": "chat-conversation", "property": "id", "value": "chat-conversation"}],
        "changedPropIds": ["chat-conversation.id"],
    },
}


@pytest.fixture
def provider() -> Iterator[FaultyProvider]:
    """A provider that keeps what it is sent."""
    with faults.answering("anthropic") as server:
        yield server


@pytest.mark.parametrize(
    "combination",
    [one for one in COMBINATIONS if one["provider"] == "anthropic" and one["multi_turn"] == "full"],
    ids=lambda one: one.label,
)
def test_only_the_endpoint_reaches_the_model(
    renders: dict[str, Path], combination: Combination, provider: FaultyProvider
) -> None:
    """Send forged callbacks, and each callback that the app has, as if the user had clicked."""
    project = renders[combination.name]
    with processes.serving(project, combination.name, provider.environment()) as address:
        server = Server(address, project, combination)
        _, listed = server.send("/_dash-dependencies", b"", method="GET")
        callbacks = json.loads(listed)
        ours = [one for one in callbacks if "chat" in json.dumps(one["output"])]
        assert [one["output"] for one in ours] == ["chat-conversation.children"]
        assert ours[0]["clientside_function"], "The server would run it."
        sent = [*FORGED.values(), *map(as_clicked, callbacks)]
        for body in sent:
            server.send("/_dash-update-component", json.dumps(body).encode())
        for path in ("/streaming-chat", "/_dash-layout", "/_reload-hash", "/chat/"):
            body = json.dumps({"prompt": "Hello", "messages": [QUESTION]}).encode()
            assert server.send(path, body)[0] in (404, 405), path
        assert not provider.calls
        assert server.app.ask([], "Hello").text
        assert len(provider.calls) == 1


def as_clicked(callback: dict[str, Any], value: str = "Hello") -> dict[str, Any]:
    """Return what a page sends to run a callback.

    Args:
        callback: The callback, as the app describes it.
        value: The value of all that it reads.
    """
    output = callback["output"]
    outputs = [one.rpartition(".") for one in output.strip(".").split("...")]
    listed = [{"id": one, "property": name.partition("@")[0]} for one, _, name in outputs]
    first = callback["inputs"][0]
    return {
        "output": output,
        "outputs": listed if output.startswith("..") else listed[0],
        "inputs": [one | {"value": value} for one in callback["inputs"]],
        "state": [one | {"value": value} for one in callback["state"]],
        "changedPropIds": [f"{first['id']}.{first['property']}"],
    }


def test_prefix_is_kept(renders: dict[str, Path]) -> None:
    """Serve an app below a path, as Dash's own variable for it says."""
    (combination, *_) = MODES
    project = renders[combination.name]
    prefix = {"DASH_URL_BASE_PATHNAME": "/apps/sales/"}
    with processes.serving(project, combination.name, prefix) as address:
        server = Server(address, project, combination)
        _, listed = server.send("/apps/sales/_dash-dependencies", b"", method="GET")
        (open_page,) = (one for one in json.loads(listed) if "_pages_content" in one["output"])
        click = json.dumps(as_clicked(open_page, "/apps/sales/")).encode()
        _, page = server.send("/apps/sales/_dash-update-component", click)
        assert '"data-url": "/apps/sales/chat"' in json.dumps(json.loads(page))
        body = json.dumps({"messages": [QUESTION]}).encode()
        status, text = server.send("/apps/sales/chat", body)
        assert status == 200
        assert "Hello" in agui.read(text).text
        assert server.send("/chat", body)[0] in (404, 405)
