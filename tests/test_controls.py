"""The buttons around the chat, in a browser: stop, new chat, try again, copy, and what greets."""

import re
import shutil
from pathlib import Path

import faults
import processes
import pytest
from combinations import COMBINATIONS, ROOT, Combination
from conftest import assert_ruff_is_content, assert_types
from faults import ENDLESS, PREFIX, FaultyProvider, healthy_answer
from in_browser import (
    ANSWERS,
    BOTH_MODES,
    FIRST,
    LATE,
    SECOND,
    Chat,
    named,
    opened,
    said,
    turns,
)
from playwright.sync_api import Browser, Locator, expect
from stand_in import StandIn

DEMO = [one for one in COMBINATIONS if one["provider"] == "demo"]
EVERY_DEMO = pytest.mark.parametrize("combination", DEMO, ids=lambda one: one.label)


def button(chat: Chat, name: str) -> Locator:
    """Return a button of the chat.

    Args:
        chat: The chat.
        name: What it is called, for people who see it and for people who do not.
    """
    return chat.page.get_by_role("button", name=name, exact=True)


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
        for name in ("New chat", "Stop", "Try again", "Copy last answer"):
            expect(button(chat, name)).to_be_hidden()
        greeting = chat.page.locator("#chat-greeting button")
        expect(greeting).to_have_count(3)
        question = greeting.first.text_content()
        assert question
        chat.box.fill("A draft")
        expect(greeting.first).to_be_hidden()
        chat.box.fill("")
        greeting.first.dblclick()
        chat.expect_answers(first)
        expect(chat.questions).to_have_text([question])
        expect(greeting.first).to_be_hidden()

        chat.ask(SECOND, first, second)
        chat.box.fill("A draft")
        expect(button(chat, "Try again")).to_be_hidden()
        chat.box.fill("")
        button(chat, "Try again").dblclick()
        chat.expect_answers(first, second)
        expect(chat.questions).to_have_text([question, SECOND])

        chat.page.context.grant_permissions(["clipboard-read"])
        button(chat, "Copy last answer").click()
        expect(button(chat, "Copy last answer")).to_have_class(re.compile(r"\bchat-copied\b"))
        copied = chat.page.evaluate("navigator.clipboard.readText()")
        assert f"> {SECOND}" in copied and copied.endswith("a model answers here.")

        expect(button(chat, "Copy last answer")).not_to_have_class(re.compile(r"\bchat-copied\b"))

        button(chat, "New chat").click()
        expect(chat.answers).to_have_count(0)
        expect(greeting.first).to_be_visible()
        chat.page.reload()
        expect(greeting.first).to_be_visible()
        chat.ask(FIRST, first)
        expect(chat.answers.last).to_contain_text("A model would see 1 turn.")


@EVERY_DEMO
def test_new_chat_while_an_answer_comes(
    renders: dict[str, Path], browser: Browser, combination: Combination
) -> None:
    with opened(browser, renders[combination.name], combination, {}) as chat:
        for _ in range(3):
            chat.send(FIRST)
            button(chat, "New chat").click()
            expect(chat.conversation).to_be_empty()
            expect(chat.button).to_be_enabled()
        chat.ask(SECOND, chat.ending(SECOND))
        expect(chat.answers.last).to_contain_text("A model would see 1 turn.")
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
        button(chat, "New chat").click()
        expect(chat.conversation).to_be_empty()
        chat.ask(FIRST, healthy_answer(FIRST))
        assert faulty.asked(FIRST)[-1].turns == [("user", FIRST)]


@pytest.mark.parametrize("name", faults.APIS)
def test_stop(renders: dict[str, Path], browser: Browser, name: str) -> None:
    combination = named(f"{name}_streaming_full")
    project = renders[combination.name]
    stopped = said(project, "STOPPED")
    faulty = FaultyProvider(name)
    faulty.open()
    with opened(browser, project, combination, faulty.environment()) as chat:
        for number in (1, 2):
            chat.send(PREFIX + ENDLESS)
            expect(chat.answers).to_have_count(number)
            expect(chat.answers.last).not_to_be_empty()
            press_as_second_half_of_a_double_click(button(chat, "Stop"))
            before = str(chat.answers.last.text_content())
            expect(chat.answers.last).not_to_have_text(before)
            button(chat, "Stop").click()
            chat.expect_answers(*[stopped] * number)
            expect(chat.answers.last).to_contain_text(before)
            stream = faulty.asked(PREFIX + ENDLESS)[-1]
            assert stream.closed.wait(5), "The provider still streams to nobody."
        expect(button(chat, "Stop")).to_be_hidden()
        chat.ask(FIRST, stopped, stopped, healthy_answer(FIRST))
        sent = faulty.asked(FIRST)[-1].turns
        assert ("user", PREFIX + ENDLESS) in sent and stopped not in str(sent)
        chat.page.reload()
        chat.expect_answers(stopped, stopped, healthy_answer(FIRST))
    faulty.stop()


