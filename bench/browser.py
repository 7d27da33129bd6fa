"""People in a browser: how soon they read, how soon the page opens, and what the browser computes."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf

import psutil
from exchanges import END, Exchange
from in_browser import OPTIONS, PROGRAMS
from playwright.async_api import Browser, Page, async_playwright, expect

SECONDS = 60  # to wait for an answer


@dataclass(frozen=True)
class Selectors:
    """How the page of an app is used.

    Attributes:
        field: Where one types.
        sendable: What is there once the text can be sent.
        answers: The texts of the answers.
        ready: What is there only while no answer is on its way.
    """

    field: str
    sendable: str
    answers: str
    ready: str


RENDERED = Selectors(
    field="#chat-message",
    sendable="#chat[data-open] #chat-message",
    answers="#chat-conversation .chat-answer",
    ready="#chat[data-state=ready]",
)
DOCUMENTED = Selectors(
    field="#chat-chat-input",
    sendable="#chat-chat-input[data-listener-added]",
    answers="#chat-rendered-messages .chat-assistant-message:not(.chat-loading-message)",
    ready="#chat-send-button:not(:disabled)",
)
CHAINLIT = Selectors(
    field="#chat-input",
    sendable="#chat-submit:not(:disabled)",
    answers=".ai-message .message-content",
    ready="#chat-submit",
)

SCRIPT = """
// Resolves with the milliseconds since Enter, once an answer begins to show, and once it is whole.
window.watchAnswer = ({ answers, ready, end }) => {
  const all = () => [...document.querySelectorAll(answers)];
  const before = all().length;
  let entered, first;
  addEventListener("keydown", ({ timeStamp }) => (entered = timeStamp), { capture: true, once: true });
  window.answered = new Promise((resolve) => {
    new MutationObserver((_, observer) => {
      const shown = all(); // fewer than before when earlier ones are put away
      const answer = shown.length < before ? shown.at(-1) : shown[before];
      if (!answer?.textContent) return;
      first ??= performance.now() - entered;
      if (!document.querySelector(ready) || !answer.textContent.includes(end)) return;
      observer.disconnect();
      resolve({ first, last: performance.now() - entered });
    }).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  });
};
// Resolves with the time at which the rendered chat is open, and the last answer can be read.
window.watchOpening = () =>
  new Promise((resolve) => {
    new MutationObserver((_, observer) => {
      const chat = document.querySelector("#chat[data-open]");
      const last = [...document.querySelectorAll("#chat-conversation .chat-answer")].at(-1);
      if (!chat || !(chat.dataset.state === "empty" || last?.textContent)) return;
      observer.disconnect();
      resolve(performance.now());
    }).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  });
"""
# Repeats the exchange that is kept in the tab.
KEEP = """
(count) => {
  const [name] = Object.keys(sessionStorage).filter((key) => key.startsWith("chat "));
  const kept = JSON.parse(sessionStorage.getItem(name));
  kept.exchanges = Array(count).fill(kept.exchanges[0]);
  sessionStorage.setItem(name, JSON.stringify(kept));
}
"""
CHANGE_PAGE = """
async () => {
  const begin = performance.now();
  const opened = watchOpening();
  const links = [...document.querySelectorAll("a")];
  links.find(({ textContent }) => textContent === "Chat").click();
  return (await opened) - begin;
}
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start the machine's Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        await browser.close()


def processes() -> list[psutil.Process]:
    """Return the processes of the browser that this one has started."""
    started = psutil.Process().children(recursive=True)
    return [one for one in started if "chrom" in one.name()]


