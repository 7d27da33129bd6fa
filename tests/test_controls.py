"""The buttons of the chat, in a browser: Stop, New chat, Try again, Edit, Copy, Save and the switch."""

import re
import shutil
from pathlib import Path

import faults
import processes
import pytest
from combinations import EVERY, RELATIVES, ROOT, Combination
from conftest import assert_ruff_is_content, assert_types
from faults import ENDLESS, PREFIX, FaultyProvider, healthy_answer
from in_browser import (
    ANSWERS,
    BOTH_MODES,
    FIRST,
    LOADED,
    SECOND,
    Chat,
    Held,
    named,
    opened,
    said,
    turns,
)
from playwright.sync_api import Browser, Locator, expect
from stand_in import StandIn

# Both modes, both scripts that pages have, with the switch and without it, and a page and a panel.
DEMO = [
    named(f"demo_{one}")
    for one in (
        "streaming_full",
        "one_shot_opt_in",
        "streaming_full_popup",
        "one_shot_opt_in_popup",
    )
]
FAMILIES = [name for name in faults.APIS if name not in RELATIVES]
EVERY_DEMO = pytest.mark.parametrize("combination", DEMO, ids=lambda one: one.label)
ONE_TURN = "A model would see 1 turn."


def press_as_second_half_of_a_double_click(target: Locator) -> None:
    """Press a button that came under the mouse between the two clicks of a double-click.

    Args:
        target: The button.
    """
    target.hover()
    target.page.mouse.down(click_count=2)
    target.page.mouse.up(click_count=2)


@EVERY_DEMO
def test_buttons(renders: dict[str, Path], browser: Browser, combination: Combination) -> None:
    with opened(browser, renders[combination.name], combination, {}) as chat:
        first, second = chat.ending(FIRST), chat.ending(SECOND)
        for name in ("New chat", "Save", "Stop", "Try again", "Copy answer", "Edit question"):
            expect(chat.button(name).locator("visible=true")).to_have_count(0)
        expect(chat.examples).to_have_count(4)
        question = chat.examples.first.text_content()
        assert question
        chat.box.fill("A draft")
        chat.examples.first.dblclick()
        chat.expect_answers(first)
        expect(chat.questions).to_have_text([question])
        expect(chat.examples.first).to_be_hidden()
        expect(chat.box).to_have_value("A draft")

        chat.ask(SECOND, first, second)
        chat.box.fill("A draft")
        again = chat.button("Try again").locator("visible=true")
        expect(again).to_have_count(1)
        again.dblclick()
        chat.expect_answers(first, second)
        expect(chat.questions).to_have_text([question, SECOND])
        expect(chat.box).to_have_value("A draft")

        copy = chat.button("Copy answer")
        expect(copy).to_have_count(2)
        for index, asked in enumerate([question, SECOND]):
            copy.nth(index).click()
            expect(copy.nth(index)).to_have_class(re.compile(r"\bchat-done\b"))
            expect(copy.nth(index)).to_be_focused()
            expect(chat.hint).to_have_text("Copied")
            copied = chat.copied()
            assert f"> {asked}" in copied and copied.endswith("a model answers here.")
        expect(copy.last).not_to_have_class(re.compile(r"\bchat-done\b"))
        chat.button("Copy code").first.click()
        assert chat.copied().startswith("You are a helpful assistant")

        chat.button("New chat").click()
        chat.expect_empty()
        expect(chat.box).to_have_value("A draft")
        expect(chat.examples.first).to_be_visible()
        chat.page.reload()
        expect(chat.examples.first).to_be_visible()
        chat.ask(FIRST, first)
        expect(chat.answers.last).to_contain_text(ONE_TURN)


@EVERY_DEMO
def test_new_chat_while_an_answer_comes(
    renders: dict[str, Path], browser: Browser, combination: Combination
) -> None:
    with opened(browser, renders[combination.name], combination, {}) as chat:
        for _ in range(3):
            chat.send(FIRST)
            chat.button("New chat").click()
            chat.expect_empty()
            chat.expect_focus()
        chat.ask(SECOND, chat.ending(SECOND))
        expect(chat.answers.last).to_contain_text(ONE_TURN)
        expect(chat.questions).to_have_text([SECOND])
        chat.page.reload()
        chat.expect_answers(chat.ending(SECOND))


