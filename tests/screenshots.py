"""Take the README's pictures of the chat: `uv run python tests/screenshots.py`."""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import processes
from combinations import ROOT
from copier import run_copy
from in_browser import OPTIONS, PROGRAMS
from playwright.sync_api import expect, sync_playwright
from stand_in import FOLDER, StandIn

DOCS = ROOT / "docs"
QUESTIONS = ["What is a moving average?", "How do I make one in pandas?"]
ENDINGS = ["the later it reacts.", "no seven days behind them."]


def main() -> None:
    """Render a project for Claude, ask it two questions, and picture what a person sees."""
    warnings.simplefilter("ignore")  # Copier's, about the template's uncommitted changes
    browser_program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    project = Path(tempfile.mkdtemp()) / "my-chat"
    run_copy(str(ROOT), project, vcs_ref="HEAD", defaults=True, quiet=True)
    provider = StandIn(FOLDER / "fixtures" / "screenshots.json")
    with (
        processes.serving(project, "my_chat", provider.environment("anthropic")) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=browser_program, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.goto(address)
        chat = page.locator("#chat-chat-input")
        answers = page.locator(".chat-assistant-message:not(.chat-loading-message)")

        def ask(number: int) -> None:
            chat.fill(QUESTIONS[number])
            expect(chat).to_have_attribute("data-listener-added", "true")
            chat.press("Enter")

        def picture(name: str) -> None:
            page.screenshot(path=DOCS / f"chat-{name}.png", animations="disabled")

        page.wait_for_load_state("networkidle")
        picture("empty")
        ask(0)
        expect(answers.first).to_contain_text(ENDINGS[0])
        ask(1)
        expect(answers.nth(1)).to_contain_text("column")
        picture("answering")
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_role("button", name="Try again", exact=True)).to_be_visible()
        page.mouse.move(0, 0)
        picture("stopped")
        page.get_by_role("button", name="Try again", exact=True).click()
        expect(answers.nth(1)).to_contain_text(ENDINGS[1], timeout=20_000)
        expect(answers.nth(1).locator("em > em")).to_be_visible(timeout=20_000)
        for theme in ("dark", "light"):
            expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
            picture(theme)
            page.locator("#theme-toggle").click()
        page.set_viewport_size({"width": 390, "height": 800})
        picture("phone")
        browser.close()
    provider.stop()
    shutil.rmtree(project.parent)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