class Person:
    """Somebody with a browser of their own."""

    def __init__(self, page: Page, selectors: Selectors) -> None:
        """Take a page.

        Args:
            page: The page.
            selectors: How it is used.
        """
        self.page = page
        self._selectors = selectors
        self.asked: list[Exchange] = []  # in this chat

    @classmethod
    async def open(cls, browser: Browser, url: str, selectors: Selectors) -> "Person":
        """Return somebody who has opened an app.

        Args:
            browser: The browser.
            url: The app's address.
            selectors: How its page is used.
        """
        context = await browser.new_context(viewport={"width": 1200, "height": 800})
        await context.add_init_script(SCRIPT)
        page = await context.new_page()
        await page.goto(url)
        await expect(page.locator(selectors.field)).to_be_visible(timeout=30_000)
        return cls(page, selectors)

    async def type(self, exchange: Exchange) -> None:
        """Type a question, and have its answer watched.

        Args:
            exchange: What to ask.
        """
        await self.page.locator(self._selectors.field).fill(exchange.question)
        await expect(self.page.locator(self._selectors.sendable)).to_be_visible(timeout=30_000)
        look = {"answers": self._selectors.answers, "ready": self._selectors.ready, "end": END}
        await self.page.evaluate("look => watchAnswer(look)", look)

    async def enter(self) -> tuple[float, float]:
        """Send what was typed; return the seconds until the answer begins, and until it is whole.

        Both are infinite for an answer that is not whole in time.
        """
        await self.page.keyboard.press("Enter")
        try:
            answered = await asyncio.wait_for(self.page.evaluate("answered"), SECONDS)
        except TimeoutError:
            return inf, inf
        return answered["first"] / 1000, answered["last"] / 1000

    async def ask(self, exchange: Exchange) -> tuple[float, float]:
        """Ask; return the seconds until the answer begins, and until it is whole.

        Args:
            exchange: What to ask.
        """
        await self.type(exchange)
        waited = await self.enter()
        self.asked.append(exchange)
        return waited

    async def keep(self, url: str, count: int) -> None:
        """Have the tab keep as many exchanges as given, each like the first.

        Args:
            url: The app's address.
            count: How many.
        """
        await self.page.goto(f"{url}/_dash-dependencies")  # where no script keeps anything
        await self.page.evaluate(KEEP, count)

    async def reload(self, url: str) -> float:
        """Open the chat; return the seconds until it can be used.

        Args:
            url: The app's address.
        """
        await self.page.goto(url, wait_until="commit")
        return await self.page.evaluate("watchOpening()") / 1000

    async def change_page(self) -> float:
        """Go to another page and come back; return the seconds until the chat can be used."""
        await self.page.evaluate("document.querySelector('a[href=\"/charts\"]').click()")
        for drawn in (".js-plotly-plot .main-svg >> nth=-1", ".ag-row >> nth=0"):
            await expect(self.page.locator(drawn)).to_be_visible(timeout=60_000)
        await expect(self.page.locator("[data-dash-is-loading=true]")).to_have_count(0)
        return await self.page.evaluate(CHANGE_PAGE) / 1000

    async def trace(self, exchange: Exchange) -> tuple[list[float], float]:
        """Ask; return the milliseconds of each run of scripts, and the seconds until it is whole.

        Args:
            exchange: What to ask.
        """
        browser = self.page.context.browser
        assert browser
        await self.type(exchange)
        await browser.start_tracing(page=self.page, categories=["devtools.timeline"])
        _, last = await self.enter()
        trace = json.loads(await browser.stop_tracing())["traceEvents"]
        return scripts(trace), last


RUNS = {"FunctionCall", "EvaluateScript", "FireAnimationFrame", "TimerFire", "RunMicrotasks"}


def scripts(trace: list[dict]) -> list[float]:
    """Return the milliseconds of each run of scripts in the page's main thread, frame by frame.

    Args:
        trace: The events of a trace.
    """
    threads = {
        (one["pid"], one["tid"])
        for one in trace
        if one["name"] == "thread_name" and one["args"]["name"] == "CrRendererMain"
    }
    runs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for one in trace:
        thread = one["pid"], one["tid"]
        if one["name"] in RUNS and thread in threads and one["ph"] == "X":
            runs.setdefault(thread, []).append((one["ts"], one["ts"] + one["dur"]))
    busiest = max(runs.values(), key=lambda some: sum(end - begin for begin, end in some))
    lengths, reached = [], 0
    for begin, end in sorted(busiest):
        if begin >= reached:  # not inside of the one before
            lengths.append((end - begin) / 1000)
            reached = end
    return lengths
