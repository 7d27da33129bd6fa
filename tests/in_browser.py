"""A rendered project in a browser, and the providers that answer it: what the browser tests share."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import processes
import pytest
import stand_in
from combinations import COMBINATIONS, WITH_FILES, Combination
from faults import FaultyProvider
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    HttpCredentials,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)
from stand_in import Request, StandIn
from test_wire import MARK, constant

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
COST = rf"{MARK}?\u200a?\S+ · \d+\.\d s( · \d+ tokens in, \d+ out)?"
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
        whole = [re.compile(rf"{re.escape(ending)}\s*({COST})?$") for ending in endings]
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
    expected: str = "$^",
    login: HttpCredentials | None = None,
) -> Iterator[Chat]:
    """Serve a project and open it.

    Args:
        browser: The browser.
        project: The rendered project.
        combination: Its answers.
        environment: Variables to set.
        script: What the page runs before all else, besides what watches it.
        expected: A pattern of the errors that the console will show because of the test.
        login: What the person enters where the app asks for a name and a password.
    """
    with (
        processes.serving(project, combination.name, environment) as address,
        visited(browser, address, combination, script, expected, login) as chat,
    ):
        yield chat


@contextmanager
def visited(
    browser: Browser,
    address: str,
    combination: Combination,
    script: str = "",
    expected: str = "$^",
    login: HttpCredentials | None = None,
) -> Iterator[Chat]:
    """Open an app; at the end, nothing in the console may be our fault.

    Args:
        browser: The browser.
        address: Where the app is.
        combination: The project's answers.
        script: What the page runs before all else, besides what watches it.
        expected: A pattern of the errors that the console will show because of the test.
        login: What the person enters where the app asks for a name and a password.
    """
    errors: list[str] = []

    def keep(message: ConsoleMessage) -> None:
        host = urlsplit(message.location["url"]).hostname
        icon = message.text.startswith("Failed to load resource") and host in ICON_HOSTS
        if message.type == "error" and not icon:
            errors.append(f"{message.text} ({message.location['url']})")

    size: ViewportSize = {"width": 1200, "height": 800}
    with browser.new_context(viewport=size, http_credentials=login) as context:
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
    return next(one for one in [*COMBINATIONS, *WITH_FILES] if one.name == name)


def said(project: Path, name: str) -> str:
    """Return what a project says about a failure.

    Args:
        project: The rendered project.
        name: The sentence's name.
    """
    (path,) = project.glob("src/*/sentences.py")
    return constant(path, name)


def turns(request: Request) -> list[tuple[str, Any]]:
    """Return who said what in the conversation that a provider was sent, in words or in parts.

    Args:
        request: What was sent.
    """
    said = request.body.get("input") or request.body["messages"]
    return [(turn["role"], turn["content"]) for turn in said if turn["role"] != "system"]


@pytest.fixture(scope="session")
def faulty() -> Iterator[FaultyProvider]:
    """A provider that fails as it is asked to."""
    server = FaultyProvider("openai")
    server.open()
    yield server
    server.stop()
