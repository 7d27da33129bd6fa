"""One person in a browser: how long from Enter to the first character of the answer that can be read."""

import shutil

import load
from load import Exchange, Waits, at_once
from playwright.async_api import async_playwright, expect
from test_browser import OPTIONS, PROGRAMS

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


async def converse(url: str, exchange: Exchange, direct: load.Target, messages: int) -> list[Waits]:
    """Ask in a browser and the stand-in itself in turn, and return how long both waited.

    Args:
        url: The address of the app.
        exchange: What to ask.
        direct: The stand-in itself.
        messages: How many messages the conversation has; the first is not counted.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    person, alone = Waits(), Waits()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=OPTIONS)
        page = await browser.new_page(viewport={"width": 1200, "height": 800})
        await page.add_init_script(WATCH)
        await page.goto(url)
        box = page.locator("#chat-chat-input")
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
        await browser.close()
    return [person, alone]
