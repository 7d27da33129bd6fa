"""Files in the chat: what the model is sent of them, and what a user sees, in awkward orders too."""

import base64
import re
from pathlib import Path
from typing import Any

import processes
import pytest
from combinations import WITH_FILES, Combination
from faults import APIS
from in_browser import (
    ANSWERS,
    BOTH_MODES,
    FIRST,
    LOADED,
    NO_SERVER,
    SECOND,
    Chat,
    Held,
    named,
    opened,
    said,
    turns,
)
from playwright.sync_api import Browser, FilePayload, expect
from stand_in import StandIn
from test_wire import App

DEMO = [one for one in WITH_FILES if one["provider"] == "demo"]
OTHERS = [one for one in WITH_FILES if one["provider"] != "demo"]
# The policy is the same code for every provider, and the demo tells what each lets through.
FORGETFUL, REMEMBERING = "single", "window"

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CSV = "\ufeffcity,people\nKöln,1087353\n"
SAMPLES = {
    "dot.png": PNG,
    "photo.JPG": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "dot.gif": b"GIF89a\x01\x00\x01\x00",
    "dot.webp": b"RIFF\x0a\x00\x00\x00WEBPVP8 ",
    "paper.pdf": b"%PDF-1.7\n",
    "people.csv": CSV.encode(),
    "notes.md": b"# Notes",
    "data.json": b"{}",
    "plain.txt": b"Plain",
}
MEDIA_TYPES = {
    "dot.png": "image/png",
    "photo.JPG": "image/jpeg",
    "dot.gif": "image/gif",
    "dot.webp": "image/webp",
    "paper.pdf": "application/pdf",
}


def stored(names: list[str]) -> list[dict[str, str]]:
    """Return samples as a client sends them that does not know their kinds.

    Args:
        names: The files' names.
    """
    return [
        {
            "filename": name,
            "content": "data:application/octet-stream;base64," + in_base64(SAMPLES[name]),
        }
        for name in names
    ]


def in_base64(content: bytes) -> str:
    """Return bytes in base64.

    Args:
        content: The bytes.
    """
    return base64.b64encode(content).decode()


def part(provider: str, name: str) -> dict[str, Any]:
    """Return the part of a question that a sample must become, by the provider's documentation.

    Args:
        provider: The provider.
        name: The sample's name.
    """
    data, kind = in_base64(SAMPLES[name]), MEDIA_TYPES.get(name, "text/plain")
    text = SAMPLES[name].decode("utf-8-sig") if kind == "text/plain" else ""
    return APIS[provider].file(name, kind, data, text)


@pytest.mark.parametrize(
    "combination",
    [one for one in OTHERS if one["multi_turn"] in (FORGETFUL, REMEMBERING)],
    ids=lambda one: one.label,
)
def test_model_gets_files(
    renders: dict[str, Path], provider: StandIn, combination: Combination
) -> None:
    project, name = renders[combination.name], combination["provider"]
    unreadable = {"openai_compatible": "paper.pdf", "gemini": "dot.gif"}.get(name)
    names = [one for one in SAMPLES if one != unreadable]
    with_files = [*(part(name, one) for one in names), APIS[name].words(FIRST)]
    with processes.serving(project, combination.name, provider.environment(name)) as address:
        app = App(address, project, combination, provider)
        messages: list[dict[str, Any]] = []
        assert app.ask(messages, FIRST, stored(names)).text == ANSWERS[FIRST]
        assert sent(provider)[-1] == with_files
        assert app.ask(messages, SECOND).text == ANSWERS[SECOND]
        earlier = [] if combination["multi_turn"] == FORGETFUL else [with_files, ANSWERS[FIRST]]
        assert sent(provider) == [*earlier, SECOND]

        before = len(provider.requests)
        sentence = said(project, "WRONG_KIND").replace("{name}", "paper.docx")
        docx = {"filename": "paper.docx", "content": "data:;base64,UEsDBA=="}
        assert app.ask([], FIRST, [docx]).notice == sentence
        if unreadable:
            assert unreadable[-3:].upper() not in sentence
            notice = app.ask([], FIRST, stored([unreadable])).notice
            assert notice == sentence.replace("paper.docx", unreadable)
        assert len(provider.requests) == before


