"""A provider that fails: it speaks the three APIs, and fails as the question that it gets asks it to.

A question that names no fault is answered well. Each fault says which sentence it must become.
"""

import contextlib
import dataclasses
import functools
import importlib
import itertools
import json
import os
import re
import secrets
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PREFIX = "fault: "
PART = "The first half of an answer: ½"
THOUGHT = "The person wants to know whether all is well."
OPEN_CODE = "It begins like this:\n\n```python\nprint(1)"
KEY = "test-key-Zx81LmQ7"
LONGEST_SILENCE = 30  # seconds; nobody waits for so long unless a time-out is missing
PACE = 0.02  # seconds between the tokens of an endless answer

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


@dataclass
class Call:
    """A request that the provider got.

    Attributes:
        path: Where it was sent.
        body: What was sent.
        key: The API key that was sent with it.
        request_id: What the reply's header calls it; empty if no header was sent.
        closed: Whether the client has closed the connection while the provider was still at it.
        seconds: How long the client waited until then, from the last piece on.
    """

    path: str
    body: Json
    key: str
    request_id: str = ""
    closed: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0

    @property
    def turns(self) -> list[tuple[str, str]]:
        """The conversation, each turn with its role, without what the model is told before it."""
        turns = self.body["input"] if "input" in self.body else self.body["messages"]
        return [(turn["role"], turn["content"]) for turn in turns if turn["role"] != "system"]

    @property
    def question(self) -> str:
        """The newest message."""
        return self.turns[-1][1]


def healthy_answer(question: str) -> str:
    """Return the answer to a question that names no fault: each question has its own.

    Args:
        question: The question.
    """
    return f"All is well — “{question}” has an answer. ✓"


def _tokens(text: str) -> list[str]:
    """Return a text in pieces, as a model would send it."""
    return re.findall(r".{1,7}", text, re.DOTALL)


class Api:
    """One of the APIs, speaking about one request: what the three have in common.

    Attributes:
        body: The request's body.
        key: The key that came with the request.
        streaming: Whether the answer is to come bit by bit.
        model: The model that was asked for.
    """

    path: str
    id_header = "x-request-id"

    def __init__(self, body: Json, key: str) -> None:
        """Read the request.

        Args:
            body: Its body.
            key: The key that came with it.
        """
        self.body = body
        self.key = key
        self.streaming = bool(body.get("stream"))
        self.model: str = body["model"]

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


class Messages(Api):
    """Anthropic's Messages API."""

    path = "/v1/messages"
    id_header = "request-id"

    def begin(self) -> list[str]:
        message = self.whole("", "") | {"content": [], "stop_reason": None}
        thinking = {"type": "thinking", "thinking": "", "signature": ""}
        thought = {"type": "thinking_delta", "thinking": THOUGHT}
        signature = {"type": "signature_delta", "signature": "EqQB"}
        text = {"type": "text", "text": ""}
        return [
            self._event({"type": "message_start", "message": message}),
            self._event({"type": "content_block_start", "index": 0, "content_block": thinking}),
            self._event({"type": "ping"}),
            self._event({"type": "content_block_delta", "index": 0, "delta": thought}),
            self._event({"type": "content_block_delta", "index": 0, "delta": signature}),
            self._event({"type": "content_block_stop", "index": 0}),
            self._event({"type": "content_block_start", "index": 1, "content_block": text}),
        ]

    def token(self, text: str) -> str:
        delta = {"type": "text_delta", "text": text}
        return self._event({"type": "content_block_delta", "index": 1, "delta": delta})

    def finish(self, text: str, reason: str) -> list[str]:
        end = {"stop_reason": reason or "end_turn", "stop_sequence": None}
        usage = {"output_tokens": 9}
        return [
            self._event({"type": "content_block_stop", "index": 1}),
            self._event({"type": "message_delta", "delta": end, "usage": usage}),
            self._event({"type": "message_stop"}),
        ]

    def whole(self, text: str, reason: str) -> Json:
        return {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [
                {"type": "thinking", "thinking": THOUGHT, "signature": "EqQB"},
                *([{"type": "text", "text": text}] if text else []),
            ],
            "stop_reason": reason or "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 12, "output_tokens": 9},
        }

    def problem(self, kind: str, message: str, code: str | int | None = None) -> Json:
        return {"type": "error", "error": {"type": kind, "message": message}}

    def problem_event(self, kind: str, message: str, code: str | int | None = None) -> str:
        return self._event(self.problem(kind, message))

    def _event(self, data: Json) -> str:
        return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"


