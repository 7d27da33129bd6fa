"""What every rendered project loads and builds at its start, done once: their processes fork from here."""

import gc
import inspect

import anthropic
import azure.identity  # noqa: F401
import botocore.session  # noqa: F401
import flask.testing  # noqa: F401
import flask_limiter  # noqa: F401
import google.auth.transport.requests  # noqa: F401
import httpcore2  # noqa: F401
import httpx2
import openai
import plotly.express
import pydantic_settings  # noqa: F401
import pytest_httpserver  # noqa: F401
import vizro.tables  # noqa: F401
import vizro_experimental.chat  # noqa: F401
from google import genai


def answered(text: str) -> httpx2.Client:
    """Return a client that reaches no network, and gets the same answer to each request.

    Args:
        text: The answer.
    """
    reply = httpx2.Response(200, text=text)
    return httpx2.Client(transport=httpx2.MockTransport(lambda request: reply))


# Each SDK builds the types of its answers when it reads the first one.
event = 'event: message_start\ndata: {"type": "message_start", "message": {}}\n\n'
claude = anthropic.Anthropic(api_key="none", http_client=answered(event))
with claude.messages.stream(model="", max_tokens=1, messages=[]) as stream:
    list(stream)
event = 'data: {"type": "response.completed", "response": {}}\n\n'
gpt = openai.OpenAI(api_key="none", http_client=answered(event))
list(gpt.responses.create(model="", input="", stream=True))
event = 'data: {"choices": [{}]}\n\n'
gpt = openai.OpenAI(api_key="none", http_client=answered(event))
list(gpt.chat.completions.create(model="", messages=[], stream=True))
event = 'data: {"candidates": [{}]}\n\n'
gemini = genai.Client(
    vertexai=False, api_key="none", http_options={"httpx_client": answered(event)}
)
list(gemini.models.generate_content_stream(model="none", contents="none"))

plotly.express.bar({"x": [1]}, x="x", template="vizro_dark+vizro_light")
inspect.stack()  # Dash calls it, and Python keeps what that finds out about each module
gc.freeze()  # no process searches for garbage in what it shares with all others
