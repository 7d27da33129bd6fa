"""The panel, with `placement=popup`: on every page, beside it or over it, and in nobody's way."""

import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import processes
import pytest
from in_browser import (
    BOTH_MODES,
    FIRST,
    LOADED,
    NO_SERVER,
    SECOND,
    Chat,
    Held,
    log_in,
    named,
    opened,
)
from playwright.sync_api import Browser, Locator, expect
from test_access import PASSWORD
from test_page import switch_theme, violations

OTHER_PAGE = """\
            vm.Page(
                title="Other",
                components=[vm.Card(text="Other. [To the charts]({prefix}) [Elsewhere](/else)")],
            ),
"""
LOGO = '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24"><path d="M0 0h24v24"/></svg>'
LONG_QUESTION = "word " * 3000  # the demo repeats it, at 20 ms a word
CLOSED = ""

Open = Callable[..., AbstractContextManager[Chat]]


@pytest.fixture
def with_panel(renders: dict[str, Path], browser: Browser, tmp_path: Path) -> Open:
    """Open a demo with the panel, two pages, links in Markdown, and a logo."""

    def open_panel(mode: str, prefix: str = "/", **options: Any) -> AbstractContextManager[Chat]:
        combination = named(f"demo_{mode}_full_popup")
        project = tmp_path / "project"
        shutil.copytree(renders[combination.name], project)
        package = project / "src" / combination.name
        (package / "assets").mkdir()
        (package / "assets" / "logo.svg").write_text(LOGO)
        replace(
            package / "app.py",
            "Vizro()",
            'Vizro(assets_folder=str(__import__("pathlib").Path(__file__).with_name("assets")))',
        )
        pages = "            *pages,\n            create_charts_page(),\n"
        other = OTHER_PAGE.format(prefix=prefix)
        replace(package / "dashboard.py", pages, pages + other)
        environment = {"DASH_URL_BASE_PATHNAME": prefix}
        return opened(browser, project, combination, environment, **options)

    return open_panel


def replace(path: Path, text: str, replacement: str) -> None:
    """Replace a text that a file has once.

    Args:
        path: The file.
        text: The text.
        replacement: What comes in its place.
    """
    before = path.read_text(encoding="utf-8")
    assert before.count(text) == 1, f"{path.name}: {text}"
    path.write_text(before.replace(text, replacement), encoding="utf-8")


def opener(chat: Chat) -> Locator:
    """Return the button that opens the panel."""
    return chat.page.get_by_role("button", name="Chat", exact=True)


def place(target: Locator) -> dict[str, float]:
    """Return where an element is, and how large."""
    box = target.bounding_box()
    assert box
    return {**box}


def width(target: Locator) -> float:
    """Return how wide an element is."""
    return place(target)["width"]


def parts(chat: Chat) -> tuple[Locator, Locator, Locator]:
    """Return the page of the dashboard, the panel, and its edge."""
    page = chat.page
    return (
        page.locator(".page-main-outer"),
        page.locator("#chat-panel"),
        page.locator("#chat-width"),
    )


@BOTH_MODES
def test_page_changes_while_an_answer_comes(with_panel: Open, mode: str) -> None:
    with with_panel(mode) as chat:
        page = chat.page
        held = None if chat.streaming else Held(chat)
        chat.send(LONG_QUESTION if chat.streaming else FIRST)
        page.evaluate("window.isSame = true")  # until the page is loaded anew
        other, charts = page.get_by_text("Other."), page.locator("#page-title", has_text="Charts")
        for go, arrived in [
            (page.get_by_role("link", name="Other").click, other),
            (page.locator("a:has(#logo)").click, charts),
            (page.go_back, other),
            (page.get_by_role("link", name="To the charts").click, charts),
            (page.go_back, other),
            (page.get_by_role("link", name="Charts", exact=True).click, charts),
        ]:
            go()
            expect(arrived).to_be_visible(timeout=LOADED)
            expect(chat.box).to_be_visible()
            chat.expect_state("answering")
            if chat.streaming:
                chat.expect_part()
            assert page.evaluate("window.isSame"), "The page was loaded anew."
        if held:
            held.release()
            chat.expect_answers(chat.ending(FIRST))
        else:
            chat.button("Stop").click()
            chat.expect_failure("You stopped this answer.")
        chat.button("New chat").click()
        chat.ask(SECOND, chat.ending(SECOND))


