"""Every failure of a provider becomes one sentence for the user: the right one; then the chat goes on.

The faults come over HTTP through the real SDKs, in a rendered project that its own command serves.
"""

import ast
import contextlib
import http.client
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import agui
import faults
import processes
import pytest
from ag_ui.core import RunErrorEvent
from agui import Answer
from combinations import COMBINATIONS, PROVIDERS, RELATIVES, Combination
from faults import KEY, PREFIX, Call, Fault, FaultyProvider, Proxy, healthy_answer
from test_wire import App, Exchange, Message, answered_model, constant, messages_of

TIMEOUT = 1  # seconds, in the place of the minutes that a project waits
LOGGED = "The chat could not answer"
# What the app and the page say of themselves.
OF_THE_APP = {
    "INVALID_REQUEST",
    "NO_QUESTION",
    "REQUEST_TOO_LARGE",
    "QUESTION_TOO_LONG",
    "TOO_MANY_QUESTIONS",
    "DAILY_LIMIT",
    "DAILY_TOKENS",
    "NOT_COUNTED",
    "FOREIGN_HOST",
    "OTHER_SITE",
    "CONVERSATION",
    "MESSAGE",
    "GREETING",
    "MODEL_MAY_BE_WRONG",
}
EARLIER = ("What is SQL?", "A language for tables.")

PROJECTS = [
    combination
    for combination in COMBINATIONS
    if combination["provider"] in faults.APIS and combination["multi_turn"] == "full"
]
# What is the same for a provider's relatives.
FAMILIES = [combination for combination in PROJECTS if combination["provider"] not in RELATIVES]
STREAMING = [combination for combination in FAMILIES if combination["streaming"]]
EVERY_PROJECT = pytest.mark.parametrize("combination", PROJECTS, ids=lambda one: one.label)


@dataclass
class Served:
    """A rendered project that is being served, and what it takes for its provider.

    Attributes:
        app: The app.
        address: Where the app is.
        project: The rendered project.
        combination: Its answers.
        provider: What it takes for its provider.
        environment: The variables that are set for it.
    """

    app: App
    address: str
    project: Path
    combination: Combination
    provider: FaultyProvider
    environment: dict[str, str]

    def assert_goes_on(self, messages: list[Message], earlier: list[Exchange]) -> None:
        """Check that the next question gets its answer, and what the provider sees of the earlier.

        Args:
            messages: The conversation; the next question and its answer are added to it.
            earlier: The exchanges that the provider must be sent, and no others.
        """
        last = next(one["content"] for one in reversed(messages) if one["role"] == "user")
        question = f"Is all well after this? {last}"
        answer = self.app.ask(messages, question)
        assert (answer.text, answer.notice) == (healthy_answer(question), "")
        (call,) = self.provider.asked(question)
        turns = [
            turn
            for exchange in earlier
            for turn in zip(("user", "assistant"), exchange, strict=True)
        ]
        assert call.turns == [*turns, ("user", question)]

    def records(self) -> list[str]:
        """Return what the project has logged about each failure."""
        return processes.log(self.project).split(LOGGED)[1:]


def copied(rendered: Path, copy: Path, package: str) -> None:
    """Copy a rendered project, and make the copy wait for one second only, as its owner would.

    Args:
        rendered: The rendered project.
        copy: Where to put the copy.
        package: The name of the project's package.
    """
    shutil.copytree(rendered, copy)
    app = copy / "src" / package / "app.py"
    text = app.read_text(encoding="utf-8")
    prompt = "        system_prompt=dashboard.SYSTEM_PROMPT,\n"
    assert text.count(prompt) == 1
    text = text.replace(prompt, f"{prompt}        timeout={TIMEOUT},\n")
    app.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def served_project(
    rendered: Path,
    copy: Path,
    combination: Combination,
    provider: FaultyProvider,
    environment: dict[str, str],
) -> Iterator[Served]:
    """Serve a copy of a rendered project.

    Args:
        rendered: The rendered project.
        copy: Where to put the copy.
        combination: The project's answers.
        provider: What it takes for its provider.
        environment: Variables to set.
    """
    copied(rendered, copy, combination.name)
    with processes.serving(copy, combination.name, environment) as address:
        # The app's stand-in is used by the tests of the wire only.
        app = App(address, copy, combination, cast(Any, provider))
        yield Served(app, address, copy, combination, provider, environment)


@pytest.fixture
def provider(combination: Combination) -> Iterator[FaultyProvider]:
    """The faulty provider of a combination; its port refuses connections until it is opened."""
    server = FaultyProvider(combination["provider"])
    yield server
    server.stop()


def sentence(project: Path, combination: Combination, name: str) -> str:
    """Return what a project says about a failure.

    Args:
        project: The rendered project.
        combination: Its answers.
        name: The sentence's name.
    """
    text = constant(project / "src" / combination.name / "notices.py", name)
    return text.replace("{model}", answered_model(project))


