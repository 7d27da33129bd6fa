"""How Google's generateContent answers and fails, for the tests."""

import json
import secrets
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
    told,
)


def denied(sentence: str, status: int, kind: str, message: str, **details: Any) -> Faults:
    """Return a fault that says a status in Google's words, with details of one kind."""

    def reply(api: Api) -> Reply:
        assert isinstance(api, Dialect)
        error = {
            "code": status,
            "message": message.format(key=api.key, place=api.place),
            "status": kind,
        }
        if details:
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.Any"} | details]
        return Reply((json.dumps({"error": error}, indent=2),), status)

    return {f"{status} {kind}: {message} {details or ''}": Fault(sentence, reply)}


def blocked(reason: str) -> Faults:
    """Return a fault that is a question which a filter stops: there is no answer at all."""

    def reply(api: Api) -> Reply:
        assert isinstance(api, Dialect)
        body = api.part_of_answer(promptFeedback={"blockReason": reason})
        return api.stream([api.event(body)]) if api.streaming else Reply((json.dumps(body),))

    return {f"question blocked by {reason}": Fault("FILTERED_QUESTION", reply)}


def quota(limit: str) -> Json:
    """Return the details about a quota that is used up."""
    return {"violations": [{"quotaId": f"GenerateRequests{limit}PerProjectPerModel-FreeTier"}]}


