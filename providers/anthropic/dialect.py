"""How Anthropic answers and fails, for the tests."""

import json
import secrets

from dialects import LONGEST_ANSWER, OPEN_CODE, PART, THOUGHT, Api, Json, finished, refused, told

REFUSES = (
    refused("REFUSED_KEY", 401, "authentication_error", "invalid x-api-key: {key}")
    | refused("NO_CREDIT", 402, "billing_error", "There is an issue with your billing.")
    | refused("NOT_PERMITTED", 403, "permission_error", "Your API key has no access to {model}.")
    | refused("UNKNOWN_MODEL", 404, "not_found_error", "model: {model}")
    | refused("WRONG_URL", 404, "not_found_error", "Not Found")
    | refused("TOO_LONG", 413, "request_too_large", "Request exceeds the maximum size")
    | refused("RATE_LIMIT", 429, "rate_limit_error", "This would exceed your rate limit.")
    | refused("SERVER_ERROR", 500, "api_error", "Internal server error")
    | refused("TIMEOUT", 504, "timeout_error", "Request timed out")
    | refused("OVERLOADED", 529, "overloaded_error", "Overloaded")
    | refused("BAD_REQUEST", 400, "invalid_request_error", "messages.0: must not be so")
    | refused("BAD_REQUEST", 422, "invalid_request_error", "max_tokens: must not be so")
    | refused(
        "WRONG_EFFORT",
        400,
        "invalid_request_error",
        "This model does not support the effort parameter.",
    )
    | refused(
        "NO_CREDIT",
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing "
        "to upgrade or purchase credits.",
    )
    | refused(
        "CONTEXT_FULL",
        400,
        "invalid_request_error",
        "prompt is too long: 210000 tokens > 200000 maximum",
    )
    | refused(
        "CONTEXT_FULL",
        400,
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000",
    )
)

ENDS_EARLY = (
    finished("CUT_AT_LIMIT", "max_tokens", PART)
    | finished("CUT_AT_LIMIT", "max_tokens", "")
    | finished("CUT_AT_LIMIT", "max_tokens", OPEN_CODE, "max_tokens inside of code")
    | finished("CONTEXT_FULL", "model_context_window_exceeded", PART)
    | finished("REFUSAL", "refusal", PART)
    | finished("REFUSAL", "refusal", "")
)
TELLS = (
    told("OVERLOADED", "overloaded_error", "Overloaded")
    | told("OVERLOADED", "overloaded_error", "Overloaded", received=PART)
    | told("SERVER_ERROR", "api_error", "Internal server error")
    | told("SERVER_ERROR", "api_error", "Internal server error", received=PART)
    | told("RATE_LIMIT", "rate_limit_error", "Too many tokens", received=PART)
)


class Dialect(Api):
    """Anthropic's Messages API."""

    path = "/v1/messages"
    id_header = "request-id"
    packages = {"anthropic"}
    missing = {"NO_KEY": "ANTHROPIC_API_KEY"}
    refuses = REFUSES
    ends_early = ENDS_EARLY
    tells = TELLS

    @staticmethod
    def settings(address: str, key: str) -> dict[str, str]:
        return {"ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": address}

    @staticmethod
    def request(system_prompt: str, turns: list[Json]) -> Json:
        return {
            "max_tokens": LONGEST_ANSWER,
            "output_config": {"effort": "low"},
            "system": system_prompt,
            "messages": turns,
        }

    @staticmethod
    def file(name: str, kind: str, data: str, text: str) -> Json:
        source = {"type": "base64", "media_type": kind, "data": data}
        if text:
            source = {"type": "text", "media_type": kind, "data": text}
        if kind.startswith("image/"):
            return {"type": "image", "source": source}
        return {"type": "document", "source": source, "title": name}

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
