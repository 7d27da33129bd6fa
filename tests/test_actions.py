"""The kinds of actions that vizro-experimental's documentation and examples show work in add_chat.

They are written anew: https://vizro.readthedocs.io/projects/vizro-experimental (pages on the chat),
and `vizro-experimental/examples/chat_component` in Vizro's repository; Vizro-AI is left out.
"""

import base64
import importlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agui
import dash_mantine_components as dmc
import pandas as pd
import plotly.express as px
import processes
from combinations import COMBINATIONS, WITH_FILES, Combination
from dash import Dash, dcc, html
from pydantic import Field
from stand_in import StandIn
from test_wire import part_of
from vizro_experimental.chat import ChatAction, Message, StreamingChatAction

DEMO = next(one for one in COMBINATIONS if one["provider"] == "demo")
DEMO_WITH_FILES = next(one for one in WITH_FILES if one["provider"] == "demo")
CSV = {
    "filename": "sales.csv",
    "content": "data:text/csv;base64," + base64.b64encode(b"month,sold\nMay,3\nJune,4\n").decode(),
}
PICTURE = {"filename": "dot.gif", "content": "data:image/gif;base64,R0lGODlh"}


class Echo(ChatAction):
    """Returns text; it takes nothing but the messages."""

    def generate_response(self, messages: list[Message]) -> str:
        return f"You said: {messages[-1]['content']}"


class Words(StreamingChatAction):
    """Yields text."""

    def generate_response(self, messages: list[Message]) -> Iterator[str]:
        yield from ("You ", "", "said: ", messages[-1]["content"])


class Mixed(ChatAction):
    """Returns a component that holds all sorts of others."""

    def generate_response(self, messages: list[Message]) -> html.Div:
        figure = px.scatter(px.data.iris(), x="sepal_width", y="sepal_length", title="Iris")
        items = [
            ("chart", dcc.Graph(figure=figure)),
            ("code", dmc.CodeHighlight(code="print(1)", language="python")),
            ("image", dmc.Image(src="/assets/picture.png")),
        ]
        return html.Div(
            [
                dcc.Markdown(f"**You said:** {messages[-1]['content']}"),
                dmc.Alert("Look.", title="An alert"),
                dmc.Table(data={"head": ["name"], "body": [["row"]]}),
                dmc.Accordion(
                    [
                        dmc.AccordionItem(
                            [dmc.AccordionControl(name), dmc.AccordionPanel(component)], value=name
                        )
                        for name, component in items
                    ]
                ),
                dmc.Blockquote("Words.", cite="Somebody"),
            ]
        )


class Figure(ChatAction):
    """Returns text or a chart, made from a file that `uploaded_files` brings."""

    def generate_response(
        self, messages: list[Message], uploaded_files: list[dict[str, str]] | None = None
    ) -> dcc.Graph | str:
        files = uploaded_files or [
            file
            for message in messages[:-1]
            if message["role"] == "user"
            for file in message.get("attachments") or []
        ]
        if not files:
            return "Please attach a file."
        content = base64.b64decode(files[0]["content"].split(",", 1)[1])
        return dcc.Graph(figure=px.bar(pd.read_csv(io.BytesIO(content)), x="month", y="sold"))


class Files(StreamingChatAction):
    """Yields which files each message brings, by `attachments` and by `**kwargs`."""

    def generate_response(self, messages: list[Message], **kwargs: Any) -> Iterator[str]:
        for message in messages:
            yield f"{[file['filename'] for file in message.get('attachments') or []]} "
        yield f"{[file['filename'] for file in kwargs['uploaded_files'] or []]}"


class OpenAIDocumented(StreamingChatAction):
    """Calls OpenAI as the documentation does, with a client for each question."""

    model: str = Field(default="gpt-6-luna")

    def generate_response(self, messages: list[Message]) -> Iterator[str]:
        from openai import OpenAI

        turns: Any = [{"role": one["role"], "content": one["content"]} for one in messages]
        events = OpenAI().responses.create(model=self.model, input=turns, store=False, stream=True)
        for event in events:
            if event.type == "response.output_text.delta":
                yield event.delta


class ClaudeDocumented(ChatAction):
    """Calls Claude as the documentation does, and returns the whole answer."""

    model: str = Field(default="claude-haiku-5-5")

    def generate_response(self, messages: list[Message]) -> str:
        from anthropic import Anthropic

        turns: Any = [{"role": one["role"], "content": one["content"]} for one in messages]
        answer = Anthropic().messages.create(model=self.model, max_tokens=1024, messages=turns)
        return "".join(block.text for block in answer.content if block.type == "text")


