"""What the internet sends to a rendered app gets a refusal or a sentence, and the app lives on."""

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import processes
import pytest
from combinations import COMBINATIONS, Combination
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_wire import App, constant
from test_wire import stored as conversation

MODES = [one for one in COMBINATIONS if one.name in ("demo_streaming_full", "demo_one_shot_full")]
JSON = "application/json"
STORED = {"role": "user", "content_json": '"Hello"'}

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
stored = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", ""]) | values,
        "content_json": values.map(json.dumps) | st.text(max_size=20) | values,
        "attachments": values,
    },
)
conversations = st.lists(stored | st.just(STORED) | values, max_size=6) | values
questions = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.text(max_size=20) | values,
        "messages": conversations,
        "uploaded_files": values,
        "turns": values,
    },
)
bodies = (questions | values).map(lambda body: json.dumps(body).encode()) | st.binary(max_size=300)


class Server:
    """A served app, as anybody on the internet can reach it.

    Attributes:
        app: The app, as its own page reaches it.
    """

    def __init__(self, address: str, project: Path, combination: Combination) -> None:
        """Find the app and its sentences.

        Args:
            address: Where the app is.
            project: The rendered project.
            combination: Its answers.
        """
        self.app = App(address, project, combination, stand_in=None)  # type: ignore[arg-type]
        self._host = urlsplit(address).netloc
        self._project = project
        self._sentences = project / "src" / combination.name / "sentences.py"

    def send(
        self, path: str, body: bytes, content_type: str = JSON, method: str = "POST"
    ) -> tuple[int, str]:
        """Return the status and the beginning of what is answered.

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
            return response.status, response.read(300).decode(errors="replace")
        finally:
            connection.close()

    def sentence(self, name: str) -> str:
        """Return one of the project's sentences.

        Args:
            name: Its name.
        """
        return constant(self._sentences, name)

    def log(self) -> str:
        """Return what the app has logged."""
        return processes.log(self._project)

    def assert_answers(self) -> None:
        """Check that the app still answers a person."""
        assert "model answers here" in "".join(self.app.ask([], "Are you well?"))


@pytest.fixture(scope="module", params=MODES, ids=lambda one: one.label)
def server(request: pytest.FixtureRequest, renders: dict[str, Path]) -> Iterator[Server]:
    """The demo in each mode."""
    combination: Combination = request.param
    project = renders[combination.name]
    with processes.serving(project, combination.name, {}) as address:
        yield Server(address, project, combination)


def question(messages: object) -> bytes:
    """Return what the page sends to have a question streamed an answer.

    Args:
        messages: The conversation.
    """
    return json.dumps({"prompt": "Hello", "messages": messages}).encode()


def callback(messages: object) -> bytes:
    """Return what the page sends to run a callback with the conversation.

    Args:
        messages: The conversation.
    """
    return json.dumps(
        {
            "output": "..chat-store.data..",
            "inputs": [],
            "changedPropIds": [],
            "state": [{"id": "chat-store", "property": "data", "value": messages}],
        }
    ).encode()


NO_CONVERSATIONS = {
    "not a list": "Hello",
    "a number": 1,
    "not a message": ["Hello"],
    "a role that is none": [STORED | {"role": "system"}],
    "no role": [{"content_json": '"Hello"'}],
    "no content": [{"role": "user"}],
    "content that is no text": [STORED | {"content_json": {"text": "Hello"}}],
    "content that is no JSON": [STORED | {"content_json": "Hello"}],
    "half an emoji": [STORED | {"content_json": '"\\ud83d"'}],
    "deep content": [STORED | {"content_json": "[" * 100_000 + "]" * 100_000}],
}
NO_QUESTIONS = {
    "nothing": [],
    "an answer last": [STORED | {"role": "assistant"}],
    "only blanks": [STORED | {"content_json": '" \\n"'}],
    "a component last": [STORED | {"content_json": '{"type": "Div"}'}],
}


def chat_requests(server: Server) -> dict[str, Callable[[object], bytes]]:
    """Return the paths that take a conversation, and how each takes it.

    Args:
        server: The app.
    """
    paths: dict[str, Callable[[object], bytes]] = {"/_dash-update-component": callback}
    return paths | ({"/streaming-chat": question} if server.app.streaming else {})


@pytest.mark.parametrize("messages", NO_CONVERSATIONS.values(), ids=NO_CONVERSATIONS)
def test_what_is_no_conversation_is_refused(server: Server, messages: object) -> None:
    for path, body in chat_requests(server).items():
        refusal = (400, server.sentence("INVALID_REQUEST"))
        assert server.send(path, body(messages)) == refusal


@pytest.mark.parametrize("messages", NO_QUESTIONS.values(), ids=NO_QUESTIONS)
def test_what_is_no_question_is_refused(server: Server, messages: object) -> None:
    if server.app.streaming:  # in the other mode, the question is not part of the conversation
        refusal = (400, server.sentence("INVALID_REQUEST"))
        assert server.send("/streaming-chat", question(messages)) == refusal


def test_what_is_too_long_is_refused(server: Server) -> None:
    refusal = (413, server.sentence("REQUEST_TOO_LARGE"))
    for path, body in chat_requests(server).items():
        assert server.send(path, body([STORED] * 1001)) == refusal
        assert (
            server.send(path, body([STORED | {"content_json": '"' + "x" * 7_000_000}])) == refusal
        )
    server.assert_answers()


def test_a_long_question_and_a_megabyte_before_it_are_answered(server: Server) -> None:
    store = conversation([("x" * 500_000, "y" * 500_000)])
    assert "z" * 1000 in "".join(server.app.ask(store, "z" * 100_000))


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"{}"])
@pytest.mark.parametrize(
    "content_type", [JSON, "text/plain", "", "application/x-www-form-urlencoded"]
)
def test_what_is_no_request_is_refused(server: Server, body: bytes, content_type: str) -> None:
    if server.app.streaming:
        status, text = server.send("/streaming-chat", body, content_type)
        assert 400 <= status < 500
        assert "Traceback" not in text
        for method in ("GET", "PUT", "DELETE"):
            assert server.send("/streaming-chat", body, content_type, method)[0] in (200, 405)
    status, text = server.send("/_dash-update-component", body, content_type)
    assert 400 <= status < 500 or text == server.sentence("APP_REFUSED")


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=bodies)
def test_anything_is_survived(server: Server, body: bytes) -> None:
    if server.app.streaming:
        assert server.send("/streaming-chat", body)[0] < 500
    status, text = server.send("/_dash-update-component", body)
    assert status < 500 or text == server.sentence("APP_REFUSED")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(messages=conversations)
def test_any_conversation_is_survived(server: Server, messages: object) -> None:
    for path, body in chat_requests(server).items():
        status, text = server.send(path, body(messages))
        assert status < 500 or text == server.sentence("APP_REFUSED")


def test_it_still_answers_and_has_streamed_no_failure(server: Server) -> None:
    """Stands last: what was sent before has left no traceback of a stream, and no stuck worker."""
    server.assert_answers()
    assert "The chat could not answer" not in server.log()
    assert "Exception on /streaming-chat" not in server.log()
