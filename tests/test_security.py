"""What strangers try with an app: foreign names and sites, slow and vanished clients, forged lines."""

import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import faults
import processes
import pytest
from combinations import COMBINATIONS, WITH_FILES, Combination
from faults import ENDLESS, PREFIX, Call, End, FaultyProvider, Reply
from in_browser import (
    LOADED,
    OPTIONS,
    PROGRAMS,
    is_own,
    named,
    opened,
    said,
    visited,
)
from playwright.sync_api import Browser, expect
from test_access import BOTH_SERVERS, ONE_SHOT, STREAMING, App, Serve, routes
from test_endpoint import as_clicked
from test_page import switch_theme
from test_serving import Gunicorn, answers, served, stream
from test_wire import constant, part_of

if sys.platform == "win32":
    pytest.skip("gunicorn does not run on Windows.", allow_module_level=True)

MODELS = [
    one for one in COMBINATIONS if one["provider"] == "anthropic" and one["multi_turn"] == "full"
]
OWN_HEADERS = {"content-security-policy": "sandbox", "x-frame-options": "SAMEORIGIN"}
OWN_HEADERS |= {"referrer-policy": "origin"}
LOOPBACK = ("127.0.0.1", "localhost:8050", "[::1]")
CLAUDE = next(one for one in MODELS if one["streaming"])
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


def hurried(project: Path, folder: Path, **seconds: int) -> Path:
    """Return a copy of a project whose deadlines are shorter, so that a test need not wait long.

    Args:
        project: The rendered project.
        folder: Where the copy is made.
        seconds: The constants of `web/clients.py` to change.
    """
    copy = shutil.copytree(project, folder / "project")
    (clients,) = copy.glob("src/*/web/clients.py")
    text = clients.read_text(encoding="utf-8")
    for name, value in seconds.items():
        text, changed = re.subn(rf"(?m)^{name} = \d+", f"{name} = {value}", text)
        assert changed == 1
    clients.write_text(text, encoding="utf-8")
    return copy


@BOTH_SERVERS
def test_foreign_names_are_refused(renders: Mapping[str, Path], serve: Serve) -> None:
    own = [
        "127.0.0.1",
        "localhost:8050",
        "LOCALHOST",
        "[::1]:80",
        "192.0.2.7:8050",
        "[2001:db8::1]",
    ]
    own.append(socket.gethostname().upper())
    foreign = [
        "evil.test",
        "127.0.0.1.evil.test",
        "localhost.evil.test:8050",
        "2130706433",
        "0x7f.1",
    ]
    foreign += ["ann@localhost", "localhost, evil.test", "[::1", "localhost:", "", "[evil.test]"]
    paths = (("GET", "/"), ("POST", "/chat"), ("GET", "/_dash-layout"), ("GET", "/healthz/"))
    with serve(renders, ONE_SHOT, TRUSTED_PROXIES="1") as app:
        for name in own:
            assert app.send("GET", "/", {"Host": name}).status == 200, name
        for name in foreign:
            for method, path in paths:
                refused = app.send(method, path, {"Host": name})
                assert (refused.status, refused.text) == (400, app.sentence("FOREIGN_HOST")), name
            assert app.send("GET", "/healthz", {"Host": name}).status == 200
        # A page of another site can set this header, but not the first one.
        forwarded = {"Host": "evil.test", "X-Forwarded-Host": "localhost"}
        assert app.send("GET", "/", forwarded).status == 400
        assert app.logged(
            r"(?m)^WARNING:\S+:A request to 'evil\.test' was refused: .*ALLOWED_HOSTS"
        )


def test_allowed_names_are_the_only_ones(renders: Mapping[str, Path]) -> None:
    with App.served(renders, ONE_SHOT, ALLOWED_HOSTS="Chat.example.com, [2001:db8::1]") as app:
        for name in ("chat.example.com", "CHAT.example.com:8443", "[2001:db8::1]", *LOOPBACK):
            assert app.send("GET", "/", {"Host": name}).status == 200, name
        for name in ("192.0.2.7", socket.gethostname(), "example.com", "x.chat.example.com"):
            assert app.send("GET", "/", {"Host": name}).status == 400, name


