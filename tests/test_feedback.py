"""Thumbs under answers: on the page, in the file of the server, and as questions of evals/."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
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
    named,
    opened,
    said,
)
from playwright.sync_api import Browser, Locator, Route, expect
from test_access import ANN, USERS, Answer
from test_controls import reach
from test_evals import evaluate
from test_page import switch_theme
from test_serving import Gunicorn, served, stream

if sys.platform == "win32":
    pytest.skip("gunicorn does not run on Windows.", allow_module_level=True)

DEMO = "demo_streaming_full_feedback"
PASSWORD = "demo_streaming_full_feedback_password"
GIVEN: dict[str, Any] = {
    "id": "0123456789abcdef",
    "verdict": "down",
    "words": "",
    "question": "Why?",
    "answer": "Because.",
    "before": [],
}
# A body that is refused, and the status.
REFUSED: dict[str, tuple[object, int]] = {
    "a megabyte of words": (GIVEN | {"words": "x" * 1_000_000}, 413),
    "a long answer": (GIVEN | {"answer": "x" * 20_001}, 400),
    "no question": ({name: GIVEN[name] for name in GIVEN if name != "question"}, 400),
    "an empty question": (GIVEN | {"question": " \n"}, 400),
    "an unknown verdict": (GIVEN | {"verdict": "perhaps"}, 400),
    "a number": (GIVEN | {"words": 1}, 400),
    "a list": ([GIVEN], 400),
    "two lines of an id": (GIVEN | {"id": "0123456789abcdef\n"}, 400),
    "many wrong exchanges": (GIVEN | {"before": [[]] * 100_000}, 400),
    "many exchanges": (GIVEN | {"before": [["a", "b"]] * 4}, 413),
    "half an emoji": (json.dumps(GIVEN | {"words": "\ud83d"}), 400),
    "no JSON": ("{", 400),
}
FORGED = '\x1b[2J\r\n{"verdict": "up"}\n\u2028\x85\x7f<script>alert(1)</script>'


@pytest.fixture
def project(renders: Mapping[str, Path], tmp_path: Path) -> Path:
    """A copy of the demo, which keeps its feedback for itself."""
    return shutil.copytree(renders[DEMO], tmp_path / DEMO)


@pytest.fixture(scope="module")
def with_users(
    renders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gunicorn, Path]]:
    """The demo with a login, served by two workers, and its folder."""
    folder = tmp_path_factory.mktemp("feedback")
    project = shutil.copytree(renders[PASSWORD], folder / PASSWORD)
    with served(project, folder / "log", **USERS) as server:
        yield server, project


def smaller(project: Path, size: str) -> Path:
    """Have a project begin new files earlier.

    Args:
        project: The rendered project.
        size: How many bytes fill a file.
    """
    (path,) = project.glob("src/*/web/feedback.py")
    text = path.read_text(encoding="utf-8")
    assert text.count("10_000_000") == 1
    path.write_text(text.replace("10_000_000", size), encoding="utf-8")
    return project


def kept(project: Path) -> list[dict[str, Any]]:
    """Return what a project has kept, the oldest first.

    Args:
        project: The rendered project.
    """
    paths = [project / "instance" / f"feedback.jsonl{end}" for end in (".4", ".3", ".2", ".1", "")]
    texts = [path.read_text(encoding="ascii") for path in paths if path.exists()]
    return [json.loads(line) for text in texts for line in text.split("\n")[:-1]]


def send(server: Gunicorn, body: object, headers: dict[str, str] | None = None) -> Answer:
    """Send feedback, and return what is answered.

    Args:
        server: The app.
        body: What to send: a text as it is, all else as JSON.
        headers: The headers.
    """
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        sent = body if isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": "application/json"} | (headers or {})
        connection.request("POST", "/chat/feedback", sent, headers)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read().decode())


def test_workers_write_whole_lines(project: Path, tmp_path: Path) -> None:
    """Let 400 verdicts of up to 50 kB come at once, over some new files, of which none is lost."""
    smaller(project, "3_000_000")

    def give(number: int) -> int:
        long = "ä" * (number * 997 % 8000)
        body = GIVEN | {"id": f"{number:016x}", "answer": f"{number} {long}"}
        return send(server, body).status

    with served(project, tmp_path / "log", WEB_CONCURRENCY="2") as server:
        with ThreadPoolExecutor(40) as users:
            assert Counter(users.map(give, range(400))) == {204: 400}
        assert server.log().count("Booting worker") == 2 and "Traceback" not in server.log()
    assert sorted(int(line["id"], 16) for line in kept(project)) == [*range(400)]
    made = [*(project / "instance").glob("feedback.jsonl*")]
    assert len(made) > 3 and {one.stat().st_mode & 0o777 for one in made} == {0o600}
    assert all(one.stat().st_size <= 3_000_000 for one in made)


def test_files_are_bounded(project: Path, tmp_path: Path) -> None:
    with served(smaller(project, "30_000"), tmp_path / "log") as server:
        for number in range(40):
            body = GIVEN | {"id": f"{number:016x}", "answer": "x" * 9_000}
            assert send(server, body).status == 204
    assert [int(line["id"], 16) for line in kept(project)] == [*range(27, 40)]


@pytest.mark.parametrize("case", REFUSED)
def test_bad_feedback_is_refused(with_users: tuple[Gunicorn, Path], case: str) -> None:
    server, project = with_users
    before, (body, status) = len(kept(project)), REFUSED[case]
    refused = send(server, body, ANN)
    sentence = "REQUEST_TOO_LARGE" if status == 413 else "INVALID_REQUEST"
    assert (refused.status, refused.text) == (status, said(project, sentence))
    assert len(kept(project)) == before


def test_only_users_and_the_apps_own_pages_may_rate(with_users: tuple[Gunicorn, Path]) -> None:
    server, project = with_users
    before = len(kept(project))
    for headers, status in [
        ({}, 401),
        (ANN | {"Origin": "https://evil.test"}, 403),
        (ANN | {"Host": "evil.test"}, 400),
        (ANN | {"Content-Type": "text/plain"}, 415),
    ]:
        assert send(server, GIVEN, headers).status == status, headers
    assert len(kept(project)) == before


def test_text_is_inert(with_users: tuple[Gunicorn, Path]) -> None:
    server, project = with_users
    texts = {"words": FORGED, "question": FORGED, "answer": FORGED, "before": [[FORGED, FORGED]]}
    before = len(kept(project))
    assert send(server, GIVEN | texts, ANN).status == 204
    (line,) = kept(project)[before:]
    assert line.items() >= (GIVEN | texts | {"user": "ann", "model": "demo"}).items()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", line["time"])
    assert "script" not in server.log()


def test_feedback_is_limited_apart_from_questions(project: Path, tmp_path: Path) -> None:
    limits = {"CHAT_RATE_LIMIT": "4/minute", "CHAT_DAILY_LIMIT": "4", "RATE_LIMIT_STORAGE": ""}
    with served(project, tmp_path / "log", WEB_CONCURRENCY="2", **limits) as server:
        answers = [send(server, GIVEN) for _ in range(6)]
        assert Counter(one.status for one in answers) == {204: 4, 429: 2}
        assert answers[-1].text == said(project, "TOO_MUCH_FEEDBACK")
        statuses = []
        for _ in range(5):
            with closing(stream(server.port, "Hello")) as response:
                response.read()
                statuses.append(response.status)
        assert statuses == [200] * 4 + [429]


@pytest.mark.parametrize("place", ["a folder that cannot be made", "a folder", "a full disk"])
def test_feedback_that_cannot_be_kept(project: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").symlink_to("/dev/full")
    path = {
        "a folder that cannot be made": "../file/feedback.jsonl",
        "a folder": "..",
        "a full disk": "../full",
    }[place]
    log = r"ERROR:\w+\.web\.feedback:Feedback cannot be kept: .+ FEEDBACK_FILE can name another file\.$"
    with served(project, tmp_path / "log", FEEDBACK_FILE=path, WEB_CONCURRENCY="1") as server:
        started = len(re.findall(log, server.log(), re.MULTILINE))
        assert started == 1
        failed = send(server, GIVEN)
        assert (failed.status, failed.text) == (507, said(project, "FEEDBACK_LOST"))
        assert len(re.findall(log, server.log(), re.MULTILINE)) == started + 1
        assert "Traceback" not in server.log()
        with closing(stream(server.port, "Hello")) as response:
            assert response.status == 200


# Fills a disk of 1,000 bytes, and sets free some of it.
FILLED = """
import resource
from pathlib import Path
from {package}.web import feedback

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
feedback.append(b"a" * 600 + b"\\n")
try:
    feedback.append(b"b" * 600 + b"\\n")
