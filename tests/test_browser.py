"""Every rendered project is used in a browser: asked, asked again, reloaded; some of them in awkward ways."""

import contextlib
import re
import select
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import faults
import processes
import pytest
import yaml
from combinations import IN_THE_BROWSER, PAIRS, WITH_PANEL, Combination
from faults import APIS, ENDLESS, PREFIX, FaultyProvider, healthy_answer
from in_browser import (
    ANSWERS,
    BOTH_MODES,
    ENDPOINT,
    FIRST,
    HTML,
    KEYS,
    LOADED,
    LONG,
    NO_SERVER,
    SECOND,
    USAGE,
    Chat,
    Held,
    log_in,
    named,
    opened,
    said,
    turns,
    visited,
)
from playwright.sync_api import Browser, Page, Request, Route, expect
from stand_in import StandIn

OTHER_PAGE = '            vm.Page(title="Other", components=[vm.Card(text="Other.")]),\n'


@pytest.mark.parametrize("combination", [*IN_THE_BROWSER, *WITH_PANEL], ids=lambda one: one.label)
def test_conversation(
    renders: dict[str, Path], browser: Browser, provider: StandIn, combination: Combination
) -> None:
    project = renders[combination.name]
    name = yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))["project_name"]
    environment = provider.environment(combination["provider"])
    alone = combination["multi_turn"] == "single"
    with opened(browser, project, combination, environment) as chat:
        page = chat.page
        # Dash shows "Updating..." while charts are drawn beside the chat.
        expect(page).to_have_title(re.compile(rf"^{re.escape(name)}\b"), timeout=LOADED)
        expect(page.locator("#dashboard-title")).to_have_text(name)
        expect(chat.answers).to_have_count(0)

        question = f"{FIRST} {HTML}"
        first, second = chat.ending(FIRST), chat.ending(SECOND)
        chat.ask(question, first)
        assert_rendered(chat, question)

        before = len(provider.requests)
        chat.ask(SECOND, first, second)
        if chat.streaming:
            assert_grew(chat.seen(1))
        else:
            (whole,) = chat.seen(1)
            assert whole["text"].endswith(second)
        if chat.provider == "demo":
            count = "1 turn." if alone else "3 turns."
            expect(chat.answers.last).to_contain_text(f"A model would see {count}")
        else:
            earlier = [("user", question), ("assistant", ANSWERS[FIRST])]
            promised = [*([] if alone else earlier), ("user", SECOND)]
            assert [turns(request) for request in provider.requests[before:]] == [promised]

        page.reload()
        chat.expect_answers(first, second)
        assert_rendered(chat, question)


def assert_grew(texts: list[dict[str, Any]]) -> None:
    """Check that an answer came bit by bit, at the pace of the model and not all at its end.

    Args:
        texts: What could be read in it, and when.
    """
    longest: list[dict[str, Any]] = []
    for text in texts:
        if not longest or len(text["text"]) > len(longest[-1]["text"]):
            longest.append(text)
    assert len(longest) > 3, texts
    assert longest[-1]["at"] - longest[0]["at"] > 500, "It was held back, and shown at its end."


def assert_rendered(chat: Chat, question: str) -> None:
    """Check that the first answer shows Markdown and code, and that its HTML is only text.

    Args:
        chat: The chat.
        question: The first question, which holds HTML too.
    """
    answer = chat.answers.first
    expect(answer.locator("strong")).to_have_text("demo" if chat.provider == "demo" else "language")
    code = "You are" if chat.provider == "demo" else "SELECT * FROM parts;"
    expect(answer.locator("pre code")).to_contain_text(code)
    expect(answer).not_to_contain_text("```")
    expect(answer).not_to_contain_text("**")
    expect(answer).to_contain_text(HTML)
    expect(chat.questions.first).to_have_text(question)
    expect(chat.usage.first).to_have_text(USAGE)
    api = APIS.get(chat.provider)
    if api and api.tells_tokens and api.stand_in_names_model:
        expect(chat.usage.first).to_contain_text("tokens")
    expect(chat.conversation.locator("img, script")).to_have_count(0)
    assert chat.page.evaluate("window.executed") is None