def test_link_in_an_answer_leads_to_its_page(with_panel: Open) -> None:
    with with_panel("one_shot", prefix="/app/", expected=NO_SERVER) as chat:
        page = chat.page
        page.goto(f"{page.url}app/")
        page.evaluate("window.isSame = true")
        chat.send("Look at [the other page](/app/other) or [another site](https://example.com/).")
        link = chat.answers.get_by_role("link", name="the other page")
        link.click()
        expect(page.get_by_text("Other.")).to_be_visible(timeout=LOADED)
        expect(page).to_have_url(re.compile("/app/other$"))
        expect(chat.box).to_be_visible()
        assert page.evaluate("window.isSame")
        assert len(page.context.pages) == 1
        site = chat.answers.get_by_role("link", name="another site")
        expect(site).to_have_attribute("target", "_blank")

        link.click()  # the page is open already
        page.go_back()
        expect(page).to_have_url(re.compile("/app/$"))
        with page.context.expect_page() as tab:
            link.click(modifiers=["ControlOrMeta"])
        tab.value.close()

        # A path that is not the dashboard's is the browser's.
        link.click()
        page.route("**/else", lambda route: route.fulfill(body="Not the dashboard."))
        page.get_by_role("link", name="Elsewhere").click()
        expect(page.get_by_text("Not the dashboard.")).to_be_visible()
        page.go_back()
        expect(chat.questions).to_have_count(1)


def test_opens_and_closes_by_keyboard(with_panel: Open) -> None:
    with with_panel("one_shot", panel=CLOSED) as chat:
        keyboard = chat.page.keyboard
        expect(opener(chat)).to_have_attribute("aria-expanded", "false")
        expect(opener(chat)).to_have_attribute("title", "Chat (Ctrl+/)")
        expect(chat.box).to_be_hidden()
        chat.expect_state("empty")
        preloaded = chat.page.locator("#chat-preload > *")
        expect(preloaded).to_have_count(0)
        opener(chat).focus()
        keyboard.press("Enter")
        chat.expect_focus()
        expect(preloaded).to_have_count(1, timeout=LOADED)
        expect(opener(chat)).to_be_hidden()
        keyboard.press("Escape")
        expect(opener(chat)).to_be_focused()
        expect(chat.box).to_be_hidden()

        toggle = chat.page.locator("#theme-toggle")
        toggle.focus()
        keyboard.press("Control+/")
        chat.expect_focus()
        toggle.focus()
        keyboard.press("Escape")  # the dashboard's
        expect(chat.box).to_be_visible()
        keyboard.press("Control+/")
        chat.expect_focus()
        keyboard.press("Control+/")
        expect(toggle).to_be_focused()
        expect(chat.box).to_be_hidden()

        opener(chat).click()
        chat.ask(FIRST, chat.ending(FIRST))
        chat.button("Edit question").click()
        keyboard.press("Escape")
        expect(chat.box).to_have_value("")
        expect(chat.box).to_be_visible()
        chat.page.get_by_role("button", name="Close", exact=True).click()
        expect(opener(chat)).to_be_focused()
        expect(opener(chat)).to_have_attribute("aria-expanded", "false")
        # What had the focus may have gone with its page.
        chat.page.get_by_role("link", name="Other").focus()
        keyboard.press("Control+/")
        chat.page.get_by_role("link", name="Other").click()
        expect(chat.page.get_by_text("Other.")).to_be_visible(timeout=LOADED)
        chat.box.press("Escape")
        expect(opener(chat)).to_be_focused()