@BOTH_MODES
def test_new_chat_does_not_wait(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    with opened(browser, renders[combination.name], combination, faulty.environment()) as chat:
        chat.send(PREFIX + "silence")
        processes.until(lambda: faulty.asked(PREFIX + "silence"), seconds=5)
        chat.button("New chat").click()
        chat.expect_empty()
        chat.ask(FIRST, healthy_answer(FIRST))
        assert faulty.asked(FIRST)[-1].turns == [("user", FIRST)]


@pytest.mark.parametrize("name", FAMILIES)
def test_stop(renders: dict[str, Path], browser: Browser, name: str) -> None:
    combination = named(f"{name}_streaming_full")
    project = renders[combination.name]
    stopped = said(project, "stopped")
    faulty = FaultyProvider(name)
    faulty.open()
    with opened(browser, project, combination, faulty.environment()) as chat:
        for number in (1, 2):
            chat.send(PREFIX + ENDLESS)
            expect(chat.answers).to_have_count(number)
            chat.expect_part()
            press_as_second_half_of_a_double_click(chat.button("Stop"))
            before = chat.expect_part()
            chat.button("Stop").click()
            chat.expect_answers(*[stopped] * number)
            chat.expect_failure(stopped)
            expect(chat.answers.last).to_contain_text(before)
            chat.expect_focus()
            stream = faulty.asked(PREFIX + ENDLESS)[-1]
            assert stream.closed.wait(5), "The provider still streams to nobody."
        expect(chat.button("Stop")).to_be_hidden()
        chat.ask(FIRST, stopped, stopped, healthy_answer(FIRST))
        sent = faulty.asked(FIRST)[-1].turns
        assert ("user", PREFIX + ENDLESS) in sent and stopped not in str(sent)
        chat.page.reload()
        chat.expect_answers(stopped, stopped, healthy_answer(FIRST))
    faulty.stop()


@BOTH_MODES
def test_stop_before_the_first_word(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    stopped = said(project, "stopped")
    before = len(faulty.calls)
    with opened(browser, project, combination, faulty.environment()) as chat:
        chat.send(PREFIX + "silence")
        processes.until(lambda: len(faulty.calls) > before, seconds=5)
        chat.button("Stop").click()
        chat.expect_answers(stopped)
        chat.expect_failure(stopped)
        chat.ask(FIRST, stopped, healthy_answer(FIRST))
        assert faulty.asked(FIRST)[-1].turns == [("user", FIRST)]


@BOTH_MODES
def test_stop_before_the_server_has_heard(
    renders: dict[str, Path], browser: Browser, mode: str
) -> None:
    combination = named(f"demo_{mode}_full")
    project = renders[combination.name]
    with opened(browser, project, combination, {}) as chat:
        Held(chat)
        chat.send(FIRST)
        chat.button("Stop").click()
        stopped = said(project, "stopped")
        chat.expect_answers(stopped)
        chat.page.unroute_all()
        chat.ask(SECOND, stopped, chat.ending(SECOND))
        expect(chat.answers.last).to_contain_text(ONE_TURN)


@BOTH_MODES
def test_try_again_after_a_failure(renders: dict[str, Path], browser: Browser, mode: str) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    faulty = FaultyProvider("openai")
    with opened(browser, project, combination, faulty.environment()) as chat:
        failed = said(project, "UNREACHABLE")
        chat.ask(FIRST, failed)
        faulty.open()
        chat.button("Try again").press("Enter")
        chat.expect_answers(healthy_answer(FIRST))
        chat.expect_focus()
        chat.ask(PREFIX + "no text", healthy_answer(FIRST), said(project, "EMPTY"))
        before = len(faulty.calls)
        chat.button("Try again").locator("visible=true").dblclick()
        chat.expect_answers(healthy_answer(FIRST), said(project, "EMPTY"))
        assert [call.question for call in faulty.calls[before:]] == [PREFIX + "no text"]
    faulty.stop()


@BOTH_MODES
def test_edit(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    third = "What is a table?"
    with opened(browser, project, combination, faulty.environment()) as chat:
        first, second = healthy_answer(FIRST), healthy_answer(SECOND)
        chat.ask(FIRST, first)
        chat.ask(SECOND, first, second)
        chat.box.fill("A draft")
        warning = chat.page.get_by_text(said(project, "editing"))
        expect(warning).to_be_hidden()
        for leave in (lambda: chat.box.press("Escape"), chat.button("Cancel").click):
            chat.button("Edit question").first.click()
            expect(chat.box).to_have_value(FIRST)
            expect(warning).to_be_visible()
            chat.expect_focus()
            chat.box.fill("Never sent")
            leave()
            expect(warning).to_be_hidden()
            expect(chat.box).to_have_value("A draft")
            chat.expect_focus()
        chat.expect_answers(first, second)

        chat.button("Edit question").last.click()
        chat.button("Edit question").first.click()
        chat.box.fill(third)
        before = len(faulty.calls)
        chat.box.press("Enter")
        chat.expect_answers(healthy_answer(third))
        expect(chat.questions).to_have_text([third])
        expect(chat.box).to_have_value("A draft")
        expect(warning).to_be_hidden()
        assert [call.turns for call in faulty.calls[before:]] == [[("user", third)]]
        chat.page.reload()
        chat.expect_answers(healthy_answer(third))
        chat.ask(SECOND, healthy_answer(third), second)

        chat.send(PREFIX + "silence")
        expect(chat.button("Edit question").locator("visible=true")).to_have_count(0)
        chat.button("Stop").click()
        chat.button("Edit question").first.click()
        chat.button("New chat").click()
        chat.expect_empty()
        expect(warning).to_be_hidden()
        expect(chat.box).to_have_value("")
        chat.ask(FIRST, first)


def test_edit_finds_its_button_by_keyboard_and_on_a_phone(
    renders: dict[str, Path], browser: Browser
) -> None:
    combination = named("demo_one_shot_full")
    with opened(browser, renders[combination.name], combination, {}) as chat:
        chat.ask(FIRST, chat.ending(FIRST))
        edit = chat.button("Edit question")
        chat.box.hover()
        expect(edit).to_have_css("opacity", "0")
        edit.focus()
        chat.page.keyboard.press("Shift+Tab")
        chat.page.keyboard.press("Tab")
        expect(edit).to_be_focused()
        expect(edit).to_have_css("opacity", "1")
        chat.questions.hover()
        expect(edit).to_have_css("opacity", "1")


@BOTH_MODES
def test_saved_conversation(
    renders: dict[str, Path], browser: Browser, provider: StandIn, mode: str
) -> None:
    combination = named(f"anthropic_{mode}_full")
    project = renders[combination.name]
    you, model = said(project, "you"), said(project, "model")
    environment = provider.environment("anthropic")
    with opened(browser, project, combination, environment) as chat:
        first, second = chat.ending(FIRST), chat.ending(SECOND)
        chat.ask(FIRST, first)
        chat.ask(SECOND, first, second)
        with chat.page.expect_download() as download:
            chat.button("Save").click()
        assert download.value.suggested_filename == said(project, "file-name")
        text = download.value.path().read_text(encoding="utf-8")
        exchanges = [
            f"## {you}\n\n{question}\n\n## {model}\n\n{ANSWERS[question]}\n"
            for question in (FIRST, SECOND)
        ]
        assert text == "\n".join(exchanges)


@BOTH_MODES
@pytest.mark.parametrize("name", FAMILIES)
def test_switch_decides_what_is_remembered(
    renders: dict[str, Path], browser: Browser, provider: StandIn, name: str, mode: str
) -> None:
    combination = named(f"{name}_{mode}_opt_in")
    environment = provider.environment(name)
    with opened(browser, renders[combination.name], combination, environment) as chat:
        switch = chat.switch
        expect(switch).to_be_checked()
        first, second = chat.ending(FIRST), chat.ending(SECOND)
        chat.ask(FIRST, first)
        chat.send(SECOND)
        switch.press("Space")  # too late for this question
        chat.expect_answers(first, second)
        exchanges = [("user", FIRST), ("assistant", ANSWERS[FIRST])]
        assert turns(provider.requests[-1]) == [*exchanges, ("user", SECOND)]
        chat.ask(SECOND, first, second, second)
        assert turns(provider.requests[-1]) == [("user", SECOND)]
        expect(chat.questions).to_have_text([FIRST, SECOND, SECOND])
        chat.page.reload()
        expect(switch).not_to_be_checked()
        switch.press("Space")
        expect(switch).to_be_checked()
        chat.ask(FIRST, first, second, second, first)
        assert len(turns(provider.requests[-1])) == 7
        chat.page.reload()
        chat.expect_answers(first, second, second, first)
        expect(switch).to_be_checked()


def test_window_is_told(renders: dict[str, Path], browser: Browser) -> None:
    combination = named("demo_streaming_window")
    with opened(browser, renders[combination.name], combination, {}) as chat:
        expect(chat.page.get_by_text("The last 10 exchanges are remembered.")).to_be_visible()


@BOTH_MODES
def test_everything_can_be_reached_and_has_a_name(
    renders: dict[str, Path], browser: Browser, mode: str
) -> None:
    combination = named(f"demo_{mode}_opt_in")
    with opened(browser, renders[combination.name], combination, {}) as chat:
        chat.page.set_viewport_size({"width": 390, "height": 800})
        chat.ask(FIRST, chat.ending(FIRST))
        expect(chat.conversation).to_contain_text(chat.ending(FIRST))
        chat.box.focus()
        for name in ("Remember this conversation", "Send"):
            reach(chat, name)
        chat.box.focus()
        for name in ("Try again", "Copy answer", "Copy code", "Edit question", "Save", "New chat"):
            reach(chat, name, "Shift+Tab")
        width = chat.page.evaluate("document.documentElement.scrollWidth")
        assert width == 390, "The page is wider than a phone."


def reach(chat: Chat, name: str, key: str = "Tab") -> None:
    """Move the focus to a visible button of the chat with the keyboard.

    Args:
        chat: The chat.
        name: The button's accessible name.
        key: `Tab` or `Shift+Tab`.
    """
    target = chat.button(name).or_(chat.root.get_by_role("switch", name=name, exact=True))
    for _ in range(30):
        chat.page.keyboard.press(key)
        if (focused := target.and_(chat.page.locator("*:focus"))).count():
            expect(focused).to_be_visible()
            return
    raise AssertionError(f"{name} cannot be reached with {key}.")


def test_keyboard_is_enough(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider
) -> None:
    combination = named("openai_streaming_full")
    project = renders[combination.name]
    stopped = said(project, "stopped")
    with opened(browser, project, combination, faulty.environment()) as chat:
        keyboard, body = chat.page.keyboard, chat.page.locator("body:focus")
        expect(chat.box).to_be_visible()
        for _ in range(30):
            keyboard.press("Tab")
            if chat.page.locator("#chat-message:focus").count():
                break
        chat.expect_focus()
        keyboard.type("fault: endless")
        keyboard.press("Shift+Enter")
        expect(chat.box).to_have_value("fault: endless\n")
        keyboard.press("Backspace")
        keyboard.press("Enter")
        chat.expect_part()
        chat.expect_focus()
        reach(chat, "Stop")
        keyboard.press("Enter")
        chat.expect_answers(stopped)
        expect(body).to_have_count(0)
        chat.expect_focus()

        reach(chat, "Try again", "Shift+Tab")
        keyboard.press("Enter")
        chat.expect_part()
        expect(body).to_have_count(0)
        chat.expect_focus()
        keyboard.type("Who made it?")
        keyboard.press("Enter")
        expect(chat.queued).to_have_text(SECOND)
        reach(chat, "Take back", "Shift+Tab")
        keyboard.press("Enter")
        chat.expect_focus()
        expect(chat.box).to_have_value(SECOND)
        reach(chat, "Stop")
        keyboard.press("Space")
        chat.expect_answers(stopped)
        keyboard.press("Enter")
        chat.expect_answers(stopped, healthy_answer(SECOND))

        reach(chat, "Edit question", "Shift+Tab")
        keyboard.press("Enter")
        chat.expect_focus()
        expect(chat.box).to_have_value(SECOND)
        keyboard.press("Escape")
        chat.expect_focus()
        reach(chat, "Copy answer", "Shift+Tab")
        keyboard.press("Enter")
        expect(body).to_have_count(0)
        assert chat.copied() == healthy_answer(SECOND)
        reach(chat, "New chat", "Shift+Tab")
        keyboard.press("Enter")
        chat.expect_empty()
        expect(body).to_have_count(0)
        chat.expect_focus()


CHARTS = [named(f"{name}_one_shot_full") for name in ("demo", *FAMILIES)]
CHARTS += [named(f"{name}_streaming_full") for name in ("demo", "anthropic")]
CHARTS += [EVERY["demo_streaming_full_popup"]]


def with_charts(project: Path, combination: Combination, copy: Path) -> None:
    """Copy a project, and follow what docs/charts.md says.

    Args:
        project: The rendered project.
        combination: Its answers.
        copy: Where the copy goes.
    """
    shutil.copytree(project, copy)
    package = copy / "src" / combination.name
    (chat,) = re.findall(r"^class (\w+)\(", (package / "chat.py").read_text("utf-8"), re.MULTILINE)
    guide = (ROOT / "docs" / "charts.md").read_text(encoding="utf-8")
    guide = guide.replace("my_chat", combination.name).replace("DemoChat", chat)
    module = re.search(r"`(src/\S+/charts\.py)`:\n\n```python\n(.+?)```\n", guide, re.DOTALL)
    wiring = re.search(r"import `(\w+)` from `(\S+)` in the place of `(\w+)` from `(\S+)`", guide)
    assert module and wiring
    text = module[2]
    if not combination["streaming"]:
        text = re.sub(r"return \[(.+)\]", r"return \1", text)
    (copy / module[1]).write_text(text, encoding="utf-8")
    app = (package / "app.py").read_text(encoding="utf-8")
    old = f"from {wiring[4]} import {wiring[3]}\n"
    assert old in app and app.count(wiring[3]) == 2
    app = app.replace(old, f"from {wiring[2]} import {wiring[1]}\n").replace(wiring[3], wiring[1])
    (package / "app.py").write_text(app, encoding="utf-8")


@pytest.mark.parametrize("combination", CHARTS, ids=lambda one: one.label)
def test_chart_of_the_guide(
    renders: dict[str, Path],
    browser: Browser,
    provider: StandIn,
    combination: Combination,
    tmp_path: Path,
) -> None:
    project = tmp_path / "project"
    with_charts(renders[combination.name], combination, project)
    assert_ruff_is_content(project)
    assert_types(project)
    environment = provider.environment(combination["provider"])
    with opened(browser, project, combination, environment) as chat:
        first, second = chat.ending(FIRST), chat.ending(SECOND)
        chat.ask(FIRST, first)
        chart = chat.answers.nth(1).locator(".main-svg").first
        again = chat.button("Try again").locator("visible=true")
        for ask in (lambda: chat.send("/chart Japan"), again.click):
            ask()
            expect(chat.answers.nth(1)).to_contain_text("lifeExp", timeout=LOADED)
            chat.expect_state("ready")
            expect(chat.questions).to_have_count(2)
        expect(chart).to_be_in_viewport(ratio=1)
        chat.button("Copy answer").last.click()
        assert chat.copied() == "[Japan]"

        before = len(provider.requests)
        chat.send(SECOND)
        expect(chat.answers.nth(2)).to_contain_text(second)
        if chat.provider != "demo":
            (request,) = provider.requests[before:]
            earlier = [("user", FIRST), ("assistant", ANSWERS[FIRST])]
            earlier += [("user", "/chart Japan"), ("assistant", "[Japan]")]
            assert turns(request) == [*earlier, ("user", SECOND)]
        chat.page.reload()
        expect(chart).to_be_visible()
        expect(chat.answers).to_have_count(3)
