"""Take the README's pictures of the chat: `uv run python tests/screenshots.py`."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import processes
from combinations import ROOT
from copier import run_copy
from in_browser import OPTIONS, PROGRAMS
from playwright.sync_api import Page, expect, sync_playwright
from stand_in import FOLDER, StandIn

DOCS = ROOT / "docs"
QUESTIONS = ["What is a moving average?", "How do I make one in pandas?"]
ENDINGS = ["the later it reacts.", "no seven days behind them."]
SALES = b"month,item,number\nMay,bicycle,980\nJune,bicycle,1240\nJune,helmet,610\n"


@contextmanager
def opened(**answers: object) -> Iterator[Page]:
    """Render a project for Claude, serve it, and open it in a browser.

    Args:
        answers: The answers that are not the defaults.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    project = Path(tempfile.mkdtemp()) / "my-chat"
    run_copy(str(ROOT), project, answers, vcs_ref="HEAD", defaults=True, quiet=True)
    provider = StandIn(FOLDER / "fixtures" / "screenshots.json")
    with (
        processes.serving(project, "my_chat", provider.environment("anthropic")) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.goto(address)
        page.wait_for_load_state("networkidle")
        yield page
        browser.close()
    provider.stop()
    shutil.rmtree(project.parent)


def ask(page: Page, question: str) -> None:
    """Send a question.

    Args:
        page: The page with the chat.
        question: What to type.
    """
    field = page.locator("#chat-chat-input")
    field.fill(question)
    expect(field).to_have_attribute("data-listener-added", "true")
    field.press("Enter")


def picture(page: Page, name: str) -> None:
    """Take a picture of what a person sees.

    Args:
        page: The page with the chat.
        name: What to call it.
    """
    page.mouse.move(0, 0)
    page.screenshot(path=DOCS / f"chat-{name}.png", animations="disabled")


def picture_a_conversation() -> None:
    """Ask two questions, stop the second answer, and try again; then change theme and width."""
    with opened() as page:
        answers = page.locator(".chat-assistant-message:not(.chat-loading-message)")
        picture(page, "empty")
        ask(page, QUESTIONS[0])
        expect(answers.first).to_contain_text(ENDINGS[0])
        ask(page, QUESTIONS[1])
        expect(answers.nth(1)).to_contain_text("column")
        picture(page, "answering")
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_role("button", name="Try again", exact=True)).to_be_visible()
        picture(page, "stopped")
        page.get_by_role("button", name="Try again", exact=True).click()
        expect(answers.nth(1)).to_contain_text(ENDINGS[1], timeout=20_000)
        expect(answers.nth(1).locator("em > em")).to_be_visible(timeout=20_000)
        for theme in ("dark", "light"):
            expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
            picture(page, theme)
            page.locator("#theme-toggle").click()
        page.set_viewport_size({"width": 390, "height": 800})
        picture(page, "phone")


def picture_files() -> None:
    """Ask about a file, and attach a picture to the next question."""
    with opened(file_upload=True) as page:
        attach = page.locator("#chat-upload input")
        attach.set_input_files({"name": "sales.csv", "mimeType": "", "buffer": SALES})
        expect(page.locator("#chat-data-info .chat-file-chip")).to_be_visible()
        ask(page, "What was sold most?")
        expect(page.locator("em > em")).to_be_visible(timeout=20_000)
        attach.set_input_files(DOCS / "chat-light.png")
        expect(page.locator("#chat-data-info img")).to_be_visible()
        page.locator("#chat-chat-input").fill("And what is in this picture?")
        picture(page, "attachment")


if __name__ == "__main__":
    os.chdir(ROOT)
    warnings.simplefilter("ignore")  # Copier's, about the template's uncommitted changes
    picture_a_conversation()
    picture_files()