class Responses(Api):
    """OpenAI's Responses API."""

    path = "/v1/responses"

    def __init__(self, body: Json, key: str) -> None:
        super().__init__(body, key)
        self._id = secrets.token_hex(12)
        self._number = itertools.count()

    def begin(self) -> list[str]:
        started = self._response("in_progress", [])
        item = self._message("") | {"status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return [
            self._event("response.created", response=started),
            self._event("response.in_progress", response=started),
            self._event("response.output_item.added", output_index=0, item=self._reasoning),
            self._event(
                "response.reasoning_summary_text.delta",
                item_id=self._reasoning["id"],
                output_index=0,
                summary_index=0,
                delta=THOUGHT,
            ),
            self._event("response.output_item.done", output_index=0, item=self._reasoning),
            self._event("response.output_item.added", output_index=1, item=item),
            self._event("response.content_part.added", part=part, **self._place),
        ]

    def token(self, text: str) -> str:
        return self._event("response.output_text.delta", delta=text, logprobs=[], **self._place)

    def finish(self, text: str, reason: str) -> list[str]:
        response = self.whole(text, reason)
        said = [self._event("response.output_text.done", text=text, logprobs=[], **self._place)]
        if reason == "refusal":
            refusal = response["output"][1]["content"][0]["refusal"]
            said = [
                self._event("response.refusal.delta", delta=refusal, **self._place),
                self._event("response.refusal.done", refusal=refusal, **self._place),
            ]
        item = (response["output"][1:] or [self._message(text)])[0]
        return [
            *(said if text or reason == "refusal" else []),
            self._event("response.output_item.done", output_index=1, item=item),
            self._event(f"response.{response['status']}", response=response),
        ]

    def whole(self, text: str, reason: str) -> Json:
        output = [self._reasoning, *([self._message(text)] if text else [])]
        if reason == "refusal":
            refusal = {"type": "refusal", "refusal": "I cannot help with that."}
            refused = self._message("") | {"content": [refusal]}
            return self._response("completed", [self._reasoning, refused])
        if reason in ("max_output_tokens", "content_filter"):
            return self._response("incomplete", output, incomplete_details={"reason": reason})
        if reason:
            problem = {"code": reason, "message": f"The model failed: {reason}."}
            return self._response("failed", output, error=problem)
        return self._response("completed", output)

    def problem(self, kind: str, message: str, code: str | int | None = None) -> Json:
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def problem_event(self, kind: str, message: str, code: str | int | None = None) -> str:
        return self._event("error", code=code, message=message, param=None)

    def nested_problem_event(self, kind: str, message: str, code: str) -> str:
        """Return the same event in the other form that the service has for it.

        Args:
            kind: The API's type for the error.
            message: The message for people.
            code: The API's code for the error.
        """
        return self._event("error", **self.problem(kind, message, code))

    @property
    def _place(self) -> Json:
        return {"item_id": f"msg_{self._id}", "output_index": 1, "content_index": 0}

    @property
    def _reasoning(self) -> Json:
        summary = [{"type": "summary_text", "text": THOUGHT}]
        return {"id": f"rs_{self._id}", "type": "reasoning", "summary": summary}

    def _message(self, text: str) -> Json:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {
            "id": f"msg_{self._id}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }

    def _response(self, status: str, output: list[Json], **others: Any) -> Json:
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": self.body.get("instructions"),
            "max_output_tokens": self.body.get("max_output_tokens"),
            "model": self.model,
            "output": output,
            "parallel_tool_calls": True,
            "store": False,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "metadata": {},
            "usage": {"input_tokens": 12, "output_tokens": 9, "total_tokens": 21},
        } | others

    def _event(self, kind: str, **data: Any) -> str:
        everything = {"type": kind, "sequence_number": next(self._number)} | data
        return f"event: {kind}\ndata: {json.dumps(everything)}\n\n"


