"""A provider that fails: it speaks the API of each, and fails as the question that it gets asks it to.

A question that names no fault is answered well. Each fault says which sentence it must become.
"""

import contextlib
import dataclasses
import functools
import importlib
import json
import os
import re
import secrets
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dialects import OPEN_CODE, PART, Api, End, Fault, Faults, Json, Reply, dialects, turns

PREFIX = "fault: "
KEY = "test-key-Zx81LmQ7"
LONGEST_SILENCE = 30  # seconds; nobody waits for so long unless a time-out is missing
PACE = 0.02  # seconds between the tokens of an endless answer

APIS = dialects()
# What the projects of some provider install, and others do not.
PACKAGES = set().union(*(api.packages for api in APIS.values()))


@dataclass
class Call:
    """A request that the provider got.

    Attributes:
        path: Where it was sent.
        body: What was sent.
        key: The API key that was sent with it.
        request_id: What the reply calls it; empty if it does not.
        closed: Whether the client has closed the connection while the provider was still at it.
        seconds: How long the client waited until then, from the last piece on.
    """

    path: str
    body: Json
    key: str
    request_id: str = ""
    closed: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0

    @property
    def turns(self) -> list[tuple[str, str]]:
        """The conversation, each turn with its role, without what the model is told before it."""
        return turns(self.body)

    @property
    def question(self) -> str:
        """The newest message."""
        return self.turns[-1][1]


def healthy_answer(question: str) -> str:
    """Return the answer to a question that names no fault: each question has its own.

    Args:
        question: The question.
    """
    return f"All is well — “{question}” has an answer. ✓"


def _foreign(sentence: str, name: str, reply: Reply) -> Faults:
    """Return a fault whose reply has nothing of the API's."""
    unknown = dataclasses.replace(reply, identified=False)
    return {name: Fault(sentence, lambda api: unknown)}


def _page(title: str) -> tuple[str]:
    """Return a page as a web server would send it."""
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return (f"<!DOCTYPE html>\n{page}\n",)


FOREIGN = (
    _foreign("WRONG_URL", "404, a page", Reply(_page("404 Not Found"), 404, "text/html"))
    | _foreign("WRONG_URL", "404, other JSON", Reply(('{"detail": "Not Found"}',), 404))
    | _foreign("WRONG_URL", "405, a page", Reply(_page("405 Not Allowed"), 405, "text/html"))
    | _foreign("WRONG_URL", "200, a page", Reply(_page("Welcome!"), kind="text/html"))
    | _foreign("WRONG_URL", "200, other JSON", Reply(('{"status": "ok"}',)))
    | _foreign("WRONG_URL", "302, to a page", Reply((), 302, "text/html", location="/login"))
    | _foreign("SERVER_ERROR", "502, a page", Reply(_page("502 Bad Gateway"), 502, "text/html"))
    | _foreign("OVERLOADED", "503, a page", Reply(_page("503 Unavailable"), 503, "text/html"))
    | _foreign("TIMEOUT", "504, a page", Reply(_page("504 Gateway Time-out"), 504, "text/html"))
    | _foreign("SERVER_ERROR", "520, a page", Reply(_page("520 Unknown Error"), 520, "text/html"))
    | _foreign("TOO_LONG", "413, a page", Reply(_page("413 Too Large"), 413, "text/html"))
    | _foreign("TIMEOUT", "408, no body", Reply((), 408, "text/plain"))
    | _foreign("OTHER", "418, a page", Reply(_page("418 I'm a teapot"), 418, "text/html"))
    | _foreign("TIMEOUT", "silence", Reply(None, end=End.SILENCE))
    | _foreign("CUT_OFF", "no reply", Reply(None, end=End.CLOSE))
)


def _empty() -> Faults:
    """Return answers in which all is right except that they hold no text."""
    return {
        "no text": Fault("EMPTY", lambda api: api.answer("")),
        "blanks": Fault("EMPTY", lambda api: api.answer(" \n")),
    }


def _broken(sentence: str, name: str, end: End, *, received: str = "", after: str = "") -> Faults:
    """Return a fault that is a stream which does not come to its end.

    Args:
        sentence: The sentence that it must become.
        name: The fault's name.
        end: What happens instead of the end.
        received: The text that comes before.
        after: An event to send after it.
    """

    def reply(api: Api) -> Reply:
        last = [after] if after else []
        return api.stream([*api.begin(), *api.tokens(received), *last], end)

    return {name: Fault(sentence, reply, received)}


STREAMS_BREAK = (
    _broken("CUT_OFF", "closed after some tokens", End.CLOSE, received=PART)
    | _broken("CUT_OFF", "closed inside of code", End.CLOSE, received=OPEN_CODE)
    | _broken("CUT_OFF", "reset after some tokens", End.RESET, received=PART)
    | _broken("CUT_OFF", "no end after some tokens", End.WHOLE, received=PART)
    | _broken("CUT_OFF", "closed before the first token", End.CLOSE)
    | _broken("CUT_OFF", "no end before the first token", End.WHOLE)
    | _broken("TIMEOUT", "silence before the first token", End.SILENCE)
    | _broken("TIMEOUT", "silence after some tokens", End.SILENCE, received=PART)
    | {
        "closed after the headers": Fault("CUT_OFF", lambda api: api.stream([], End.CLOSE)),
        "silence after the headers": Fault("TIMEOUT", lambda api: api.stream([], End.SILENCE)),
    }
)


