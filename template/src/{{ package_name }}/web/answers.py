"""The parts of an answer that an action returns or yields, and the error for the user."""

from dataclasses import dataclass

from dash.development.base_component import Component


@dataclass
class Step:
    """An activity of the app while the user waits, such as "Asking the data"."""

    text: str


@dataclass
class Usage:
    """The tokens of a request to a provider, as far as the provider reports them.

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
        usage: The tokens of the request.
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
