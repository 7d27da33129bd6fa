"""One person in a browser: how soon the chat can be used, and an answer's first character be read."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import processes
from apps import UV
from in_browser import OPTIONS, PROGRAMS
from load import Exchange, Target, Waits, at_once
from playwright.async_api import Browser, Error, async_playwright, expect

INPUT = "#chat-chat-input"

# Notes when Enter is pressed, and when the answer to it has its first character.
WATCH = """
const answers = () =>
  document.querySelectorAll(
    "#chat-rendered-messages .chat-assistant-message:not(.chat-loading-message)"
  );
let before = 0;
addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  before = answers().length;
  window.waited = undefined;
  window.entered = event.timeStamp;
}, true);
new MutationObserver(() => {
  if (window.waited === undefined && answers()[before]?.textContent)
    window.waited = performance.now() - window.entered;
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start the machine's Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        await browser.close()


async def first_use(browser: Browser, project: Path, environment: dict[str, str]) -> float:
    """Start a project as its README says, and return the seconds until one can type.

    Args:
        browser: The browser.
        project: The rendered project, installed.
        environment: Variables to set.
    """
    port = processes.free_port()
    page = await browser.new_page()
    begin = time.perf_counter()
    process = subprocess.Popen(
        [UV, "run", "--no-dev", "my-chat"],
        cwd=project,
        env=environment | {"PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                await page.goto(f"http://127.0.0.1:{port}")
                break
            except Error:
                assert process.poll() is None, "The app did not start."
                await asyncio.sleep(0.02)
        await expect(page.locator(INPUT)).to_be_editable(timeout=60_000)
        return time.perf_counter() - begin
    finally:
        process.terminate()
        process.wait()
        await page.close()


async def converse(
    browser: Browser, url: str, exchange: Exchange, direct: Target, messages: int
) -> tuple[Waits, Waits]:
    """Ask in a browser and the stand-in itself in turn, and return how long both waited.

    Args:
        browser: The browser.
        url: The address of the app.
        exchange: What to ask.
        direct: The stand-in itself.
        messages: How many messages the conversation has; the first is not counted.
    """
    person, alone = Waits(), Waits()
    page = await browser.new_page(viewport={"width": 1200, "height": 800})
    await page.add_init_script(WATCH)
    await page.goto(url)
    box = page.locator(INPUT)
    answers = page.locator("#chat-rendered-messages .assistant-markdown")
    for number in range(messages):
        await box.fill(exchange.question)
        # The page listens to Enter only after it has seen the first change.
        await expect(box).to_have_attribute("data-listener-added", "true")
        await box.press("Enter")
        await expect(answers.nth(number)).to_have_text(exchange.answer, timeout=60_000)
        await expect(page.locator("#chat-send-button")).to_be_enabled()
        if number:
            person.first.append(await page.evaluate("window.waited") / 1000)
            await at_once(direct, 1, alone)
    await page.close()
    return person, alone