USAGE = {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}


class Completions(Api):
    """The Chat Completions API of OpenAI, which many servers speak."""

    path = "/v1/chat/completions"

    def begin(self) -> list[str]:
        return [
            self._chunk({"role": "assistant", "content": ""}),
            self._chunk({"reasoning_content": THOUGHT}),  # as vLLM names it
            self._chunk({"content": "", "reasoning": THOUGHT}),  # as Ollama does
        ]

    def token(self, text: str) -> str:
        return self._chunk({"content": text})

    def finish(self, text: str, reason: str) -> list[str]:
        if reason == "refusal":
            refused = [self._chunk({"refusal": "I cannot help with that."})]
            return [*refused, *self.finish(text, "stop")]
        usage = self._completion("chat.completion.chunk") | {"choices": [], "usage": USAGE}
        told = f"data: {json.dumps(usage)}\n\n"
        return [self._chunk({}, reason or "stop"), told, "data: [DONE]\n\n"]

    def whole(self, text: str, reason: str) -> Json:
        message = {"role": "assistant", "content": text, "refusal": None, "reasoning": THOUGHT}
        if reason == "refusal":
            message |= {"content": None, "refusal": "I cannot help with that."}
            reason = "stop"
        completion = self._completion(
            "chat.completion", message=message, finish_reason=reason or "stop"
        )
        return completion | {"usage": USAGE}

    def problem(self, kind: str, message: str, code: str | int | None = None) -> Json:
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def problem_event(self, kind: str, message: str, code: str | int | None = None) -> str:
        return f"data: {json.dumps(self.problem(kind, message, code))}\n\n"

    def _chunk(self, delta: Json, reason: str | None = None) -> str:
        chunk = self._completion("chat.completion.chunk", delta=delta, finish_reason=reason)
        return f"data: {json.dumps(chunk)}\n\n"

    def _completion(self, kind: str, **choice: Any) -> Json:
        return {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": self.model,
            "choices": [{"index": 0, "logprobs": None} | choice],
        }


APIS: dict[str, type[Api]] = {
    "anthropic": Messages,
    "openai": Responses,
    "openai_compatible": Completions,
}


def _refused(
    sentence: str,
    status: int,
    kind: str,
    message: str,
    code: str | int | None = None,
    param: str | None = None,
) -> dict[str, Fault]:
    """Return a fault that says a status, with the API's own words; {key} and {model} are filled in."""

    def reply(api: Api) -> Reply:
        problem = api.problem(kind, message.format(key=api.key, model=api.model), code)
        if param:
            problem["error"]["param"] = param
        return Reply((json.dumps(problem),), status)

    return {f"{status} {code or kind}: {message}": Fault(sentence, reply)}


def _foreign(sentence: str, name: str, reply: Reply) -> dict[str, Fault]:
    """Return a fault whose reply has nothing of the API's."""
    unknown = dataclasses.replace(reply, identified=False)
    return {name: Fault(sentence, lambda api: unknown)}


def _page(title: str) -> tuple[str]:
    """Return a page as a web server would send it."""
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return (f"<!DOCTYPE html>\n{page}\n",)


ANTHROPIC_REFUSES = (
    _refused("REFUSED_KEY", 401, "authentication_error", "invalid x-api-key: {key}")
    | _refused("NO_CREDIT", 402, "billing_error", "There is an issue with your billing.")
    | _refused("NOT_PERMITTED", 403, "permission_error", "Your API key has no access to {model}.")
    | _refused("UNKNOWN_MODEL", 404, "not_found_error", "model: {model}")
    | _refused("WRONG_URL", 404, "not_found_error", "Not Found")
    | _refused("TOO_LONG", 413, "request_too_large", "Request exceeds the maximum size")
    | _refused("RATE_LIMIT", 429, "rate_limit_error", "This would exceed your rate limit.")
    | _refused("SERVER_ERROR", 500, "api_error", "Internal server error")
    | _refused("TIMEOUT", 504, "timeout_error", "Request timed out")
    | _refused("OVERLOADED", 529, "overloaded_error", "Overloaded")
    | _refused("BAD_REQUEST", 400, "invalid_request_error", "messages.0: must not be so")
    | _refused("BAD_REQUEST", 422, "invalid_request_error", "max_tokens: must not be so")
    | _refused(
        "WRONG_EFFORT",
        400,
        "invalid_request_error",
        "This model does not support the effort parameter.",
    )
    | _refused(
        "NO_CREDIT",
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing "
        "to upgrade or purchase credits.",
    )
    | _refused(
        "CONTEXT_FULL",
        400,
        "invalid_request_error",
        "prompt is too long: 210000 tokens > 200000 maximum",
    )
    | _refused(
        "CONTEXT_FULL",
        400,
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000",
    )
)