@BOTH_MODES
def test_conversation_belongs_to_its_tab(
    renders: dict[str, Path], browser: Browser, mode: str
) -> None:
    combination = named(f"demo_{mode}_full")
    with opened(browser, renders[combination.name], combination, {}) as chat:
        page, first, second = chat.page, chat.ending(FIRST), chat.ending(SECOND)
        chat.ask(FIRST, first)
        address = page.url
        page.goto("about:blank")
        page.go_back()
        chat.expect_answers(first)

        other = Chat(page.context.new_page(), combination)
        other.page.goto(address)
        other.ask(SECOND, second)
        expect(other.questions).to_have_text([SECOND])
        page.reload()
        chat.expect_answers(first)
        expect(chat.questions).to_have_text([FIRST])


@BOTH_MODES
def test_newest_message_is_in_sight(
    renders: dict[str, Path], browser: Browser, provider: StandIn, mode: str
) -> None:
    combination = named(f"anthropic_{mode}_full")
    environment = provider.environment(combination["provider"])
    with opened(browser, renders[combination.name], combination, environment) as chat:
        chat.ask(LONG, chat.ending(LONG))
        for _ in range(2):
            expect(chat.answers.get_by_text(chat.ending(LONG))).to_be_in_viewport(ratio=1)
            expect(chat.answers.get_by_text("This is the first line.")).not_to_be_in_viewport()
            chat.page.reload()
            chat.expect_answers(chat.ending(LONG))


def test_reader_is_not_pulled_away(renders: dict[str, Path], browser: Browser) -> None:
    combination = named("demo_streaming_full")
    lines = [f"Line-{number}." for number in range(40)]
    with opened(browser, renders[combination.name], combination, {}) as chat:
        chat.box.fill("\n\n".join(lines))
        chat.box.press("Enter")
        chat.expect_answers(chat.ending(FIRST))
        latest = chat.button("Jump to the latest")
        expect(latest).to_be_hidden()
        line = chat.answers.first.get_by_text(lines[20])

        held = Held(chat)
        chat.send(SECOND)
        chat.conversation.hover()
        while not line.is_visible() or (line.bounding_box() or {})["y"] < 200:
            chat.page.mouse.wheel(0, -200)
        expect(latest).to_be_visible()
        before = (line.bounding_box() or {})["y"]
        held.release()
        chat.expect_answers(chat.ending(FIRST), chat.ending(SECOND))
        assert len(chat.seen(1)) > 3
        moved = (line.bounding_box() or {})["y"] - before
        assert abs(moved) < 2, "The text that is being read moves."
        latest.click()
        expect(chat.answers.last.get_by_text(chat.ending(SECOND))).to_be_in_viewport(ratio=1)
        expect(latest).to_be_hidden()
        chat.expect_focus()


@BOTH_MODES
@pytest.mark.parametrize("name", KEYS)
def test_missing_key_is_said(
    renders: dict[str, Path], browser: Browser, name: str, mode: str
) -> None:
    combination = named(f"{name}_{mode}_full")
    with opened(browser, renders[combination.name], combination, {KEYS[name]: ""}) as chat:
        sentence = said(renders[combination.name], "NO_KEY")
        assert KEYS[name] in sentence and ".env" in sentence
        chat.ask(FIRST, sentence)
        chat.expect_failure(sentence)
        chat.ask(SECOND, sentence, sentence)
        chat.expect_failure(sentence)


