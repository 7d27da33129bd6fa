"""Every rendered project is used in a browser: asked, left and come back to, reloaded, opened twice."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import faults
import processes
import pytest
import stand_in
import yaml
from combinations import COMBINATIONS, Combination
from conftest import EVERY_COMBINATION
from faults import ENDLESS, PREFIX, FaultyProvider, healthy_answer
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright
from stand_in import Request, StandIn
from test_wire import constant

BOTH_MODES = pytest.mark.parametrize("mode", ["streaming", "one_shot"])
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # No other machine exists, so that the tests see the same with the internet and without it.
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
# Where the page looks for its icons, one host after the other.
ICON_HOSTS = {"api.iconify.design", "api.simplesvg.com", "api.unisvg.com"}

FIXTURES = stand_in.FOLDER / "fixtures" / "browser.json"
ANSWERS: dict[str, str] = {
    fixture["match"]["userMessage"]: fixture["response"]["content"]
    for fixture in json.loads(FIXTURES.read_text(encoding="utf-8"))["fixtures"]
}
FIRST, SECOND, LONG = ANSWERS
HTML = '<img src=x onerror="window.executed = true"> <script>window.executed = true</script>'
DOTS = ".chat-loading-message"
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}

# Keeps every text that could be read in each answer, and when it appeared.
WATCH = """
window.seen = [];
new MutationObserver(() => {
  const answers = document.querySelectorAll(
    "#chat-rendered-messages .chat-assistant-message:not(.chat-loading-message)"
  );
  answers.forEach((answer, index) => {
    const texts = (window.seen[index] ??= []);
    const text = answer.textContent;
    if (text && texts.at(-1)?.text !== text) texts.push({ text, at: performance.now() });
  });
}).observe(document, { subtree: true, childList: true, characterData: true });
"""

# vizro-experimental asks at the same time for the conversation that a page opens with, for the
# question's bubble and for the answer: this lets the answer to one of the first two come late. A
# page whose answers stream does not ask for the bubble.
LATE = """
const ask = window.fetch;
window.fetch = async (resource, options) => {
  const response = await ask(resource, options);
  if (/%s/.test(options?.body)) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    window.lateCame = true;
  }
  return response;
};
"""
REQUESTS = {
    "bubble": r'"changedPropIds":\["chat-send-button\.n_clicks"\]',
    "page": r'"output":"\.\.chat-hidden-messages.*"changedPropIds":\[\]',
}
# What Chromium and Dash say of a server that refuses or is gone; Dash reads a 401 twice.
NO_SERVER = (
    r"Failed to load resource|Callback failed|Callback error updating|body stream already read"
)


class Chat:
    """The chat in one tab, as a person uses it."""

    def __init__(self, page: Page, combination: Combination) -> None:
        """Find the parts of the chat.

        Args:
            page: The tab.
            combination: The project's answers.
        """
        self.page = page
        self.provider: str = combination["provider"]
        self.streaming: bool = combination["streaming"]
        self.box = page.locator("#chat-chat-input")
        self.conversation = page.locator("#chat-rendered-messages")
        self.questions = self.conversation.locator(".chat-user-message")
        self.answers = self.conversation.locator(f".chat-assistant-message:not({DOTS})")
        self.dots = self.conversation.locator(DOTS)
        self.button = page.locator("#chat-send-button")

    def send(self, question: str) -> None:
        """Type a question and send it with Enter.

        Args:
            question: What to type.
        """
        self.box.fill(question)
        # The page listens to Enter only after it has seen the first change.
        expect(self.box).to_have_attribute("data-listener-added", "true")
        self.box.press("Enter")
        expect(self.box).to_have_value("")

    def ask(self, question: str, *endings: str) -> None:
        """Send a question, and wait for the answer's end.

        Args:
            question: What to type.
            endings: How each answer of the conversation ends then.
        """
        self.send(question)
        self.expect_answers(*endings)

    def expect_answers(self, *endings: str) -> None:
        """Wait until the conversation has these answers, whole, and the next question can be sent.

        Args:
            endings: How each answer ends.
        """
        whole = [re.compile(rf"{re.escape(ending)}\s*$") for ending in endings]
        expect(self.answers).to_have_text(whole)
        expect(self.questions).to_have_count(len(endings))
        expect(self.dots).to_have_count(0)
        expect(self.button).to_be_enabled()

    def seen(self, index: int) -> list[dict[str, Any]]:
        """Return every text that could be read in an answer, and when it appeared.

        Args:
            index: Which answer, counted from 0.
        """
        texts: list[dict[str, Any]] = self.page.evaluate("index => window.seen[index]", index)
        return texts

    def ending(self, question: str) -> str:
        """Return the last line of the answer to a question.

        Args:
            question: The question.
        """
        if self.provider == "demo":
            return "Choose another provider with copier update, and a model answers here."
        return ANSWERS[question].splitlines()[-1]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium; where there is none, the tests are skipped or, on demand, fail."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        report = pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip
        report(f"There is no browser: none of {', '.join(PROGRAMS)} was found.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def provider() -> Iterator[StandIn]:
    """The stand-in for all providers."""
    server = StandIn(FIXTURES)
    yield server
    server.stop()


@contextmanager
def opened(
    browser: Browser,
    project: Path,
    combination: Combination,
    environment: dict[str, str],
    script: str = "",
) -> Iterator[Chat]:
    """Serve a project and open it.

    Args:
        browser: The browser.
        project: The rendered project.
        combination: Its answers.
        environment: Variables to set.
        script: What the page runs before all else, besides what watches it.
    """
    with (
        processes.serving(project, combination.name, environment) as address,
        visited(browser, address, combination, script) as chat,
    ):
        yield chat


@contextmanager
def visited(
    browser: Browser, address: str, combination: Combination, script: str = "", expected: str = "$^"
) -> Iterator[Chat]:
    """Open an app; at the end, nothing in the console may be our fault.

    Args:
        browser: The browser.
        address: Where the app is.
        combination: The project's answers.
        script: What the page runs before all else, besides what watches it.
        expected: A pattern of the errors that the console will show because of the test.
    """
    errors: list[str] = []

    def keep(message: ConsoleMessage) -> None:
        host = urlsplit(message.location["url"]).hostname
        icon = message.text.startswith("Failed to load resource") and host in ICON_HOSTS
        if message.type == "error" and not icon:
            errors.append(f"{message.text} ({message.location['url']})")

    with browser.new_context(viewport={"width": 1200, "height": 800}) as context:
        context.add_init_script(WATCH)
        context.add_init_script(script)
        context.on("console", keep)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        chat = Chat(context.new_page(), combination)
        chat.page.goto(address)
        yield chat
        assert not [error for error in errors if not re.search(expected, error)]


def named(name: str) -> Combination:
    """Return a combination.

    Args:
        name: Its name.
    """
    return next(one for one in COMBINATIONS if one.name == name)


def said(project: Path, name: str) -> str:
    """Return what a project says about a failure.

    Args:
        project: The rendered project.
        name: The sentence's name.
    """
    (path,) = project.glob("src/*/sentences.py")
    return constant(path, name)


def turns(request: Request) -> list[tuple[str, str]]:
    """Return who said what in the conversation that a provider was sent.

    Args:
        request: What was sent.
    """
    said = request.body.get("input") or request.body["messages"]
    return [(turn["role"], turn["content"]) for turn in said if turn["role"] != "system"]


@EVERY_COMBINATION
def test_conversation(
    renders: dict[str, Path], browser: Browser, provider: StandIn, combination: Combination
) -> None:
    project = renders[combination.name]
    name = yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))["project_name"]
    environment = provider.environment(combination["provider"])
    alone = combination["multi_turn"] == "single"
    with opened(browser, project, combination, environment) as chat:
        page = chat.page
        expect(page).to_have_title(re.compile(rf"^{re.escape(name)}\b"))
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
            assert [text["text"] for text in chat.seen(1)] == [chat.answers.last.text_content()]
        if chat.provider == "demo":
            count = "1 turn." if alone else "3 turns."
            expect(chat.answers.last).to_contain_text(f"A model would see {count}")
        else:
            earlier = [("user", question), ("assistant", ANSWERS[FIRST])]
            promised = [*([] if alone else earlier), ("user", SECOND)]
            assert [turns(request) for request in provider.requests[before:]] == [promised]

        address = page.url
        page.goto("about:blank")
        page.go_back()
        chat.expect_answers(first, second)
        assert_rendered(chat, question)

        other = Chat(page.context.new_page(), combination)
        other.page.goto(address)
        other.ask(FIRST, first)
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
    expect(chat.conversation.locator("img, script")).to_have_count(0)
    assert chat.page.evaluate("window.executed") is None


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
        chat.ask(SECOND, sentence, sentence)


@pytest.mark.parametrize(
    ("late", "mode"),
    [("page", "streaming"), ("page", "one_shot"), ("bubble", "one_shot")],
)
def test_order_does_not_depend_on_chance(
    renders: dict[str, Path], browser: Browser, late: str, mode: str
) -> None:
    combination = named(f"demo_{mode}_full")
    script = LATE % REQUESTS[late]
    with opened(browser, renders[combination.name], combination, {}, script) as chat:
        chat.ask(FIRST, chat.ending(FIRST))
        assert chat.page.evaluate("window.lateCame"), (
            "The answer did not wait for what comes first."
        )
        chat.expect_answers(chat.ending(FIRST))


@pytest.fixture(scope="module")
def faulty() -> Iterator[FaultyProvider]:
    """A provider that fails as it is asked to."""
    server = FaultyProvider("openai")
    server.open()
    yield server
    server.stop()


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
            endings.append(said(project, sentence).partition("{url}")[2])
            chat.ask(PREFIX + name, *endings)
        chat.ask(FIRST, *endings, healthy_answer(FIRST))


@BOTH_MODES
def test_app_that_is_gone_is_said(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    gone, cut_off = (said(project, name) for name in ("APP_UNREACHABLE", "APP_CUT_OFF"))
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
            expect(chat.answers if chat.streaming else chat.dots).to_have_count(1 + chat.streaming)
            if chat.streaming:
                expect(chat.answers.last).not_to_be_empty()
            app.kill()
            lost = cut_off if chat.streaming else gone
            chat.expect_answers(healthy[0], lost)
            chat.ask(SECOND, healthy[0], lost, gone)
            expect(chat.questions.last).to_have_text(SECOND)
            app.join()
            app = start()
            chat.ask(SECOND, healthy[0], lost, gone, healthy[1])
            chat.page.reload()
            chat.expect_answers(healthy[0], lost, gone, healthy[1])
            sent = faulty.asked(SECOND)[-1].turns
            assert ("user", FIRST) in sent
            assert gone not in str(sent) and cut_off not in str(sent)
    finally:
        app.kill()


@BOTH_MODES
def test_refusals_on_the_way_are_said(
    renders: dict[str, Path], browser: Browser, mode: str
) -> None:
    combination = named(f"demo_{mode}_full")
    project = renders[combination.name]
    refused = said(project, "APP_REFUSED")
    page = {"content_type": "text/html", "body": "<html>data: no</html>"}
    plain = {"content_type": "text/plain", "body": "It is too long."}
    refusals = [
        ("update-component", {"status": 401} | page, refused),
        ("update-component", {"status": 502} | page, refused),
        ("update-component", {"status": 413} | plain, "It is too long."),
        ("update-component", None, said(project, "APP_UNREACHABLE")),
    ]
    if combination["streaming"]:
        refusals += [("streaming-chat", reply, sentence) for _, reply, sentence in refusals]
        refusals.append(("streaming-chat", {"status": 200} | page, refused))  # a login page, say
    endings: list[str] = []
    with (
        processes.serving(project, combination.name, {}) as address,
        visited(browser, address, combination, expected=NO_SERVER) as chat,
    ):
        chat.page.wait_for_load_state("networkidle")
        for request, reply, sentence in refusals:

            def refuse(route: Route) -> None:
                route.fulfill(**reply) if reply else route.abort()  # noqa: B023

            requested = re.compile(rf"{request}($|\?)")
            chat.page.route(requested, refuse)
            endings.append(sentence)
            chat.ask(FIRST, *endings)
            chat.page.unroute(requested)
        chat.ask(SECOND, *endings, chat.ending(SECOND))


@BOTH_MODES
def test_one_question_at_a_time(
    renders: dict[str, Path], browser: Browser, provider: StandIn, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    environment = provider.environment(combination["provider"])
    with opened(browser, renders[combination.name], combination, environment) as chat:
        chat.send(FIRST)
        chat.box.fill(SECOND)
        chat.box.press("Enter")
        expect(chat.button).to_be_disabled()
        chat.expect_answers(chat.ending(FIRST))
        expect(chat.box).to_have_value(SECOND)
        chat.box.press("Enter")
        chat.expect_answers(chat.ending(FIRST), chat.ending(SECOND))


@pytest.mark.parametrize("way", ["reload", "link"])
def test_answer_that_is_left_says_so(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, tmp_path: Path, way: str
) -> None:
    combination = named("openai_streaming_full")
    project = tmp_path / "project"
    shutil.copytree(renders[combination.name], project)
    dashboard = project / "src" / combination.name / "dashboard.py"
    page = '            vm.Page(title="Chat", path="/", components=[chat]),\n'
    other = '            vm.Page(title="Other", components=[vm.Card(text="Other.")]),\n'
    text = dashboard.read_text(encoding="utf-8")
    assert page in text
    dashboard.write_text(text.replace(page, page + other), encoding="utf-8")
    cut_off = said(project, "APP_CUT_OFF")
    with opened(browser, project, combination, faulty.environment()) as chat:
        chat.send(PREFIX + ENDLESS)
        expect(chat.answers).not_to_be_empty()
        if way == "reload":
            chat.page.reload()
        else:
            chat.page.get_by_role("link", name="Other").click()
            expect(chat.page.get_by_text("Other.")).to_be_visible()
            chat.page.get_by_role("link", name="Chat").click()
        chat.expect_answers(cut_off)
        stream = faulty.asked(PREFIX + ENDLESS)[-1]
        assert stream.closed.wait(5), "The provider still streams to nobody."
        chat.ask(SECOND, cut_off, healthy_answer(SECOND))