# What Google says of its own free tier, whichever quota is meant.
EXCEEDED = "You exceeded your current quota, please check your plan and billing details."
REFUSES = (
    denied(
        "REFUSED_KEY",
        400,
        "INVALID_ARGUMENT",
        "API key not valid. Please pass a valid API key.",
        reason="API_KEY_INVALID",
        domain="googleapis.com",
    )
    | denied("REFUSED_KEY", 401, "UNAUTHENTICATED", "Invalid authentication credentials: {key}.")
    | denied("NO_CREDIT", 402, "RESOURCE_EXHAUSTED", "There is no credit left.")
    | denied("NOT_PERMITTED", 403, "PERMISSION_DENIED", "Permission denied on {place}.")
    | denied("NO_CREDIT", 403, "PERMISSION_DENIED", "Enable billing.", reason="BILLING_DISABLED")
    | denied("NOT_PERMITTED", 403, "PERMISSION_DENIED", "No access.", reason="SERVICE_DISABLED")
    | denied("UNKNOWN_MODEL", 404, "NOT_FOUND", "The model is not found for API version v1.")
    | denied("TOO_LONG", 400, "INVALID_ARGUMENT", "Request payload size exceeds the limit.")
    | denied("DAILY_QUOTA", 429, "RESOURCE_EXHAUSTED", EXCEEDED, **quota("PerDay"))
    | denied("RATE_LIMIT", 429, "RESOURCE_EXHAUSTED", EXCEEDED, **quota("PerMinute"))
    | denied("RATE_LIMIT", 429, "RESOURCE_EXHAUSTED", "Resource has been exhausted.")
    | denied("NO_CREDIT", 429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.")
    | denied(
        "CONTEXT_FULL",
        400,
        "INVALID_ARGUMENT",
        "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
    )
    | denied("NO_FREE_TIER", 400, "FAILED_PRECONDITION", "User location is not supported.")
    | denied("WRONG_EFFORT", 400, "INVALID_ARGUMENT", "Thinking level is not supported.")
    | denied("WRONG_EFFORT", 400, "INVALID_ARGUMENT", "Unknown value for thinking_level.")
    | denied("BAD_REQUEST", 400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
    | denied("SERVER_ERROR", 500, "INTERNAL", "An internal error has occurred.")
    | denied("OVERLOADED", 503, "UNAVAILABLE", "The model is overloaded.")
    | denied("TIMEOUT", 504, "DEADLINE_EXCEEDED", "The deadline expired.")
    | blocked("SAFETY")
    | blocked("PROHIBITED_CONTENT")
    | blocked("OTHER")
)
ENDS_EARLY = (
    finished("CUT_AT_LIMIT", "MAX_TOKENS", PART)
    | finished("CUT_AT_LIMIT", "MAX_TOKENS", "")
    | finished("CUT_AT_LIMIT", "MAX_TOKENS", OPEN_CODE, "MAX_TOKENS inside of code")
    | finished("CUT_AT_LIMIT", "CONTINUATION", PART)
    | finished("REFUSAL", "SAFETY", PART)
    | finished("REFUSAL", "SAFETY", "")
    | finished("REFUSAL", "RECITATION", PART)
    | finished("REFUSAL", "LANGUAGE", "")
    | finished("REFUSAL", "BLOCKLIST", "")
    | finished("REFUSAL", "PROHIBITED_CONTENT", "")
    | finished("REFUSAL", "SPII", "")
    | finished("REFUSAL", "MODEL_ARMOR", "")
    | finished("REFUSAL", "A_REASON_OF_NEXT_YEAR", "")
    | finished("SERVER_ERROR", "MALFORMED_RESPONSE", "")
    | finished("OTHER", "OTHER", PART)
)
TELLS = (
    told("OVERLOADED", "UNAVAILABLE", "The model is overloaded.", 503)
    | told("OVERLOADED", "UNAVAILABLE", "The model is overloaded.", 503, received=PART)
    | told("SERVER_ERROR", "INTERNAL", "An internal error has occurred.", 500, received=PART)
    | told("RATE_LIMIT", "RESOURCE_EXHAUSTED", "Resource has been exhausted.", 429)
)


class Dialect(Api):
    """Google's generateContent, with an API key."""

    path = "/v1beta/models"
    id_header = ""
    packages = {"google-genai"}
    missing = {"NO_KEY": "GOOGLE_API_KEY"}
    broken = "RemoteProtocolError"
    stand_in_names_model = False
    unusable = {
        "NO_PROJECT": {"GOOGLE_GENAI_USE_ENTERPRISE": "true", "GOOGLE_CLOUD_PROJECT": ""},
        "NO_LOGIN": {
            "GOOGLE_GENAI_USE_ENTERPRISE": "true",
            "GOOGLE_CLOUD_PROJECT": "a-project",
            "GOOGLE_APPLICATION_CREDENTIALS": "/no/such/file",
        },
    }
    refuses = REFUSES
    ends_early = ENDS_EARLY
    tells = TELLS

    @staticmethod
    def settings(address: str, key: str) -> dict[str, str]:
        return {
            "GOOGLE_API_KEY": key,
            "GOOGLE_GEMINI_BASE_URL": address,
            "GOOGLE_VERTEX_BASE_URL": address,
            "GOOGLE_GENAI_API_VERSION": "v1beta",  # where aimock answers; the SDK's own is v1
            "GEMINI_API_KEY": "",
            "GOOGLE_GENAI_USE_ENTERPRISE": "",
            "GOOGLE_GENAI_USE_VERTEXAI": "",
        }

    @staticmethod
    def request(system_prompt: str, turns: list[Json]) -> Json:
        roles = {"user": "user", "assistant": "model"}
        return {
            "systemInstruction": {"role": "user", "parts": [{"text": system_prompt}]},
            "contents": [
                {"role": roles[turn["role"]], "parts": [{"text": turn["content"]}]}
                for turn in turns
            ],
            "generationConfig": {
                "maxOutputTokens": LONGEST_ANSWER,
                "thinkingConfig": {"thinking_level": "MINIMAL"},
            },
        }

    @classmethod
    def path_of(cls, model: str, streaming: bool) -> str:
        method = "streamGenerateContent?alt=sse" if streaming else "generateContent"
        return f"{cls.path}/{model}:{method}"

    @staticmethod
    def choice(model: str, streaming: bool) -> Json:
        return {}

    @staticmethod
    def words(text: str) -> Json:
        return {"text": text}

    @staticmethod
    def file(name: str, kind: str, data: str, text: str) -> Json:
        if text:
            return {"text": f"{name}:\n\n{text}"}
        in_urls = data.replace("+", "-").replace("/", "_")
        return {"inlineData": {"mime_type": kind, "data": in_urls}}

    def __init__(self, body: Json, key: str, path: str = "") -> None:
        super().__init__(body, key, path)
        name, _, method = path.rpartition("/")[2].partition(":")
        self.model, self.streaming = name, method.startswith("stream")
        self.place = path
        self._id = secrets.token_hex(12)

    def begin(self) -> list[str]:
        return [self._said({"text": THOUGHT, "thought": True})]

    def token(self, text: str) -> str:
        return self._said({"text": text})

    def finish(self, text: str, reason: str) -> list[str]:
        return [self.event(self.part_of_answer(candidates=[{"finishReason": reason or "STOP"}]))]

    def whole(self, text: str, reason: str) -> Json:
        parts = [{"text": THOUGHT, "thought": True}, *([{"text": text}] if text else [])]
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": reason or "STOP"}
        return self.part_of_answer(candidates=[candidate])

    def problem(self, kind: str, message: str, code: str | int | None = None) -> Json:
        return {"error": {"code": code, "message": message, "status": kind}}

    def problem_event(self, kind: str, message: str, code: str | int | None = None) -> str:
        return self.event(self.problem(kind, message, code))

    def part_of_answer(self, **facts: Any) -> Json:
        """Return a part of an answer, with what stands in each of them.

        Args:
            facts: What stands in this one alone.
        """
        tokens = {"promptTokenCount": 12, "candidatesTokenCount": 5, "thoughtsTokenCount": 4}
        return {
            "responseId": self._id,
            "modelVersion": self.model,
            "usageMetadata": tokens | {"totalTokenCount": 21},
        } | facts

    def event(self, body: Json) -> str:
        """Return a part of an answer as an event.

        Args:
            body: The part.
        """
        return f"data: {json.dumps(body)}\r\n\r\n"

    def _said(self, part: Json) -> str:
        candidate = {"content": {"role": "model", "parts": [part]}, "index": 0}
        return self.event(self.part_of_answer(candidates=[candidate]))