def _malformed(received: str, name: str) -> Faults:
    """Return a fault that is an event which cannot be read."""

    def reply(api: Api) -> Reply:
        readable = api.token("never read")
        cut = f"{readable[: readable.index('never')]}\n\n"
        return api.stream([*api.begin(), *api.tokens(received), cut, *api.finish(received, "")])

    return {name: Fault("OTHER", reply, received)}


def _halved(end: End) -> Callable[[Api], Reply]:
    """Return what sends the first half of an answer that should come in one piece."""

    def reply(api: Api) -> Reply:
        body = json.dumps(api.whole(PART, ""))
        return Reply((body[: len(body) // 2],), end=end)

    return reply


# The SDKs throw the headers away with such a body.
BODIES_BREAK = {
    "closed half-way": Fault("CUT_OFF", _halved(End.CLOSE), traceable=False),
    "reset half-way": Fault("CUT_OFF", _halved(End.RESET), traceable=False),
    "silence half-way": Fault("TIMEOUT", _halved(End.SILENCE), traceable=False),
    "closed after the headers": Fault(
        "CUT_OFF", lambda api: Reply((), end=End.CLOSE), traceable=False
    ),
}


@functools.cache
def faults_of(provider: str, streaming: bool) -> Faults:
    """Return what can go wrong between a project and its provider, by name.

    Args:
        provider: The project's provider.
        streaming: Whether its answers come bit by bit.
    """
    api = APIS[provider]
    found = api.refuses | FOREIGN | api.ends_early | _empty()
    if not streaming:
        return found | BODIES_BREAK
    malformed = _malformed("", "malformed event") | _malformed(PART, "malformed event after tokens")
    return found | STREAMS_BREAK | malformed | api.tells


def _endless(api: Api) -> Reply:
    """Return a reply that brings one token after the other until the client has gone."""
    return api.stream([*api.begin(), *api.tokens(PART)], End.ENDLESS)


ENDLESS = "endless"


class FaultyProvider:
    """A server that answers for a provider, well or with the fault that the question names.

    Attributes:
        name: Whose API it speaks.
        calls: What was sent there, the oldest first.
        port: Where it listens, once it is opened.
        certificate: What it shows of itself, with its key; None for plain HTTP.
    """

    def __init__(self, provider: str) -> None:
        """Take a port, on which nothing answers yet.

        Args:
            provider: Whose API to speak.
        """
        self.name = provider
        self.calls: list[Call] = []
        self.certificate: Path | None = None
        self._is_open = False
        self._server = _server(self)
        self.port = int(self._server.server_address[1])

    def open(self) -> None:
        """Begin to answer."""
        self._is_open = True
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        if self._is_open:
            self._server.shutdown()
        self._server.server_close()

    def asked(self, question: str) -> list[Call]:
        """Return what was sent because of a question.

        Args:
            question: The newest message.
        """
        return [call for call in self.calls if call.question == question]

    def environment(self, address: str = "") -> dict[str, str]:
        """Return the variables that point a rendered project to a provider.

        Args:
            address: Where the provider is, without a path; here unless it is given.
        """
        address = address or f"http://127.0.0.1:{self.port}"
        return {"NO_PROXY": "*", "no_proxy": "*"} | settings(self.name, address)

    def reply(self, call: Call) -> Reply:
        """Return what to send back.

        Args:
            call: The request.
        """
        api = APIS[self.name](call.body, call.key, call.path)
        question = call.question
        if not question.startswith(PREFIX):
            return api.answer(healthy_answer(question))
        fault = question.removeprefix(PREFIX)
        if fault == ENDLESS:
            return _endless(api)
        return faults_of(self.name, api.streaming)[fault].reply(api)


@contextlib.contextmanager
def answering(provider: str) -> Iterator[FaultyProvider]:
    """Start a faulty provider, and stop it at the end.

    Args:
        provider: Whose API it speaks.
    """
    server = FaultyProvider(provider)
    server.open()
    yield server
    server.stop()


def settings(provider: str, address: str, key: str = KEY) -> dict[str, str]:
    """Return the variables that a rendered project calls its provider with.

    Args:
        provider: The project's provider.
        address: Where the provider is, without a path.
        key: The API key.
    """
    return APIS[provider].settings(address, key)


def packages(provider: str) -> set[str]:
    """Return what a project installs for its provider alone.

    Args:
        provider: The project's provider.
    """
    return APIS[provider].packages if provider in APIS else set()


def _server(provider: FaultyProvider) -> ThreadingHTTPServer:
    """Return a server with a port of its own that does not listen yet."""
    id_header = APIS[provider.name].id_header

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(Reply(_page("Please sign in"), kind="text/html"), Call(self.path, {}, ""))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            key = self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or bearer
            call = Call(self.path, body, key)
            provider.calls.append(call)
            self._send(provider.reply(call), call)

        def _send(self, reply: Reply, call: Call) -> None:
            if reply.pieces is not None:
                self._headers(reply, call)
                pieces = [self._framed(piece.encode(), reply) for piece in reply.pieces]
                # A reset drops what the system has not sent yet: one write is sent at once.
                for data in [b"".join(pieces)] if reply.end is End.RESET else pieces:
                    self.wfile.write(data)
            if reply.end is End.WHOLE:
                if _is_stream(reply):
                    self.wfile.write(b"0\r\n\r\n")
                return
            self.close_connection = True
            if reply.end in (End.SILENCE, End.ENDLESS):
                self._go_on(reply, call)
            if reply.end is End.RESET:
                at_once = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                self.connection.close()

        def _headers(self, reply: Reply, call: Call) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            if not id_header:
                told = re.search(r'"responseId": "(\w+)"', "".join(reply.pieces or ()))
                call.request_id = told[1] if told else ""
            elif reply.identified:
                call.request_id = f"req_{secrets.token_hex(16)}"
                self.send_header(id_header, call.request_id)
            if reply.location:
                self.send_header("Location", reply.location)
            if _is_stream(reply):
                self.send_header("Transfer-Encoding", "chunked")
            else:
                length = sum(len(piece.encode()) for piece in reply.pieces or ())
                more = 0 if reply.end is End.WHOLE else 100
                self.send_header("Content-Length", str(length + more))
            self.end_headers()

        def _framed(self, data: bytes, reply: Reply) -> bytes:
            return b"%x\r\n%s\r\n" % (len(data), data) if _is_stream(reply) else data

        def _go_on(self, reply: Reply, call: Call) -> None:
            """Say nothing, or the same for ever, until the client closes the connection."""
            begin = time.monotonic()
            pause = PACE if reply.end is End.ENDLESS else LONGEST_SILENCE
            with contextlib.suppress(OSError):
                while not select.select([self.connection], [], [], pause)[0]:
                    if reply.end is End.SILENCE or not reply.pieces:
                        return
                    self.wfile.write(self._framed(reply.pieces[-1].encode(), reply))
            call.seconds = time.monotonic() - begin
            call.closed.set()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

        def finish_request(self, request: Any, client_address: Any) -> None:
            if provider.certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(provider.certificate)
                with context.wrap_socket(request, server_side=True) as encrypted:
                    super().finish_request(encrypted, client_address)
            else:
                super().finish_request(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Print nothing: a client that goes away or does not trust us is no error here."""

    server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.server_bind()
    return server


def _is_stream(reply: Reply) -> bool:
    """Return whether a reply is sent in chunks."""
    return reply.kind.startswith("text/event-stream")


def ask_with_settings(package: str, settings: list[dict[str, str]], answers: Path) -> int:
    """Ask a project's chat twice with each of some settings, in this process.

    Args:
        package: The name of the project's package.
        settings: The variables to set; the app starts with the first.
        answers: The file to write the streams to.
    """
    os.environ.update(settings[0])
    browser = importlib.import_module(f"{package}.app").app.dash.server.test_client()
    body = {"messages": [{"role": "user", "content": "What is a table?"}]}
    heard = []
    for variables in settings:
        os.environ.update(variables)
        # Both are read once in the life of an app.
        importlib.import_module(f"{package}.settings").settings.cache_clear()
        importlib.import_module(f"{package}.provider").client.cache_clear()
        heard.append([browser.post("/chat", json=body).text for _ in range(2)])
    answers.write_text(json.dumps(heard), encoding="utf-8")
    return 0


class Proxy:
    """A proxy for HTTPS, which refuses each connection or leads it to one port of this machine.

    Attributes:
        refusal: The status to refuse with; None to refuse nothing.
        url: Where the proxy is.
        targets: Where its clients wanted to go.
    """

    def __init__(self, port: int) -> None:
        """Start it.

        Args:
            port: Where connections lead if they are not refused, whatever they ask for.
        """
        self.refusal: int | None = None
        self.targets: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                proxy.targets.append(self.path)
                if proxy.refusal:
                    self.send_error(proxy.refusal)
                    return
                with socket.create_connection(("127.0.0.1", port)) as provider:
                    self.send_response(200)
                    self.end_headers()
                    join(self.connection, provider)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


def join(one: socket.socket, other: socket.socket) -> None:
    """Pass on what two connections bring, until one of them ends."""
    peers = {one: other, other: one}
    with contextlib.suppress(OSError):
        while True:
            for ready in select.select(list(peers), [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                peers[ready].sendall(data)


def certificate(path: Path, *names: str) -> Path:
    """Write a new certificate that vouches for itself, with its key, and return its path.

    Args:
        path: Where to write it.
        names: The hosts that it is for.
    """
    key = path.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={names[0]}", "-keyout", str(key), "-out", str(path)]
    command += ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path