@pytest.mark.parametrize("combination", DEMO, ids=lambda one: one.label)
def test_policy_holds_for_files(
    renders: dict[str, Path], provider: StandIn, combination: Combination
) -> None:
    project = renders[combination.name]
    with processes.serving(project, combination.name, {}) as address:
        app = App(address, project, combination, provider)
        messages: list[dict[str, Any]] = []
        first = app.ask(messages, FIRST, stored(["dot.png"])).text
        assert "Attached: dot.png (image/png)" in first
        remembered = combination["multi_turn"] != FORGETFUL
        assert ("dot.png" in app.ask(messages, SECOND).text) is remembered


def sent(provider: StandIn) -> list[Any]:
    """Return what was said by either side in the conversation that the model was sent last.

    Args:
        provider: The stand-in that was asked.
    """
    return [content for _, content in turns(provider.requests[-1])]


class Files:
    """The files around the field to type in."""

    def __init__(self, chat: Chat) -> None:
        """Find the parts.

        Args:
            chat: The chat.
        """
        self.page = chat.page
        self.attach = chat.button("Attach files")
        self.waiting = chat.page.locator("#chat-attached .chat-file")
        self.shown = chat.conversation.locator(".chat-file")
        self.remove = chat.root.get_by_role("button", name=re.compile("^Remove "))

    def choose(self, *names: str, content: bytes = PNG) -> None:
        """Choose files in the browser's dialog.

        Args:
            names: Their names.
            content: What each of them holds.
        """
        with self.page.expect_file_chooser() as chooser:
            self.attach.click()
        chooser.value.set_files([payload(name, content) for name in names])

    def bring(self, kind: str, *names: str, text: str = "") -> None:
        """Drop or paste pictures anywhere on the page.

        Args:
            kind: `drop` or `paste`.
            names: The files' names.
            text: What comes with them, as from a spreadsheet.
        """
        self.page.locator("#page-main").wait_for(state="attached")
        self.page.evaluate(
            """([kind, names, data, text]) => {
              const files = new DataTransfer();
              const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt());
              names.forEach((name) => files.items.add(new File([bytes], name)));
              if (text) files.setData("text", text);
              const options = { bubbles: true, cancelable: true };
              const event = kind === "drop"
                ? new DragEvent(kind, { ...options, dataTransfer: files })
                : new ClipboardEvent(kind, { ...options, clipboardData: files });
              document.querySelector("#page-main").dispatchEvent(event);
            }""",
            [kind, list(names), in_base64(PNG), text],
        )


def payload(name: str, content: bytes) -> FilePayload:
    """Return a file to choose; the browser is not told its kind.

    Args:
        name: Its name.
        content: What it holds.
    """
    return {"name": name, "mimeType": "", "buffer": content}


