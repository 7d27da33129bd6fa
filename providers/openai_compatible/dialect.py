"""How servers answer and fail that speak Chat Completions, for the tests."""

import json
import secrets
import time
from typing import Any

from dialects import LONGEST_ANSWER, OPEN_CODE, PART, THOUGHT, Api, Json, finished, refused, told

from providers.openai.dialect import REFUSES as OPENAI_REFUSES

USAGE = {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}

# The words of Ollama, vLLM and llama.cpp, which have no code for it, and of a filter of Azure's.
REFUSES = (
    refused("UNKNOWN_MODEL", 404, "not_found_error", 'model "{model}" not found')
    | refused("WRONG_EFFORT", 400, "BadRequestError", "Unknown argument: reasoning_effort")
    | refused("UNKNOWN_MODEL", 404, "NotFoundError", "The model `{model}` does not exist.")
    | refused("REFUSAL", 400, "invalid_request_error", "The filter was hit.", "content_filter")
    | refused(
        "CONTEXT_FULL",
        400,
        "BadRequestError",
        "This model's maximum context length is 4096 tokens. However, your request has 5000.",
    )
    | refused(
        "CONTEXT_FULL",
        400,
        "exceed_context_size_error",
        "request (5000 tokens) exceeds the available context size (4096 tokens)",
    )
)

ENDS_EARLY = (
    finished("CUT_AT_LIMIT", "length", PART)
    | finished("CUT_AT_LIMIT", "length", "")
    | finished("CUT_AT_LIMIT", "length", OPEN_CODE, "length inside of code")
    | finished("CONTEXT_FULL", "model_length", PART)  # Mistral
    | finished("OVERLOADED", "insufficient_system_resource", PART)  # DeepSeek
    | finished("REFUSAL", "content_filter", PART)
    | finished("REFUSAL", "content_filter", "")
    | finished("REFUSAL", "refusal", "")
)
TELLS = (
    told("CONTEXT_FULL", "invalid_request_error", "Too long.", "context_length_exceeded")
    | told("SERVER_ERROR", "server_error", "Sorry.", "server_error", received=PART)
    | told("SERVER_ERROR", "InternalServerError", "Sorry.", 500, received=PART)
)


class Dialect(Api):
    """The Chat Completions API of OpenAI, which many servers speak."""

    path = "/v1/chat/completions"
    packages = {"openai"}
    missing = {}
    tells_tokens = False
    refuses = OPENAI_REFUSES | REFUSES
    ends_early = ENDS_EARLY
    tells = TELLS

    @staticmethod
    def settings(address: str, key: str) -> dict[str, str]:
        return {"COMPATIBLE_API_KEY": key, "COMPATIBLE_BASE_URL": f"{address}/v1"}

    @staticmethod
    def request(system_prompt: str, turns: list[Json]) -> Json:
        return {
            "max_tokens": LONGEST_ANSWER,
            "reasoning_effort": None,
            "messages": [{"role": "system", "content": system_prompt}, *turns],
        }

    @staticmethod
    def file(name: str, kind: str, data: str, text: str) -> Json:
        if text:
            return {"type": "text", "text": f"{name}:\n\n{text}"}
        return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}

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
