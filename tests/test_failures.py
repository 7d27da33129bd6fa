"""Every failure of a provider becomes one sentence in the chat: the right one; then the chat goes on.

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

import faults
import processes
import pytest
from combinations import COMBINATIONS, PROVIDERS, Combination
from faults import KEY, PREFIX, Call, Fault, FaultyProvider, Proxy, healthy_answer
from test_wire import MARK, App, answered_model, constant, stored

TIMEOUT = 1  # seconds, in the place of the minutes that a project waits
LOGGED = "The chat could not answer"
# What the app and the page say of themselves.
OF_THE_APP = {
    "TOKENS",
    "INVALID_REQUEST",
    "REQUEST_TOO_LARGE",
    "QUESTION_TOO_LONG",
    "TOO_MANY_QUESTIONS",
    "DAILY_LIMIT",
    "APP_UNREACHABLE",
    "APP_REFUSED",
    "APP_CUT_OFF",
    "STOPPED",
}
EARLIER = ("What is SQL?", "A language for tables.")

PROJECTS = [
    combination
    for combination in COMBINATIONS
    if combination["provider"] in faults.APIS and combination["multi_turn"] == "full"
]
STREAMING = [combination for combination in PROJECTS if combination["streaming"]]
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

    def ask(self, store: list[dict[str, str]], question: str) -> str:
        """Ask, and return the answer.

        Args:
            store: The conversation, as the browser keeps it; the exchange is added to it.
            question: What the person typed.
        """
        return "".join(self.app.ask(store, question))

    def assert_goes_on(self, store: list[dict[str, str]], earlier: list[tuple[str, str]]) -> None:
        """Check that the next question gets its answer, and what the provider sees of the earlier.

        Args:
            store: The conversation, as the browser keeps it; the exchange is added to it.
            earlier: The exchanges that the provider must be sent, and no others.
        """
        last = json.loads(store[-2]["content_json"])
        question = f"Is all well after this? {last}"
        assert self.ask(store, question) == healthy_answer(question)
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
    prompt = "            system_prompt=dashboard.SYSTEM_PROMPT,\n"
    assert text.count(prompt) == 1
    text = text.replace(prompt, f"{prompt}            timeout={TIMEOUT},\n")
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


def sentence(
    project: Path, combination: Combination, environment: dict[str, str], name: str
) -> str:
    """Return what a project says about a failure.

    Args:
        project: The rendered project.
        combination: Its answers.
        environment: The variables that are set for it.
        name: The sentence's name.
    """
    base_url = next(value for name, value in environment.items() if name.endswith("_BASE_URL"))
    path = project / "src" / combination.name / "sentences.py"
    model = answered_model(project)
    return constant(path, name).replace("{url}", base_url).replace("{model}", model)


def assert_one_sentence(served: Served, answer: str, name: str, received: str = "") -> None:
    """Check that an answer is what was received, and then one sentence.

    Args:
        served: The app that answered.
        answer: What it answered.
        name: The name of the sentence.
        received: What was received of the model's answer.
    """
    code_end = "\n```" if received.count("```") % 2 else ""
    part = f"{received}{code_end}\n\n" if received else ""
    expected = sentence(served.project, served.combination, served.environment, name)
    assert answer.lstrip() == f"{part}{MARK}{expected}"
    assert KEY not in answer


def assert_few_calls(served: Served, calls: list[Call], fault: Fault) -> None:
    """Check that a question is not paid for again and again, nor begins twice for the person.

    Args:
        served: The app that asked.
        calls: What it sent because of one question.
        fault: How the provider failed.
    """
    once = fault.received or not served.app.streaming
    assert len(calls) in ((1,) if once else (1, 2))
    path = faults.APIS[served.provider.name].path
    assert {(call.path, call.key) for call in calls} == {(path, KEY)}


def assert_logged(log: str, call: Call, fault: Fault) -> None:
    """Check that a failure was logged once, whole, and with what the provider calls the request.

    Args:
        log: What the app has logged.
        call: The last request that it sent.
        fault: How the provider failed.
    """
    if not call.request_id or not fault.traceable or fault.sentence == "EMPTY":
        return  # where an answer has no text, nothing was raised
    (record,) = (one for one in log.split(LOGGED)[1:] if call.request_id in one)
    assert "Traceback (most recent call last):" in record


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
        ThreadPoolExecutor(8) as people,
    ):

        def converse(name: str) -> tuple[list[dict[str, str]], str]:
            store = stored([EARLIER])
            return store, served.ask(store, PREFIX + name)

        conversations = {name: people.submit(converse, name) for name in cells}
        for conversation in conversations.values():
            conversation.exception()
        log = processes.log(copy)
        for name, fault in cells.items():
            with subtests.test(fault=name):
                store, answer = conversations[name].result()
                assert_one_sentence(served, answer, fault.sentence, fault.received)
                calls = provider.asked(PREFIX + name)
                assert_few_calls(served, calls, fault)
            with subtests.test("It is logged once.", fault=name):
                assert_logged(log, provider.asked(PREFIX + name)[-1], fault)
            with subtests.test("The conversation goes on.", fault=name):
                store, answer = conversations[name].result()
                shown = answer.partition(MARK)[0].strip()
                exchanges = [EARLIER, *([(PREFIX + name, shown)] if fault.received else [])]
                served.assert_goes_on(store, exchanges)
            if "silence" in name:
                with subtests.test("Silence is given up in time.", fault=name):
                    for call in provider.asked(PREFIX + name):
                        assert call.closed.wait(2 * TIMEOUT)
                        assert 0.8 * TIMEOUT < call.seconds < 3 * TIMEOUT
        with subtests.test("Each failure is logged once."):
            assert len(served.records()) == len(cells)
        with subtests.test("The key is not logged."):
            assert KEY not in processes.log(copy)


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
        asked = {"role": "user", "content_json": json.dumps(question)}
        body = json.dumps({"prompt": question, "messages": [asked]})
        tab.request("POST", "/streaming-chat", body, {"Content-Type": "application/json"})
        stream = tab.getresponse()
        tokens = [stream.readline() for _ in range(9)]
        assert any(token.startswith(b"data: ") for token in tokens)
        (call,) = provider.asked(question)
        assert not call.closed.is_set()
        stream.close()
        tab.close()
        assert call.closed.wait(2), "The provider is still at it."
        assert provider.asked(question) == [call]
        served.assert_goes_on(stored([(question, "")]), [])
        assert not served.records()


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
        store = stored([EARLIER])
        answer = served.ask(store, "Is anybody there?")
        assert_one_sentence(served, answer, "UNREACHABLE")
        assert url in answer
        provider.certificate = untrusted
        provider.open()
        answer = served.ask(store, "Who are you?")
        assert_one_sentence(served, answer, "UNTRUSTED_CERTIFICATE")
        assert not provider.calls
        provider.certificate = trusted
        served.assert_goes_on(store, [EARLIER])
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
        store = stored([EARLIER])
        for refusal in (407, 403):
            proxy.refusal = refusal
            answer = served.ask(store, f"Is there a way past {refusal}?")
            assert_one_sentence(served, answer, "PROXY")
        assert not provider.calls
        proxy.refusal = None
        served.assert_goes_on(store, [EARLIER])
        assert set(proxy.targets) == {"provider.test:443"}
        assert len(served.records()) == 2
        assert KEY not in processes.log(copy)
    proxy.stop()


# The sentence, the key, the address and other variables; only the last lets a client be made.
HARMLESS = {"NO_PROXY": "*", "no_proxy": "*", "ALL_PROXY": "", "SSL_CERT_FILE": ""}
SOCKS = {"NO_PROXY": "", "no_proxy": "", "ALL_PROXY": "socks5://127.0.0.1:9"}  # needs a package
WRONG_SETTINGS = [
    ("NO_KEY", "", "http://127.0.0.1", {}),
    ("MALFORMED_KEY", f"schlüssel-{KEY}", "http://127.0.0.1", {}),
    ("MALFORMED_KEY", f"{KEY}\n{KEY}", "http://127.0.0.1", {}),
    ("MALFORMED_URL", KEY, "localhost:1234", {}),
    ("WRONG_NETWORK", KEY, "https://127.0.0.1", {"SSL_CERT_FILE": "/no/such/file"}),
    ("WRONG_NETWORK", KEY, "https://127.0.0.1", SOCKS),
    ("UNREACHABLE", KEY, "http://name.invalid", {}),
]


@EVERY_PROJECT
def test_wrong_settings(combination: Combination, renders: dict[str, Path], tmp_path: Path) -> None:
    provider = combination["provider"]
    cases = [
        (name, HARMLESS | others | faults.settings(provider, address, key))
        for name, key, address, others in WRONG_SETTINGS
        if (provider, name) != ("openai_compatible", "NO_KEY")  # it needs none
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
    answers = json.loads(heard.read_text(encoding="utf-8"))
    assert answers == [
        [MARK + sentence(project, combination, variables, name)] * 2 for name, variables in cases
    ]
    assert "name.invalid" in answers[-1][0]
    at_start = sentence(project, combination, cases[0][1], cases[0][0])
    said = [line for line in log.splitlines() if line.endswith(at_start)]
    assert len([line for line in said if "WrongSetting" not in line]) == 1
    assert log.count(LOGGED) == 2 * len(cases)
    for secret in (KEY, "schlüssel"):
        assert secret not in log
        assert secret not in str(answers)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two certificates for the same names, the first to be trusted by whom they are shown to."""
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
    provoked |= {name for name, *_ in WRONG_SETTINGS}
    for streaming in (True, False):
        cells = faults.faults_of(provider_name, streaming)
        provoked |= {fault.sentence for fault in cells.values()}
    assert sentences_of(renders, provider_name).keys() - OF_THE_APP <= provoked


def sentences_of(renders: dict[str, Path], provider_name: str) -> dict[str, str]:
    """Return all sentences of a provider's projects, by name.

    Args:
        renders: The rendered projects.
        provider_name: The provider.
    """
    package = f"{provider_name}_streaming_full"
    path = renders[package] / "src" / package / "sentences.py"
    return {
        ast.unparse(statement.targets[0]): ast.literal_eval(statement.value)
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
    }