OPENAI_REFUSES = (
    _refused(
        "REFUSED_KEY",
        401,
        "invalid_request_error",
        "Incorrect API key provided: {key}.",
        "invalid_api_key",
    )
    | _refused(
        "NOT_PERMITTED", 403, "invalid_request_error", "No access to {model}.", "access_denied"
    )
    | _refused(
        "UNKNOWN_MODEL",
        404,
        "invalid_request_error",
        "The model `{model}` does not exist or you do not have access to it.",
        "model_not_found",
    )
    | _refused("WRONG_URL", 404, "invalid_request_error", "Invalid URL (POST /v2/answers)")
    | _refused("TOO_LONG", 413, "invalid_request_error", "Request Entity Too Large")
    | _refused(
        "RATE_LIMIT", 429, "requests", "Rate limit reached for {model}.", "rate_limit_exceeded"
    )
    | _refused(
        "NO_CREDIT",
        429,
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
    )
    | _refused("SERVER_ERROR", 500, "server_error", "The server had an error.")
    | _refused("OVERLOADED", 503, "service_unavailable", "The engine is currently overloaded.")
    | _refused(
        "CONTEXT_FULL",
        400,
        "invalid_request_error",
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "context_length_exceeded",
    )
    | _refused("BAD_REQUEST", 400, "invalid_request_error", "Unsupported.", "unsupported_value")
    | _refused("BAD_REQUEST", 422, "invalid_request_error", "Unprocessable.")
)

# What OpenAI says of a parameter names it in a field of its own; compatible servers only in words.
OPENAI_REFUSES_EFFORT = _refused(
    "WRONG_EFFORT",
    400,
    "invalid_request_error",
    "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
    "unsupported_parameter",
    "reasoning.effort",
) | _refused(
    "WRONG_EFFORT",
    400,
    "invalid_request_error",
    "Unsupported value: 'none' is not supported with this model.",
    "unsupported_value",
    "reasoning.effort",
)

# The words of Ollama, vLLM and llama.cpp, which have no code for it, and of a filter of Azure's.
COMPATIBLE_REFUSES = (
    _refused("UNKNOWN_MODEL", 404, "not_found_error", 'model "{model}" not found')
    | _refused("WRONG_EFFORT", 400, "BadRequestError", "Unknown argument: reasoning_effort")
    | _refused("UNKNOWN_MODEL", 404, "NotFoundError", "The model `{model}` does not exist.")
    | _refused("REFUSAL", 400, "invalid_request_error", "The filter was hit.", "content_filter")
    | _refused(
        "CONTEXT_FULL",
        400,
        "BadRequestError",
        "This model's maximum context length is 4096 tokens. However, your request has 5000.",
    )
    | _refused(
        "CONTEXT_FULL",
        400,
        "exceed_context_size_error",
        "request (5000 tokens) exceeds the available context size (4096 tokens)",
    )
)