@BOTH_MODES
def test_failures_of_the_provider_are_said(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    every = faults.faults_of("openai", combination["streaming"])
    one_of_each = {fault.sentence: name for name, fault in every.items()}
    del one_of_each["TIMEOUT"]  # this project waits for a minute or more
    endings = []
    with opened(browser, project, combination, faulty.environment()) as chat:
        for sentence, name in one_of_each.items():
            endings.append(said(project, sentence).rpartition("}")[2])
            chat.ask(PREFIX + name, *endings)
            chat.expect_failure(endings[-1])
        chat.ask(FIRST, *endings, healthy_answer(FIRST))
        expect(chat.notices).to_have_count(len(endings))


@BOTH_MODES
def test_app_that_is_gone_is_said(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    gone, cut_off = (said(project, name) for name in ("unreachable", "cut-off"))
    port = processes.free_port()

    def start() -> BaseProcess:
        return processes.start(project, combination.name, faulty.environment(), port)

    app = start()
    try:
        address = f"http://127.0.0.1:{port}"
        with visited(browser, address, combination, expected=NO_SERVER) as chat:
            healthy = [healthy_answer(FIRST), healthy_answer(SECOND)]
            chat.ask(FIRST, healthy[0])
            chat.send(PREFIX + (ENDLESS if chat.streaming else "silence"))
            if chat.streaming:
                chat.expect_part()
            processes.until(lambda: faulty.calls[-1].question.startswith(PREFIX))
            app.kill()
            chat.expect_answers(healthy[0], cut_off)
            chat.expect_failure(cut_off)
            chat.ask(SECOND, healthy[0], cut_off, gone)
            chat.expect_failure(gone)
            expect(chat.questions.last).to_have_text(SECOND)
            app.join()
            app = start()
            chat.ask(SECOND, healthy[0], cut_off, gone, healthy[1])
            chat.page.reload()
            chat.expect_answers(healthy[0], cut_off, gone, healthy[1])
            sent = faulty.asked(SECOND)[-1].turns
            assert ("user", FIRST) in sent
            assert gone not in str(sent) and cut_off not in str(sent)
    finally:
        app.kill()


PAGE = {"content_type": "text/html", "body": "<html>data: no</html>"}
PLAIN = {"content_type": "text/plain", "body": "It is too long."}
BEGUN = 'data: {"type": "RUN_STARTED", "threadId": "1", "runId": "1"}\n\n'
TEXT = 'data: {"type": "TEXT_MESSAGE_CONTENT", "messageId": "1", "delta": "A part."}\n\n'
FINISHED = 'data: {"type": "RUN_FINISHED", "threadId": "1", "runId": "1"}\n\n'
REFUSALS: list[tuple[str, dict[str, Any] | None]] = [
    ("refused", {"status": 401} | PAGE),
    ("refused", {"status": 502} | PAGE),
    ("refused", {"status": 502} | PLAIN),
    ("refused", {"status": 200} | PAGE),  # a login page, say
    ("It is too long.", {"status": 413} | PLAIN),
    ("cut-off", {"status": 200, "content_type": "text/event-stream", "body": BEGUN}),
    ("cut-off", {"status": 200, "content_type": "text/event-stream", "body": BEGUN + TEXT}),
    ("cut-off", {"status": 200, "content_type": "text/event-stream", "body": "data: {\n\n"}),
    ("unreachable", None),
]


def test_refusals_on_the_way_are_said(renders: dict[str, Path], browser: Browser) -> None:
    combination = named("demo_streaming_full")
    project = renders[combination.name]
    endings: list[str] = []
    with opened(browser, project, combination, {}, expected=NO_SERVER) as chat:
        for name, reply in REFUSALS:

            def refuse(route: Route) -> None:
                route.fulfill(**reply) if reply else route.abort()  # noqa: B023

            chat.page.route(ENDPOINT, refuse)
            endings.append(name if " " in name else said(project, name))
            chat.ask(FIRST, *endings)
            chat.expect_failure(endings[-1])
            chat.page.unroute(ENDPOINT)
        expect(chat.answers.get_by_text("A part.")).to_have_count(1)
        chat.ask(SECOND, *endings, chat.ending(SECOND))


class Ends:
    """How the page's questions ended, as its browser sees them.

    Attributes:
        all: For each one that has ended, nothing, or what went wrong.
    """

    def __init__(self, page: Page) -> None:
        """Keep the ends from now on.

        Args:
            page: The tab.
        """
        self.all: list[str | None] = []
        page.on("requestfinished", self._keep)
        page.on("requestfailed", self._keep)

    def _keep(self, request: Request) -> None:
        if ENDPOINT.search(request.url):
            self.all.append(request.failure)


@BOTH_MODES
def test_requests_of_complete_answers_end_by_themselves(
    renders: dict[str, Path], browser: Browser, mode: str
) -> None:
    combination = named(f"demo_{mode}_full")
    with opened(browser, renders[combination.name], combination, {}) as chat:
        ends, ending = Ends(chat.page), chat.ending(FIRST)

        def is_question(request: Request) -> bool:
            return bool(ENDPOINT.search(request.url))

        for number in range(1, 5):
            with chat.page.expect_request_finished(is_question):
                chat.ask(FIRST, *[ending] * number)
        assert ends.all == [None] * 4


class OpenStream:
    """A stream that has brought its last event.

    Attributes:
        end: Set to end it.
        closed: Set when the page has ended it.
    """

    def __init__(self) -> None:
        """Leave it open."""
        self.end, self.closed = threading.Event(), threading.Event()


@contextlib.contextmanager
def holding(page: Page) -> Iterator[list[OpenStream]]:
    """Answer the page's questions in the place of its app, and leave the streams open.

    Args:
        page: The tab.
    """
    streams: list[OpenStream] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            stream = OpenStream()
            streams.append(stream)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(f"{BEGUN}{TEXT}{FINISHED}".encode())
            while not stream.end.is_set():
                if select.select([self.connection], [], [], 0.02)[0]:
                    return stream.closed.set()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/chat"
    page.route(ENDPOINT, lambda route: route.continue_(url=address))
    yield streams
    for stream in streams:
        stream.end.set()
    server.shutdown()
    server.server_close()


def test_answer_is_complete_before_its_stream_ends(
    renders: dict[str, Path], browser: Browser
) -> None:
    combination = named("demo_streaming_full")
    with (
        opened(browser, renders[combination.name], combination, {}) as chat,
        holding(chat.page) as streams,
    ):
        ends = Ends(chat.page)
        for number in (1, 2, 3):
            chat.ask(FIRST, *["A part."] * number)
            assert len(streams) == number and not ends.all
        expect(chat.notices).to_have_count(0)
        for number in (1, 2, 3):
            with chat.page.expect_request_finished():
                streams[number - 1].end.set()
        assert ends.all == [None] * 3

        # A stream that never ends is closed, as it takes one of the few connections to a server.
        for number in range(4, 12):
            chat.ask(FIRST, *["A part."] * number)
        for stream in streams[3:]:
            assert stream.closed.wait(20), "The stream stays open."
        expect(chat.notices).to_have_count(0)


@BOTH_MODES
def test_limits_of_the_app_are_said(renders: dict[str, Path], browser: Browser, mode: str) -> None:
    combination = named(f"demo_{mode}_full")
    project = renders[combination.name]
    environment = {"CHAT_RATE_LIMIT": "1/minute"}
    too_long, too_many = (
        said(project, name) for name in ("QUESTION_TOO_LONG", "TOO_MANY_QUESTIONS")
    )
    with opened(browser, project, combination, environment, expected=NO_SERVER) as chat:
        chat.ask("x" * 100_001, too_long)
        chat.expect_failure(too_long)
        chat.ask(FIRST, too_long, chat.ending(FIRST))
        chat.ask(SECOND, too_long, chat.ending(FIRST), too_many)
        chat.expect_failure(too_many)
        chat.page.reload()
        chat.expect_answers(too_long, chat.ending(FIRST), too_many)


@pytest.mark.parametrize("auth", ["password", "proxy"])
def test_who_may_come_in_can_chat(renders: dict[str, Path], browser: Browser, auth: str) -> None:
    combination = next(one for one in PAIRS if one["auth"] == auth and one["provider"] == "demo")
    # No proxy stands here: a header that each request has takes the place of the one it would add.
    environment = {"CHAT_USERS": "ann:a-long-password", "AUTH_PROXY_HEADER": "Host"}
    project = renders[combination.name]
    with opened(browser, project, combination, environment) as chat:
        if auth == "password":
            log_in(chat.page, "ann", "a-long-password")
        chat.ask(FIRST, chat.ending(FIRST))
        chat.ask(SECOND, chat.ending(FIRST), chat.ending(SECOND))


@BOTH_MODES
def test_one_question_waits_for_the_answer(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    endless = PREFIX + (ENDLESS if combination["streaming"] else "silence")
    with opened(browser, project, combination, faulty.environment()) as chat:
        queued, take_back = chat.queued, chat.button("Take back")
        held = Held(chat)
        chat.send(FIRST)
        chat.send(SECOND)
        expect(queued).to_have_text(SECOND)
        expect(queued).to_be_in_viewport(ratio=1)
        chat.box.fill("And then?")
        chat.box.press("Enter")
        expect(chat.hint).to_have_text(said(project, "one-at-a-time"))
        expect(chat.box).to_have_value("And then?")
        expect(queued).to_have_text(SECOND)
        take_back.click()
        expect(queued).to_be_hidden()
        expect(chat.box).to_have_value(f"{SECOND}\nAnd then?")
        chat.expect_focus()
        expect(chat.hint).to_be_empty()

        chat.send(SECOND)
        chat.box.fill("A draft")
        before = len(faulty.calls)
        held.release()
        chat.expect_answers(healthy_answer(FIRST), healthy_answer(SECOND))
        assert [call.question for call in faulty.calls[before:]] == [FIRST, SECOND]
        expect(queued).to_be_hidden()
        expect(chat.box).to_have_value("A draft")

        chat.send(endless)
        chat.send(SECOND)
        chat.button("Stop").click()
        chat.expect_state("ready")
        expect(chat.box).to_have_value(SECOND)
        expect(queued).to_be_hidden()

        held = Held(chat)
        chat.send(PREFIX + "no text")
        chat.send(SECOND)
        chat.box.fill("A draft")
        held.release()
        chat.expect_state("ready")
        chat.expect_failure(said(project, "EMPTY"))
        expect(chat.box).to_have_value(f"{SECOND}\nA draft")

        chat.send(endless)
        chat.send(SECOND)
        chat.button("New chat").click()
        chat.expect_empty()
        expect(chat.box).to_have_value(SECOND)
        before = len(faulty.calls)
        chat.box.press("Enter")
        chat.expect_answers(healthy_answer(SECOND))
        assert [call.turns for call in faulty.calls[before:]] == [[("user", SECOND)]]


def test_queued_question_is_kept(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider
) -> None:
    combination = named("openai_streaming_full")
    with opened(browser, renders[combination.name], combination, faulty.environment()) as chat:
        chat.send(PREFIX + ENDLESS)
        chat.send(SECOND)
        chat.box.fill("A draft")
        chat.page.reload()
        expect(chat.box).to_have_value(f"{SECOND}\nA draft")
        chat.expect_state("ready")


# Does what a fast user does, at the first sight of the field and the buttons.
EARLY = """
new MutationObserver((_records, observer) => {
  const field = document.querySelector("#chat-message");
  const example = document.querySelector(".chat-example");
  if (!field || !example) return;
  observer.disconnect();
  window.wasOpen = document.querySelector("#chat").hasAttribute("data-open");
  const enter = new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true });
  if ("%s" === "click") example.click();
  else field.value = "%s";
  if ("%s" === "key") field.dispatchEvent(enter);
}).observe(document, { subtree: true, childList: true });
"""


@pytest.mark.parametrize("done", ["click", "key", "text"])
def test_what_is_done_before_the_page_is_ready_counts(
    renders: dict[str, Path], browser: Browser, done: str
) -> None:
    combination = named("demo_streaming_full")
    script = EARLY % (done, SECOND, done)
    with opened(browser, renders[combination.name], combination, {}, script) as chat:
        if done == "text":
            chat.expect_state("empty")
            expect(chat.root).to_have_attribute("data-open", "")
            expect(chat.box).to_have_value(SECOND)
        else:
            chat.expect_answers(chat.ending(FIRST))
            expected = chat.examples.first.text_content() if done == "click" else SECOND
            expect(chat.questions).to_have_text([str(expected)])
            expect(chat.box).to_have_value("")
        assert chat.page.evaluate("window.wasOpen") is False


def with_other_page(project: Path, combination: Combination, copy: Path) -> None:
    """Copy a project, and add a page to its dashboard.

    Args:
        project: The rendered project.
        combination: Its answers.
        copy: Where the copy goes.
    """
    shutil.copytree(project, copy)
    dashboard = copy / "src" / combination.name / "dashboard.py"
    text, place = dashboard.read_text(encoding="utf-8"), "            *pages,\n"
    assert place in text
    dashboard.write_text(text.replace(place, place + OTHER_PAGE), encoding="utf-8")


def leave_and_return(chat: Chat, way: str) -> None:
    """Leave the page of the chat, and come back.

    Args:
        chat: The chat.
        way: `reload`, or `link` for the links of the dashboard's navigation.
    """
    if way == "reload":
        chat.page.reload()
        return
    chat.page.get_by_role("link", name="Other").click()
    expect(chat.page.get_by_text("Other.")).to_be_visible()
    expect(chat.root).to_have_count(0)
    chat.page.get_by_role("link", name="Chat").click()


def test_answer_that_is_left_by_a_reload_says_so(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider
) -> None:
    combination = named("openai_streaming_full")
    project = renders[combination.name]
    cut_off = said(project, "cut-off")
    with opened(browser, project, combination, faulty.environment()) as chat:
        chat.send(PREFIX + ENDLESS)
        before = chat.expect_part()
        chat.page.reload()
        chat.expect_answers(cut_off)
        chat.expect_failure(cut_off)
        expect(chat.answers.last).to_contain_text(before)
        stream = faulty.asked(PREFIX + ENDLESS)[-1]
        assert stream.closed.wait(5), "The provider still streams to nobody."
        chat.ask(SECOND, cut_off, healthy_answer(SECOND))


def test_answer_goes_on_while_another_page_is_open(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, tmp_path: Path
) -> None:
    combination = named("openai_streaming_full")
    project = tmp_path / "project"
    with_other_page(renders[combination.name], combination, project)
    stopped = said(project, "stopped")
    with opened(browser, project, combination, faulty.environment()) as chat:
        chat.send(PREFIX + ENDLESS)
        before = chat.expect_part()
        leave_and_return(chat, "link")
        expect(chat.answers).to_contain_text([before])
        chat.expect_part()
        chat.button("Stop").click()
        chat.expect_answers(stopped)
        stream = faulty.asked(PREFIX + ENDLESS)[-1]
        assert stream.closed.wait(5), "The provider still streams to nobody."

        held = Held(chat)
        chat.send(FIRST)
        chat.page.get_by_role("link", name="Other").click()
        expect(chat.root).to_have_count(0)
        held.release()
        kept = "Object.values(sessionStorage).join()"
        processes.until(lambda: healthy_answer(FIRST)[-16:] in chat.page.evaluate(kept))
        chat.page.get_by_role("link", name="Chat").click()
        chat.expect_answers(stopped, healthy_answer(FIRST))
        chat.ask(SECOND, stopped, healthy_answer(FIRST), healthy_answer(SECOND))


@pytest.mark.parametrize("way", ["reload", "link"])
def test_draft_is_kept(
    renders: dict[str, Path], browser: Browser, tmp_path: Path, way: str
) -> None:
    combination = named("demo_one_shot_opt_in")
    project = tmp_path / "project"
    with_other_page(renders[combination.name], combination, project)
    with opened(browser, project, combination, {}) as chat:
        first = chat.ending(FIRST)
        chat.box.fill("A draft\nof two lines")
        leave_and_return(chat, way)
        expect(chat.box).to_have_value("A draft\nof two lines")
        chat.ask(FIRST, first)

        chat.switch.press("Space")
        chat.box.fill("A draft")
        chat.button("Edit question").click()
        chat.box.fill("Another question")
        leave_and_return(chat, way)
        chat.expect_answers(first)
        expect(chat.switch).not_to_be_checked()
        expect(chat.box).to_have_value("Another question")
        chat.box.press("Escape")
        expect(chat.box).to_have_value("A draft")
        expect(chat.questions).to_have_text([FIRST])
        leave_and_return(chat, way)
        chat.expect_answers(first)
        expect(chat.box).to_have_value("A draft")


def test_many_messages_are_drawn_on_demand(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, tmp_path: Path
) -> None:
    combination = named("openai_streaming_full")
    project = shutil.copytree(renders[combination.name], tmp_path / "project")
    script = project / "src" / combination.name / "web" / "chat.js"
    text = script.read_text(encoding="utf-8")
    assert text.count("PLACES = 30;") == 1
    script.write_text(text.replace("PLACES = 30;", "PLACES = 12;"), encoding="utf-8")
    with opened(browser, project, combination, faulty.environment()) as chat:
        earlier = chat.button("Show earlier messages")
        endings = []
        for number in range(12):
            endings.append(healthy_answer(str(number)))
            chat.ask(str(number), *endings)
            expect(chat.button("Try again").locator("visible=true")).to_have_count(1)
        chat.page.reload()
        chat.expect_answers(*endings[7:])
        earlier.click()
        chat.expect_answers(*endings)
        expect(earlier).to_have_count(0)
        expect(chat.page.locator("body")).not_to_be_focused()
        for number in range(12, 23):
            endings.append(healthy_answer(str(number)))
            chat.ask(str(number), *endings)

        # The place that is left is for this question, and earlier ones make room for the next.
        chat.send(PREFIX + ENDLESS)
        chat.expect_part()
        chat.send(FIRST)
        expect(chat.questions).to_have_text(["19", "20", "21", "22", PREFIX + ENDLESS])
        chat.expect_part()
        chat.expect_focus()
        chat.button("Stop").click()
        chat.expect_state("ready")
        chat.box.press("Enter")
        endings = [*endings[19:], "", healthy_answer(FIRST)]
        expect(chat.answers.last).to_contain_text(endings[-1])
        expect(chat.button("Try again").locator("visible=true")).to_have_count(1)
        assert len(faulty.calls[-1].turns) == 49
        chat.page.reload()
        expect(chat.questions).to_have_text(["20", "21", "22", PREFIX + ENDLESS, FIRST])
