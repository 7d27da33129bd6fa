"""Take the README's pictures of the chat: `uv run python tests/screenshots.py`."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import processes
from combinations import ROOT, Combination
from copier import run_copy
from in_browser import OPTIONS, PROGRAMS, Chat
from playwright.sync_api import Page, expect, sync_playwright
from stand_in import FOLDER, StandIn

DOCS = ROOT / "docs"
QUESTIONS = ["What is a moving average?", "How do I make one in pandas?"]
ENDINGS = ["the later it reacts.", "no seven days behind them."]
SALES = b"month,item,number\nMay,bicycle,980\nJune,bicycle,1240\nJune,helmet,610\n"


@contextmanager
def opened(**answers: object) -> Iterator[Chat]:
    """Render a project, for Claude unless the answers say otherwise, serve it, and open it in a browser.

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
        combination = Combination({"provider": "anthropic", "streaming": True} | answers)
        yield Chat(page, combination)
        browser.close()
    provider.stop()
    shutil.rmtree(project.parent)


def ask(chat: Chat, question: str) -> None:
    """Send a question.

    Args:
        chat: The chat.
        question: What to type.
    """
    chat.box.fill(question)
    chat.box.press("Enter")
    expect(chat.questions.last).to_have_text(question)


def picture(page: Page, name: str) -> None:
    """Take a picture of what a user sees.

    Args:
        page: The page with the chat.
        name: What to call it.
    """
    page.mouse.move(0, 0)
    page.screenshot(path=DOCS / f"chat-{name}.png", animations="disabled")


def pictures(page: Page, dark: str, light: str) -> None:
    """Take a picture in the dark theme, one in the light theme, and return to the dark one.

    Args:
        page: The page with the chat.
        dark: What to call the first.
        light: What to call the second.
    """
    for theme, name in (("dark", dark), ("light", light)):
        expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
        page.wait_for_timeout(1000)  # charts are drawn anew in a new theme
        picture(page, name)
        page.locator("#theme-toggle").click()


def picture_a_conversation() -> None:
    """Ask two questions, stop the second answer, and try again; then take a phone."""
    with opened() as chat:
        page = chat.page
        pictures(page, "empty", "empty-light")
        ask(chat, QUESTIONS[0])
        expect(chat.answers.first).to_contain_text(ENDINGS[0])
        chat.expect_state("ready")
        ask(chat, QUESTIONS[1])
        expect(chat.answers.nth(1)).to_contain_text("column")
        pictures(page, "answering", "answering-light")
        chat.button("Stop").click()
        expect(chat.notices).to_have_count(1)
        pictures(page, "stopped", "stopped-light")
        chat.notices.get_by_role("button", name="Try again").click()
        expect(chat.answers.nth(1)).to_contain_text(ENDINGS[1], timeout=20_000)
        expect(chat.usage).to_have_count(2)
        pictures(page, "dark", "light")
        chat.button("Edit question").last.click()
        pictures(page, "editing", "editing-light")
        chat.box.press("Escape")
        page.set_viewport_size({"width": 390, "height": 800})
        page.reload()  # Vizro folds the list of pages when a small page opens
        expect(chat.usage).to_have_count(2)
        pictures(page, "phone-dark", "phone")


def picture_files() -> None:
    """Ask about a file, and attach a picture to the next question."""
    with opened(file_upload=True) as chat:
        page = chat.page
        with page.expect_file_chooser() as chooser:
            chat.button("Attach files").click()
        chooser.value.set_files({"name": "sales.csv", "mimeType": "", "buffer": SALES})
        expect(page.locator("#chat-attached .chat-file")).to_have_count(1)
        ask(chat, "What was sold most?")
        expect(chat.usage).to_have_count(1, timeout=20_000)
        with page.expect_file_chooser() as chooser:
            chat.button("Attach files").click()
        chooser.value.set_files(DOCS / "chat-light.png")
        expect(page.locator("#chat-attached .chat-file")).to_have_count(1)
        chat.box.fill("And what is in this picture?")
        pictures(page, "attachment", "attachment-light")


def picture_feedback() -> None:
    """Call an answer bad, and say why."""
    with opened(feedback=True) as chat:
        ask(chat, QUESTIONS[0])
        expect(chat.usage).to_have_count(1, timeout=20_000)
        chat.button("Bad answer").click()
        chat.root.locator(".chat-words textarea").fill("What does our own dashboard show?")
        pictures(chat.page, "feedback", "feedback-light")


def picture_data() -> None:
    """Ask about the data, and show how the answer was computed; then take a table on a phone."""
    with opened(provider="demo", data=True) as chat:
        page = chat.page
        page.set_viewport_size({"width": 1200, "height": 1080})
        ask(chat, "Which continent lives longest?")
        expect(chat.usage).to_have_count(1)
        expect(page.locator(".main-svg").first).to_be_visible(timeout=20_000)
        page.get_by_text("How this was computed").click()
        pictures(page, "data", "data-light")
        ask(chat, "Show the ten largest countries as a table.")
        expect(page.locator(".ag-row").first).to_be_visible(timeout=20_000)
        expect(chat.usage).to_have_count(2)
        page.set_viewport_size({"width": 390, "height": 900})
        page.reload()
        expect(page.locator(".ag-row").first).to_be_visible(timeout=20_000)
        pictures(page, "table-phone-dark", "table-phone")


def picture_panel() -> None:
    """Ask beside the charts, wide and on a phone."""
    with opened(provider="demo", data=True, placement="popup") as chat:
        page = chat.page
        page.set_viewport_size({"width": 1400, "height": 900})
        page.get_by_role("button", name="Chat", exact=True).click()
        ask(chat, "Which continent lives longest?")
        expect(chat.usage).to_have_count(1)
        expect(page.locator(".js-plotly-plot .main-svg").last).to_be_visible(timeout=20_000)
        page.locator("#collapse-icon").click()  # leaves room for two charts beside each other
        expect(page.locator("#left-side")).to_be_hidden()
        chat.box.focus()  # or the tooltip of that button stays
        pictures(page, "panel", "panel-light")
        page.set_viewport_size({"width": 390, "height": 800})
        page.reload()
        expect(chat.usage).to_have_count(1)
        # The switch of the theme is behind the panel.
        toggle = "document.querySelector('#theme-toggle').click()"
        for name in ("panel-phone-dark", "panel-phone"):
            page.wait_for_timeout(1000)
            picture(page, name)
            page.evaluate(toggle)


if __name__ == "__main__":
    os.chdir(ROOT)
    warnings.simplefilter("ignore")  # Copier's, about the template's uncommitted changes
    picture_a_conversation()
    picture_files()
    picture_feedback()
    picture_data()
    picture_panel()
