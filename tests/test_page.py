"""What the page draws: awkward Markdown and components; what it keeps, requests, and is to everybody."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import stand_in
from faults import ENDLESS, PREFIX, FaultyProvider, healthy_answer
from in_browser import (
    BOTH_MODES,
    FIRST,
    LOADED,
    NO_SERVER,
    SECOND,
    Chat,
    is_own,
    named,
    opened,
    said,
)
from playwright.sync_api import Browser, expect

# Written in the place of a rendered demo's chat.py: answers each question with what it asks for.
ACTION = '''\
"""Answers with awkward Markdown and with components."""

from typing import Any

import dash_mantine_components as dmc
import plotly.express as px
from dash import dcc, html
from vizro_experimental.chat import ChatAction, StreamingChatAction

TEXTS = {texts}
HOSTILE = {hostile}
END = {end}


def chart(title: str) -> dcc.Graph:
    figure = px.bar(x=["Köln", "Bonn"], y=[2, 1], title=title)
    return dcc.Graph(figure=figure, style={{"height": 300}})


def parts(messages: list[Any]) -> list[Any]:
    question = messages[-1]["content"]
    if question in TEXTS:
        return [TEXTS[question]]
    if question in HOSTILE:
        return [HOSTILE[question] + END]
    if question == "told":
        return [" | ".join(message["content"] for message in messages) + " Told."]
    if question == "mixed":
        alert = dmc.Alert("An alert.", title="Look")
        return ["Before. ", html.Div([alert, chart("People")]), "After."]
    if question.startswith("large"):
        return [html.Pre(question + "x" * 1_500_000, style={{"height": 50, "overflow": "auto"}})]
    return [chart(question)]


class DemoChat({base}):
    system_prompt: str = ""

    def generate_response(self, messages: list[Any], **kwargs: Any) -> Any:
        {body}
'''
STREAMED = """for part in parts(messages):
            if not isinstance(part, str):
                yield part
                continue
            size = 7 if messages[-1]["content"] == "long" else max(8, len(part) // 40)
            for start in range(0, len(part), size):
                yield part[start : start + size]"""
AT_ONCE = """return parts(messages)[0]"""

END = "\n\nThe end."
# Text that takes a page long, or for ever, if it draws it as Markdown without care.
HOSTILE = {
    "brackets": "[" * 50_000,
    "emphasis": "*a _b " * 2000,
    "one line": "x" * 1_000_000,
    "rows": "| a | b |\n|---|---|\n" + "| 1 | *2* |\n" * 10_000,
    "quotes": ">" * 5000 + " deep",
    "formulas": r"\(x\) " * 4000,
    "backslashes": r"\(" * 40_000,
    "backticks": " ".join("`" * length for length in range(1, 400)),
    "fences": "```\n" * 10_000,
    "paragraphs": "A *short* one.\n\n" * 20_000,
}
# Text that is drawn all the same.
DRAWN = {
    "levels": ">" * 500 + " deep",
    "lists": "".join(f"{'  ' * level}- level\n" for level in range(200)),
    "directions": "\u202e\u2067" * 5000 + "from right to left",
    "controls": "".join(map(chr, [*range(1, 32), *range(127, 160)])) * 20 + "\x1b[2J",
}
AWKWARD = {
    "bare brackets": "See [1], list[0], [x] and [ ] here; a [page](https://example.com/a?b=1).\n\n"
    "`code[0]`\n\n```python\nrows[0] = [1]\n```\n\nThe end of the brackets.",
    "picture": "Look: ![A picture](https://example.com/a.png) and ![](/b.png). The end of it.",
    "formula": "So \\(a^2\\) is:\n\n$$b^2 = [c]$$\n\nIt costs $5 or $6. The end of the formula.",
    "wide": "| " + " | ".join("abcdefghij" * 3 for _ in range(20)) + " |\n" + "|---" * 20 + "|\n\n"
    "```text\n" + "wide " * 200 + "\n```\n\nThe end of what is wide.",
    "breaks": "[x](javascript:window.executed=true) <b onclick='x'>bold</b>\n\n"
    "[y](ms-word&#58;z) [y](<file:///z>) ![y](data:text/html,z) <vscode://z> [y](java\\script\\:z) "
    "[mail](mailto:ann@example.com) [here](/charts?a=b:c) <https://example.com/z>\n\n"
    "<iframe src='https://example.com'></iframe>\n\nThe end of the links.",
}
# Long text, and after a blank line what goes on with it.
WORDS = "Some [words](https://example.com/a) that are *long* enough. " * 17
JOINED = [
    f"1. {WORDS}\n\n   which goes on\n\n2. Two\n\n10. Ten",
    f"- {WORDS}\n\n- goes on\n\n      indented()",
    f"* {WORDS}\n\n    ```\n    a = [1]\n\n    b = a[0]\n    ```\n\n* goes on",
    "```python\n" + "a = [1]\n" * 130 + "\nb = a[0]\n```",
    "~~~text\n" + "Code\n" * 210 + "\n## goes on\n\n```\n\nand on\n~~~",
    "$$\n" + "x + " * 260 + "\n\ny = 2\n$$",
    "\\[\n" + "x + " * 260 + "\n\ny = 2\n\\]",
    f"{WORDS}\n\n    indented = [0]\n\n    indented[0]",
    f"> {WORDS}\n\n> and more",
    f"{WORDS}\n\n**Bold** and \\(z^2\\)",
]
LONG = "\n\n".join([*JOINED, "The end."])
# Tells when a question was sent, and how long the page was busy at most.
CLOCK = """
window.longest = 0;
document.addEventListener("keydown", ({ key }) => {
  if (key === "Enter") [window.askedAt, window.longest] = [performance.now(), 0];
}, true);
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
}).observe({ type: "longtask" });
"""
PATIENCE = 4000  # milliseconds, on a busy machine too

Open = Callable[..., AbstractContextManager[Chat]]


@pytest.fixture
def owned(renders: dict[str, Path], browser: Browser, tmp_path: Path) -> Open:
    """Open a rendered project whose owner has written the action above."""

    def open_owned(mode: str, **options: Any) -> AbstractContextManager[Chat]:
        combination = named(f"demo_{mode}_full")
        project = tmp_path / mode
        shutil.copytree(renders[combination.name], project)
        is_streaming = combination["streaming"]
        text = ACTION.format(
            texts=repr(AWKWARD | {"long": LONG}),
            hostile=repr(HOSTILE | DRAWN),
            end=repr(END),
            base="StreamingChatAction" if is_streaming else "ChatAction",
            body=STREAMED if is_streaming else AT_ONCE,
        )
        (project / "src" / combination.name / "chat.py").write_text(text, encoding="utf-8")
        return opened(browser, project, combination, {}, **options)

    return open_owned


def switch_theme(chat: Chat, theme: str) -> None:
    """Switch the dashboard to a theme.

    Args:
        chat: The chat.
        theme: `light` or `dark`.
    """
    html = chat.page.locator("html")
    expect(html).to_have_attribute("data-bs-theme", re.compile("light|dark"))
    if html.get_attribute("data-bs-theme") != theme:
        chat.page.locator("#theme-toggle").click()
    expect(html).to_have_attribute("data-bs-theme", theme)


@BOTH_MODES
def test_hostile_markdown_is_shown_plainly_and_soon(owned: Open, mode: str) -> None:
    with owned(mode, script=CLOCK) as chat:
        slow = {}
        for index, (question, text) in enumerate((HOSTILE | DRAWN).items()):
            chat.send(question)
            expect(chat.questions).to_have_count(index + 1)
            chat.expect_state("ready")
            expect(chat.answers.last).to_contain_text(END.strip())
            plain = chat.answers.last.locator(".chat-plain")
            expect(plain).to_have_count(int(question in HOSTILE))
            if question in HOSTILE:
                wholes = (text, text + END) if chat.streaming else (text + END,)
                assert plain.evaluate("element => element.textContent") in wholes
            asked, longest = chat.page.evaluate("[window.askedAt, window.longest]")
            took = chat.seen(index)[-1]["at"] - asked
            if max(took, longest) > PATIENCE:
                slow[question] = (took, longest)
        assert not slow, "Milliseconds until it stands, and the longest time without a reaction."


def test_awkward_markdown_is_drawn(owned: Open) -> None:
    with owned("one_shot", expected="JavaScript URL|script-src-elem inline") as chat:
        for question, text in AWKWARD.items():
            chat.send(question)
            expect(chat.answers.last).to_contain_text(text.splitlines()[-1][-12:])
            chat.expect_state("ready")
        brackets, picture, formula, wide, breaks = (chat.answers.nth(one) for one in range(5))
        expect(brackets).to_contain_text("See [1], list[0], [x] and [ ] here; a page.")
        expect(brackets.locator("a")).to_have_count(1)
        link = brackets.locator("a")
        expect(link).to_have_attribute("href", "https://example.com/a?b=1")
        expect(link).to_have_attribute("target", "_blank")
        expect(brackets.locator("p code")).to_have_text("code[0]")
        expect(brackets.locator("pre code")).to_have_text("rows[0] = [1]")
        expect(brackets.locator("pre")).to_have_attribute("data-language", "python")

        expect(picture.locator("img")).to_have_count(0)
        expect(picture.locator("a").first).to_have_text("A picture")
        expect(picture.locator("a").first).to_have_attribute("href", "https://example.com/a.png")

        expect(formula.locator("mjx-container")).to_have_count(2)
        expect(formula).to_contain_text("It costs $5 or $6.")

        for part in ("table", "pre code"):
            element = wide.locator(part)
            expect(element).to_have_attribute("tabindex", "0")
            assert element.evaluate("element => element.scrollWidth > element.clientWidth")
        log = chat.conversation.evaluate("element => [element.scrollWidth, element.clientWidth]")
        assert log[0] == log[1], "The conversation itself is too wide."

        targets = {link.get_attribute("href") for link in breaks.locator("a").all()}
        expected = {"mailto:ann@example.com", "/charts?a=b:c", "https://example.com/z"}
        assert targets == {*expected, "javascript:void(0)"}, "Markdown has let a scheme through."
        breaks.get_by_text("x", exact=True).first.click()
        expect(chat.conversation.locator("iframe, img, script, b")).to_have_count(0)
        assert chat.page.evaluate("window.executed") is None


# Returns the HTML of each text of an answer, with formulas as MathML.
ELEMENTS = """(answer) => [...answer.querySelectorAll("[id^=chat-0-]")].map((text) => {
  const copy = text.cloneNode(true);
  for (const formula of copy.querySelectorAll("mjx-container")) {
    formula.replaceWith(...formula.querySelectorAll("mjx-assistive-mml > *"));
  }
  for (const code of copy.querySelectorAll("[tabindex]")) {
    code.removeAttribute("tabindex"); // set by the page, before or after the highlighter's classes
    code.removeAttribute("data-highlighted"); // Dash takes it off from code that it draws twice
  }
  return copy.innerHTML;
})"""


def test_long_answer_is_drawn_piece_by_piece(owned: Open) -> None:
    drawn: dict[str, list[str]] = {}
    for mode in ("one_shot", "streaming"):
        with owned(mode) as chat:
            chat.send("long")
            expect(chat.answers).to_contain_text("The end.", timeout=LOADED)
            chat.expect_state("ready")
            expect(chat.answers.locator("mjx-assistive-mml")).to_have_count(3)
            unfinished = "pre:not(:has(button)), pre > code:not(.hljs)"
            expect(chat.answers.locator(unfinished)).to_have_count(0)
            drawn[mode] = chat.answers.evaluate(ELEMENTS)
    (whole,), pieces = drawn["one_shot"], drawn["streaming"]
    assert len(pieces) == 8
    assert "".join(pieces) == whole


def test_answer_is_whole_in_a_tab_that_draws_no_frames(owned: Open) -> None:
    with owned("streaming", script="window.requestAnimationFrame = () => 0;") as chat:
        chat.send("told")
        expect(chat.answers).to_have_text(re.compile("told Told."))
        chat.send("long")
        expect(chat.answers.last).to_contain_text("The end.", timeout=LOADED)
        chat.expect_state("ready")
        expect(chat.answers.last.locator("a")).to_have_count(LONG.count("https:"))


# Tells which scripts have been loaded since the page itself was.
LOADS = """
new PerformanceObserver((list) => {
  const scripts = list.getEntries().filter(({ initiatorType }) => initiatorType === "script");
  const names = scripts.map(({ name }) => name.split("/").at(-1));
  document.documentElement.dataset.loaded = [document.documentElement.dataset.loaded, ...names];
}).observe({ type: "resource" });
"""


def test_first_answer_waits_for_no_scripts(owned: Open) -> None:
    with owned("streaming", script=LOADS) as chat:
        page = chat.page.locator("html")
        drawing = re.compile("(?=.*async-markdown)(?=.*async-highlight)(?=.*async-mathjax)")
        expect(page).to_have_attribute("data-loaded", drawing, timeout=LOADED)
        loaded = page.get_attribute("data-loaded")
        chat.send("formula")
        expect(chat.answers.locator("mjx-container")).to_have_count(2)
        expect(page).to_have_attribute("data-loaded", loaded or "")


def test_page_asks_nobody_but_its_own_server(owned: Open) -> None:
    with owned("streaming") as chat:
        requested: list[str] = []
        chat.page.context.on("request", lambda request: requested.append(request.url))
        chat.page.reload()
        for question in ("picture", "formula", "bare brackets", "mixed", "wide"):
            chat.send(question)
            chat.expect_state("ready")
        switch_theme(chat, "light")
        expect(chat.conversation.locator(".main-svg").first).to_be_visible()
        expect(chat.conversation.locator("mjx-container").first).to_be_visible()
        chat.page.wait_for_load_state("networkidle")
        assert any(url.endswith("/chat") for url in requested)
        assert [url for url in requested if not is_own(url, chat.page.url)] == []
        # The icons are drawn with a font that has come.
        assert chat.page.evaluate("document.fonts.check('18px \"Material Symbols Outlined\"')")


@BOTH_MODES
def test_components_in_an_answer(owned: Open, mode: str) -> None:
    with owned(mode) as chat:
        question = "mixed" if chat.streaming else "People"
        title = "[chart]" if chat.streaming else "[People]"
        switch_theme(chat, "dark")
        chat.send(question)
        chat.expect_state("ready")
        answer = chat.answers.first
        expect(chat.notices).to_have_count(0)

        def assert_drawn(light: bool) -> None:
            expect(answer.locator(".main-svg").first).to_be_visible(timeout=LOADED)
            expect(answer.locator(".xtick text").first).to_have_text("Köln")
            tick = answer.locator(".xtick text").first
            # Text is dark on a light page, and light on a dark one.
            expect(tick).to_have_css(
                "fill", re.compile(r"\((\d|\d\d|1[01]\d)," if light else r"\((1[2-9]\d|2\d\d),")
            )
            if chat.streaming:
                texts = answer.text_content() or ""
                order = [texts.index(one) for one in ("Before.", "An alert.", "Köln", "After.")]
                assert order == sorted(order)

        assert_drawn(light=False)
        switch_theme(chat, "light")
        assert_drawn(light=True)
        chat.page.reload()  # Vizro has kept the theme
        expect(chat.page.locator("html")).to_have_attribute("data-bs-theme", "light")
        assert_drawn(light=True)
        switch_theme(chat, "dark")
        assert_drawn(light=False)

        # The toolbar leads to no other site.
        answer.locator(".js-plotly-plot").hover()
        tools = answer.locator(".modebar .modebar-btn")
        expect(tools.and_(answer.locator("[data-title^=Download]"))).to_be_visible()
        titles = tools.evaluate_all("all => all.map((one) => one.dataset.title ?? one.outerHTML)")
        assert not [title for title in titles if re.search("share|cloud|plotly", title, re.I)]
        expect(answer.locator(".modebar [href]")).to_have_count(0)

        chat.send("told")
        expect(chat.answers.last).to_contain_text("Told.")
        expect(chat.answers.last).to_contain_text(f"{question} | ")
        expect(chat.answers.last).to_contain_text(title)
        expect(chat.answers.last).not_to_contain_text("Köln")
        chat.button("Copy answer").first.click()
        assert title in chat.copied()


def test_oldest_components_give_way(owned: Open) -> None:
    with owned("one_shot", expected="sessionStorage|quota") as chat:
        removed = chat.conversation.get_by_text("A chart stood here.")
        for number in range(1, 6):
            chat.send(f"large {number}")
            chat.expect_state("ready")
        expect(removed).to_have_count(2)
        for index in (0, 1):
            expect(chat.answers.nth(index)).to_contain_text("A chart stood here.")
        expect(chat.alert).to_be_hidden()
        chat.page.reload()
        expect(chat.questions).to_have_text([f"large {number}" for number in range(1, 6)])
        expect(removed).to_have_count(2)
        expect(chat.answers.last).to_contain_text("large 5")


def test_storage_that_others_fill(renders: dict[str, Path], browser: Browser) -> None:
    combination = named("demo_one_shot_full")
    project = renders[combination.name]
    unsaved, unreadable = said(project, "unsaved"), said(project, "unreadable")
    with opened(browser, project, combination, {}, expected="sessionStorage|quota") as chat:
        first, second = chat.ending(FIRST), chat.ending(SECOND)
        chat.ask(FIRST, first)
        chat.page.evaluate("""() => {
          for (let size = 5_000_000; size >= 1; size = Math.floor(size / 2))
            try {
              const others = sessionStorage.getItem("others") ?? "";
              sessionStorage.setItem("others", others + "x".repeat(size));
            } catch {}
        }""")
        chat.ask(SECOND, first, second)
        expect(chat.alert).to_have_text(unsaved)
        chat.ask(FIRST, first, second, first)
        chat.page.evaluate("sessionStorage.removeItem('others')")
        chat.ask(SECOND, first, second, first, second)
        expect(chat.alert).to_be_hidden()
        chat.page.reload()
        chat.expect_answers(first, second, first, second)

        chat.page.goto("about:blank")
        chat.page.context.add_init_script("""
          for (const key of Object.keys(sessionStorage))
            if (key.startsWith("chat ")) sessionStorage.setItem(key, "{");
        """)
        chat.page.go_back()
        expect(chat.alert).to_have_text(unreadable)
        chat.expect_empty()
        chat.ask(FIRST, first)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_serious(
    renders: dict[str, Path], browser: Browser, faulty: FaultyProvider, theme: str
) -> None:
    combination = named("openai_streaming_opt_in")
    project = renders[combination.name]
    with opened(browser, project, combination, faulty.environment(), expected=NO_SERVER) as chat:
        switch_theme(chat, theme)
        chat.expect_state("empty")
        found = {"empty": violations(chat)}
        chat.send(PREFIX + ENDLESS)
        chat.expect_part()
        chat.send(SECOND)
        chat.box.fill("And then?")
        chat.box.press("Enter")
        found["answering"] = violations(chat)
        chat.button("New chat").click()
        chat.box.fill("")
        chat.ask(FIRST, healthy_answer(FIRST))
        found["answered"] = violations(chat)
        chat.button("Edit question").click()
        found["editing"] = violations(chat)
        chat.box.press("Escape")
        empty = said(project, "EMPTY")
        chat.ask(PREFIX + "no text", healthy_answer(FIRST), empty)
        found["failed"] = violations(chat)
        assert found == dict.fromkeys(found, [])


def violations(chat: Chat, *places: str) -> list[str]:
    """Return what axe-core finds serious or critical in the chat.

    Args:
        chat: The chat.
        places: Selectors of the parts of the page to look at in the place of the chat.
    """
    stand_in.install()
    program = stand_in.FOLDER / "node_modules" / "axe-core" / "axe.min.js"
    chat.page.evaluate(program.read_text(encoding="utf-8"))
    found = chat.page.evaluate(
        "include => axe.run({ include }, { resultTypes: ['violations'] })",
        [[place] for place in places or ["#chat"]],
    )
    assert found["passes"], "Nothing was looked at."
    return [
        f"{one['id']}: {json.dumps([node['target'] for node in one['nodes']])}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
