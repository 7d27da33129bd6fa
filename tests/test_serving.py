"""Served by gunicorn, as the rendered project's README and Dockerfile say: under load, on several
machines, stopped and killed; and what the log says of each answer."""

import contextlib
import http.client
import itertools
import json
import os
import re
import shlex
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import agui
import faults
import processes
import pytest
import yaml
from combinations import COMBINATIONS, Combination
from faults import ENDLESS, PREFIX, Call, FaultyProvider, Reply
from test_wire import App, Exchange, Message, assert_told

if sys.platform == "win32":
    pytest.skip("gunicorn does not run on Windows.", allow_module_level=True)

PACKAGE = "demo_streaming_full"
(DEMO,) = (one for one in COMBINATIONS if one.name == PACKAGE)
PROJECTS = [one for one in COMBINATIONS if one["multi_turn"] == "full"]
STREAMS = 200
GRACE = 30  # seconds that a running answer gets after SIGTERM, as the README says


class Gunicorn:
    """A rendered project, served by gunicorn with the project's own configuration.

    Attributes:
        port: Where it answers.
        process: gunicorn, whose workers share its process group.
    """

    def __init__(self, project: Path, log: Path, *options: str, **environment: str) -> None:
        """Start it; it does not answer yet.

        Args:
            project: The rendered project.
            log: The file for what it prints.
            options: gunicorn's options, which win over the configuration.
            environment: Variables to set.
        """
        self.port = processes.free_port()
        self._log = log
        (package,) = (project / "src").iterdir()
        address = {"PYTHONPATH": "src", "HOST": "127.0.0.1", "PORT": str(self.port)}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("gunicorn"), f"{package.name}.app:app", *options],
                cwd=project,
                env=os.environ | processes.UNLIMITED | address | environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return as soon as it answers."""
        processes.wait_for(f"http://127.0.0.1:{self.port}/healthz", seconds=120)

    def log(self) -> str:
        """Return what it has printed."""
        return self._log.read_text(encoding="utf-8")

    def ask(self, question: str) -> http.client.HTTPResponse:
        """Ask for an answer, and return as soon as it begins.

        Args:
            question: What the user asks.
        """
        return stream(self.port, question)

    def kill(self) -> None:
        """End it at once, with its workers, as a machine that fails would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        processes.until(lambda: refuses(self.port))  # its workers take a moment longer


