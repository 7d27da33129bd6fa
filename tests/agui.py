"""An answer of POST /chat: each event is parsed by AG-UI's own models, and their order is checked."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ag_ui.core import (
    ActivitySnapshotEvent,
    Event,
    RunErrorEvent,
    RunFinishedEvent,
    RunStartedEvent,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    TokenUsage,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)
from pydantic import BaseModel, TypeAdapter

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
PING = ": ping"


@dataclass
class Answer:
    """An answer, as its events tell it.

    Attributes:
        events: All events, the first one first.
    """

    events: list[Event]

    @property
    def parts(self) -> list[str]:
        """The pieces of text, as they came."""
        return [one.delta for one in self.events if isinstance(one, TextMessageContentEvent)]

    @property
    def text(self) -> str:
        """The text."""
        return "".join(self.parts)

    @property
    def components(self) -> list[dict[str, Any]]:
        """The Dash components, as the page draws them."""
        shown = [one for one in self.events if isinstance(one, ActivitySnapshotEvent)]
        assert {one.activity_type for one in shown} <= {"dash.component"}
        return [one.content for one in shown]

    @property
    def calls(self) -> list[tuple[str, dict[str, Any], str]]:
        """The calls of tools: the name, the arguments and the result of each."""
        started = {one.tool_call_id: one for one in self._all(ToolCallStartEvent)}
        arguments = {
            one.tool_call_id: json.loads(one.delta) for one in self._all(ToolCallArgsEvent)
        }
        return [
            (started[one.tool_call_id].tool_call_name, arguments[one.tool_call_id], one.content)
            for one in self._all(ToolCallResultEvent)
        ]

    def _all(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.events if isinstance(one, kind)]

    @property
    def steps(self) -> list[str]:
        """What was done meanwhile."""
        return [one.step_name for one in self.events if isinstance(one, StepStartedEvent)]

    @property
    def end(self) -> RunFinishedEvent | RunErrorEvent:
        """The last event."""
        last = self.events[-1]
        assert isinstance(last, RunFinishedEvent | RunErrorEvent), f"It ends with {last}."
        return last

    @property
    def notice(self) -> str:
        """The sentence that says why the answer is not complete; empty if it is."""
        return self.end.message if isinstance(self.end, RunErrorEvent) else ""

    @property
    def usage(self) -> TokenUsage | None:
        """What the answer took, if that is known."""
        if self.end.usage is None:
            return None
        (usage,) = self.end.usage
        return usage

    @property
    def seconds(self) -> float:
        """How long a complete answer took."""
        assert isinstance(self.end, RunFinishedEvent) and self.end.metadata
        seconds: float = self.end.metadata["vizro"]["seconds"]
        return seconds


def read(stream: str) -> Answer:
    """Return the answer that a stream of server-sent events brings, if the protocol allows it.

    Args:
        stream: All that came.
    """
    *blocks, rest = stream.split("\n\n")
    assert rest == "", f"The stream ends inside of an event: {rest}"
    answer = Answer([event(block) for block in blocks if block != PING])
    assert_order(answer)
    return answer


def event(block: str) -> Event:
    """Return one event, if it has all that AG-UI asks for and nothing else.

    Args:
        block: One server-sent event.
    """
    assert block.startswith("data: ") and "\n" not in block and "\r" not in block, block
    data = json.loads(block.removeprefix("data: "), parse_constant=refuse)
    parsed = EVENT.validate_python(data)
    assert not list(unknown_fields(parsed)), block
    fields = {name: value for name, value in data.items() if name != "content"}
    assert not has_null(fields), f"A field without a value is fatal for clients: {block}"
    return parsed


def refuse(constant: str) -> None:
    """Raise, as JSON has no such constant.

    Args:
        constant: `NaN` or an infinity.
    """
    raise ValueError(f"{constant} is not JSON.")


def unknown_fields(model: BaseModel) -> Iterator[str]:
    """Yield the names of fields that the protocol does not know.

    Args:
        model: An event, or a part of one.
    """
    yield from model.model_extra or {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, BaseModel):
                yield from unknown_fields(one)


def has_null(value: object) -> bool:
    """Return whether a JSON value is or holds `null`.

    Args:
        value: The value.
    """
    if isinstance(value, dict):
        return any(map(has_null, value.values()))
    return value is None or (isinstance(value, list) and any(map(has_null, value)))


def assert_order(answer: Answer) -> None:
    """Check that events come in the order that clients ask for: one thing is open at a time.

    Args:
        answer: The answer.
    """
    start, *events = answer.events
    end = answer.end
    assert isinstance(start, RunStartedEvent)
    assert start.protocol_version == "1.0"
    text = step = call = ""  # what is open
    ids: set[str] = set()
    for one in events[:-1]:
        match one:
            case TextMessageStartEvent():
                assert not text and not step and one.message_id not in ids
                assert one.role == "assistant"
                text = one.message_id
                ids.add(text)
            case TextMessageContentEvent():
                assert text == one.message_id and one.delta
            case TextMessageEndEvent():
                assert text == one.message_id
                text = ""
            case StepStartedEvent():
                assert not text and not step and one.step_name
                step = one.step_name
            case StepFinishedEvent():
                assert step == one.step_name
                step = ""
            case ToolCallStartEvent():
                assert not text and not step and not call and one.tool_call_id not in ids
                call = one.tool_call_id
                ids.add(call)
            case ToolCallArgsEvent():
                assert call == one.tool_call_id
            case ToolCallEndEvent():
                assert call == one.tool_call_id
                call = ""
            case ToolCallResultEvent():
                assert not call and one.tool_call_id in ids and one.message_id not in ids
                assert one.role == "tool"
                ids.add(one.message_id)
            case ActivitySnapshotEvent() if one.message_id in ids:
                before = events[events.index(one) - 1]
                assert isinstance(before, ToolCallResultEvent)
                assert before.tool_call_id == one.message_id, "It belongs to the call before it."
            case ActivitySnapshotEvent():
                assert not text and not step and one.message_id not in ids
                ids.add(one.message_id)
            case _:
                raise AssertionError(f"{one.type} may not stand here.")
    if isinstance(end, RunFinishedEvent):
        assert not text and not step and not call, "Something is still open."
        assert (end.thread_id, end.run_id) == (start.thread_id, start.run_id)
