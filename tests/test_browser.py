"""Every rendered project is used in a browser: asked, left and come back to, reloaded, opened twice."""

import re
import shutil
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import faults
import processes
import pytest
import yaml
from combinations import PAIRS, Combination
from conftest import EVERY_CORE_COMBINATION
from faults import ENDLESS, PREFIX, FaultyProvider, healthy_answer
from in_browser import (
    ANSWERS,
    BOTH_MODES,
    COST,
    FIRST,
    HTML,
    KEYS,
    LATE,
    LONG,
    NO_SERVER,
    REQUESTS,
    SECOND,
    Chat,
    named,
    opened,
    said,
    turns,
    visited,
)
from playwright.sync_api import (
    Browser,
    HttpCredentials,
    Route,
    expect,
)
from stand_in import StandIn


@EVERY_CORE_COMBINATION
def test_conversation(
    renders: dict[str, Path], browser: Browser, provider: StandIn, combination: Combination
) -> None:
    project = renders[combination.name]
    name = yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))["project_name"]
    environment = provider.environment(combination["provider"])
    alone = combination["multi_turn"] == "single"
    with opened(browser, project, combination, environment) as chat:
        page = chat.page
        expect(page).to_have_title(re.compile(rf"^{re.escape(name)}\b"))
        expect(page.locator("#dashboard-title")).to_have_text(name)
        expect(chat.answers).to_have_count(0)

        question = f"{FIRST} {HTML}"
        first, second = chat.ending(FIRST), chat.ending(SECOND)
        chat.ask(question, first)
        assert_rendered(chat, question)

        before = len(provider.requests)
        chat.ask(SECOND, first, second)
        if chat.streaming:
            assert_grew(chat.seen(1))
        else:
            assert [text["text"] for text in chat.seen(1)] == [chat.answers.last.text_content()]
        if chat.provider == "demo":
            count = "1 turn." if alone else "3 turns."
            expect(chat.answers.last).to_contain_text(f"A model would see {count}")
        else:
            earlier = [("user", question), ("assistant", ANSWERS[FIRST])]
            promised = [*([] if alone else earlier), ("user", SECOND)]
            assert [turns(request) for request in provider.requests[before:]] == [promised]

        address = page.url
        page.goto("about:blank")
        page.go_back()
        chat.expect_answers(first, second)
        assert_rendered(chat, question)

        if chat.provider == "demo":  # tabs share nothing, whoever answers in them
            other = Chat(page.context.new_page(), combination)
            other.page.goto(address)
            other.ask(FIRST, first)
        page.reload()
        chat.expect_answers(first, second)
        assert_rendered(chat, question)


def assert_grew(texts: list[dict[str, Any]]) -> None:
    """Check that an answer came bit by bit, at the pace of the model and not all at its end.

    Args:
        texts: What could be read in it, and when.
    """
    longest: list[dict[str, Any]] = []
    for text in texts:
        if not longest or len(text["text"]) > len(longest[-1]["text"]):
            longest.append(text)
    assert len(longest) > 3, texts
    assert longest[-1]["at"] - longest[0]["at"] > 500, "It was held back, and shown at its end."


def assert_rendered(chat: Chat, question: str) -> None:
    """Check that the first answer shows Markdown and code, and that its HTML is only text.

    Args:
        chat: The chat.
        question: The first question, which holds HTML too.
    """
    answer = chat.answers.first
    expect(answer.locator("strong")).to_have_text("demo" if chat.provider == "demo" else "language")
    code = "You are" if chat.provider == "demo" else "SELECT * FROM parts;"
    expect(answer.locator("pre code")).to_contain_text(code)
    expect(answer).not_to_contain_text("```")
    expect(answer).not_to_contain_text("**")
    expect(answer).to_contain_text(HTML)
    expect(chat.questions.first).to_have_text(question)
    cost = answer.locator("em > em")
    expect(cost).to_have_text(re.compile(rf"^{COST}$"))
    expect(cost).to_have_css("font-size", "12px")
    expect(chat.conversation.locator("img, script")).to_have_count(0)
    assert chat.page.evaluate("window.executed") is None


@BOTH_MODES
def test_newest_message_is_in_sight(
    renders: dict[str, Path], browser: Browser, provider: StandIn, mode: str
) -> None:
    combination = named(f"anthropic_{mode}_full")
    environment = provider.environment(combination["provider"])
    with opened(browser, renders[combination.name], combination, environment) as chat:
        chat.ask(LONG, chat.ending(LONG))
        for _ in range(2):
            expect(chat.answers.get_by_text(chat.ending(LONG))).to_be_in_viewport(ratio=1)
            expect(chat.answers.get_by_text("This is the first line.")).not_to_be_in_viewport()
            chat.page.reload()
            chat.expect_answers(chat.ending(LONG))


