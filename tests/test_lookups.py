"""What the chat looks up in the data, on the page: queries, tables and charts, and what they leave behind."""

import json
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import agui
import processes
import pytest
from in_browser import (
    BOTH_MODES,
    ENDPOINT,
    LOADED,
    NO_SERVER,
    Chat,
    named,
    opened,
    said,
)
from playwright.sync_api import Browser, Locator, Request, Route, expect
from stand_in import FOLDER, StandIn
from test_page import switch_theme, violations
from test_peer import Peer

# Written in the place of a rendered demo's chat.py: what a model would do, without a model.
ACTION = '''\
"""Looks things up as the questions ask for."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.express as px
from dash import dcc
from vizro.tables import dash_ag_grid
from vizro_experimental.chat import ChatAction, StreamingChatAction

from {package}.history import messages_to_send
from {package}.web.answers import Part, Step, ToolCall

YEARS = {years!r}
COUNTRIES = {countries!r}
FRAME = pd.DataFrame({{"country": ["Chad", "Peru", "Oman"], "people": [10, 28, 3]}})


def parts(question: str, turns: list[Any]) -> Iterator[Part]:
    if question == "told":
        yield "".join(f"{{turn['role']}}: {{turn['content']}}; " for turn in turns) + "Told."
    elif question == "only a query":
        yield ToolCall("0", "query", {{"sql": YEARS}}, "1 row: 80.7")
    elif question.startswith("large"):
        table = dash_ag_grid(pd.DataFrame({{"text": ["x" * 1_500_000]}}))()
        yield ToolCall("0", "show_table", {{"sql": COUNTRIES, "title": question}}, "1 row", table)
    else:
        yield "Let me see. "
        yield Step("Asking the data")
        time.sleep(0.5)
        arguments = {{"sql": YEARS}}
        yield ToolCall("1", "query", arguments, "2 rows: continent, years; Oceania, 80.7")
        while question == "slowly" and not Path("draw").exists():
            time.sleep(0.02)
        figure = px.bar(FRAME, x="people", y="country")
        arguments = {{"sql": YEARS, "title": "Years by continent"}}
        yield ToolCall("2", "show_chart", arguments, "Shown.", dcc.Graph(figure=figure))
        while question == "slowly" and not Path("write").exists():
            time.sleep(0.02)
        yield "Oceania, with **80.7** years. "
        yield Step("Asking the data")
        arguments = {{"sql": COUNTRIES, "title": "Countries: the \\"largest\\""}}
        yield ToolCall("3", "show_table", arguments, "Shown.", dash_ag_grid(FRAME)())
        yield "That is all."


class DemoChat({base}):
    system_prompt: str = ""

    def generate_response(self, messages: list[Any], **kwargs: Any) -> Any:
        yield from parts(messages[-1]["content"], messages_to_send(messages))
'''
YEARS = (
    "select continent, avg(lifeExp) as years from gapminder where year = 2007 group by continent"
)
PRETTY = YEARS.replace(" from", "\nfrom").replace(" where", "\nwhere").replace(" group", "\ngroup")
COUNTRIES = "select country\n, pop from gapminder where country <> 'from '' where' -- all"
TABLE = 'Countries: the "largest"'
END = "That is all."
ROWS = ".ag-center-cols-container .ag-row"
# The page is left with the next click, before the event `toggle`; nothing is kept after that.
LEFT_AT_THE_CLICK = """() => document.addEventListener("click", () => {
  dispatchEvent(new Event("pagehide"));
  Storage.prototype.setItem = () => {};
})"""
# Keeps what goes away of the charts, the tables and the folded parts that have been drawn.
LOST = """
window.lost = [];
new MutationObserver((changes) => {
  const removed = changes.flatMap(({ removedNodes }) => [...removedNodes]);
  const drawn = ":is(.js-plotly-plot, .ag-root, details)";
  const isLost = (one) => one.matches?.(drawn) || one.querySelector?.(drawn);
  window.lost.push(...removed.filter(isLost).map((one) => one.outerHTML));
}).observe(document, { childList: true, subtree: true });
"""

Open = Callable[..., AbstractContextManager[Chat]]