def assert_one_sentence(served: Served, answer: Answer, name: str, received: str = "") -> None:
    """Check that an answer is what was received, and then one sentence.

    Args:
        served: The app that answered.
        answer: What it answered.
        name: The name of the sentence.
        received: What was received of the model's answer.
    """
    assert answer.text.strip() == received
    assert answer.notice == sentence(served.project, served.combination, name)
    assert isinstance(answer.end, RunErrorEvent)
    assert answer.end.code and answer.end.code.isidentifier()
    assert KEY not in str(answer.events)


def assert_few_calls(served: Served, calls: list[Call], fault: Fault) -> None:
    """Check that a question is not paid for again and again, nor begins twice for the user.

    Args:
        served: The app that asked.
        calls: What it sent because of one question.
        fault: How the provider failed.
    """
    once = fault.received or not served.app.streaming
    assert len(calls) in ((1,) if once else (1, 2))
    app, api = served.app, faults.APIS[served.provider.name]
    path = api.path_of(app.model, app.streaming)
    assert {(call.path, call.key) for call in calls} == {(path, KEY)}


def assert_logged(log: str, call: Call, fault: Fault, notice: str) -> None:
    """Check that a failure was logged once, whole, and with what the provider calls the request.

    Args:
        log: What the app has logged.
        call: The last request that it sent.
        fault: How the provider failed.
        notice: What the user was told.
    """
    if not call.request_id or not fault.traceable:
        return
    if fault.sentence == "EMPTY":  # the provider did not fail
        assert log.count(f" request_id={call.request_id}\n") == 1
        return
    noted = f"; request id {call.request_id}.\n"
    (record,) = (one for one in log.split(LOGGED)[1:] if one.startswith(noted))
    reason = record.removeprefix(f"{noted}  ")
    assert reason.startswith((f"{notice}\n", "Traceback (most recent call last):"))


