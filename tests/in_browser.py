"""A rendered project in a browser, and the providers that answer it: what the browser tests share."""

import json
import os
import re
import runpy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dialects
import faults
import processes
import pytest
import stand_in
from combinations import EVERY, Combination
from faults import FaultyProvider
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Route,
    ViewportSize,
    expect,
    sync_playwright,
)
from stand_in import Request, StandIn

BOTH_MODES = pytest.mark.parametrize("mode", ["streaming", "one_shot"])
# The first one has no window to draw: it takes half as long to open a page.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
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
# Where the page sends its questions.
ENDPOINT = re.compile(r"/chat$")

FIXTURES = stand_in.FOLDER / "fixtures" / "browser.json"
ANSWERS: dict[str, str] = {
    fixture["match"]["userMessage"]: fixture["response"]["content"]
    for fixture in json.loads(FIXTURES.read_text(encoding="utf-8"))["fixtures"]
}
FIRST, SECOND, LONG = ANSWERS
HTML = '<img src=x onerror="window.executed = true"> <script>window.executed = true</script>'
USAGE = re.compile(r"^(\S+ · )?\d+(\.\d)? s( · [\d,]+ tokens in, [\d,]+ out)?$")
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}

# Keeps every text that could be read in each answer, and when it appeared; and tells of what the
# page's policy forbids, as the console does not tell all of it.
WATCH = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error("violation", event.violatedDirective, event.blockedURI);
});
window.seen = [];
new MutationObserver(() => {
  document.querySelectorAll("#chat-conversation .chat-answer").forEach((answer, index) => {
    const texts = (window.seen[index] ??= []);
    const copy = answer.cloneNode(true);
    copy.querySelectorAll("button").forEach((button) => button.remove());
    const text = copy.textContent;
    if (text && texts.at(-1)?.text !== text) texts.push({ text, at: performance.now() });
  });
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
# The panel stands open, unless a test has begun to use it.
OPEN_PANEL = """
try {
  if (!sessionStorage.getItem("chat panel")) sessionStorage.setItem("chat panel", "open");
} catch {} // a page without storage, such as about:blank
"""
LOADED = 30_000  # milliseconds: Plotly's script is large, and read on a busy machine too
# What Chromium says of an app that refuses or is gone.
NO_SERVER = r"Failed to load resource"
# What Dash says when a page is left while one of Vizro's actions runs there.
LEFT_EARLY = r"Cannot patch undefined"


class Chat:
    """The chat in one tab, as a user finds it: by role and name where there is one."""

    def __init__(self, page: Page, combination: Combination) -> None:
        """Find the parts of the chat.

        Args:
            page: The tab.
            combination: The project's answers.
        """
        self.page = page
        self.provider: str = combination["provider"]
        self.streaming: bool = combination["streaming"]
        self.root = page.locator("#chat")
        self.box = page.get_by_role("textbox", name="Message", exact=True)
        self.conversation = page.get_by_role("log", name="Conversation", exact=True)
        self.questions = self.conversation.locator(".chat-question")
        self.answers = self.conversation.locator(".chat-answer")
        self.notices = self.conversation.locator(".chat-notice")
        self.usage = self.conversation.locator(".chat-usage")
        self.examples = page.locator(".chat-example")
        self.queued = page.locator(".chat-queued")
        self.hint = self.root.get_by_role("status")
        self.alert = page.locator(".chat-composer").get_by_role("alert")
        self.switch = page.get_by_role("switch", name="Remember this conversation", exact=True)

    def button(self, name: str) -> Locator:
        """Return a button, or one for each message.

        Args:
            name: Its accessible name.
        """
        return self.root.get_by_role("button", name=name, exact=True)

    def send(self, question: str) -> None:
        """Type a question and send it with Enter.

        Args:
            question: What to type.
        """
        self.box.fill(question)
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
            endings: How each answer ends, in its text or in the sentence of its callout.
        """
        whole = [re.compile(rf"{re.escape(one)}\s*(refreshTry again)?$") for one in endings]
        # Beside a panel, charts may still be drawn.
        expect(self.answers).to_have_text(whole, timeout=LOADED)
        expect(self.questions).to_have_count(len(endings))
        self.expect_state("ready")
        expect(self.button("Send")).to_be_visible()

    def expect_failure(self, sentence: str) -> None:
        """Check that the last answer ends in a callout that offers to try again.

        Args:
            sentence: The sentence in the callout, or its end.
        """
        callout = self.answers.last.locator(".chat-notice")
        expect(callout).to_have_role("alert")
        expect(callout).to_contain_text(sentence)
        expect(callout.get_by_role("button", name="Try again", exact=True)).to_be_visible()
        expect(self.button("Try again")).to_have_count(1)

    def expect_state(self, state: str) -> None:
        """Wait for a state of the chat.

        Args:
            state: `empty`, `answering` or `ready`.
        """
        expect(self.root).to_have_attribute("data-state", state, timeout=LOADED)

    def expect_empty(self) -> None:
        """Wait until no conversation is left."""
        self.expect_state("empty")
        expect(self.questions).to_have_count(0)
        expect(self.answers).to_have_count(0)

    def expect_part(self) -> str:
        """Wait until the last answer has begun and grows, and return what it says."""
        self.expect_state("answering")
        expect(self.answers.last).not_to_be_empty(timeout=LOADED)
        before = str(self.answers.last.text_content())
        expect(self.answers.last).not_to_have_text(before)
        return before

    def expect_focus(self) -> None:
        """Check that the field to type in has the focus."""
        expect(self.box).to_be_focused()

    def seen(self, index: int) -> list[dict[str, Any]]:
        """Return every text that could be read in an answer, and when it appeared.

        Args:
            index: Which answer, counted from 0.
        """
        texts: list[dict[str, Any]] = self.page.evaluate("index => window.seen[index]", index)
        return texts

    def copied(self) -> str:
        """Return what the clipboard holds."""
        self.page.context.grant_permissions(["clipboard-read"])
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def ending(self, question: str) -> str:
        """Return the last line of the answer to a question.

        Args:
            question: The question.
        """
        if self.provider == "demo":
            return "Choose another provider with copier update, and a model answers here."
        return ANSWERS[question].splitlines()[-1]


class Held:
    """The next questions, held back on their way to the app."""

    def __init__(self, chat: Chat) -> None:
        """Hold back what is sent from now on.

        Args:
            chat: The chat that sends.
        """
        self._routes: list[Route] = []
        self._is_open = False
        chat.page.route(ENDPOINT, self._take)

    def _take(self, route: Route) -> None:
        if self._is_open:
            route.continue_()
        else:
            self._routes.append(route)

    def release(self) -> None:
        """Let the questions pass, and those that follow."""
        assert self._routes, "Nothing was sent."
        self._is_open = True
        for route in self._routes:
            route.continue_()


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
    expected: str = "$^",
    panel: str = OPEN_PANEL,
) -> Iterator[Chat]:
    """Serve a project and open it.

    Args:
        browser: The browser.
        project: The rendered project.
        combination: Its answers.
        environment: Variables to set.
        script: What the page runs before all else, besides what watches it.
        expected: A pattern of the errors that the console will show because of the test.
        panel: What opens the panel, if the chat stands in one.
    """
    with (
        processes.serving(project, combination.name, environment) as address,
        visited(browser, address, combination, script, expected, panel) as chat,
    ):
        yield chat


@contextmanager
def visited(
    browser: Browser,
    address: str,
    combination: Combination,
    script: str = "",
    expected: str = "$^",
    panel: str = OPEN_PANEL,
    others: str = "$^",
) -> Iterator[Chat]:
    """Open an app; at the end, nothing in the console may be our fault,
    and all requests must have gone to the app.

    Args:
        browser: The browser.
        address: Where the app is.
        combination: The project's answers.
        script: What the page runs before all else, besides what watches it.
        expected: A pattern of the errors that the console will show because of the test.
        panel: What opens the panel, if the chat stands in one.
        others: A pattern of the addresses that the page may ask besides.
    """
    errors: list[str] = []
    requested: list[str] = []

    def keep(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(f"{message.text} ({message.location['url']})")

    size: ViewportSize = {"width": 1200, "height": 800}
    with browser.new_context(viewport=size) as context:
        context.add_init_script(WATCH)
        context.add_init_script(script)
        context.add_init_script(panel)
        context.on("console", keep)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        context.on("request", lambda request: requested.append(request.url))
        chat = Chat(context.new_page(), combination)
        chat.page.goto(address)
        yield chat
        assert not [one for one in errors if not re.search(f"{expected}|{LEFT_EARLY}", one)]
        assert requested
        foreign = [url for url in requested if not is_own(url, address)]
        assert not [url for url in foreign if not re.match(others, url)]


def log_in(page: Page, name: str, password: str) -> None:
    """Log in on the login page, with the keyboard alone.

    Args:
        page: The tab.
        name: What to type as the name, where the focus is.
        password: What to type as the password.
    """
    expect(page.get_by_role("textbox", name="Name")).to_be_focused()
    page.keyboard.insert_text(name)
    page.keyboard.press("Tab")
    page.keyboard.insert_text(password)
    page.keyboard.press("Enter")


def is_own(url: str, address: str) -> bool:
    """Return whether a request goes to an app, or stays in the browser.

    Args:
        url: What was requested.
        address: Where the app is.
    """
    parts, own = urlsplit(url), urlsplit(address)
    return parts.scheme in ("data", "blob") or parts[:2] == own[:2]


def named(name: str) -> Combination:
    """Return a combination.

    Args:
        name: Its name.
    """
    return EVERY[name]


def said(project: Path, name: str) -> str:
    """Return a sentence or a label of a project.

    Args:
        project: The rendered project.
        name: The name of the constant in `notices.py`, or the key in its `PAGE`.
    """
    (path,) = project.glob("src/*/notices.py")
    notices = runpy.run_path(str(path))
    return str((notices | notices["PAGE"])[name])


def turns(request: Request) -> list[tuple[str, Any]]:
    """Return who said what in the conversation that a provider was sent, in words or in parts.

    Args:
        request: What was sent.
    """
    return dialects.turns(request.body)


@pytest.fixture(scope="session")
def faulty() -> Iterator[FaultyProvider]:
    """A provider that fails as it is asked to."""
    with faults.answering("openai") as server:
        yield server