@pytest.fixture
def project(renders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Write the action above into a rendered project."""

    def owned(name: str) -> Path:
        folder, combination = tmp_path / "project", named(name)
        shutil.copytree(renders[combination.name], folder)
        base = "StreamingChatAction" if combination["streaming"] else "ChatAction"
        text = ACTION.format(package=combination.name, base=base, years=YEARS, countries=COUNTRIES)
        (folder / "src" / combination.name / "chat.py").write_text(text, encoding="utf-8")
        return folder

    return owned


@pytest.fixture
def looking(project: Callable[[str], Path], browser: Browser) -> Open:
    """Open such a project."""

    def open_project(name: str, **options: Any) -> AbstractContextManager[Chat]:
        return opened(browser, project(name), named(name), {}, **options)

    return open_project


def ask(chat: Chat, question: str, *endings: str) -> None:
    """Send a question, and wait for the answer's end.

    Args:
        chat: The chat.
        question: What to type.
        endings: How each answer of the conversation ends then.
    """
    chat.send(question)
    expect_answers(chat, *endings)


def expect_answers(chat: Chat, *endings: str) -> None:
    """Wait until the conversation has these answers, and all scripts that draw them.

    Args:
        chat: The chat.
        endings: How each answer ends.
    """
    expect(chat.conversation).to_contain_text(endings[-1], timeout=LOADED)
    chat.expect_answers(*endings)


def computed(chat: Chat) -> Locator:
    """Return what tells how answers were computed.

    Args:
        chat: The chat.
    """
    return chat.conversation.locator("details")


def frame(chat: Chat, title: str) -> Locator:
    """Return a table or chart, with its title and buttons.

    Args:
        chat: The chat.
        title: The title.
    """
    return chat.conversation.get_by_role("figure", name=title, exact=True)


def assert_shown(chat: Chat) -> None:
    """Check that an answer shows its chart and its table where they came.

    Args:
        chat: The chat.
    """
    chart, table = frame(chat, "Years by continent"), frame(chat, TABLE)
    expect(chart.locator(".main-svg").first).to_be_visible(timeout=LOADED)
    expect(table.locator(ROWS)).to_have_count(3, timeout=LOADED)
    text = chat.answers.first.inner_text()
    parts = ("Let me see.", "Years by continent", "Chad", "80.7", TABLE, "People", END)
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


@BOTH_MODES
def test_step_folds_into_how_it_was_computed(looking: Open, mode: str) -> None:
    with looking(f"demo_{mode}_full_data") as chat:
        ask(chat, "look", END)
        assert any("Asking the data" in one["text"] for one in chat.seen(0))
        expect(chat.conversation.locator(".chat-step")).to_have_count(0)
        details = computed(chat)
        expect(details).to_have_count(1)
        expect(details.locator("pre").first).to_be_hidden()
        details.get_by_text("How this was computed").click()
        expect(details.locator(".chat-sql")).to_have_text([PRETTY, PRETTY, COUNTRIES])
        assert details.locator(".chat-sql").first.inner_text() == PRETTY
        result = details.locator(".chat-result").first
        expect(result).to_have_text("2 rows: continent, years; Oceania, 80.7")
        for pre in (details.locator(".chat-sql").first, result):
            expect(pre).to_have_attribute("tabindex", "0")
        assert_shown(chat)

        chat.page.reload()
        expect_answers(chat, END)
        assert_shown(chat)
        expect(details.locator("pre").first).to_be_visible()  # as the user has left it
        chat.page.evaluate(LEFT_AT_THE_CLICK)
        details.locator("summary").press("Enter")
        expect(details.locator("pre").first).to_be_hidden()
        chat.page.reload()
        expect_answers(chat, END)
        expect(details.locator("pre").first).to_be_hidden()


def test_nothing_that_stands_is_drawn_again(looking: Open, tmp_path: Path) -> None:
    """A chart would flicker, a sorted table lose its order, a button the focus."""
    with looking("demo_streaming_full_data", script=LOST) as chat:
        scripts = chat.page.locator("script").evaluate_all("all => all.map((one) => one.src)")
        assert [one for one in scripts if "dash_ag_grid" in one], "A table would have to wait."
        chat.send("slowly")
        summary = computed(chat).locator("summary")
        summary.press("Enter")
        expect(computed(chat).locator(".chat-sql")).to_have_count(1)
        (tmp_path / "project" / "draw").touch()
        chart = frame(chat, "Years by continent")
        expect(chart.locator(".main-svg").first).to_be_visible(timeout=LOADED)
        (tmp_path / "project" / "write").touch()
        expect_answers(chat, END)
        expect(computed(chat).locator(".chat-sql")).to_have_count(3)
        expect(computed(chat).locator("pre").first).to_be_visible()
        expect(summary).to_be_focused()
        assert_shown(chat)
        first = frame(chat, TABLE).locator(ROWS).first
        frame(chat, TABLE).get_by_text("Country").click()
        expect(frame(chat, TABLE).locator("[row-index='0']")).to_contain_text("Chad")
        frame(chat, TABLE).get_by_text("People").click()
        expect(frame(chat, TABLE).locator("[row-index='0']")).to_contain_text("Oman")
        expect(first).to_be_visible()
        ask(chat, "told", END, "Told.")
        expect(frame(chat, TABLE).locator("[row-index='0']")).to_contain_text("Oman")
        assert chat.page.evaluate("window.lost") == []


@BOTH_MODES
def test_tables_and_charts_can_be_taken_along(looking: Open, tmp_path: Path, mode: str) -> None:
    with looking(f"demo_{mode}_full_data", expected=NO_SERVER) as chat:
        ask(chat, "look", END)
        chart, table = frame(chat, "Years by continent"), frame(chat, TABLE)
        expect(table.get_by_role("button", name="PNG", exact=True)).to_have_count(0)
        button = chart.get_by_role("button", name="PNG", exact=True)
        with chat.page.expect_download() as download:
            button.click()
        assert download.value.suggested_filename == "Years by continent.png"
        picture = download.value.path().read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) > 5000
        expect(button).to_be_focused()

        button = table.get_by_role("button", name="Copy SQL")
        button.press("Enter")
        assert chat.copied() == COUNTRIES
        expect(chat.hint).to_have_text("Copied")
        expect(button).to_be_focused()
        computed(chat).locator("summary").click()
        computed(chat).get_by_role("button", name="Copy SQL").first.click()
        assert chat.copied() == YEARS

        button = chart.get_by_role("button", name="CSV")
        with chat.page.expect_download() as download:
            button.press("Enter")
        assert download.value.suggested_filename == "Years by continent.csv"
        rows = download.value.path().read_text(encoding="utf-8-sig").splitlines()
        assert rows[0] == "continent,years" and len(rows) == 6
        expect(button).to_be_focused()
        expect(chat.hint).to_be_empty()

        sentences = {
            said(tmp_path / "project", "refused"): {"status": 502, "body": "<html>"},
            said(tmp_path / "project", "unreachable"): None,
            "It takes too long.": {"status": 400, "content_type": "text/plain"},
        }
        for sentence, reply in sentences.items():
            answered = partial(refuse, sentence=sentence, reply=reply)
            chat.page.route("**/chat/csv", answered)
            button.click()
            expect(chat.alert).to_have_text(sentence)
            expect(button).to_be_focused()
            chat.page.unroute("**/chat/csv")
        with chat.page.expect_download():
            button.click()
        expect(chat.alert).to_be_hidden()

        with chat.page.expect_download() as download:
            chat.button("Save").click()
        fences = [f"```sql\n{sql}\n```" for sql in (PRETTY, PRETTY, COUNTRIES)]
        expected = "\n\n".join([END, "### How this was computed", *fences])
        assert download.value.path().read_text(encoding="utf-8").endswith(f"{expected}\n")


def test_picture_waits_for_plotly(looking: Open) -> None:
    held: list[Route] = []
    with looking("demo_streaming_full_data") as chat:
        chat.page.route("**/*plotly*", lambda route: held.append(route))
        with chat.page.expect_request("**/*plotly*", timeout=LOADED):
            ask(chat, "look", END)
        button = frame(chat, "Years by continent").get_by_role("button", name="PNG", exact=True)
        with chat.page.expect_download() as download:
            button.click()
            expect(button).to_be_focused()
            (script,) = held
            script.continue_()
        assert download.value.path().read_bytes().startswith(b"\x89PNG")


def refuse(route: Route, sentence: str, reply: dict[str, Any] | None) -> None:
    """Answer a request in the place of the app.

    Args:
        route: The request.
        sentence: What to say.
        reply: How; None is for no answer at all.
    """
    route.fulfill(**{"body": sentence} | reply) if reply else route.abort()


TOLD = (
    f"[query: {YEARS} -> 2 rows: continent, years; Oceania, 80.7]\n\n"
    f"[chart: Years by continent; query: {YEARS}]\n\n[table: {TABLE}; query: {COUNTRIES}]"
)


@pytest.mark.parametrize("policy", ["full", "window", "single", "opt_in"])
def test_next_question_carries_what_was_looked_up(looking: Open, policy: str) -> None:
    with looking(f"demo_one_shot_{policy}_data") as chat:
        ask(chat, "look", END)
        chat.page.reload()
        empty = "The model returned an empty answer: please try again."
        ask(chat, "only a query", END, empty)  # which is no answer
        if policy == "opt_in":
            chat.switch.click()
            ask(chat, "told", END, empty, "Told.")
            expect(chat.answers.last).to_have_text("user: told; Told.")
            chat.switch.click()
        held = Requests(chat)
        ask(chat, "told", *[END, empty, "Told.", "Told."][: chat.questions.count()], "Told.")
        (messages,) = held.messages
        answer = messages[1]["content"]
        assert answer.endswith(f"{END}\n\n{TOLD}"), answer
        assert [one["content"] for one in messages[::2]][:2] == ["look", "told"]
        text = chat.answers.last.inner_text()
        assert ("2 rows: continent, years" in text) is (policy != "single")
        chat.button("Copy answer").first.click()
        assert chat.copied() == (
            f"Let me see. \n\n[Years by continent]\n\nOceania, with **80.7** years. \n\n[{TABLE}]\n\n{END}"
        )


class Requests:
    """What the page sends from now on.

    Attributes:
        messages: The messages of each question.
    """

    def __init__(self, chat: Chat) -> None:
        """Listen.

        Args:
            chat: The chat that sends.
        """
        self.messages: list[list[dict[str, Any]]] = []
        chat.page.on("request", self._keep)

    def _keep(self, request: Request) -> None:
        if ENDPOINT.search(request.url):
            self.messages.append(request.post_data_json["messages"])


def test_oldest_tables_give_way(looking: Open) -> None:
    with looking("demo_one_shot_full_data", expected="sessionStorage|quota") as chat:
        for number in range(1, 6):
            chat.send(f"large {number}")
            chat.expect_state("ready")
        for _ in range(2):
            for number in range(1, 6):
                given = frame(chat, f"large {number}").get_by_text("A table stood here.")
                expect(given).to_have_count(1 if number < 3 else 0)
                expect(frame(chat, f"large {number}").locator(ROWS)).to_have_count(
                    0 if number < 3 else 1
                )
            chat.page.reload()
        first = frame(chat, "large 1")
        expect(first.get_by_role("button", name="CSV")).to_be_visible()
        first.get_by_role("button", name="Copy SQL").click()
        assert chat.copied() == COUNTRIES
        expect(chat.alert).to_be_hidden()


def test_tables_and_charts_follow_the_theme(looking: Open) -> None:
    dark, light = re.compile(r"\((\d|\d\d),"), re.compile(r"\((2\d\d),")
    with looking("demo_streaming_full_data") as chat:
        switch_theme(chat, "dark")
        ask(chat, "look", END)
        for theme, background, text in (("dark", dark, light), ("light", light, dark)):
            switch_theme(chat, theme)
            row = frame(chat, TABLE).locator(ROWS).first
            expect(frame(chat, TABLE).locator(".ag-root-wrapper")).to_have_css(
                "background-color", background
            )
            expect(row).to_have_css("color", text)
            tick = frame(chat, "Years by continent").locator(".ytick text").first
            expect(tick).to_have_css("fill", re.compile(r"\(\d") if theme == "light" else light)
            with chat.page.expect_download():
                frame(chat, "Years by continent").get_by_role(
                    "button", name="PNG", exact=True
                ).click()


def test_everything_fits_on_a_phone(looking: Open) -> None:
    with looking("demo_streaming_full_data") as chat:
        chat.page.set_viewport_size({"width": 390, "height": 800})
        chat.page.reload()
        ask(chat, "look", END)
        computed(chat).locator("summary").click()
        expect(computed(chat).locator("pre").first).to_be_visible()
        widths = chat.conversation.evaluate("one => [one.scrollWidth, one.clientWidth]")
        assert widths[0] == widths[1], "The conversation itself is too wide."
        for button in chat.conversation.get_by_role(
            "button", name=re.compile("^(CSV|PNG|Copy SQL)$")
        ).all():
            box = button.bounding_box()
            assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] >= 28


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_serious(looking: Open, tmp_path: Path, theme: str) -> None:
    with looking("demo_streaming_full_data") as chat:
        switch_theme(chat, theme)
        chat.send("slowly")
        expect(computed(chat)).to_be_visible()
        found = {"answering": violations(chat)}
        for name in ("draw", "write"):
            (tmp_path / "project" / name).touch()
        expect_answers(chat, END)
        assert_shown(chat)
        found["answered"] = violations(chat)
        computed(chat).locator("summary").click()
        found["unfolded"] = violations(chat)
        assert found == dict.fromkeys(found, [])


@pytest.fixture
def asked_data() -> Iterator[StandIn]:
    """A provider whose model calls the tools."""
    server = StandIn(FOLDER / "fixtures" / "data.json")
    yield server
    server.stop()


@BOTH_MODES
@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_models_answer_from_the_data(
    renders: dict[str, Path], browser: Browser, asked_data: StandIn, provider: str, mode: str
) -> None:
    combination = named(f"{provider}_{mode}_full_data")
    environment = asked_data.environment(provider)
    endings = {
        "Which continent lives longest?": "people live longest.",
        "And over the years?": "It rose on every continent.",
        "The ten largest countries as a table": "China is the largest of them.",
    }
    with opened(browser, renders[combination.name], combination, environment) as chat:
        for number, question in enumerate(endings, 1):
            ask(chat, question, *[*endings.values()][:number])
        for is_again in (False, True):
            if is_again:
                chat.page.reload()
                expect_answers(chat, *endings.values())
            for title in ("Life expectancy", "Over the years"):
                chart = frame(chat, title)
                expect(chart.locator(".main-svg").first).to_be_visible(timeout=LOADED)
                expect(chart).to_contain_text("Oceania")
            rows = frame(chat, "Largest countries").locator(ROWS)
            expect(rows).to_have_count(10, timeout=LOADED)
            expect(rows.first).to_contain_text("1,318,683,096")
            if not is_again:
                computed(chat).first.locator("summary").click()
            expect(computed(chat).first.locator(".chat-sql").first).to_contain_text("max")
            expect(computed(chat).first.locator(".chat-result").first).to_have_text("1 row: 2007")
            expect(computed(chat).nth(1).locator(".chat-sql")).to_contain_text("year")
        *_, asked = asked_data.requests
        told = json.dumps(asked.body)
        assert "[query: select max(" in told and "1 row: 2007]" in told
        assert "[chart: Over the years; query: select" in told


@BOTH_MODES
def test_calls_are_events_that_others_understand(project: Callable[[str], Path], mode: str) -> None:
    combination = named(f"demo_{mode}_full_data")
    with processes.serving(project(combination.name), combination.name, {}) as address:
        body = json.dumps({"messages": [{"role": "user", "content": "look"}]}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/chat", body, headers)
        with urllib.request.urlopen(request) as response:
            answer = agui.read(response.read().decode())
        titled = {"sql": YEARS, "title": "Years by continent"}
        assert answer.calls == [
            ("query", {"sql": YEARS}, "2 rows: continent, years; Oceania, 80.7"),
            ("show_chart", titled, "Shown."),
            ("show_table", {"sql": COUNTRIES, "title": TABLE}, "Shown."),
        ]
        assert [one["type"] for one in answer.components] == ["Graph", "AgGrid"]
        assert answer.notice == "" and answer.text.endswith(END)

        peer = Peer(address)
        for question in ("look", "told"):  # the peer sends back all that came
            told = peer.ask(question)
            assert not {"error", "rejected"} & told.keys()
        whole = f"Let me see. \n\nOceania, with **80.7** years. \n\n{END}"
        assert told["answer"] == [
            ["assistant", f"user: look; assistant: {whole}; user: told; Told."]
        ]
        peer.process.kill()
        peer.process.communicate()
