"""Take the README's pictures of a streamed answer: `uv run python tests/screenshots.py`."""

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

QUESTIONS = ["What is a moving average?", "How do I make one in pandas?"]
ENDINGS = ["the later it reacts.", "no seven days behind them."]


def main() -> None:
    """Render a project for Claude, ask it two questions, and picture the answers in both themes."""
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
        questions = page.locator("#chat-chat-input")
        answers = page.locator(".chat-assistant-message:not(.chat-loading-message)")
        for number, question in enumerate(QUESTIONS):
            questions.fill(question)
            expect(questions).to_have_attribute("data-listener-added", "true")
            questions.press("Enter")
            expect(answers.nth(number)).to_contain_text(ENDINGS[number])
        (ROOT / "docs").mkdir(exist_ok=True)
        for theme in ("dark", "light"):
            expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
            page.screenshot(path=ROOT / "docs" / f"chat-{theme}.png")
            page.locator("#theme-toggle").click()
        browser.close()
    provider.stop()
    shutil.rmtree(project.parent)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