def test_page_makes_room(with_panel: Open) -> None:
    with with_panel("one_shot") as chat:
        page, (outer, panel, edge) = chat.page, parts(chat)
        expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=LOADED)

        def expect_width(expected: float) -> None:
            expect(edge).to_have_attribute("aria-valuenow", str(round(expected)))
            assert width(panel) == pytest.approx(expected, abs=1)
            assert width(outer) == pytest.approx(1200 - expected, abs=1)
            for chart in page.locator(".js-plotly-plot .main-svg:first-child").all():
                until_narrower(chart, 1200 - expected)

        expect_width(420)
        y = 300
        page.mouse.move(1200 - 420, y)
        page.mouse.down()
        page.mouse.move(700, y, steps=5)
        page.mouse.up()
        expect_width(500)
        page.mouse.move(100, y)
        expect_width(500)
        edge.focus()
        for key, expected in [
            ("ArrowLeft", 524),
            ("ArrowRight", 500),
            ("Home", 320),
            ("ArrowRight", 320),
            ("End", 560),
            ("ArrowRight", 536),
        ]:
            page.keyboard.press(key)
            expect_width(expected)
        page.reload()
        expect(chat.box).to_be_visible()
        expect_width(536)

        page.keyboard.press("Tab")
        chat.box.press("Escape")
        expect(panel).to_be_hidden()
        assert width(outer) == 1200
        page.reload()
        expect(opener(chat)).to_be_visible()
        expect(panel).to_be_hidden()
        opener(chat).click()
        expect_width(536)

        # Narrower windows have no room for both.
        page.set_viewport_size({"width": 1100, "height": 800})
        assert width(panel) == 460
        page.set_viewport_size({"width": 1000, "height": 800})
        assert (width(panel), width(outer)) == (480, 1000)
        expect(edge).to_be_hidden()
        page.set_viewport_size({"width": 1200, "height": 800})
        expect_width(536)


def until_narrower(target: Locator, right: float) -> None:
    """Wait until an element ends left of a place.

    Args:
        target: The element.
        right: The place, in pixels.
    """
    processes.until(lambda: (box := place(target))["x"] + box["width"] <= right)


def test_whole_screen_on_a_phone(with_panel: Open) -> None:
    with with_panel("one_shot", panel=CLOSED) as chat:
        page, (_, panel, edge) = chat.page, parts(chat)
        page.set_viewport_size({"width": 390, "height": 800})
        page.reload()
        dashboard = page.locator("#dashboard-container")
        opener(chat).click()
        chat.expect_focus()
        assert place(panel) == {"x": 0, "y": 0, "width": 390, "height": 800}
        expect(dashboard).to_have_js_property("inert", True)
        expect(edge).to_be_hidden()
        chat.ask("Look at [the other page](/other).", chat.ending(FIRST))
        for _ in range(20):
            page.keyboard.press("Tab")
            inside = "document.activeElement.matches('body, #chat-panel *')"
            assert page.evaluate(inside), "The focus is behind the panel."
        page.reload()
        expect(dashboard).to_have_js_property("inert", True)
        assert page.evaluate("document.documentElement.scrollWidth") == 390

        page.set_viewport_size({"width": 1200, "height": 800})
        expect(dashboard).to_have_js_property("inert", False)
        page.set_viewport_size({"width": 390, "height": 800})
        expect(dashboard).to_have_js_property("inert", True)
        chat.answers.get_by_role("link", name="the other page").click()
        expect(panel).to_be_hidden()
        expect(dashboard).to_have_js_property("inert", False)
        expect(page.get_by_text("Other.")).to_be_visible(timeout=LOADED)


def test_print_leaves_it_out(with_panel: Open) -> None:
    with with_panel("one_shot") as chat:
        outer, panel, _ = parts(chat)
        expect(panel).to_be_visible()
        chat.page.emulate_media(media="print")
        expect(panel).to_be_hidden()
        assert width(outer) == 1200
        chat.page.emulate_media(media="screen")
        chat.box.press("Escape")
        expect(opener(chat)).to_be_visible()
        chat.page.emulate_media(media="print")
        expect(chat.page.locator("#chat-open")).to_be_hidden()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_serious(with_panel: Open, theme: str) -> None:
    with with_panel("one_shot", panel=CLOSED) as chat:
        switch_theme(chat, theme)
        expect(opener(chat)).to_be_visible()
        found = {"closed": violations(chat, "#chat-open")}
        opener(chat).click()
        found["empty"] = violations(chat, "#chat-panel")
        chat.ask(FIRST, chat.ending(FIRST))
        found["answered"] = violations(chat, "#chat-panel")
        chat.page.set_viewport_size({"width": 390, "height": 800})
        found["phone"] = violations(chat, "#chat-panel")
        assert found == dict.fromkeys(found, [])