except OSError:
    feedback.append(b"c" * 100 + b"\\n")
"""


def test_disk_that_is_full_in_the_middle_of_a_line(project: Path) -> None:
    command = [sys.executable, "-c", FILLED.format(package=DEMO)]
    subprocess.run(command, cwd=project, env=os.environ | {"PYTHONPATH": "src"}, check=True)
    text = (project / "instance" / "feedback.jsonl").read_text()
    assert text == "a" * 600 + "\n" + "c" * 100 + "\n"


def from_feedback(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the project's command that makes questions of feedback.

    Args:
        project: The rendered project.
        options: Its options.
    """
    run = subprocess.run(
        [sys.executable, "evals/from_feedback.py", *options],
        cwd=project,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in run.stderr, run.stderr
    return run


def test_thumb_down_becomes_a_question(project: Path, tmp_path: Path) -> None:
    bad = {
        "words": 'It is "42".',
        "question": f"And then? {FORGED} 😀\n[[question]]",
        "before": [["Hello \\ there", f"Hi {FORGED}"]],
    }
    with served(project, tmp_path / "log") as server:
        for number, changes in enumerate(
            [
                {"verdict": "up"},
                {},
                bad,
                {"question": "Not any more?"},
            ]
        ):
            assert send(server, GIVEN | changes | {"id": f"{number:016x}"}).status == 204
        assert send(server, GIVEN | {"id": f"{3:016x}", "verdict": "none"}).status == 204
    with (project / "instance" / "feedback.jsonl").open("a") as file:
        file.write('{"half')

    questions = project / "evals" / "questions.toml"
    mine = questions.read_text(encoding="utf-8") + "# The end."
    questions.write_text(mine, encoding="utf-8")
    listed = from_feedback(project)
    assert "called bad: 2," in listed.stdout and "cannot be read: 1." in listed.stdout
    assert re.findall(r"^(\w{16})  ", listed.stdout, re.MULTILINE) == [f"{1:016x}", f"{2:016x}"]
    assert not re.search(r"[^\n -~😀…]", listed.stdout), "A terminal would act on it."
    assert questions.read_text(encoding="utf-8") == mine
    assert from_feedback(project, f"{0:016x}").returncode == 2

    assert from_feedback(project, f"{2:016x}").returncode == 0
    added = questions.read_text(encoding="utf-8").removeprefix(mine)
    assert added.startswith("\n\n# Feedback 0000000000000002")
    last = tomllib.loads(questions.read_text(encoding="utf-8"))["question"][-1]
    assert (last["ask"], last["before"]) == (bad["question"], bad["before"][0])
    run = evaluate(project)
    line = (mine + added).split("\n").index("[[question]]", mine.count("\n")) + 1
    assert run.code == 2 and run.path is None
    assert f"line {line}: nothing is expected: add one of words" in run.printed

    assert "toml: 1." in from_feedback(project, "all").stdout
    assert "toml: 0." in from_feedback(project, "all").stdout
    text = questions.read_text(encoding="utf-8")
    assert text.startswith(mine) and text.count("words = []") == 2
    questions.write_text(text.replace("words = []", 'words = ["would see"]'), encoding="utf-8")
    run = evaluate(project, "--times", "1")
    assert run.code == 0 and [one["passed"] for one in run.rows[-2:]] == [1, 1], run.printed


def test_many_lines_are_listed_shortly(project: Path) -> None:
    path = project / "instance" / "feedback.jsonl"
    path.parent.mkdir()
    lines = ({"time": "now", **GIVEN, "id": f"{number:016x}"} for number in range(50_000))
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    listed = from_feedback(project).stdout
    assert "called bad: 50000," in listed and len(listed) < 5000


def thumbs(chat: Chat) -> tuple[Locator, Locator]:
    """Return the thumbs of the last answer.

    Args:
        chat: The chat.
    """
    return chat.button("Good answer").last, chat.button("Bad answer").last


def expect_pressed(chat: Chat, up: bool, down: bool) -> None:
    """Wait until the thumbs of the last answer are as they should be.

    Args:
        chat: The chat.
        up: Whether the answer is called good.
        down: Whether it is called bad.
    """
    for thumb, is_pressed in zip(thumbs(chat), (up, down), strict=True):
        expect(thumb).to_have_attribute("aria-pressed", str(is_pressed).lower())


@BOTH_MODES
def test_thumbs(renders: dict[str, Path], tmp_path: Path, browser: Browser, mode: str) -> None:
    combination = named(f"demo_{mode}_full_feedback")
    project = shutil.copytree(renders[combination.name], tmp_path / combination.name)
    with opened(browser, project, combination, {}) as chat:
        page, keyboard = chat.page, chat.page.keyboard
        note, field = page.get_by_text(said(project, "RATED")), page.locator(".chat-words textarea")
        expect(chat.examples.first).to_be_visible()
        expect(note).to_be_hidden()
        first, second = chat.ending(FIRST), chat.ending(SECOND)
        chat.ask(FIRST, first)
        expect(note).to_be_visible()
        chat.ask(SECOND, first, second)
        up, down = thumbs(chat)
        expect(up).to_have_accessible_description(said(project, "RATED"))
        expect(chat.button("Bad answer")).to_have_count(2)
        expect_pressed(chat, False, False)

        reach(chat, "Bad answer", "Shift+Tab")
        keyboard.press("Enter")
        expect_pressed(chat, False, True)
        expect(down).to_be_focused()
        expect(chat.hint).to_have_text(said(project, "thanks"))
        expect(field).to_have_accessible_name(said(project, "words"))
        (line,) = kept(project)
        assert (line["verdict"], line["question"], line["words"]) == ("down", SECOND, "")
        assert line["answer"].endswith("a model answers here.")
        ((asked, answered),) = line["before"]
        assert asked == FIRST and f"> {FIRST}" in answered

        field.focus()
        keyboard.type("It is")
        switch_theme(chat, "light")
        expect(field).to_have_value("It is")
        field.focus()
        keyboard.press("End")
        keyboard.type(" wrong. ")
        keyboard.press("Enter")
        expect(field).to_have_count(0)
        expect(thumbs(chat)[1]).to_be_focused()
        assert kept(project)[-1] == line | {
            "words": "It is wrong.",
            "time": kept(project)[-1]["time"],
        }

        page.reload()
        chat.expect_answers(first, second)
        expect_pressed(chat, False, True)
        thumbs(chat)[0].click()
        expect_pressed(chat, True, False)
        expect(field).to_be_visible()
        field.press("Escape")
        expect(field).to_have_count(0)
        expect(thumbs(chat)[0]).to_be_focused()
        thumbs(chat)[0].click()
        expect_pressed(chat, False, False)
        expect(chat.hint).to_have_text(said(project, "taken-back"))
        assert [(one["verdict"], one["words"]) for one in kept(project)[2:]] == [
            ("up", ""),
            ("none", ""),
        ]
        assert len({one["id"] for one in kept(project)}) == 1
        page.reload()
        expect_pressed(chat, False, False)

        thumbs(chat)[1].click()
        expect(field).to_be_visible()
        chat.button("New chat").click()
        chat.expect_empty()
        chat.ask(FIRST, first)
        expect_pressed(chat, False, False)
        expect(field).to_have_count(0)


def test_last_verdict_wins(project: Path, browser: Browser) -> None:
    """Hold the first verdict back until the second has been given."""
    with opened(browser, project, named(DEMO), {}) as chat:
        chat.ask(FIRST, chat.ending(FIRST))
        routes: list[Route] = []

        def hold_first(route: Route) -> None:
            routes.append(route)
            if len(routes) > 1:
                route.continue_()

        chat.page.route("**/chat/feedback", hold_first)
        up, down = thumbs(chat)
        up.click()
        processes.until(lambda: chat.page.wait_for_timeout(20) or routes)
        down.click()
        expect_pressed(chat, False, True)
        chat.page.wait_for_timeout(200)
        assert len(routes) == 1, "The second overtakes the first."
        routes[0].continue_()
        expect(chat.hint).to_have_text(said(project, "thanks"))
        processes.until(lambda: chat.page.wait_for_timeout(20) or len(kept(project)) == 2)
        expect_pressed(chat, False, True)
        assert [line["verdict"] for line in kept(project)] == ["up", "down"]


def test_verdict_that_is_not_kept_is_taken_back(project: Path, browser: Browser) -> None:
    with opened(browser, project, named(DEMO), {}, expected=NO_SERVER) as chat:
        chat.ask(FIRST, chat.ending(FIRST))
        up, down = thumbs(chat)
        up.click()
        expect_pressed(chat, True, False)
        path = project / "instance" / "feedback.jsonl"
        expect(chat.hint).to_have_text(said(project, "thanks"))
        path.unlink()
        path.mkdir()
        down.click()
        expect(chat.alert).to_have_text(said(project, "FEEDBACK_LOST"))
        expect_pressed(chat, True, False)
        field = chat.page.locator(".chat-words textarea")
        field.fill("Words")
        field.press("Enter")
        expect(chat.alert).to_have_text(said(project, "FEEDBACK_LOST"))
        expect(field).to_have_value("Words")
        path.rmdir()
        field.press("Enter")
        expect(field).to_have_count(0)
        expect_pressed(chat, False, True)
        (line,) = kept(project)
        assert (line["verdict"], line["words"]) == ("down", "Words")
        chat.page.route("**/chat/feedback", lambda route: route.abort())
        up.click()
        expect(chat.alert).to_have_text(said(project, "unreachable"))
        expect_pressed(chat, False, True)


@BOTH_MODES
def test_thumbs_beside_data(
    renders: dict[str, Path], tmp_path: Path, browser: Browser, mode: str
) -> None:
    """The chart stays as it is, the query goes along, and the page is no wider than a phone."""
    combination = named(f"demo_{mode}_full_data_feedback")
    project = shutil.copytree(renders[combination.name], tmp_path / combination.name)
    with opened(browser, project, combination, {}) as chat:
        chat.page.set_viewport_size({"width": 390, "height": 800})
        chat.send("Which continent lives longest?")
        expect(chat.usage).to_have_count(1, timeout=LOADED)
        chart = chat.page.locator(".js-plotly-plot")
        expect(chart).to_be_visible(timeout=LOADED)
        chart.evaluate("chart => (chart.isOld = true)")
        thumbs(chat)[1].click()
        expect_pressed(chat, False, True)
        expect(chat.hint).to_have_text(said(project, "thanks"))
        assert chart.evaluate("chart => chart.isOld")
        (line,) = kept(project)
        assert "query: SELECT" in line["answer"]
        width = chat.page.evaluate("document.documentElement.scrollWidth")
        assert width == 390, "The page is wider than a phone."