def test_stop_before_the_first_word(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider
) -> None:
    combination = named("openai_streaming_full")
    project = renders[combination.name]
    stopped = said(project, "STOPPED")
    with opened(browser, project, combination, faulty.environment()) as chat:
        chat.send(PREFIX + "silence")
        expect(chat.answers).to_have_count(1)
        button(chat, "Stop").click()
        chat.expect_answers(stopped)
        chat.ask(FIRST, stopped, healthy_answer(FIRST))
        assert faulty.asked(FIRST)[-1].turns == [("user", FIRST)]


def test_stop_before_the_server_has_heard(renders: dict[str, Path], browser: Browser) -> None:
    combination = named("demo_streaming_full")
    project = renders[combination.name]
    with opened(browser, project, combination, {}, LATE % r"chat-store\.data@") as chat:
        chat.box.fill(FIRST)
        expect(chat.box).to_have_attribute("data-listener-added", "true")
        chat.box.press("Enter")
        button(chat, "Stop").click()
        stopped = said(project, "STOPPED")
        chat.expect_answers(stopped)
        chat.ask(SECOND, stopped, chat.ending(SECOND))


@BOTH_MODES
def test_try_again_after_a_failure(renders: dict[str, Path], browser: Browser, mode: str) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    faulty = FaultyProvider("openai")
    with opened(browser, project, combination, faulty.environment()) as chat:
        failed = said(project, "UNREACHABLE").partition("{url}")[2]
        chat.ask(FIRST, failed)
        faulty.open()
        button(chat, "Try again").press("Enter")
        chat.expect_answers(healthy_answer(FIRST))
    faulty.stop()


@BOTH_MODES
@pytest.mark.parametrize("name", faults.APIS)
def test_switch_decides_what_is_remembered(
    renders: dict[str, Path], browser: Browser, provider: StandIn, name: str, mode: str
) -> None:
    combination = named(f"{name}_{mode}_opt_in")
    environment = provider.environment(name)
    with opened(browser, renders[combination.name], combination, environment) as chat:
        switch = chat.page.get_by_role("switch", name="Remember this conversation", exact=True)
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
        switch.press("Space")
        chat.ask(FIRST, first, second, second, first)
        assert len(turns(provider.requests[-1])) == 7
        chat.page.reload()
        chat.expect_answers(first, second, second, first)


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
        expect(chat.page.get_by_role("log")).to_contain_text(chat.ending(FIRST))
        chat.page.get_by_role("textbox", name="Message", exact=True).focus()
        reached = []
        for _ in range(12):
            reached.append(chat.page.evaluate("document.activeElement.id"))
            chat.page.keyboard.press("Shift+Tab")
        assert {"chat-new", "chat-try-again", "chat-copy", "chat-remember"} <= set(reached)
        expect(chat.page.get_by_role("button", name="Send", exact=True)).to_be_visible()
        width = chat.page.evaluate("document.documentElement.scrollWidth")
        assert width == 390, "The page is wider than a phone."


CHARTS = [one for one in DEMO if not one["streaming"]]
CHARTS += [named(f"{name}_one_shot_full") for name in faults.APIS]


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
    (copy / module[1]).write_text(module[2], encoding="utf-8")
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
        for ask in (lambda: chat.send("/chart Japan"), button(chat, "Try again").click):
            ask()
            expect(chat.answers.nth(1)).to_contain_text("lifeExp")
            expect(chat.button).to_be_enabled()
            expect(chat.questions).to_have_count(2)
        expect(chart).to_be_in_viewport(ratio=1)
        chat.page.context.grant_permissions(["clipboard-read"])
        button(chat, "Copy last answer").click()
        assert "Japan" in chat.page.evaluate("navigator.clipboard.readText()")

        before = len(provider.requests)
        chat.send(SECOND)
        expect(chat.answers.nth(2)).to_contain_text(second)
        if chat.provider != "demo":
            (request,) = provider.requests[before:]
            earlier = [("user", FIRST), ("assistant", ANSWERS[FIRST])]
            assert turns(request) == [*earlier, ("user", SECOND)]
        chat.page.reload()
        expect(chart).to_be_visible()
        expect(chat.answers).to_have_count(3)