def stream(port: int, question: str) -> http.client.HTTPResponse:
    """Ask for an answer, and return as soon as it begins.

    Args:
        port: Where the app is.
        question: What the user asks.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"messages": [{"role": "user", "content": question}]})
    connection.request("POST", "/chat", body, {"Content-Type": "application/json"})
    return connection.getresponse()


@contextlib.contextmanager
def served(project: Path, log: Path, *options: str, **environment: str) -> Iterator[Gunicorn]:
    """Serve a project by gunicorn.

    Args:
        project: The rendered project.
        log: The file for what it prints.
        options: gunicorn's options.
        environment: Variables to set.
    """
    server = Gunicorn(project, log, *options, **environment)
    try:
        server.wait()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def gunicorns(
    renders: dict[str, Path], tmp_path: Path, count: int, *options: str
) -> Iterator[list[Gunicorn]]:
    """Serve the demo some times, as so many machines would.

    Args:
        renders: The rendered projects.
        tmp_path: Where to write their logs.
        count: How many times.
        options: gunicorn's options.
    """
    logs = (tmp_path / f"{number}.log" for number in range(count))
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(served(renders[PACKAGE], log, *options, WEB_CONCURRENCY="1"))
            for log in logs
        ]


@pytest.fixture(scope="module")
def server(
    renders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gunicorn]:
    """The demo, served by two workers."""
    log = tmp_path_factory.mktemp("gunicorn") / "gunicorn.log"
    with served(renders[PACKAGE], log) as started:
        yield started


class RoundRobin(socketserver.ThreadingTCPServer):
    """A proxy that gives each connection to the next server, leaving out those that are gone.

    Attributes:
        used: The ports that connections were given to, in order.
    """

    daemon_threads = True

    def __init__(self, *ports: int) -> None:
        """Start it on a free port.

        Args:
            ports: Where the servers are.
        """
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.used: list[int] = []
        self._turns = itertools.cycle(ports)
        self._count = len(ports)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def finish_request(self, request: object, client_address: object) -> None:
        """Join a connection with one to the next server that answers.

        Args:
            request: The connection.
            client_address: Where it comes from.
        """
        assert isinstance(request, socket.socket)
        for port in itertools.islice(self._turns, self._count):
            try:
                connection = socket.create_connection(("127.0.0.1", port))
            except ConnectionRefusedError:
                continue
            with connection:
                self.used.append(port)
                faults.join(request, connection)
            return


def refuses(port: int) -> bool:
    """Return whether new connections are refused.

    Args:
        port: Where they are tried.
    """
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # the server ended between the connection and its answer
        return False
    return False


def answers(log: str) -> list[dict[str, str]]:
    """Return what a log says of each answer.

    Args:
        log: The log.
    """
    lines = re.findall(r"^INFO:\w+\.web\.answering:answer (.*)$", log, re.MULTILINE)
    return [dict(fact.split("=") for fact in line.split()) for line in lines]


def test_health_is_told_and_not_logged(server: Gunicorn) -> None:
    assert processes.wait_for(f"http://127.0.0.1:{server.port}/healthz") == "ok"
    assert "healthz" not in server.log()


def test_streams_are_not_held_back(server: Gunicorn) -> None:
    response = server.ask("Are you there?")
    assert response.headers.get_content_type() == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"
    first, rest = response.read1(65536), response.read()
    answer = agui.read((first + rest).decode())
    assert not answer.notice
    assert len(answer.events) > 10 * first.count(b"data: ") > 0


class SlowProvider(FaultyProvider):
    """A provider that answers nobody before all have asked."""

    all_have_asked = threading.Barrier(STREAMS)

    def reply(self, call: Call) -> Reply:
        """Return what to send back, once the last question is there.

        Args:
            call: The request.
        """
        self.all_have_asked.wait(timeout=30)
        return super().reply(call)


def test_many_wait_at_once(renders: dict[str, Path], tmp_path: Path) -> None:
    provider = SlowProvider("anthropic")
    provider.open()
    project = renders["anthropic_streaming_full"]
    server = Gunicorn(project, tmp_path / "log", **provider.environment())
    try:
        server.wait()
        questions = [f"{number}?" for number in range(STREAMS)]
        with ThreadPoolExecutor(STREAMS) as users:
            heard = users.map(lambda question: server.ask(question).read().decode(), questions)
        texts = [agui.read(one).text for one in heard]
        assert texts == [faults.healthy_answer(question) for question in questions]
        assert [one["outcome"] for one in answers(server.log())] == ["complete"] * STREAMS
    finally:
        server.kill()
        provider.stop()


def test_the_containers_check(server: Gunicorn, renders: dict[str, Path]) -> None:
    dockerfile = (renders[PACKAGE] / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])$", dockerfile.replace("\\\n", ""), re.M)
    assert found
    _, *check = json.loads(found[1])
    for port, healthy in ((server.port, True), (processes.free_port(), False)):
        command = [argument.replace("8050", str(port)) for argument in check]
        proxies = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
        run = subprocess.run([sys.executable, *command], env=os.environ | proxies)
        assert (run.returncode == 0) is healthy, shlex.join(command)


def test_container_may_do_little(renders: dict[str, Path]) -> None:
    """Read what only a container engine can run: it writes to its volume and its /tmp alone."""
    compose = (renders[PACKAGE] / "compose.yaml").read_text(encoding="utf-8")
    app = yaml.safe_load(compose)["services"]["app"]
    assert app["read_only"] is True and app["tmpfs"] == ["/tmp"]
    assert app["volumes"] == ["instance:/app/instance"]
    assert app["cap_drop"] == ["ALL"] and app["security_opt"] == ["no-new-privileges:true"]
    assert app["ports"] == ["127.0.0.1:8050:8050"], "Other machines reach it through a proxy."
    assert int(app["stop_grace_period"].rstrip("s")) > GRACE
    assert not {"privileged", "cap_add", "user"} & app.keys()
    dockerfile = (renders[PACKAGE] / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert dockerfile.index("USER 1000") > dockerfile.index("WORKDIR /app")
    assert dockerfile.index("VOLUME /app/instance") > dockerfile.index("USER 1000")
    assert not [line for line in dockerfile if line.startswith("USER") and line != "USER 1000"]


def test_a_conversation_survives_one_of_two_servers(
    renders: dict[str, Path], tmp_path: Path
) -> None:
    with gunicorns(renders, tmp_path, 2) as (one, other):
        proxy = RoundRobin(one.port, other.port)
        app = App(proxy.url, renders[PACKAGE], DEMO, stand_in=None)  # type: ignore[arg-type]
        messages: list[Message] = []
        exchanges: list[Exchange] = []

        def converse(question: str) -> set[int]:
            proxy.used.clear()
            answer = app.ask(messages, question)
            assert_told(app, answer.text, exchanges, question)
            exchanges.append((question, answer.text))
            return set(proxy.used)

        ports: set[int] = set()
        for question in ("What is SQL?", "Who made it?"):
            ports |= converse(question)
        assert ports == {one.port, other.port}
        one.kill()
        for question in ("When was that?", "And where?"):
            assert converse(question) == {other.port}
        proxy.shutdown()
        proxy.server_close()


def test_a_stop_lets_answers_end(renders: dict[str, Path], tmp_path: Path) -> None:
    with gunicorns(renders, tmp_path, 1) as (server,):
        response = server.ask("word " * 200)
        begin = response.read1(65536)
        server.process.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        processes.until(lambda: refuses(server.port))
        assert server.process.poll() is None
        answer = agui.read((begin + response.read()).decode())
        assert answer.text.endswith("a model answers here.") and not answer.notice
        assert server.process.wait(GRACE) == 0
        assert time.monotonic() - stopped < GRACE


def test_a_stop_does_not_wait_for_ever(renders: dict[str, Path], tmp_path: Path) -> None:
    with gunicorns(renders, tmp_path, 1, "--graceful-timeout=2") as (server,):
        response = server.ask("word " * 2000)
        response.read1(65536)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        with pytest.raises(http.client.IncompleteRead):
            response.read()


def test_the_command_says_at_once_that_it_starts(renders: dict[str, Path]) -> None:
    port = processes.free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", PACKAGE],
        cwd=renders[PACKAGE],
        env=os.environ | {"PYTHONPATH": "src", "PORT": str(port), "HOST": "127.0.0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout and process.stdout.readline().startswith("Starting")
        assert refuses(port)
        assert "<title>" in processes.wait_for(f"http://127.0.0.1:{port}/", seconds=120)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("combination", PROJECTS, ids=lambda one: one.label)
def test_log(combination: Combination, renders: dict[str, Path]) -> None:
    project, name = renders[combination.name], combination["provider"]
    provider = FaultyProvider("anthropic" if name == "demo" else name)
    provider.open()
    before = len(processes.log(project))

    def log() -> str:
        return processes.log(project)[before:]

    with processes.serving(project, combination.name, provider.environment()) as address:
        assert not provider.calls, "The start has asked the provider something."
        app = App(address, project, combination, stand_in=None)  # type: ignore[arg-type]
        question = "What is a pivot table?"
        answer = app.ask([], question)
        processes.until(lambda: len(answers(log())) == 1)
        (line,) = answers(log())
        assert 0 <= float(line.pop("first_part")) <= float(line.pop("seconds"))
        assert line.pop("outcome") == "complete"
        if name == "demo":
            assert not line
        else:
            (call,) = provider.calls
            assert line == {
                "model": app.model,
                "input_tokens": "12",
                "output_tokens": "9",
                "request_id": call.request_id,
            }
            limit, *_ = faults.APIS[name].ends_early
            refusal = next(iter(faults.APIS[name].refuses))
            for fault in (limit, "no reply", refusal):
                app.ask([], PREFIX + fault)
            processes.until(lambda: len(answers(log())) == 4)
            cut, failed, refused = answers(log())[1:]
            assert (cut["outcome"], cut["output_tokens"]) == ("AnswerError", "9")
            assert cut["model"] == app.model
            assert failed["outcome"] == faults.APIS[name].broken
            assert failed.keys() == {"outcome", "seconds"}
            assert (refused["input_tokens"], refused["output_tokens"]) == ("0", "0")
            if app.streaming:
                assert "first_part" in cut
                response = stream(int(address.rpartition(":")[2]), PREFIX + ENDLESS)
                response.read1(65536)
                response.close()
                processes.until(lambda: len(answers(log())) == 5)
                assert answers(log())[-1]["outcome"] == "disconnected"
        # The demo's parts are single words, which the log may use too.
        parts = [] if name == "demo" else answer.parts
        for words in (question, "pivot", answer.text, PREFIX, faults.PART, *parts):
            assert words not in log()
    provider.stop()