@BOTH_MODES
@pytest.mark.parametrize("name", KEYS)
def test_missing_key_is_said(
    renders: dict[str, Path], browser: Browser, name: str, mode: str
) -> None:
    combination = named(f"{name}_{mode}_full")
    with opened(browser, renders[combination.name], combination, {KEYS[name]: ""}) as chat:
        sentence = said(renders[combination.name], "NO_KEY")
        assert KEYS[name] in sentence and ".env" in sentence
        chat.ask(FIRST, sentence)
        chat.ask(SECOND, sentence, sentence)


@pytest.mark.parametrize(
    ("late", "mode"),
    [("page", "streaming"), ("page", "one_shot"), ("bubble", "one_shot")],
)
def test_order_does_not_depend_on_chance(
    renders: dict[str, Path], browser: Browser, late: str, mode: str
) -> None:
    combination = named(f"demo_{mode}_full")
    script = LATE % REQUESTS[late]
    with opened(browser, renders[combination.name], combination, {}, script) as chat:
        chat.ask(FIRST, chat.ending(FIRST))
        assert chat.page.evaluate("window.lateCame"), (
            "The answer did not wait for what comes first."
        )
        chat.expect_answers(chat.ending(FIRST))


@BOTH_MODES
def test_failures_of_the_provider_are_said(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    every = faults.faults_of("openai", combination["streaming"])
    one_of_each = {fault.sentence: name for name, fault in every.items()}
    del one_of_each["TIMEOUT"]  # this project waits for a minute or more
    endings = []
    with opened(browser, project, combination, faulty.environment()) as chat:
        for sentence, name in one_of_each.items():
            endings.append(said(project, sentence).partition("{url}")[2])
            chat.ask(PREFIX + name, *endings)
        chat.ask(FIRST, *endings, healthy_answer(FIRST))


@BOTH_MODES
def test_app_that_is_gone_is_said(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    project = renders[combination.name]
    gone, cut_off = (said(project, name) for name in ("APP_UNREACHABLE", "APP_CUT_OFF"))
    port = processes.free_port()

    def start() -> BaseProcess:
        return processes.start(project, combination.name, faulty.environment(), port)

    app = start()
    try:
        address = f"http://127.0.0.1:{port}"
        with visited(browser, address, combination, expected=NO_SERVER) as chat:
            healthy = [healthy_answer(FIRST), healthy_answer(SECOND)]
            chat.ask(FIRST, healthy[0])
            chat.send(PREFIX + (ENDLESS if chat.streaming else "silence"))
            expect(chat.answers if chat.streaming else chat.dots).to_have_count(1 + chat.streaming)
            if chat.streaming:
                expect(chat.answers.last).not_to_be_empty()
            app.kill()
            lost = cut_off if chat.streaming else gone
            chat.expect_answers(healthy[0], lost)
            chat.ask(SECOND, healthy[0], lost, gone)
            expect(chat.questions.last).to_have_text(SECOND)
            app.join()
            app = start()
            chat.ask(SECOND, healthy[0], lost, gone, healthy[1])
            chat.page.reload()
            chat.expect_answers(healthy[0], lost, gone, healthy[1])
            sent = faulty.asked(SECOND)[-1].turns
            assert ("user", FIRST) in sent
            assert gone not in str(sent) and cut_off not in str(sent)
    finally:
        app.kill()


@BOTH_MODES
def test_refusals_on_the_way_are_said(
    renders: dict[str, Path], browser: Browser, mode: str
) -> None:
    combination = named(f"demo_{mode}_full")
    project = renders[combination.name]
    refused = said(project, "APP_REFUSED")
    page = {"content_type": "text/html", "body": "<html>data: no</html>"}
    plain = {"content_type": "text/plain", "body": "It is too long."}
    refusals = [
        ("update-component", {"status": 401} | page, refused),
        ("update-component", {"status": 502} | page, refused),
        ("update-component", {"status": 413} | plain, "It is too long."),
        ("update-component", None, said(project, "APP_UNREACHABLE")),
    ]
    if combination["streaming"]:
        refusals += [("streaming-chat", reply, sentence) for _, reply, sentence in refusals]
        refusals.append(("streaming-chat", {"status": 200} | page, refused))  # a login page, say
    endings: list[str] = []
    with (
        processes.serving(project, combination.name, {}) as address,
        visited(browser, address, combination, expected=NO_SERVER) as chat,
    ):
        chat.page.wait_for_load_state("networkidle")
        for request, reply, sentence in refusals:

            def refuse(route: Route) -> None:
                route.fulfill(**reply) if reply else route.abort()  # noqa: B023

            requested = re.compile(rf"{request}($|\?)")
            chat.page.route(requested, refuse)
            endings.append(sentence)
            chat.ask(FIRST, *endings)
            chat.page.unroute(requested)
        chat.ask(SECOND, *endings, chat.ending(SECOND))


@BOTH_MODES
def test_limits_of_the_app_are_said(renders: dict[str, Path], browser: Browser, mode: str) -> None:
    combination = named(f"demo_{mode}_full")
    project = renders[combination.name]
    environment = {"CHAT_RATE_LIMIT": "1/minute"}
    too_long, too_many = (
        said(project, name) for name in ("QUESTION_TOO_LONG", "TOO_MANY_QUESTIONS")
    )
    with opened(browser, project, combination, environment, expected=NO_SERVER) as chat:
        chat.ask("x" * 100_001, too_long)
        chat.ask(FIRST, too_long, chat.ending(FIRST))
        chat.ask(SECOND, too_long, chat.ending(FIRST), too_many)
        chat.page.reload()
        chat.expect_answers(too_long, chat.ending(FIRST), too_many)


@pytest.mark.parametrize("auth", ["password", "proxy"])
def test_who_may_come_in_can_chat(renders: dict[str, Path], browser: Browser, auth: str) -> None:
    combination = next(one for one in PAIRS if one["auth"] == auth and one["provider"] == "demo")
    ann: HttpCredentials = {"username": "ann", "password": "a-long-password"}
    # No proxy stands here: a header that each request has takes the place of the one it would add.
    environment = {"CHAT_USERS": "ann:a-long-password", "AUTH_PROXY_HEADER": "Host"}
    project = renders[combination.name]
    with opened(browser, project, combination, environment, login=ann) as chat:
        chat.ask(FIRST, chat.ending(FIRST))
        chat.ask(SECOND, chat.ending(FIRST), chat.ending(SECOND))


@BOTH_MODES
def test_one_question_at_a_time(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, mode: str
) -> None:
    combination = named(f"openai_{mode}_full")
    before = len(faulty.asked(SECOND))
    with opened(browser, renders[combination.name], combination, faulty.environment()) as chat:
        chat.send(PREFIX + (ENDLESS if chat.streaming else "silence"))
        expect(chat.button).to_be_disabled()
        chat.box.fill(SECOND)
        chat.box.press("Enter")
        chat.page.get_by_role("button", name="New chat", exact=True).click()
        expect(chat.conversation).to_be_empty()
        expect(chat.box).to_have_value(SECOND)
        chat.box.press("Enter")
        chat.expect_answers(healthy_answer(SECOND))
        assert len(faulty.asked(SECOND)) == before + 1


@pytest.mark.parametrize("way", ["reload", "link"])
def test_answer_that_is_left_says_so(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, tmp_path: Path, way: str
) -> None:
    combination = named("openai_streaming_full")
    project = tmp_path / "project"
    shutil.copytree(renders[combination.name], project)
    dashboard = project / "src" / combination.name / "dashboard.py"
    page = '            vm.Page(title="Chat", path="/", components=[chat]),\n'
    other = '            vm.Page(title="Other", components=[vm.Card(text="Other.")]),\n'
    text = dashboard.read_text(encoding="utf-8")
    assert page in text
    dashboard.write_text(text.replace(page, page + other), encoding="utf-8")
    cut_off = said(project, "APP_CUT_OFF")
    with opened(browser, project, combination, faulty.environment()) as chat:
        chat.send(PREFIX + ENDLESS)
        expect(chat.answers).not_to_be_empty()
        if way == "reload":
            chat.page.reload()
        else:
            chat.page.get_by_role("link", name="Other").click()
            expect(chat.page.get_by_text("Other.")).to_be_visible()
            chat.page.get_by_role("link", name="Chat").click()
        chat.expect_answers(cut_off)
        stream = faulty.asked(PREFIX + ENDLESS)[-1]
        assert stream.closed.wait(5), "The provider still streams to nobody."
        chat.ask(SECOND, cut_off, healthy_answer(SECOND))
