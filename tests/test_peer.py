"""AG-UI's own client holds a conversation with a rendered project of each provider and mode."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faults
import processes
import pytest
import stand_in
from combinations import COMBINATIONS, Combination
from faults import ENDLESS, PREFIX, FaultyProvider, faults_of, healthy_answer
from test_wire import constant

PROJECTS = [one for one in COMBINATIONS if one["multi_turn"] == "full"]
FIRST, SECOND = "Is all well?", "And now?"


class Peer:
    """The client."""

    def __init__(self, address: str) -> None:
        """Start it.

        Args:
            address: Where the app is.
        """
        stand_in.install()
        self.process = subprocess.Popen(
            [stand_in.node(), stand_in.FOLDER / "peer.mjs", f"{address}/chat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def ask(self, question: str, stop: bool = False) -> dict[str, Any]:
        """Return what the client tells of an answer.

        Args:
            question: What to ask, after all that was asked before.
            stop: Whether to stop the answer after its first words.
        """
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"question": question, "stop": stop}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def peer(
    renders: dict[str, Path], combination: Combination, faulty: FaultyProvider | None
) -> Iterator[Peer]:
    """The client of a served project that refuses one question more than the test has."""
    project = renders[combination.name]
    questions = 2 if faulty is None else 5 if combination["streaming"] else 4
    limit = {"CHAT_RATE_LIMIT": f"{questions}/minute"}
    environment = limit | (faulty.environment() if faulty else {})
    with processes.serving(project, combination.name, environment) as address:
        client = Peer(address)
        yield client
        client.process.kill()
        client.process.communicate()


@pytest.fixture
def faulty(combination: Combination) -> Iterator[FaultyProvider | None]:
    """The provider, unless the project answers by itself."""
    if combination["provider"] not in faults.APIS:
        yield None
        return
    with faults.answering(combination["provider"]) as server:
        yield server


@pytest.mark.parametrize("combination", PROJECTS, ids=lambda one: one.label)
def test_conversation_with_a_client_of_others(
    renders: dict[str, Path], combination: Combination, faulty: FaultyProvider | None, peer: Peer
) -> None:
    def notice(name: str) -> str:
        package = renders[combination.name] / "src" / combination.name
        return constant(package / "notices.py", name)

    def fault(received: bool) -> tuple[str, str, str]:
        """Return a question that fails after the first words or before them, and what is told."""
        found = faults_of(combination["provider"], combination["streaming"]).items()
        name, one = next(
            (name, one)
            for name, one in found
            if bool(one.received) is received and one.sentence in ("RATE_LIMIT", "CUT_AT_LIMIT")
        )
        return PREFIX + name, one.received, notice(one.sentence)

    first, second = peer.ask(FIRST), peer.ask(SECOND)
    for told in (first, second):
        assert not {"error", "rejected"} & told.keys()
        ((role, text),) = told["answer"]
        assert role == "assistant"
    if faulty is None:
        assert "A model would see 3 turns" in text
    else:
        assert text == healthy_answer(SECOND)
        (call,) = faulty.asked(SECOND)
        answered = healthy_answer(FIRST)
        assert call.turns == [("user", FIRST), ("assistant", answered), ("user", SECOND)]
        assert first["usage"][0]["model"]

        for received in (False, True):
            question, part, sentence = fault(received)
            told = peer.ask(question)
            assert told["error"] == sentence
            assert told["answer"] == ([["assistant", part]] if part else [])
        if combination["streaming"]:
            told = peer.ask(PREFIX + ENDLESS, stop=True)
            assert told["answer"]
            (call,) = faulty.asked(PREFIX + ENDLESS)
            processes.until(call.closed.is_set)
    told = peer.ask(FIRST)
    assert told["status"] == 429
    assert notice("TOO_MANY_QUESTIONS") in told["rejected"]