FOREIGN = (
    _foreign("WRONG_URL", "404, a page", Reply(_page("404 Not Found"), 404, "text/html"))
    | _foreign("WRONG_URL", "404, other JSON", Reply(('{"detail": "Not Found"}',), 404))
    | _foreign("WRONG_URL", "405, a page", Reply(_page("405 Not Allowed"), 405, "text/html"))
    | _foreign("WRONG_URL", "200, a page", Reply(_page("Welcome!"), kind="text/html"))
    | _foreign("WRONG_URL", "200, other JSON", Reply(('{"status": "ok"}',)))
    | _foreign("WRONG_URL", "302, to a page", Reply((), 302, "text/html", location="/login"))
    | _foreign("SERVER_ERROR", "502, a page", Reply(_page("502 Bad Gateway"), 502, "text/html"))
    | _foreign("OVERLOADED", "503, a page", Reply(_page("503 Unavailable"), 503, "text/html"))
    | _foreign("TIMEOUT", "504, a page", Reply(_page("504 Gateway Time-out"), 504, "text/html"))
    | _foreign("SERVER_ERROR", "520, a page", Reply(_page("520 Unknown Error"), 520, "text/html"))
    | _foreign("TOO_LONG", "413, a page", Reply(_page("413 Too Large"), 413, "text/html"))
    | _foreign("TIMEOUT", "408, no body", Reply((), 408, "text/plain"))
    | _foreign("OTHER", "418, a page", Reply(_page("418 I'm a teapot"), 418, "text/html"))
    | _foreign("TIMEOUT", "silence", Reply(None, end=End.SILENCE))
    | _foreign("CUT_OFF", "no reply", Reply(None, end=End.CLOSE))
)


def _finished(
    sentence: str, reason: str, received: str, name: str | None = None
) -> dict[str, Fault]:
    """Return a fault that is an answer which ends for some reason."""
    after = "after some tokens" if received else "without a token"
    label = name or f"{reason} {after}"
    return {label: Fault(sentence, lambda api: api.answer(received, reason), received)}


def _empty() -> dict[str, Fault]:
    """Return answers in which all is right except that they hold no text."""
    return {
        "no text": Fault("EMPTY", lambda api: api.answer("")),
        "blanks": Fault("EMPTY", lambda api: api.answer(" \n")),
    }


FINISHED = {
    "anthropic": (
        _finished("CUT_AT_LIMIT", "max_tokens", PART)
        | _finished("CUT_AT_LIMIT", "max_tokens", "")
        | _finished("CUT_AT_LIMIT", "max_tokens", OPEN_CODE, "max_tokens inside of code")
        | _finished("CONTEXT_FULL", "model_context_window_exceeded", PART)
        | _finished("REFUSAL", "refusal", PART)
        | _finished("REFUSAL", "refusal", "")
    ),
    "openai": (
        _finished("CUT_AT_LIMIT", "max_output_tokens", PART)
        | _finished("CUT_AT_LIMIT", "max_output_tokens", "")
        | _finished("CUT_AT_LIMIT", "max_output_tokens", OPEN_CODE, "max_output_tokens in code")
        | _finished("REFUSAL", "content_filter", PART)
        | _finished("REFUSAL", "content_filter", "")
        | _finished("REFUSAL", "refusal", "")
        | _finished("SERVER_ERROR", "server_error", "")
        | _finished("SERVER_ERROR", "server_error", PART)
        | _finished("RATE_LIMIT", "rate_limit_exceeded", "")
        | _finished("CONTEXT_FULL", "context_length_exceeded", "")
    ),
    "openai_compatible": (
        _finished("CUT_AT_LIMIT", "length", PART)
        | _finished("CUT_AT_LIMIT", "length", "")
        | _finished("CUT_AT_LIMIT", "length", OPEN_CODE, "length inside of code")
        | _finished("REFUSAL", "content_filter", PART)
        | _finished("REFUSAL", "content_filter", "")
        | _finished("REFUSAL", "refusal", "")
    ),
}


def _broken(
    sentence: str, name: str, end: End, *, received: str = "", after: str = ""
) -> dict[str, Fault]:
    """Return a fault that is a stream which does not come to its end.

    Args:
        sentence: The sentence that it must become.
        name: The fault's name.
        end: What happens instead of the end.
        received: The text that comes before.
        after: An event to send after it.
    """

    def reply(api: Api) -> Reply:
        last = [after] if after else []
        return api.stream([*api.begin(), *api.tokens(received), *last], end)

    return {name: Fault(sentence, reply, received)}


def _told(
    sentence: str, kind: str, message: str, code: str | int | None = None, *, received: str = ""
) -> dict[str, Fault]:
    """Return a fault that an event in the middle of a stream tells of."""

    def reply(api: Api) -> Reply:
        told = api.problem_event(kind, message, code)
        return api.stream([*api.begin(), *api.tokens(received), told])

    place = "after some tokens" if received else "before the first token"
    return {f"event {code or kind} {place}": Fault(sentence, reply, received)}


