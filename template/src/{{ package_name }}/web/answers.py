"""What an action may return or yield, and the error whose message is for the user."""

from dataclasses import dataclass

from dash.development.base_component import Component


@dataclass
class Step:
    """What the app is doing while the user waits, such as "Asking the data"."""

    text: str


@dataclass
class Usage:
    """What a request to a provider takes, as far as the provider tells.

    Attributes:
        model: Name of the model.
        input_tokens: The tokens that the model read.
        output_tokens: The tokens that it wrote, thinking included.
        request_id: The provider's id of the request, for the log.
    """

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    request_id: str | None = None


Part = str | Component | Step | Usage


class Answer(str):
    """The text of a whole answer.

    Attributes:
        usage: What it took.
        notice: Tells the user why it is not complete; empty if it is.
    """

    usage: Usage
    notice: str

    def __new__(cls, text: str, usage: Usage, notice: str = "") -> "Answer":
        """Return the text as an answer."""
        answer = super().__new__(cls, text)
        answer.usage, answer.notice = usage, notice
        return answer


class AnswerError(Exception):
    """There is no answer, or only a part of one; the message tells the user why."""
