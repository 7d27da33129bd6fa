"""The dialects of the providers: what the tests must know to answer, and to fail, like each of them.

Each stands in `providers/<name>/dialect.py`; this is what all are made of.
"""

import importlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).parent.parent
PART = "The first half of an answer: ½"
THOUGHT = "The person wants to know whether all is well."
LONGEST_ANSWER = 4096  # tokens
OPEN_CODE = "It begins like this:\n\n```python\nprint(1)"

Json = dict[str, Any]


class End(Enum):
    """How a reply ends."""

    WHOLE = auto()
    CLOSE = auto()  # the connection is closed before all that was announced has come
    RESET = auto()  # the same, with an error on the connection
    SILENCE = auto()
    ENDLESS = auto()  # the last piece again and again


@dataclass(frozen=True)
class Reply:
    """What is sent back.

    Attributes:
        pieces: The body, piece by piece; without any, not even the headers are sent.
        status: The HTTP status.
        kind: The content type.
        end: What happens after the last piece.
        location: Where to go instead.
        identified: Whether a header says what the provider calls the request.
    """

    pieces: tuple[str, ...] | None
    status: int = 200
    kind: str = "application/json"
    end: End = End.WHOLE
    location: str = ""
    identified: bool = True


@dataclass(frozen=True)
class Fault:
    """A way to fail.

    Attributes:
        sentence: The name of the sentence in `notices.py` that the user must read.
        reply: What the provider sends back.
        received: The part of the answer that comes nevertheless.
        traceable: Whether the app can know what the provider calls the request.
    """

    sentence: str
    reply: Callable[["Api"], Reply]
    received: str = ""
    traceable: bool = True


Faults = dict[str, Fault]


def _tokens(text: str) -> list[str]:
    """Return a text in pieces, as a model would send it."""
    return re.findall(r".{1,7}", text, re.DOTALL)


class Api:
    """An API, speaking about one request: what all of them have in common.

    Attributes:
        path: Where the API is asked.
        id_header: The header that says what the provider calls a request; empty if its answers do.
        packages: What a project for the provider installs and imports.
        missing: The sentences about a variable that is not set, each with its variable.
        untold: What of its errors must not be logged.
        unusable: The sentences about other settings, each with the variables that provoke it.
        broken: The name of the error that a project meets when the connection breaks.
        stand_in_names_model: Whether aimock's answers name the model, without which usage is not shown.
        tells_tokens: Whether a streamed answer says what it took.
        refuses: How the API says that there is no answer.
        ends_early: How an answer ends before all is said.
        tells: What the API says in the middle of a stream.
        body: The request's body.
        key: The key that came with the request.
        streaming: Whether the answer is to come bit by bit.
        model: The model that was asked for.
    """

    path: ClassVar[str]
    id_header: ClassVar[str] = "x-request-id"
    packages: ClassVar[set[str]]
    missing: ClassVar[dict[str, str]]
    untold: ClassVar[tuple[str, ...]] = ()
    unusable: ClassVar[dict[str, dict[str, str]]] = {}
    broken: ClassVar[str] = "APIConnectionError"
    stand_in_names_model: ClassVar[bool] = True
    tells_tokens: ClassVar[bool] = True
    refuses: ClassVar[Faults]
    ends_early: ClassVar[Faults]
    tells: ClassVar[Faults]

    def __init__(self, body: Json, key: str, path: str = "") -> None:
        """Read the request.

        Args:
            body: Its body.
            key: The key that came with it.
            path: Where it was sent.
        """
        self.body = body
        self.key = key
        self.streaming = bool(body.get("stream"))
        self.model: str = body.get("model", "")

    @classmethod
    def path_of(cls, model: str, streaming: bool) -> str:
        """Return where an answer is asked for.

        Args:
            model: The model that is asked.
            streaming: Whether the answer is to come bit by bit.
        """
        return cls.path

    @staticmethod
    def choice(model: str, streaming: bool) -> Json:
        """Return what the body says of the model and the mode.

        Args:
            model: The model that is asked.
            streaming: Whether the answer is to come bit by bit.
        """
        return {"model": model, "stream": streaming}

    @staticmethod
    def settings(address: str, key: str) -> dict[str, str]:
        """Return the variables that a rendered project calls its provider with.

        Args:
            address: Where the provider is, without a path.
            key: The API key.
        """
        raise NotImplementedError

    @staticmethod
    def request(system_prompt: str, turns: list[Json]) -> Json:
        """Return what a project must send, but for the model and the mode.

        Args:
            system_prompt: What the model is told before the conversation.
            turns: The conversation, each turn with its `role` and its `content`.
        """
        raise NotImplementedError

    @staticmethod
    def words(text: str) -> Json:
        """Return the words of a question that has files.

        Args:
            text: The words.
        """
        return {"type": "text", "text": text}

    @staticmethod
    def file(name: str, kind: str, data: str, text: str) -> Json:
        """Return the part of a question that a file must become, by the provider's documentation.

        Args:
            name: The file's name.
            kind: Its media type.
            data: Its bytes in base64.
            text: Its text; empty if it has none.
        """
        raise NotImplementedError

    def begin(self) -> list[str]:
        """Return the events before the first token."""
        raise NotImplementedError

    def token(self, text: str) -> str:
        """Return the event that brings a piece of the answer.

        Args:
            text: The piece.
        """
        raise NotImplementedError

    def finish(self, text: str, reason: str) -> list[str]:
        """Return the events after the last token.

        Args:
            text: The whole answer.
            reason: Why it ends there, in the API's words.
        """
        raise NotImplementedError

    def whole(self, text: str, reason: str) -> Json:
        """Return an answer that comes in one piece.

        Args:
            text: The answer.
            reason: Why it ends there, in the API's words.
        """
        raise NotImplementedError

    def problem(self, kind: str, message: str, code: str | int | None = None) -> Json:
        """Return what the API says instead of an answer.

        Args:
            kind: The API's type for the error.
            message: The message for people.
            code: The API's code for the error.
        """
        raise NotImplementedError

    def problem_event(self, kind: str, message: str, code: str | int | None = None) -> str:
        """Return the event that says the same inside a stream.

        Args:
            kind: The API's type for the error.
            message: The message for people.
            code: The API's code for the error.
        """
        raise NotImplementedError

    def answer(self, text: str, reason: str = "") -> Reply:
        """Return a reply that brings an answer and all that belongs after it.

        Args:
            text: The answer.
            reason: Why it ends there, in the API's words; by default because all is said.
        """
        if self.streaming:
            return self.stream([*self.begin(), *self.tokens(text), *self.finish(text, reason)])
        return Reply((json.dumps(self.whole(text, reason)),))

    def tokens(self, text: str) -> list[str]:
        """Return the events that bring a text.

        Args:
            text: The text.
        """
        return [self.token(piece) for piece in _tokens(text)]

    def stream(self, events: list[str], end: End = End.WHOLE) -> Reply:
        """Return a reply that brings events.

        Args:
            events: The events.
            end: What happens after the last one.
        """
        return Reply(tuple(events), kind="text/event-stream; charset=utf-8", end=end)