def _told_otherwise(sentence: str, kind: str, message: str, code: str) -> dict[str, Fault]:
    """Return the same for the other form that OpenAI has for such an event."""

    def reply(api: Api) -> Reply:
        assert isinstance(api, Responses)
        return api.stream([*api.begin(), api.nested_problem_event(kind, message, code)])

    return {f"nested event {code}": Fault(sentence, reply)}


STREAMS_BREAK = (
    _broken("CUT_OFF", "closed after some tokens", End.CLOSE, received=PART)
    | _broken("CUT_OFF", "closed inside of code", End.CLOSE, received=OPEN_CODE)
    | _broken("CUT_OFF", "reset after some tokens", End.RESET, received=PART)
    | _broken("CUT_OFF", "no end after some tokens", End.WHOLE, received=PART)
    | _broken("CUT_OFF", "closed before the first token", End.CLOSE)
    | _broken("CUT_OFF", "no end before the first token", End.WHOLE)
    | _broken("TIMEOUT", "silence before the first token", End.SILENCE)
    | _broken("TIMEOUT", "silence after some tokens", End.SILENCE, received=PART)
    | {
        "closed after the headers": Fault("CUT_OFF", lambda api: api.stream([], End.CLOSE)),
        "silence after the headers": Fault("TIMEOUT", lambda api: api.stream([], End.SILENCE)),
    }
)


def _malformed(received: str, name: str) -> dict[str, Fault]:
    """Return a fault that is an event which cannot be read."""

    def reply(api: Api) -> Reply:
        readable = api.token("never read")
        cut = f"{readable[: readable.index('never')]}\n\n"
        return api.stream([*api.begin(), *api.tokens(received), cut, *api.finish(received, "")])

    return {name: Fault("OTHER", reply, received)}


STREAMS_TELL = {
    "anthropic": (
        _told("OVERLOADED", "overloaded_error", "Overloaded")
        | _told("OVERLOADED", "overloaded_error", "Overloaded", received=PART)
        | _told("SERVER_ERROR", "api_error", "Internal server error")
        | _told("SERVER_ERROR", "api_error", "Internal server error", received=PART)
        | _told("RATE_LIMIT", "rate_limit_error", "Too many tokens", received=PART)
    ),
    "openai": (
        _told("CONTEXT_FULL", "invalid_request_error", "Too long.", "context_length_exceeded")
        | _told("SERVER_ERROR", "server_error", "Sorry.", "server_error", received=PART)
        | _told("RATE_LIMIT", "tokens", "Too many tokens.", "rate_limit_exceeded")
        | _told_otherwise(
            "CONTEXT_FULL", "invalid_request_error", "Too long.", "context_length_exceeded"
        )
    ),
    "openai_compatible": (
        _told("CONTEXT_FULL", "invalid_request_error", "Too long.", "context_length_exceeded")
        | _told("SERVER_ERROR", "server_error", "Sorry.", "server_error", received=PART)
        | _told("SERVER_ERROR", "InternalServerError", "Sorry.", 500, received=PART)
    ),
}