def question(text: str, *files: dict[str, str]) -> dict[str, Any]:
    """Return a question as a client of AG-UI sends it.

    Args:
        text: Its words.
        files: Its files.
    """
    return {"role": "user", "content": [{"type": "text", "text": text}, *map(part_of, files)]}


Case = tuple[str, list[dict[str, Any]]]

EARLIER = [question("Before", PICTURE), {"role": "assistant", "content": "Yes."}]
CASES: list[Case] = [
    ("Echo", [question("Hello")]),
    ("Words", [*EARLIER, question("Hello")]),
    ("Mixed", [question("Hello")]),
    ("Figure", [question("Draw it")]),
    ("Figure", [question("Draw it", CSV)]),
    ("Figure", [question("Draw it", CSV), *EARLIER[1:], question("Again")]),
    ("Files", [*EARLIER, question("Again", CSV, PICTURE)]),
    ("OpenAIDocumented", [question("Hello")]),
    ("ClaudeDocumented", [question("Hello")]),
]
# What is asked in a project that takes no files.
WITHOUT_FILES: list[Case] = [
    (name, [question("Hello")])
    for name in ("Echo", "Words", "Mixed", "Figure", "OpenAIDocumented", "ClaudeDocumented")
]


def ask_all(package: str, cases: list[Case], answers: Path) -> int:
    """Hand each action to `add_chat`, ask it over HTTP, and write down the streams.

    Args:
        package: The name of the project's package.
        cases: The actions and what they are asked.
        answers: The file to write to.
    """
    web = importlib.import_module(f"{package}.web")
    provider = importlib.import_module(f"{package}.provider")
    heard = []
    for name, messages in cases:
        app = SimpleNamespace(dash=Dash(__name__))
        app.dash.layout = html.Div()
        web.add_chat(app, globals()[name](), provider.explain)
        heard.append(app.dash.server.test_client().post("/chat", json={"messages": messages}).text)
    answers.write_text(json.dumps(heard), encoding="utf-8")
    return 0


def answers_to(
    cases: list[Case], project: Path, combination: Combination, folder: Path
) -> list[agui.Answer]:
    """Return the answer to each case.

    Args:
        cases: The actions and what they are asked.
        project: The rendered project.
        combination: Its answers.
        folder: Where to keep what is written down.
    """
    answers = folder / "answers.json"
    reply = {"match": {"userMessage": "Hello"}, "response": {"content": "Hello to you."}}
    with StandIn.answering([reply], folder / "aimock.json") as stand_in:
        environment = stand_in.environment("openai") | stand_in.environment("anthropic")
        process = processes.run(
            ask_all,
            project,
            combination.name,
            cases,
            answers,
            environment=environment | processes.UNLIMITED,
        )
        process.join()
    assert process.exitcode == 0, processes.log(project)
    heard = [agui.read(stream) for stream in json.loads(answers.read_text(encoding="utf-8"))]
    assert [answer.notice for answer in heard] == [""] * len(cases)
    return heard


def test_documented_actions_answer(renders: dict[str, Path], tmp_path: Path) -> None:
    heard = answers_to(CASES, renders[DEMO_WITH_FILES.name], DEMO_WITH_FILES, tmp_path)
    echo, words, mixed, no_file, chart, earlier_file, files, openai, claude = heard
    assert echo.text == words.text == "You said: Hello"
    assert no_file.text == "Please attach a file."
    assert files.text == "['dot.gif'] [] ['sales.csv', 'dot.gif'] ['sales.csv', 'dot.gif']"
    assert openai.text == claude.text == "Hello to you."
    for answer in (chart, earlier_file):
        (component,) = answer.components
        assert component["type"] == "Graph"
        assert component["props"]["figure"]["data"][0]["x"] == ["May", "June"]
    (component,) = mixed.components
    drawn = json.dumps(component)
    for kind in ("Markdown", "Alert", "Table", "Graph", "CodeHighlight", "Image", "Blockquote"):
        assert f'"type": "{kind}"' in drawn


def test_documented_actions_answer_without_files(renders: dict[str, Path], tmp_path: Path) -> None:
    """Without `file_upload`, no `uploaded_files` are handed over: each documented action has a default."""
    heard = answers_to(WITHOUT_FILES, renders[DEMO.name], DEMO, tmp_path)
    echo, words, mixed, figure, openai, claude = heard
    assert echo.text == words.text == "You said: Hello"
    assert mixed.components
    assert figure.text == "Please attach a file."
    assert openai.text == claude.text == "Hello to you."