@pytest.mark.parametrize("name", ["demo_streaming_full", "demo_one_shot_opt_in"])
def test_files_in_awkward_orders(renders: dict[str, Path], browser: Browser, name: str) -> None:
    combination = named(f"{name}_file_upload")
    project = renders[combination.name]
    wrong_kind = said(project, "WRONG_KIND").replace("{name}", "setup.exe")
    unreadable = said(project, "UNREADABLE_FILE").replace("{name}", "latin.txt")
    no_room = said(project, "no-room")
    with opened(browser, project, combination, {}) as chat:
        files, first, second = Files(chat), chat.ending(FIRST), chat.ending(SECOND)
        ten = [f"{number}.png" for number in range(10)]
        chat.box.fill(FIRST)
        files.choose(*ten)
        expect(files.waiting).to_have_count(10)
        expect(files.remove.last).to_have_accessible_name("Remove 9.png")
        files.remove.last.press("Enter")
        expect(files.waiting).to_have_count(9)
        chat.expect_focus()
        files.choose("9.png")
        expect(files.waiting).to_have_count(10)

        files.choose("setup.exe", content=b"MZ")
        expect(chat.alert).to_have_text(wrong_kind)
        files.choose("latin.txt", content=b"\xff\xe4")
        expect(chat.alert).to_have_text(unreadable)
        files.choose("photo.png", content=PNG + bytes(5_000_000))
        expect(chat.alert).to_have_text(no_room)
        expect(files.waiting).to_have_count(10)
        expect(chat.box).to_have_value(FIRST)

        chat.ask(FIRST, first)
        for name in ten:
            expect(chat.answers.last).to_contain_text(f"Attached: {name} (image/png)")
        expect(files.shown).to_have_count(10)
        expect(files.waiting).to_have_count(0)
        expect(chat.alert).to_be_hidden()

        again = chat.button("Try again").locator("visible=true")
        files.choose("new.png")
        expect(files.waiting).to_have_text(re.compile("new.png"))
        again.click()
        chat.expect_answers(first)
        expect(chat.answers.last).to_contain_text("Attached: 9.png (image/png)")
        expect(chat.answers.last).not_to_contain_text("new.png")
        expect(files.shown).to_have_count(10)
        files.remove.press("Enter")
        expect(files.waiting).to_have_count(0)

        chat.ask(SECOND, first, second)
        chat.page.reload()
        chat.expect_answers(first, second)
        expect(files.shown).to_have_count(10)

        files.choose("draft.png")
        expect(files.waiting).to_have_count(1)
        chat.page.reload()
        expect(files.waiting).to_have_text(re.compile("draft.png"), timeout=LOADED)
        chat.button("Edit question").first.click()
        expect(files.waiting).to_have_count(10)
        files.remove.first.press("Enter")
        chat.box.press("Escape")
        expect(files.waiting).to_have_text(re.compile("draft.png"))
        expect(files.shown).to_have_count(10)
        files.remove.press("Enter")
        chat.button("Edit question").first.click()
        files.remove.first.press("Enter")
        chat.ask(FIRST, first)
        expect(chat.answers).to_contain_text(["Attached: 9.png (image/png)"])
        expect(chat.answers).not_to_contain_text("0.png")
        expect(files.shown).to_have_count(9)

        chat.button("New chat").click()
        chat.ask(SECOND, second)
        assert "Attached" not in str(chat.answers.last.text_content())


# Lets files be read only when a test says so.
GATE = """
window.openGate = () => {};
window.closeGate = () => {
  window.gate = new Promise((resolve) => (window.openGate = resolve));
};
window.closeGate();
const read = Blob.prototype.arrayBuffer;
Blob.prototype.arrayBuffer = async function () {
  await window.gate;
  return read.call(this);
};
"""


@BOTH_MODES
def test_message_waits_for_its_files(renders: dict[str, Path], browser: Browser, mode: str) -> None:
    combination = named(f"demo_{mode}_full_file_upload")
    with opened(browser, renders[combination.name], combination, {}, GATE) as chat:
        files, first, second = Files(chat), chat.ending(FIRST), chat.ending(SECOND)
        files.bring("drop", "dropped.png")
        files.bring("paste", "pasted.png", "other.png")
        files.bring("paste", "cells.png", text="2\t3")
        chat.box.fill(FIRST)
        chat.box.press("Enter")
        expect(chat.box).to_have_value(FIRST)
        expect(chat.questions).to_have_count(0)
        chat.page.evaluate("window.openGate()")
        chat.expect_answers(first)
        expect(chat.box).to_have_value("")
        for name in ("dropped.png", "pasted.png", "other.png"):
            expect(chat.answers.last).to_contain_text(f"Attached: {name} (image/png)")
        expect(files.shown).to_have_count(3)

        files.choose("wrong.png")
        expect(files.waiting).to_have_count(1)
        files.remove.press("Enter")
        files.choose("right.png")
        expect(files.waiting).to_contain_text("right.png")
        files.remove.press("Enter")

        chat.page.evaluate("window.closeGate()")
        chat.box.fill(SECOND)
        files.choose("setup.exe", content=b"MZ")
        chat.box.press("Enter")
        chat.page.evaluate("window.openGate()")
        expect(chat.alert).to_contain_text("setup.exe")
        expect(chat.page.get_by_role("status")).to_have_text("")
        expect(chat.box).to_have_value(SECOND)
        chat.ask(SECOND, first, second)
        expect(files.shown).to_have_count(3)

        chat.page.evaluate("window.closeGate()")
        chat.box.fill("A draft")
        files.choose("slow.png")
        chat.box.press("Enter")
        chat.button("Edit question").first.click()
        chat.page.evaluate("window.openGate()")
        expect(files.waiting.last).to_contain_text("slow.png")
        expect(chat.box).to_have_value(FIRST)
        expect(chat.questions).to_have_count(2)
        chat.box.press("Escape")
        expect(chat.box).to_have_value("A draft")