def turns(body: Json) -> list[tuple[str, Any]]:
    """Return who said what in the conversation that a provider was sent, in words or in parts.

    Args:
        body: The body of a request, to whichever API.
    """
    if "contents" in body:
        said = [
            ("assistant" if one["role"] == "model" else "user", one["parts"])
            for one in body["contents"]
        ]
        return [(role, parts[0]["text"] if len(parts) == 1 else parts) for role, parts in said]
    said = body.get("input") or body["messages"]
    return [(turn["role"], turn["content"]) for turn in said if turn["role"] != "system"]


def refused(
    sentence: str,
    status: int,
    kind: str,
    message: str,
    code: str | int | None = None,
    param: str | None = None,
) -> Faults:
    """Return a fault that says a status, with the API's own words; {key} and {model} are filled in."""

    def reply(api: Api) -> Reply:
        problem = api.problem(kind, message.format(key=api.key, model=api.model), code)
        if param:
            problem["error"]["param"] = param
        return Reply((json.dumps(problem),), status)

    return {f"{status} {code or kind}: {message}": Fault(sentence, reply)}


def finished(sentence: str, reason: str, received: str, name: str | None = None) -> Faults:
    """Return a fault that is an answer which ends for some reason."""
    after = "after some tokens" if received else "without a token"
    label = name or f"{reason} {after}"
    return {label: Fault(sentence, lambda api: api.answer(received, reason), received)}


def told(
    sentence: str, kind: str, message: str, code: str | int | None = None, *, received: str = ""
) -> Faults:
    """Return a fault that an event in the middle of a stream tells of."""

    def reply(api: Api) -> Reply:
        told = api.problem_event(kind, message, code)
        return api.stream([*api.begin(), *api.tokens(received), told])

    place = "after some tokens" if received else "before the first token"
    return {f"event {code or kind} {place}": Fault(sentence, reply, received)}


def dialects() -> dict[str, type[Api]]:
    """Return the dialect of each provider that has one, by the provider's name."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    names = sorted(path.parent.name for path in (ROOT / "providers").glob("*/dialect.py"))
    return {name: importlib.import_module(f"providers.{name}.dialect").Dialect for name in names}