def test_users_their_files_and_their_words(renders: dict[str, Path], browser: Browser) -> None:
    """The panel is built once, and the user who opens it is not; what is dropped beside it is not its."""
    drop = """(target) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(["a,b"], "table.csv"));
      const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
      return !target.dispatchEvent(event);
    }"""
    environment = {"CHAT_USERS": "ann:a-long-password"}
    with opened(browser, renders[PASSWORD.name], PASSWORD, environment) as chat:
        log_in(chat.page, "ann", "a-long-password")
        files = chat.page.locator("#chat-attached .chat-file")
        expect(chat.root).to_have_attribute("data-user", "ann")
        expect(chat.root).to_have_attribute("data-open", "")
        assert chat.page.locator("#right-side").evaluate(drop) is False
        assert chat.box.evaluate(drop) is True
        expect(files).to_have_count(1)
        log_out = chat.page.get_by_role("button", name="Log out", exact=True)
        assert place(log_out)["x"] < place(parts(chat)[1])["x"], "The panel covers it."

        # Escape closes one thing at a time, also where the panel covers the page.
        chat.page.set_viewport_size({"width": 390, "height": 800})
        chat.send(FIRST)
        chat.button("Bad answer").click()
        words = chat.root.locator(".chat-words textarea")
        words.press("Escape")
        expect(words).to_have_count(0)
        expect(chat.button("Bad answer")).to_be_focused()
        chat.button("Bad answer").press("Escape")
        expect(chat.box).to_be_hidden()


BUILT = "app = Vizro().build(dashboard.create_dashboard([]))\n"
CLASHES = {
    "twice": (
        "    panel=chat,\n)\n",
        "{0}add_chat(app, DemoChat(), provider.explain, panel=chat)\n",
    ),
    "route": (BUILT, '{0}app.dash.server.post("/chat", endpoint="mine")(str)\n'),
    "function": (BUILT, "{0}layout = app.dash.layout\napp.dash.layout = lambda: layout\n"),
    "id": (BUILT, '{0}app.dash.layout["vizro_version"].id = "chat-message"\n'),
}
WAYS_OUT = {
    "twice": "call add_chat once.",
    "route": "give that another path.",
    "function": "set app.dash.layout to what the function returns.",
    "id": "rename it.",
}


@pytest.mark.parametrize("clash", CLASHES)
def test_clashes_are_told_at_start(renders: dict[str, Path], tmp_path: Path, clash: str) -> None:
    combination = named("demo_one_shot_full_popup")
    project = tmp_path / "project"
    shutil.copytree(renders[combination.name], project)
    text, replacement = CLASHES[clash]
    replace(project / "src" / combination.name / "app.py", text, replacement.format(text))
    app = processes.run(processes.serve, project, combination.name, environment={})
    app.join(60)
    app.kill()
    last = processes.log(project).splitlines()[-1]
    assert last.startswith("ValueError: ") and last.endswith(WAYS_OUT[clash])


def test_clash_of_a_page_is_told(renders: dict[str, Path], tmp_path: Path) -> None:
    combination = named("demo_one_shot_full_popup")
    project = tmp_path / "project"
    shutil.copytree(renders[combination.name], project)
    dashboard = project / "src" / combination.name / "dashboard.py"
    replace(dashboard, 'vm.Table(title="The data",', 'vm.Table(id="chat-data", title="The data",')
    app = processes.run(processes.serve, project, combination.name, environment={})
    app.join(60)
    app.kill()
    assert "ValueError: The id 'chat-data_action_trigger' in the dashboard" in processes.log(
        project
    )