def _halved(end: End) -> Callable[[Api], Reply]:
    """Return what sends the first half of an answer that should come in one piece."""

    def reply(api: Api) -> Reply:
        body = json.dumps(api.whole(PART, ""))
        return Reply((body[: len(body) // 2],), end=end)

    return reply


# The SDKs throw the headers away with such a body.
BODIES_BREAK = {
    "closed half-way": Fault("CUT_OFF", _halved(End.CLOSE), traceable=False),
    "reset half-way": Fault("CUT_OFF", _halved(End.RESET), traceable=False),
    "silence half-way": Fault("TIMEOUT", _halved(End.SILENCE), traceable=False),
    "closed after the headers": Fault(
        "CUT_OFF", lambda api: Reply((), end=End.CLOSE), traceable=False
    ),
}


@functools.cache
def faults_of(provider: str, streaming: bool) -> dict[str, Fault]:
    """Return what can go wrong between a project and its provider, by name.

    Args:
        provider: The project's provider.
        streaming: Whether its answers come bit by bit.
    """
    refuses = {
        "anthropic": ANTHROPIC_REFUSES,
        "openai": OPENAI_REFUSES | OPENAI_REFUSES_EFFORT,
        "openai_compatible": OPENAI_REFUSES | COMPATIBLE_REFUSES,
    }
    found = refuses[provider] | FOREIGN | FINISHED[provider] | _empty()
    if not streaming:
        return found | BODIES_BREAK
    malformed = _malformed("", "malformed event") | _malformed(PART, "malformed event after tokens")
    return found | STREAMS_BREAK | malformed | STREAMS_TELL[provider]


def _endless(api: Api) -> Reply:
    """Return a reply that brings one token after the other until the client has gone."""
    return api.stream([*api.begin(), *api.tokens(PART)], End.ENDLESS)


ENDLESS = "endless"


class FaultyProvider:
    """A server that answers for a provider, well or with the fault that the question names.

    Attributes:
        name: Whose API it speaks.
        calls: What was sent there, the oldest first.
        port: Where it listens, once it is opened.
        certificate: What it shows of itself, with its key; None for plain HTTP.
    """

    def __init__(self, provider: str) -> None:
        """Take a port, on which nothing answers yet.

        Args:
            provider: Whose API to speak.
        """
        self.name = provider
        self.calls: list[Call] = []
        self.certificate: Path | None = None
        self._is_open = False
        self._server = _server(self)
        self.port = int(self._server.server_address[1])

    def open(self) -> None:
        """Begin to answer."""
        self._is_open = True
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        if self._is_open:
            self._server.shutdown()
        self._server.server_close()

    def asked(self, question: str) -> list[Call]:
        """Return what was sent because of a question.

        Args:
            question: The newest message.
        """
        return [call for call in self.calls if call.question == question]

    def environment(self, address: str = "") -> dict[str, str]:
        """Return the variables that point a rendered project to a provider.

        Args:
            address: Where the provider is, without a path; here unless it is given.
        """
        address = address or f"http://127.0.0.1:{self.port}"
        return {"NO_PROXY": "*", "no_proxy": "*"} | settings(self.name, address)

    def reply(self, call: Call) -> Reply:
        """Return what to send back.

        Args:
            call: The request.
        """
        api = APIS[self.name](call.body, call.key)
        question = call.question
        if not question.startswith(PREFIX):
            return api.answer(healthy_answer(question))
        fault = question.removeprefix(PREFIX)
        if fault == ENDLESS:
            return _endless(api)
        return faults_of(self.name, api.streaming)[fault].reply(api)


@contextlib.contextmanager
def answering(provider: str) -> Iterator[FaultyProvider]:
    """Start a faulty provider, and stop it at the end.

    Args:
        provider: Whose API it speaks.
    """
    server = FaultyProvider(provider)
    server.open()
    yield server
    server.stop()


def settings(provider: str, address: str, key: str = KEY) -> dict[str, str]:
    """Return the two variables that a rendered project calls its provider with.

    Args:
        provider: The project's provider.
        address: Where the provider is, without a path.
        key: The API key.
    """
    if provider == "anthropic":
        return {"ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": address}
    prefix = {"openai": "OPENAI", "openai_compatible": "COMPATIBLE"}[provider]
    return {f"{prefix}_API_KEY": key, f"{prefix}_BASE_URL": f"{address}/v1"}


def _server(provider: FaultyProvider) -> ThreadingHTTPServer:
    """Return a server with a port of its own that does not listen yet."""
    id_header = APIS[provider.name].id_header

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(Reply(_page("Please sign in"), kind="text/html"), Call(self.path, {}, ""))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            call = Call(self.path, body, self.headers.get("x-api-key") or bearer)
            provider.calls.append(call)
            self._send(provider.reply(call), call)

        def _send(self, reply: Reply, call: Call) -> None:
            if reply.pieces is not None:
                self._headers(reply, call)
                pieces = [self._framed(piece.encode(), reply) for piece in reply.pieces]
                # A reset drops what the system has not sent yet: one write is sent at once.
                for data in [b"".join(pieces)] if reply.end is End.RESET else pieces:
                    self.wfile.write(data)
            if reply.end is End.WHOLE:
                if _is_stream(reply):
                    self.wfile.write(b"0\r\n\r\n")
                return
            self.close_connection = True
            if reply.end in (End.SILENCE, End.ENDLESS):
                self._go_on(reply, call)
            if reply.end is End.RESET:
                at_once = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                self.connection.close()

        def _headers(self, reply: Reply, call: Call) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            if reply.identified:
                call.request_id = f"req_{secrets.token_hex(16)}"
                self.send_header(id_header, call.request_id)
            if reply.location:
                self.send_header("Location", reply.location)
            if _is_stream(reply):
                self.send_header("Transfer-Encoding", "chunked")
            else:
                length = sum(len(piece.encode()) for piece in reply.pieces or ())
                more = 0 if reply.end is End.WHOLE else 100
                self.send_header("Content-Length", str(length + more))
            self.end_headers()

        def _framed(self, data: bytes, reply: Reply) -> bytes:
            return b"%x\r\n%s\r\n" % (len(data), data) if _is_stream(reply) else data

        def _go_on(self, reply: Reply, call: Call) -> None:
            """Say nothing, or the same for ever, until the client closes the connection."""
            begin = time.monotonic()
            pause = PACE if reply.end is End.ENDLESS else LONGEST_SILENCE
            with contextlib.suppress(OSError):
                while not select.select([self.connection], [], [], pause)[0]:
                    if reply.end is End.SILENCE or not reply.pieces:
                        return
                    self.wfile.write(self._framed(reply.pieces[-1].encode(), reply))
            call.seconds = time.monotonic() - begin
            call.closed.set()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

        def finish_request(self, request: Any, client_address: Any) -> None:
            if provider.certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(provider.certificate)
                with context.wrap_socket(request, server_side=True) as encrypted:
                    super().finish_request(encrypted, client_address)
            else:
                super().finish_request(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Print nothing: a client that goes away or does not trust us is no error here."""

    server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.server_bind()
    return server


def _is_stream(reply: Reply) -> bool:
    """Return whether a reply is sent in chunks."""
    return reply.kind.startswith("text/event-stream")


def ask_with_settings(package: str, settings: list[dict[str, str]], answers: Path) -> int:
    """Ask a project's chat twice with each of some settings, in this process.

    Args:
        package: The name of the project's package.
        settings: The variables to set; the app starts with the first.
        answers: The file to write the streams to.
    """
    os.environ.update(settings[0])
    browser = importlib.import_module(f"{package}.app").app.dash.server.test_client()
    body = {"messages": [{"role": "user", "content": "What is a table?"}]}
    heard = []
    for variables in settings:
        os.environ.update(variables)
        # Both are read once in the life of an app.
        importlib.import_module(f"{package}.settings").settings.cache_clear()
        importlib.import_module(f"{package}.provider").client.cache_clear()
        heard.append([browser.post("/chat", json=body).text for _ in range(2)])
    answers.write_text(json.dumps(heard), encoding="utf-8")
    return 0


class Proxy:
    """A proxy for HTTPS, which refuses each connection or leads it to one port of this machine.

    Attributes:
        refusal: The status to refuse with; None to refuse nothing.
        url: Where the proxy is.
        targets: Where its clients wanted to go.
    """

    def __init__(self, port: int) -> None:
        """Start it.

        Args:
            port: Where connections lead if they are not refused, whatever they ask for.
        """
        self.refusal: int | None = None
        self.targets: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                proxy.targets.append(self.path)
                if proxy.refusal:
                    self.send_error(proxy.refusal)
                    return
                with socket.create_connection(("127.0.0.1", port)) as provider:
                    self.send_response(200)
                    self.end_headers()
                    join(self.connection, provider)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


def join(one: socket.socket, other: socket.socket) -> None:
    """Pass on what two connections bring, until one of them ends."""
    peers = {one: other, other: one}
    with contextlib.suppress(OSError):
        while True:
            for ready in select.select(list(peers), [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                peers[ready].sendall(data)


def certificate(path: Path, *names: str) -> Path:
    """Write a new certificate that vouches for itself, with its key, and return its path.

    Args:
        path: Where to write it.
        names: The hosts that it is for.
    """
    key = path.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={names[0]}", "-keyout", str(key), "-out", str(path)]
    command += ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path