def test_names_are_checked_before_all_else(renders: Mapping[str, Path], tmp_path: Path) -> None:
    """Let an owner's own function answer each request, on a machine whose name has capitals."""
    project = shutil.copytree(renders[ONE_SHOT.name], tmp_path / ONE_SHOT.name)
    path = project / "src" / ONE_SHOT.name / "app.py"
    text = path.read_text(encoding="utf-8")
    own = (
        f"app.dash.server.before_request(lambda: ('An own answer', {OWN_HEADERS}))\nprotect(app)\n"
    )
    text = text.replace("protect(app)\n", own)
    path.write_text(
        f"import socket\nsocket.gethostname = lambda: 'Ann-PC'\n{text}", encoding="utf-8"
    )
    with App.served({ONE_SHOT.name: project}, ONE_SHOT) as app:
        answer = app.send("GET", "/", {"Host": "ann-pc:8050"})
        assert answer.text == "An own answer"
        assert answer.headers.items() >= OWN_HEADERS.items(), "What an owner has set stands."
        assert app.send("GET", "/", {"Host": "evil.test"}).text == app.sentence("FOREIGN_HOST")


@BOTH_SERVERS
def test_pages_of_other_sites_change_nothing(renders: Mapping[str, Path], serve: Serve) -> None:
    own: list[dict[str, str]] = [
        {},
        {"Origin": "http://localhost:8050"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://localhost:8050"},
        {"Sec-Fetch-Site": "none"},
    ]
    other = [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "x")]
    other.append({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8050"})
    origins = ("null", "http://localhost", "http://localhost:81", "https://evil.test", "x")
    other += [{"Origin": origin} for origin in origins]
    named = {"Host": "localhost:8050"}
    with serve(renders, ONE_SHOT) as app:
        for headers in own:
            assert app.ask(named | headers).status == 200, headers
        for headers in other:
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                for path in ("/chat", "/_dash-update-component", "/no/such/page"):
                    refused = app.send(method, path, named | headers)
                    expected = (403, app.sentence("OTHER_SITE"))
                    assert (refused.status, refused.text) == expected, (method, path, headers)
            for method in ("GET", "HEAD", "OPTIONS"):
                assert app.send(method, "/", named | headers).status == 200, (method, headers)
            assert not app.logged("outcome=disconnected")


def test_headers_stand_on_every_answer(renders: Mapping[str, Path]) -> None:
    paths = routes(renders[ONE_SHOT.name], ONE_SHOT.name)
    with App.served(renders, ONE_SHOT) as app:
        for path in [*paths, "/no/such/page", "/charts"]:
            for method, host in (("GET", "localhost"), ("POST", "localhost"), ("GET", "evil.test")):
                headers = app.send(method, path, {"Host": host}).headers
                assert headers.items() >= HEADERS.items(), (method, path)
                assert "default-src 'none'" in headers["content-security-policy"]
                assert "'unsafe-eval'" not in headers["content-security-policy"]
        embedded = "https://intranet.example.com"
    with App.served(renders, ONE_SHOT, FRAME_ANCESTORS=embedded, ALLOW_WEBGL_CHARTS="on") as app:
        headers = app.send("GET", "/").headers
        assert "x-frame-options" not in headers
        assert f"frame-ancestors {embedded}" in headers["content-security-policy"]
        assert re.search("script-src [^;]* 'unsafe-eval'", headers["content-security-policy"])


def test_chat_alone_protects_its_own_route(renders: Mapping[str, Path], tmp_path: Path) -> None:
    """Check what `add_chat` does for an app that has a policy of its own."""
    project = shutil.copytree(renders[ONE_SHOT.name], tmp_path / ONE_SHOT.name)
    path = project / "src" / ONE_SHOT.name / "app.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("protect(app)\n", ""), encoding="utf-8")
    with App.served({ONE_SHOT.name: project}, ONE_SHOT) as app:
        page = app.send("GET", "/", {"Host": "evil.test", "Origin": "https://evil.test"})
        assert page.status == 200
        assert not page.headers.keys() & {"content-security-policy", *HEADERS}
        assert app.ask({"Host": "evil.test"}).text == app.sentence("FOREIGN_HOST")
        assert app.ask({"Origin": "https://evil.test"}).text == app.sentence("OTHER_SITE")
        assert app.ask().status == 200


def test_workers_count_together(renders: Mapping[str, Path], tmp_path: Path) -> None:
    project = shutil.copytree(renders[ONE_SHOT.name], tmp_path / "project")
    limits = {
        "CHAT_RATE_LIMIT": "off",
        "CHAT_DAILY_LIMIT": "50",
        "RATE_LIMIT_STORAGE": "",
        "WEB_CONCURRENCY": "4",
    }

    def ask(server: Gunicorn) -> int:
        with closing(stream(server.port, "Hello")) as response:
            response.read()
            return response.status

    with served(project, tmp_path / "log", **limits) as server, ThreadPoolExecutor(20) as users:
        statuses = list(users.map(ask, [server] * 200))
        assert (statuses.count(200), statuses.count(429)) == (50, 150)
    with served(project, tmp_path / "again", **limits) as server:
        assert ask(server) == 429, "A restart has forgotten the count."


HITS = """
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

from PACKAGE.web.counts import SQLiteStorage


def hit(storage: SQLiteStorage) -> bool:
    try:
        return storage.acquire_entry("user", 500, 600)
    except sqlite3.OperationalError as error:
        assert "database is locked" in str(error)  # on a busy machine, for over a second
        return False


def hits(process: int) -> int:
    storage = SQLiteStorage("sqlite:///hits.sqlite")
    with ThreadPoolExecutor(4) as threads:
        return sum(threads.map(hit, [storage] * 500))


with get_context("fork").Pool(4) as pool:
    print(sum(pool.map(hits, range(4))))
"""


def test_counts_are_exact_over_processes_and_threads(
    renders: Mapping[str, Path], tmp_path: Path
) -> None:
    path = {"PYTHONPATH": str(renders[ONE_SHOT.name] / "src")}
    script = HITS.replace("PACKAGE", ONE_SHOT.name)
    counted = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | path,
        capture_output=True,
        text=True,
    )
    assert (counted.stdout, counted.stderr) == ("500\n", "")


@pytest.mark.parametrize("place", ["a folder that cannot be made", "a full disk", "no database"])
def test_counts_that_cannot_be_kept(
    renders: Mapping[str, Path], tmp_path: Path, place: str
) -> None:
    project = shutil.copytree(renders[ONE_SHOT.name], tmp_path / ONE_SHOT.name)
    (tmp_path / "file").write_text("This is no database." * 1000)
    address = {
        "a folder that cannot be made": "sqlite:///../file/instance/counts.sqlite",
        "a full disk": "sqlite:////dev/full",
        "no database": "sqlite:///../file",
    }[place]
    limits = {"CHAT_RATE_LIMIT": "2/minute", "RATE_LIMIT_STORAGE": address}
    with App.served({ONE_SHOT.name: project}, ONE_SHOT, **limits) as app:
        assert [app.ask().status for _ in range(4)] == [200, 200, 429, 429]
        assert app.logged("Rate limit storage unreachable") == 1
        assert not app.logged("Traceback")
    # Money is another matter: what cannot be counted is not spent.
    with App.served({ONE_SHOT.name: project}, ONE_SHOT, **limits, CHAT_DAILY_TOKENS="9999") as app:
        refused = app.ask()
        assert (refused.status, refused.text) == (429, app.sentence("NOT_COUNTED"))
        assert app.logged("The tokens of today cannot be counted") == 1


def tokens(project: Path) -> int:
    """Return how many tokens a project has counted.

    Args:
        project: The rendered project.
    """
    with closing(sqlite3.connect(project / "instance" / "counts.sqlite")) as counts:
        return int(counts.execute("SELECT SUM(total) FROM totals").fetchone()[0])


def test_tokens_are_reserved_and_settled(renders: Mapping[str, Path], tmp_path: Path) -> None:
    project = shutil.copytree(renders[CLAUDE.name], tmp_path / CLAUDE.name)
    limits = {"CHAT_DAILY_TOKENS": "13108", "RATE_LIMIT_STORAGE": ""}
    with (
        faults.answering("anthropic") as provider,
        App.served({CLAUDE.name: project}, CLAUDE, **limits, **provider.environment()) as app,
    ):
        for count in range(1, 4):
            assert app.ask().status == 200
            processes.until(lambda count=count: tokens(project) == count * (12 + 9))
        assert (
            app.ask(text=PREFIX + "422 invalid_request_error: max_tokens: must not be so").status
            == 200
        )
        assert app.ask(text=PREFIX + "503, a page").status == 200
        assert tokens(project) == 3 * (12 + 9), "What is refused costs nothing."
        assert app.ask(text=PREFIX + "closed after some tokens").status == 200
        unfinished = 12 + 4096
        assert tokens(project) == 3 * (12 + 9) + unfinished, "What is written may be the longest."
        assert app.ask(text=PREFIX + "no reply").status == 200
        reserve = tokens(project) - 3 * (12 + 9) - unfinished
        assert 4096 < reserve < 4096 + 200, "Its longest answer, and a third of the characters."
        assert app.ask(text="x" * 3000).status == 429, "1,000 tokens to read are too many."
        assert app.ask().status == 200, "What was refused has been counted."
        assert app.ask(text=PREFIX + "no reply").status == 200
        refused = app.ask()
        assert (refused.status, refused.text) == (429, app.sentence("DAILY_TOKENS"))
        assert len(provider.calls) == 6 + 3 * 2, "What is refused reaches the provider."


def test_reserve_covers_what_a_model_reads(renders: Mapping[str, Path], tmp_path: Path) -> None:
    combination = next(
        one for one in WITH_FILES if (one["provider"], one["multi_turn"]) == ("anthropic", "full")
    )
    name = combination.name
    project = shutil.copytree(renders[name], tmp_path / name)
    prompt = constant(project / "src" / name / "dashboard.py", "SYSTEM_PROMPT")
    text = f"{PREFIX}no reply{'x' * 300}"
    files = {"dot.gif": "data:image/gif;base64,R0lGODlh" + "A" * 40_000}
    files["notes.txt"] = "data:text/plain;base64," + "QUFB" * 1000
    parts = [part_of({"filename": one, "content": content}) for one, content in files.items()]
    question = {"role": "user", "content": [*parts, {"type": "text", "text": text}]}
    limits = {"CHAT_DAILY_TOKENS": "9000", "RATE_LIMIT_STORAGE": ""}
    with (
        faults.answering("anthropic") as provider,
        App.served({name: project}, combination, **limits, **provider.environment()) as app,
    ):
        assert app.send("POST", "/chat", body={"messages": [question]}).status == 200
        read = len(prompt) // 3 + len(text) // 3
        picture, notes = map(len, files.values())
        assert tokens(project) == 4096 + read + picture // 100 + notes // 4


class LockingProvider(FaultyProvider):
    """A provider that answers while the file of the counts cannot be written.

    Attributes:
        counts: The file.
        lock: What keeps it locked.
    """

    counts: Path
    lock: sqlite3.Connection

    def reply(self, call: Call) -> Reply:
        """Lock the file, and return what to send back.

        Args:
            call: The request.
        """
        self.lock = sqlite3.connect(self.counts, isolation_level=None, check_same_thread=False)
        self.lock.execute("BEGIN IMMEDIATE")
        return super().reply(call)


def test_tokens_stay_reserved_if_they_cannot_be_settled(
    renders: Mapping[str, Path], tmp_path: Path
) -> None:
    project = shutil.copytree(renders[CLAUDE.name], tmp_path / CLAUDE.name)
    provider = LockingProvider("anthropic")
    provider.counts = project / "instance" / "counts.sqlite"
    provider.open()
    limits = {"CHAT_DAILY_TOKENS": "9000", "RATE_LIMIT_STORAGE": ""}
    with App.served({CLAUDE.name: project}, CLAUDE, **limits, **provider.environment()) as app:
        assert "RUN_FINISHED" in app.ask().text
        processes.until(lambda: answers(app.log()))
        assert app.logged("The tokens of an answer could not be counted") == 1
        assert [one["outcome"] for one in answers(app.log())] == ["complete"]
        provider.lock.close()
        assert tokens(project) > 4096
    provider.stop()


def test_tokens_are_exact_over_workers(renders: Mapping[str, Path], tmp_path: Path) -> None:
    """Let 40 questions come at once, none of which is answered before all have been counted."""
    project = shutil.copytree(renders[CLAUDE.name], tmp_path / "project")
    limits = {
        "CHAT_DAILY_TOKENS": "45000",
        "RATE_LIMIT_STORAGE": "",
        "WEB_CONCURRENCY": "4",
    }
    with (
        faults.answering("anthropic") as provider,
        served(project, tmp_path / "log", **limits, **provider.environment()) as server,
        ThreadPoolExecutor(40) as users,
    ):
        asked = list(users.map(lambda _: stream(server.port, PREFIX + ENDLESS), range(40)))
        assert sum(response.status == 200 for response in asked) == 45000 // 4200
        for response in asked:
            response.close()


class SilentProvider(FaultyProvider):
    """A provider that says a few words or none, and then nothing."""

    says_words = False

    def reply(self, call: Call) -> Reply:
        """Return what to send back.

        Args:
            call: The request.
        """
        api = faults.APIS[self.name](call.body, call.key, call.path)
        if self.says_words:
            return api.stream([*api.begin(), *api.tokens("Words")], End.SILENCE)
        return Reply(None, end=End.SILENCE)


@pytest.mark.parametrize(
    ("combination", "says_words"),
    [
        (one, says_words)
        for one in MODELS
        for says_words in (False, True)
        if one["streaming"] or not says_words  # one-shot answers have no first words
    ],
    ids=lambda one: one.label if isinstance(one, Combination) else None,
)
def test_vanished_client_is_not_paid_for(
    renders: Mapping[str, Path], tmp_path: Path, combination: Combination, says_words: bool
) -> None:
    provider = SilentProvider("anthropic")
    provider.says_words = says_words
    provider.open()
    project = renders[combination.name]
    with served(project, tmp_path / "log", **provider.environment()) as server:
        response = stream(server.port, "Hello")
        processes.until(lambda: provider.calls)
        while says_words and b"Words" not in response.readline():
            pass
        (call,) = provider.calls
        response.close()
        assert call.closed.wait(2), "The provider still talks to nobody."
        processes.until(lambda: answers(server.log()))
        assert [one["outcome"] for one in answers(server.log())] == ["disconnected"]
        assert "Traceback" not in server.log()
    provider.stop()


def test_client_that_sends_more_is_not_gone(renders: Mapping[str, Path], tmp_path: Path) -> None:
    body = b'{"messages": [{"role": "user", "content": "Hello"}]}'
    head = f"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n\r\n"
    following = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with (
        served(renders[STREAMING.name], tmp_path / "log") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as client,
        client.makefile("rb") as heard,
    ):
        client.sendall(head.encode() + body)
        while b"RUN_STARTED" not in heard.readline():
            pass
        client.sendall(following)
        rest = heard.read()
        assert b"RUN_FINISHED" in rest and rest.endswith(b"ok")


class FastProvider(FaultyProvider):
    """A provider that says more than fits into the buffers between an app and its client."""

    def reply(self, call: Call) -> Reply:
        """Return what to send back.

        Args:
            call: The request.
        """
        api = faults.APIS[self.name](call.body, call.key, call.path)
        return api.stream([*api.begin(), api.token("x" * 20_000)], End.ENDLESS)


def test_reader_that_never_reads_is_left(renders: Mapping[str, Path], tmp_path: Path) -> None:
    project = hurried(renders[CLAUDE.name], tmp_path, READER_SECONDS=2)
    provider = FastProvider("anthropic")
    provider.open()
    with (
        served(project, tmp_path / "log", **provider.environment()) as server,
        socket.socket() as reader,
    ):
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", server.port))
        body = b'{"messages": [{"role": "user", "content": "Hello"}]}'
        head = f"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        reader.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        processes.until(lambda: provider.calls)
        assert provider.calls[0].closed.wait(10), "It is read for somebody who does not read."
    provider.stop()


def connect(port: int, count: int, request: bytes, connections: ExitStack) -> list[socket.socket]:
    """Open many connections, and send the same on each.

    Args:
        port: Where the app is.
        count: How many connections to open.
        request: What to send.
        connections: Closes them.
    """
    opened = []
    for _ in range(count):
        opened.append(connections.enter_context(socket.create_connection(("127.0.0.1", port))))
        opened[-1].sendall(request)
    return opened


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open as many files as it may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("path", ["/chat", "/_dash-update-component"])
def test_slow_bodies_are_given_up(renders: Mapping[str, Path], tmp_path: Path, path: str) -> None:
    """Send more bodies than all workers hold connections, none of which ends, byte by byte."""
    deadline = 3
    project = hurried(renders[ONE_SHOT.name], tmp_path, BODY_SECONDS=deadline)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: 1000\r\n\r\n{{".encode()
    with served(project, tmp_path / "log") as server, ExitStack() as connections:
        begin = time.monotonic()
        opened = connect(server.port, 2100, request, connections)
        is_over = threading.Event()

        def drip() -> None:
            while not is_over.wait(1):
                for one in opened:
                    with contextlib.suppress(OSError):
                        one.sendall(b" ")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            # Each worker gives up the first ones before it takes the rest.
            while time.monotonic() < begin + 2 * deadline + 8:
                with contextlib.suppress(TimeoutError, ConnectionError, http.client.HTTPException):
                    asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=1)
                    asked.request("GET", "/healthz")
                    if asked.getresponse().status == 200:
                        break
            else:
                pytest.fail("The app has not answered within a second.")
            answered = opened[0].recv(65536).split(b"\r\n")[0]
            assert answered == b"HTTP/1.1 408 REQUEST TIMEOUT"
        finally:
            is_over.set()
            dripping.join()
        assert "Traceback" not in server.log()


@pytest.mark.usefixtures("many_files")
def test_idle_connections_are_closed(renders: Mapping[str, Path], tmp_path: Path) -> None:
    with served(renders[ONE_SHOT.name], tmp_path / "log") as server, ExitStack() as connections:
        connect(server.port, 1000, b"", connections)
        connect(server.port, 1000, b"GET / HTTP/1.1\r\nHost: loc", connections)
        begin = time.monotonic()
        with closing(stream(server.port, "Hello")) as response:
            assert b"RUN_FINISHED" in response.read()
        assert time.monotonic() - begin < 30, "They are closed later than after 5 seconds."


def sockets(process: int) -> int:
    """Return how many sockets a process has open.

    Args:
        process: Its number.
    """
    count = 0
    for file in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(file).startswith("socket:")
    return count


def test_worker_that_is_killed_takes_nobody_else_along(
    renders: Mapping[str, Path], tmp_path: Path
) -> None:
    project = shutil.copytree(renders[STREAMING.name], tmp_path / "project")
    environment = {"CHAT_DAILY_LIMIT": "10000", "RATE_LIMIT_STORAGE": ""}
    with served(project, tmp_path / "log", **environment) as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        workers = [int(one) for one in children.read_text().split()]
        idle = {worker: sockets(worker) for worker in workers}
        responses = []
        while any(sockets(worker) == count for worker, count in idle.items()):
            responses.append(stream(server.port, "Hello " * 500))
        os.kill(workers[0], signal.SIGKILL)
        ends = []
        for response in responses:
            with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
                ends.append(b"RUN_FINISHED" in response.read())
        assert ends and all(ends) and len(ends) < len(responses)
        for _ in range(20):
            with closing(stream(server.port, "Hello")) as response:
                assert b"RUN_FINISHED" in response.read()


@BOTH_SERVERS
def test_no_line_of_the_log_is_forged(
    renders: Mapping[str, Path], tmp_path: Path, serve: Serve
) -> None:
    """Let a question stand in an exception, as it does where a provider repeats what it refuses."""
    combination = named("demo_one_shot_full_file_upload")
    project = shutil.copytree(renders[combination.name], tmp_path / combination.name)
    path = project / "src" / combination.name / "chat.py"
    head, tail = path.read_text(encoding="utf-8").split("        return ", 1)
    raised = 'words = list(words)\n        raise ValueError(messages[-1]["content"])'
    path.write_text(f"{head}        {raised}\n        return {tail}", encoding="utf-8")
    forged = "x\nINFO:forged.web.answering:answer outcome=complete\r\n\x1b[2Jred\u2028\u202egone"
    with serve({combination.name: project}, combination) as app:
        assert app.ask(text=forged).status == 200
        assert app.logged("INFO:forged") == 1, "The test does not reach the log."
        file = part_of({"filename": forged, "content": "data:;base64,UEsDBA=="})
        question = {"role": "user", "content": [file, {"type": "text", "text": "What is it?"}]}
        assert app.send("POST", "/chat", body={"messages": [question]}).status == 200
        assert app.logged("INFO:forged") == 2
        for callback in json.loads(app.send("GET", "/_dash-dependencies").text):
            app.send("POST", "/_dash-update-component", body=as_clicked(callback, forged))
        assert app.logged("INFO:forged") > 2
        app.send("GET", "/_dash-component-suites/x%0aINFO:forged/a.js")
        app.send("GET", "/%0aINFO:x", {"Host": "localhost", "User-Agent": "\x1b[2J"})
        app.send("POST", "/", {"Origin": "https://evil.test\u0085INFO:forged"})
        assert not app.logged("(?m)^INFO:forged")
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", re.sub(r"\x1b\[\d+m", "", app.log())
        )  # Flask's colours


PAGES = """

def create_control_pages() -> list[vm.Page]:
    import pandas as pd
    from vizro.actions import export_data

    data_manager["days"] = pd.DataFrame(
        {"day": pd.date_range("2026-01-01", periods=40), "count": range(40), "kind": list("ab") * 20}
    )
    bars = px.bar("days", x="day", y="count", color="kind")
    return [
        vm.Page(
            title="Controls",
            components=[
                vm.Graph(id="bars", figure=bars),
                vm.Card(text="**Card** [link](/charts) $x^2$ ![picture](/assets/none.png)"),
                vm.Button(text="Export", actions=[export_data()]),
            ],
            controls=[
                vm.Filter(column="day"),
                vm.Filter(column="count"),
                vm.Filter(column="count", selector=vm.Slider()),
                vm.Filter(column="kind"),
                vm.Filter(column="kind", selector=vm.RadioItems()),
                vm.Filter(column="kind", selector=vm.Checklist()),
                vm.Parameter(targets=["bars.opacity"], selector=vm.Slider(min=0, max=1, value=1)),
            ],
        ),
        vm.Page(
            title="Tabs",
            components=[
                vm.Tabs(
                    tabs=[
                        vm.Container(title=one, components=[vm.Graph(figure=bars)])
                        for one in ("First", "Second")
                    ]
                )
            ],
        ),
        vm.Page(
            title="WebGL",
            components=[
                vm.Graph(figure=px.scatter("days", x="day", y="count", render_mode="webgl"))
            ],
        ),
    ]
"""


@pytest.fixture(scope="module")
def controls(renders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, with pages that hold each kind of control and component of Vizro."""
    project = tmp_path_factory.mktemp("controls") / STREAMING.name
    shutil.copytree(renders[STREAMING.name], project)
    path = project / "src" / STREAMING.name / "dashboard.py"
    text = path.read_text(encoding="utf-8")
    pages = "            create_charts_page(),\n"
    assert pages in text
    with_controls = text.replace(pages, f"{pages}            *create_control_pages(),\n")
    path.write_text(with_controls + PAGES, encoding="utf-8")
    return project


def test_policy_breaks_nothing_of_the_dashboard(controls: Path, browser: Browser) -> None:
    """Use each control of Vizro; `opened` fails where the policy is violated."""
    with opened(browser, controls, STREAMING, {}, expected="/assets/none.png") as chat:
        page = chat.page
        page.get_by_role("link", name="Charts").click()
        chart = page.locator(".js-plotly-plot").first
        expect(chart.locator(".legend .traces")).to_have_count(5, timeout=LOADED)
        chart.hover()
        with page.expect_download() as download:
            chart.locator('.modebar-btn[data-attr="toImage"], .modebar-btn').first.click()
        assert download.value.suggested_filename.endswith(".png")
        page.locator(".ag-header-cell-label").first.click()
        page.get_by_role("link", name="Controls").click()
        kinds = page.locator("#bars .legend .traces")
        expect(kinds).to_have_text(["a"], timeout=LOADED)
        page.get_by_role("radio", name="b").click()
        expect(kinds).to_have_count(0, timeout=LOADED)
        for date in page.locator(".mantine-DatePickerInput-input").all():
            date.click()
            page.keyboard.press("Escape")
        with page.expect_download() as download:
            page.get_by_role("button", name="Export").click()
        assert download.value.suggested_filename.endswith(".csv")
        page.get_by_role("link", name="Tabs").click()
        page.get_by_role("tab", name="Second").click()
        expect(page.locator(".js-plotly-plot:visible .main-svg").first).to_be_visible(
            timeout=LOADED
        )
        switch_theme(chat, "light")
        page.get_by_role("link", name="Chat").click()
        chat.ask("Hello", "Choose another provider with copier update, and a model answers here.")


@contextlib.contextmanager
def site(folder: Path) -> Iterator[int]:
    """Serve another site, and give its port.

    Args:
        folder: Its files.
    """
    pages = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


# What the text of an answer would try if it got into the page, by what forbids it.
FORBIDDEN = {
    "img-src": "new Image().src = url",
    "media-src": "new Audio(url).load()",
    "connect-src": "fetch(url)",
    "font-src": "new FontFace('other', `url(${url})`).load()",
    "style-src-elem": "add('link', { rel: 'stylesheet', href: url })",
    "script-src-elem": "add('script', { src: url })",
    "script-src-attr": "add('div', { innerHTML: `<img src='data:,' onerror='executed = true'>` })",
    "script-src": "eval('executed = true')",
    "frame-src": "add('iframe', { src: url })",
    "object-src": "add('object', { data: url })",
    "worker-src": "new Worker('/assets/worker.js')",
    "base-uri": "add('base', { href: url })",
    "form-action": "add('form', { action: url }).submit()",
}
TRY = """(url) => new Promise((resolve) => {
  const violated = ({ effectiveDirective }) => resolve(effectiveDirective);
  document.addEventListener("securitypolicyviolation", violated, { once: true });
  const add = (kind, props) => document.body.appendChild(Object.assign(document.createElement(kind), props));
  setTimeout(() => { SCRIPT; });
  setTimeout(resolve, 5000, "nothing");
})"""


def test_page_reaches_no_other_server(
    renders: Mapping[str, Path], browser: Browser, tmp_path: Path
) -> None:
    with (
        site(tmp_path) as other,
        processes.serving(renders[STREAMING.name], STREAMING.name, {}) as address,
        browser.new_context() as context,
    ):
        answered: list[str] = []
        context.on("response", lambda response: answered.append(response.url))
        page = context.new_page()
        page.goto(address)
        url = f"http://127.0.0.1:{other}/"
        asked = {
            one: page.evaluate(TRY.replace("SCRIPT", script), url)
            for one, script in FORBIDDEN.items()
        }
        assert asked == {one: one for one in FORBIDDEN}
        assert page.evaluate("window.executed") is None
        assert answered and all(is_own(one, address) for one in answered)


@pytest.mark.parametrize(("setting", "is_drawn"), [("off", False), ("on", True)])
def test_webgl_is_the_owners_choice(
    controls: Path, browser: Browser, setting: str, is_drawn: bool
) -> None:
    allowed = {"ALLOW_WEBGL_CHARTS": setting}
    with opened(browser, controls, STREAMING, allowed, expected="script-src eval") as chat:
        chat.page.get_by_role("link", name="WebGL").click()
        expect(chat.page.locator(".js-plotly-plot canvas").first).to_be_attached(timeout=LOADED)
        refused = chat.page.get_by_text("WebGL is not supported by your browser")
        expect(refused).to_have_count(0) if is_drawn else expect(refused).not_to_have_count(0)


@contextlib.contextmanager
def names(browser: Browser) -> Iterator[Browser]:
    """Start a browser for which chat.test and evil.test lead to this machine.

    Args:
        browser: The browser of the other tests.
    """
    rules = "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    args = [*(one for one in OPTIONS if "resolver" not in one), rules]
    started = browser.browser_type.launch(executable_path=program, args=args)
    try:
        yield started
    finally:
        started.close()


def test_other_sites_reach_nothing_from_a_browser(
    renders: Mapping[str, Path], browser: Browser, tmp_path: Path
) -> None:
    """Open the app by a foreign name, in a frame, and by a form of a page that is not its own."""
    (tmp_path / "page.html").write_text(
        "<iframe></iframe><form method='post' enctype='text/plain' target='_self'></form>"
    )
    allowed = {"ALLOWED_HOSTS": "chat.test"}
    with (
        site(tmp_path) as other,
        names(browser) as chromium,
        processes.serving(renders[STREAMING.name], STREAMING.name, allowed) as address,
    ):
        port = address.rpartition(":")[2]
        # Under a name and plain HTTP, browsers send no Sec-Fetch-Site: the origin has to do.
        with visited(chromium, f"http://chat.test:{port}", STREAMING) as chat:
            chat.ask(
                "Hello", "Choose another provider with copier update, and a model answers here."
            )
        page = chromium.new_page()
        page.goto(f"http://evil.test:{port}/")
        assert page.inner_text("body") == said(renders[STREAMING.name], "FOREIGN_HOST")
        page.goto(f"http://evil.test:{other}/page.html")
        with page.expect_console_message(lambda one: "frame-ancestors" in one.text):
            page.eval_on_selector("iframe", f"frame => frame.src = 'http://chat.test:{port}/'")
        page.eval_on_selector(
            "form", f"form => {{ form.action = 'http://chat.test:{port}/chat'; form.submit(); }}"
        )
        expect(page.locator("body")).to_have_text(said(renders[STREAMING.name], "OTHER_SITE"))


def test_site_that_the_owner_names_shows_the_app_in_a_frame(
    renders: Mapping[str, Path], browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text("<iframe></iframe>")
    with site(tmp_path) as other, names(browser) as chromium:
        intranet = f"http://intranet.chat.test:{other}"
        allowed = {"ALLOWED_HOSTS": "chat.test", "FRAME_ANCESTORS": f"http://x.test, {intranet}"}
        with processes.serving(renders[STREAMING.name], STREAMING.name, allowed) as address:
            app = f"http://chat.test:{address.rpartition(':')[2]}"
            page = chromium.new_page()
            page.goto(f"{intranet}/page.html")
            page.eval_on_selector("iframe", f"frame => frame.src = '{app}'")
            chat = page.frame_locator("iframe").locator("#chat")
            expect(chat).to_be_visible(timeout=LOADED)
