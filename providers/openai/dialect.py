"""How OpenAI answers and fails, for the tests."""

import itertools
import json
import secrets
import time
from typing import Any

from dialects import (
    LONGEST_ANSWER,
    OPEN_CODE,
    PART,
    THOUGHT,
    Api,
    Fault,
    Faults,
    Json,
    Reply,
    finished,
    refused,
    told,
)


def told_otherwise(sentence: str, kind: str, message: str, code: str) -> Faults:
    """Return the same for the other form that OpenAI has for such an event."""

    def reply(api: Api) -> Reply:
        assert isinstance(api, Dialect)
        return api.stream([*api.begin(), api.nested_problem_event(kind, message, code)])

    return {f"nested event {code}": Fault(sentence, reply)}


REFUSES = (
    refused(
        "REFUSED_KEY",
        401,
        "invalid_request_error",
        "Incorrect API key provided: {key}.",
        "invalid_api_key",
    )
    | refused(
        "NOT_PERMITTED", 403, "invalid_request_error", "No access to {model}.", "access_denied"
    )
    | refused(
        "UNKNOWN_MODEL",
        404,
        "invalid_request_error",
        "The model `{model}` does not exist or you do not have access to it.",
        "model_not_found",
    )
    | refused("WRONG_URL", 404, "invalid_request_error", "Invalid URL (POST /v2/answers)")
    | refused("TOO_LONG", 413, "invalid_request_error", "Request Entity Too Large")
    | refused(
        "RATE_LIMIT", 429, "requests", "Rate limit reached for {model}.", "rate_limit_exceeded"
    )
    | refused(
        "NO_CREDIT",
        429,
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
    )
    | refused("SERVER_ERROR", 500, "server_error", "The server had an error.")
    | refused("OVERLOADED", 503, "service_unavailable", "The engine is currently overloaded.")
    | refused(
        "CONTEXT_FULL",
        400,
        "invalid_request_error",
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "context_length_exceeded",
    )
    | refused("BAD_REQUEST", 400, "invalid_request_error", "Unsupported.", "unsupported_value")
    | refused("BAD_REQUEST", 422, "invalid_request_error", "Unprocessable.")
)

# What OpenAI says of a parameter names it in a field of its own; compatible servers only in words.
REFUSES_EFFORT = refused(
    "WRONG_EFFORT",
    400,
    "invalid_request_error",
    "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
    "unsupported_parameter",
    "reasoning.effort",
) | refused(
    "WRONG_EFFORT",
    400,
    "invalid_request_error",
    "Unsupported value: 'none' is not supported with this model.",
    "unsupported_value",
    "reasoning.effort",
)

ENDS_EARLY = (
    finished("CUT_AT_LIMIT", "max_output_tokens", PART)
    | finished("CUT_AT_LIMIT", "max_output_tokens", "")
    | finished("CUT_AT_LIMIT", "max_output_tokens", OPEN_CODE, "max_output_tokens in code")
    | finished("REFUSAL", "content_filter", PART)
    | finished("REFUSAL", "content_filter", "")
    | finished("REFUSAL", "refusal", "")
    | finished("SERVER_ERROR", "server_error", "")
    | finished("SERVER_ERROR", "server_error", PART)
    | finished("RATE_LIMIT", "rate_limit_exceeded", "")
    | finished("CONTEXT_FULL", "context_length_exceeded", "")
)
TELLS = (
    told("CONTEXT_FULL", "invalid_request_error", "Too long.", "context_length_exceeded")
    | told("SERVER_ERROR", "server_error", "Sorry.", "server_error", received=PART)
    | told("RATE_LIMIT", "tokens", "Too many tokens.", "rate_limit_exceeded")
    | told_otherwise(
        "CONTEXT_FULL", "invalid_request_error", "Too long.", "context_length_exceeded"
    )
)


class Dialect(Api):
    """OpenAI's Responses API."""

    path = "/v1/responses"
    packages = {"openai"}
    missing = {"NO_KEY": "OPENAI_API_KEY"}
    refuses = REFUSES | REFUSES_EFFORT
    ends_early = ENDS_EARLY
    tells = TELLS

    @staticmethod
    def settings(address: str, key: str) -> dict[str, str]:
        return {"OPENAI_API_KEY": key, "OPENAI_BASE_URL": f"{address}/v1"}

    @staticmethod
    def request(system_prompt: str, turns: list[Json]) -> Json:
        return {
            "max_output_tokens": LONGEST_ANSWER,
            "reasoning": {"effort": "none"},
            "instructions": system_prompt,
            "input": turns,
            "store": False,
        }

    @staticmethod
    def words(text: str) -> Json:
        return {"type": "input_text", "text": text}

    @staticmethod
    def file(name: str, kind: str, data: str, text: str) -> Json:
        url = f"data:{kind};base64,{data}"
        if text:
            return {"type": "input_text", "text": f"{name}:\n\n{text}"}
        if kind.startswith("image/"):
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        return {"type": "input_file", "filename": name, "file_data": url}

    def __init__(self, body: Json, key: str, path: str = "") -> None:
        super().__init__(body, key, path)
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