def test_files_wait_with_their_question(renders: dict[str, Path], browser: Browser) -> None:
    combination = named("demo_streaming_full_file_upload")
    with opened(browser, renders[combination.name], combination, {}) as chat:
        files, first, second = Files(chat), chat.ending(FIRST), chat.ending(SECOND)
        held = Held(chat)
        chat.send(FIRST)
        files.choose("queued.png")
        expect(files.waiting).to_have_count(1)
        chat.send(SECOND)
        expect(files.waiting).to_have_count(0)
        chat.button("Take back").click()
        expect(files.waiting).to_have_text(re.compile("queued.png"))
        chat.send(SECOND)
        held.release()
        chat.expect_answers(first, second)
        expect(chat.answers.last).to_contain_text("Attached: queued.png (image/png)")


def test_conversation_from_before_files_goes_on(renders: dict[str, Path], browser: Browser) -> None:
    """A tab may hold a conversation from before an update to `file_upload`."""
    combination = named("demo_streaming_full_file_upload")
    with opened(browser, renders[combination.name], combination, {}) as chat:
        first, second = chat.ending(FIRST), chat.ending(SECOND)
        chat.ask(FIRST, first)
        chat.page.goto("about:blank")
        chat.page.context.add_init_script("""
          const kept = JSON.parse(sessionStorage["chat /chat"]);
          kept.exchanges.forEach((exchange) => delete exchange.files);
          sessionStorage["chat /chat"] = JSON.stringify(kept);
        """)
        chat.page.go_back()
        chat.expect_answers(first)
        files = Files(chat)
        files.choose("a.png")
        expect(files.waiting).to_have_count(1)
        chat.ask(SECOND, first, second)
        expect(files.shown).to_have_count(1)


@BOTH_MODES
def test_lost_server_loses_no_file(renders: dict[str, Path], browser: Browser, mode: str) -> None:
    combination = named(f"demo_{mode}_full_file_upload")
    project = renders[combination.name]
    with opened(browser, project, combination, {}, expected=NO_SERVER) as chat:
        files, lost = Files(chat), said(project, "unreachable")
        chat.ask(SECOND, chat.ending(SECOND))
        files.choose("dot.png", content=PNG + bytes(3_000_000))
        expect(files.waiting).to_have_count(1)
        chat.page.context.set_offline(True)
        files.choose("late.png")
        expect(files.waiting).to_have_count(2)
        chat.ask(FIRST, chat.ending(SECOND), lost)
        chat.expect_failure(lost)
        expect(files.shown).to_contain_text(["dot.png", "late.png"])
        expect(files.waiting).to_have_count(0)
        chat.page.context.set_offline(False)
        chat.button("Try again").click()
        chat.expect_answers(chat.ending(SECOND), chat.ending(FIRST))
        for name in ("dot.png", "late.png"):
            expect(chat.answers.last).to_contain_text(f"Attached: {name} (image/png)")


@pytest.mark.parametrize(
    "combination",
    [one for one in OTHERS if one["multi_turn"] == "full"],
    ids=lambda one: one.label,
)
def test_picture_of_three_megabytes(
    renders: dict[str, Path], browser: Browser, provider: StandIn, combination: Combination
) -> None:
    environment = provider.environment(combination["provider"])
    picture = PNG + bytes(3_000_000)
    with opened(browser, renders[combination.name], combination, environment) as chat:
        files, first, second = Files(chat), chat.ending(FIRST), chat.ending(SECOND)
        files.choose("photo.png", content=picture)
        expect(files.waiting).to_have_count(1)
        chat.ask(FIRST, first)
        files.choose("other.png", content=picture)
        expect(chat.alert).to_have_text(said(renders[combination.name], "no-room"))
        chat.page.reload()
        chat.expect_answers(first)
        chat.ask(SECOND, first, second)
        asked, _, followed = sent(provider)
        in_standard_base64 = str(asked).replace("-", "+").replace("_", "/")  # Gemini's is for URLs
        assert in_base64(picture) in in_standard_base64
        assert followed == SECOND