@EVERY_PROJECT
def test_faults(
    combination: Combination,
    renders: dict[str, Path],
    provider: FaultyProvider,
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    provider.open()
    cells = faults.faults_of(combination["provider"], combination["streaming"])
    rendered = renders[combination.name]
    copy = tmp_path / "project"
    with (
        served_project(rendered, copy, combination, provider, provider.environment()) as served,
        ThreadPoolExecutor(8) as users,
    ):

        def converse(name: str) -> tuple[list[Message], Answer]:
            messages = messages_of([EARLIER])
            return messages, served.app.ask(messages, PREFIX + name)

        conversations = {name: users.submit(converse, name) for name in cells}
        for conversation in conversations.values():
            conversation.exception()
        log = processes.log(copy)
        for name, fault in cells.items():
            with subtests.test(fault=name):
                _, answer = conversations[name].result()
                assert_one_sentence(served, answer, fault.sentence, fault.received)
                calls = provider.asked(PREFIX + name)
                assert_few_calls(served, calls, fault)
            if name in faults.APIS[combination["provider"]].ends_early:
                with subtests.test("What it took is told.", fault=name):
                    _, answer = conversations[name].result()
                    assert answer.usage and answer.usage.model == served.app.model
                    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (12, 9)
            with subtests.test("It is logged once.", fault=name):
                _, answer = conversations[name].result()
                assert_logged(log, provider.asked(PREFIX + name)[-1], fault, answer.notice)
            with subtests.test("The conversation goes on.", fault=name):
                messages, answer = conversations[name].result()
                received = [(PREFIX + name, answer.text)] if fault.received else []
                served.assert_goes_on(messages, [EARLIER, *received])
            if "silence" in name:
                with subtests.test("Silence is given up in time.", fault=name):
                    for call in provider.asked(PREFIX + name):
                        assert call.closed.wait(2 * TIMEOUT)
                        assert 0.8 * TIMEOUT < call.seconds < 3 * TIMEOUT
        with subtests.test("Each failure is logged once."):
            assert len(served.records()) == len(cells)
        with subtests.test("The key is not logged, nor other secrets."):
            log = processes.log(copy)
            untold = (KEY, *faults.APIS[combination["provider"]].untold)
            assert not [text for text in untold if text in log]


@pytest.mark.parametrize("combination", STREAMING, ids=lambda one: one.label)
def test_closed_tab_stops_the_providers_stream(
    combination: Combination,
    renders: dict[str, Path],
    provider: FaultyProvider,
    tmp_path: Path,
) -> None:
    provider.open()
    question = PREFIX + faults.ENDLESS
    rendered = renders[combination.name]
    copy = tmp_path / "project"
    with served_project(rendered, copy, combination, provider, provider.environment()) as served:
        tab = http.client.HTTPConnection(urlsplit(served.address).netloc, timeout=30)
        messages = [{"role": "user", "content": question}]
        body = json.dumps({"messages": messages})
        tab.request("POST", "/chat", body, {"Content-Type": "application/json"})
        stream = tab.getresponse()
        lines = [stream.readline() for _ in range(9)]
        assert any(b"TEXT_MESSAGE_CONTENT" in line for line in lines)
        (call,) = provider.asked(question)
        assert not call.closed.is_set()
        stream.close()
        tab.close()
        assert call.closed.wait(2), "The provider is still at it."
        assert provider.asked(question) == [call]
        served.assert_goes_on(messages, [])
        assert not served.records()


@pytest.mark.parametrize("combination", FAMILIES, ids=lambda one: one.label)
def test_silence_is_filled_with_comments(
    combination: Combination,
    renders: dict[str, Path],
    provider: FaultyProvider,
    tmp_path: Path,
) -> None:
    """Wait for a provider that goes silent, in an app that sends a comment every 0.02 seconds."""
    provider.open()
    name = "silence after some tokens" if combination["streaming"] else "silence half-way"
    fault = faults.faults_of(combination["provider"], combination["streaming"])[name]
    rendered = tmp_path / "rendered"
    shutil.copytree(renders[combination.name], rendered)
    pings = rendered / "src" / combination.name / "web" / "pings.py"
    text = pings.read_text(encoding="utf-8")
    assert text.count("SILENCE = 15  # seconds\n") == 1
    pings.write_text(text.replace("SILENCE = 15 ", "SILENCE = 0.02 "), encoding="utf-8")
    copy = tmp_path / "project"
    with served_project(rendered, copy, combination, provider, provider.environment()) as served:
        stream = served.app.send({"messages": [{"role": "user", "content": PREFIX + name}]})
        assert_one_sentence(served, agui.read(stream), fault.sentence, fault.received)
        assert stream.count(f"\n\n{agui.PING}\n\n") >= 5 * TIMEOUT
        assert stream.rindex(agui.PING) < stream.index("RUN_ERROR")


@EVERY_PROJECT
def test_connection_comes_back(
    combination: Combination,
    renders: dict[str, Path],
    provider: FaultyProvider,
    tmp_path: Path,
    certificates: tuple[Path, Path],
) -> None:
    """Nobody is at the address, then somebody else, then the provider."""
    trusted, untrusted = certificates
    url = f"https://localhost:{provider.port}"
    environment = provider.environment(url) | {"SSL_CERT_FILE": str(trusted)}
    rendered = renders[combination.name]
    copy = tmp_path / "project"
    with served_project(rendered, copy, combination, provider, environment) as served:
        messages = messages_of([EARLIER])
        answer = served.app.ask(messages, "Is anybody there?")
        assert_one_sentence(served, answer, "UNREACHABLE")
        provider.certificate = untrusted
        provider.open()
        answer = served.app.ask(messages, "Who are you?")
        assert_one_sentence(served, answer, "UNTRUSTED_CERTIFICATE")
        assert not provider.calls
        provider.certificate = trusted
        served.assert_goes_on(messages, [EARLIER])
        refused, distrusted = served.records()
        assert "refused" in refused
        assert "CERTIFICATE_VERIFY_FAILED" in distrusted
        assert KEY not in processes.log(copy)


@EVERY_PROJECT
def test_proxy_refuses_then_lets_through(
    combination: Combination,
    renders: dict[str, Path],
    provider: FaultyProvider,
    tmp_path: Path,
    certificates: tuple[Path, Path],
) -> None:
    provider.certificate, _ = certificates
    provider.open()
    proxy = Proxy(provider.port)
    url = "https://provider.test"
    environment = provider.environment(url) | {
        "SSL_CERT_FILE": str(provider.certificate),
        "HTTPS_PROXY": proxy.url,
        "https_proxy": proxy.url,
        "NO_PROXY": "",
        "no_proxy": "",
    }
    rendered = renders[combination.name]
    copy = tmp_path / "project"
    with served_project(rendered, copy, combination, provider, environment) as served:
        messages = messages_of([EARLIER])
        for refusal in (407, 403):
            proxy.refusal = refusal
            answer = served.app.ask(messages, f"Is there a way past {refusal}?")
            assert_one_sentence(served, answer, "PROXY")
        assert not provider.calls
        proxy.refusal = None
        served.assert_goes_on(messages, [EARLIER])
        assert set(proxy.targets) == {"provider.test:443"}
        assert len(served.records()) == 2
        assert KEY not in processes.log(copy)
    proxy.stop()


# The sentence, the address and other variables; only the last lets a client be made.
HARMLESS = {"NO_PROXY": "*", "no_proxy": "*", "ALL_PROXY": "", "SSL_CERT_FILE": ""}
SOCKS = {"NO_PROXY": "", "no_proxy": "", "ALL_PROXY": "socks5://127.0.0.1:9"}  # needs a package
UNUSABLE_SETTINGS = [
    ("WRONG_NETWORK", "https://127.0.0.1", {"SSL_CERT_FILE": "/no/such/file"}),
    ("WRONG_NETWORK", "https://127.0.0.1", SOCKS),
    ("UNREACHABLE", "http://name.invalid", {}),
]


@EVERY_PROJECT
def test_unusable_settings_are_said_in_the_chat(
    combination: Combination, renders: dict[str, Path], tmp_path: Path
) -> None:
    provider = combination["provider"]
    usable = faults.settings(provider, "http://127.0.0.1")
    cases = [
        (name, HARMLESS | usable | {variable: blank})
        for name, variable in faults.APIS[provider].missing.items()
        for blank in ("", " \n")
    ]
    cases += [
        (name, HARMLESS | usable | variables)
        for name, variables in faults.APIS[provider].unusable.items()
    ]
    cases += [
        (name, HARMLESS | others | faults.settings(provider, address))
        for name, address, others in UNUSABLE_SETTINGS
    ]
    project = tmp_path / "project"
    copied(renders[combination.name], project, combination.name)
    heard = tmp_path / "answers.json"
    process = processes.run(
        faults.ask_with_settings,
        project,
        combination.name,
        [variables for _, variables in cases],
        heard,
        environment={},
    )
    process.join()
    log = processes.log(project)
    assert process.exitcode == 0, log
    streams = json.loads(heard.read_text(encoding="utf-8"))
    sentences = [sentence(project, combination, name) for name, _ in cases]
    for said, both in zip(sentences, streams, strict=True):
        for answer in map(agui.read, both):
            assert (answer.text, answer.notice) == ("", said)
    at_start, *_ = sentences
    warnings = [line for line in log.splitlines() if line.startswith("WARNING:")]
    assert [line for line in warnings if line.endswith(at_start)] == warnings[:1]
    assert log.count(LOGGED) == 2 * len(cases)
    assert KEY not in log + str(streams)


# What the line that an app stops with must name: the key's variable or the address's.
WRONG_SETTINGS = [
    (("_KEY", "_BEDROCK"), f"schlüssel-{KEY}", "http://127.0.0.1"),
    (("_KEY", "_BEDROCK"), f"{KEY}\n{KEY}", "http://127.0.0.1"),
    (("_URL", "_ENDPOINT"), KEY, "localhost:1234"),
    (("_URL", "_ENDPOINT"), KEY, f"ftp://{KEY}@127.0.0.1"),
]


@EVERY_PROJECT
def test_wrong_settings_stop_the_app(
    combination: Combination, renders: dict[str, Path], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for number, (kinds, key, address) in enumerate(WRONG_SETTINGS):
        with subtests.test(kinds=kinds, key=key, address=address):
            project = tmp_path / str(number)
            shutil.copytree(renders[combination.name], project)
            variables = faults.settings(combination["provider"], address, key)
            name = next(one for one in variables if one.endswith(kinds))
            processes.assert_stops(project, combination.name, name, variables)
            assert KEY not in processes.log(project)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two certificates for the same names, the first to be trusted by the app."""
    folder = tmp_path_factory.mktemp("certificates")
    first, second = (
        faults.certificate(folder / f"{name}.pem", "localhost", "provider.test")
        for name in ("trusted", "untrusted")
    )
    return first, second


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_no_two_failures_share_a_sentence(renders: dict[str, Path], provider_name: str) -> None:
    sentences = sentences_of(renders, provider_name)
    assert sentences
    assert len(set(sentences.values())) == len(sentences)


@pytest.mark.parametrize("provider_name", faults.APIS)
def test_every_sentence_is_provoked(renders: dict[str, Path], provider_name: str) -> None:
    provoked = {"UNREACHABLE", "UNTRUSTED_CERTIFICATE", "PROXY"}
    api = faults.APIS[provider_name]
    provoked |= {name for name, *_ in UNUSABLE_SETTINGS} | api.missing.keys() | api.unusable.keys()
    for streaming in (True, False):
        cells = faults.faults_of(provider_name, streaming)
        provoked |= {fault.sentence for fault in cells.values()}
    assert sentences_of(renders, provider_name).keys() - OF_THE_APP <= provoked


def sentences_of(renders: dict[str, Path], provider_name: str) -> dict[str, str]:
    """Return what a provider's projects say to the user, by name, but for the labels of the page.

    Args:
        renders: The rendered projects.
        provider_name: The provider.
    """
    package = f"{provider_name}_streaming_full"
    path = renders[package] / "src" / package / "notices.py"
    return {
        ast.unparse(statement.targets[0]): ast.literal_eval(statement.value)
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
    }
