"""What an action may return or yield, and the error whose message is for the user."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from dash.development.base_component import Component


@dataclass
class Step:
    """What the app is doing while the user waits, such as "Asking the data"."""

    text: str


@dataclass
class Usage:
    """What an answer took.

    Attributes:
        model: Name of the model.
        input_tokens: The tokens that the model read, if the provider tells.
        output_tokens: The tokens that it wrote, thinking included, if the provider tells.
        request_id: The provider's id of the request, if it gave one; for the log.
    """

    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    request_id: str | None = None


Part = str | Component | Step


class Answer(str):
    """The text of a whole answer, with what it took."""

    usage: Usage | None

    def __new__(cls, text: str, usage: Usage | None = None) -> "Answer":
        """Return the text as an answer."""
        answer = super().__new__(cls, text)
        answer.usage = usage
        return answer


class AnswerError(Exception):
    """There is no answer, or only a part of one; the message tells the user why.

    Attributes:
        usage: What the part took, if it is known.
        part: The text that was received, if it has not been yielded.
    """

    def __init__(self, message: str, usage: Usage | None = None, part: str = "") -> None:
        """Keep the message and what is known of the answer."""
        super().__init__(message)
        self.usage = usage
        self.part = part


@contextmanager
def request(request_id: str | None) -> Generator[None]:
    """Note the provider's id of a request on an error that is raised inside.

    Args:
        request_id: The id, if the provider gave one.
    """
    try:
        yield
    except Exception as error:
        if request_id:
            error.add_note(f"Request id: {request_id}")
        raise
