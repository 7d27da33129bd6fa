"""People who ask at the same time, and how long each waits for the first word and for the last.

aiohttp is the base, as the one light enough to share two processors with what it measures.
"""

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import aiohttp
from apps import Server
from exchanges import Exchange

SECONDS = 60  # nobody waits longer

MODELS = {"anthropic": "claude-haiku-5-5", "openai": "gpt-6-luna"}


@dataclass(frozen=True)
class Target:
    """Where to ask, and how to read what comes.

    Attributes:
        url: The address to send to.
        body: What to send.
        first_word: What comes with the answer's first word, and not before.
        read: Returns the answer in what came.
        answer: The whole answer; anything else is a failure.
    """

    url: str
    body: dict[str, Any]
    first_word: bytes
    read: Callable[[bytes], str]
    answer: str


@dataclass
class Waits:
    """How long people waited, in seconds, and what came of those who waited in vain."""

    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def median_and_95th(seconds: list[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile, both `nan` of nothing.

    Args:
        seconds: What was measured.
    """
    if len(seconds) < 2:
        return (seconds * 2)[:2] or (float("nan"), float("nan"))
    return median(seconds), quantiles(seconds, n=20, method="inclusive")[-1]


def stand_in(provider: str, url: str, exchange: Exchange, *earlier: Exchange) -> Target:
    """Return the stand-in itself, asked as the provider's SDK asks.

    Args:
        provider: The provider.
        url: The stand-in's address.
        exchange: What to ask.
        earlier: What has been asked before.
    """
    turns = []
    for one in earlier:
        turns.append({"role": "user", "content": one.question})
        turns.append({"role": "assistant", "content": one.answer})
    turns.append({"role": "user", "content": exchange.question})
    body = {"model": MODELS[provider], "stream": True}
    if provider == "anthropic":
        url, event = f"{url}/v1/messages", b"text_delta"
        body |= {"max_tokens": 1024, "messages": turns}
    else:
        url, event = f"{url}/v1/responses", b"response.output_text.delta"
        body |= {"input": turns, "store": False}

    def read(stream: bytes) -> str:
        deltas = [event.get("delta", "") for event in events(stream)]
        return "".join(one if isinstance(one, str) else one.get("text", "") for one in deltas)

    return Target(url, body, event, read, exchange.answer)


def events(stream: bytes) -> list[dict[str, Any]]:
    """Return the server-sent events of a stream that carry a JSON object.

    Args:
        stream: All that came.
    """
    return list(map(json.loads, re.findall(rb"^data: (\{.*\})$", stream, re.MULTILINE)))


def app(server: Server, exchange: Exchange) -> Target:
    """Return an app, asked as its page asks.

    Args:
        server: The app.
        exchange: What to ask.
    """
    if server.has_endpoint:
        message = {"role": "user", "content": exchange.question}
        target = f"{server.url}/chat", {"messages": [message]}, b"TEXT_MESSAGE_CONTENT"
        return Target(*target, read_events, exchange.answer)
    stored = {"role": "user", "content_json": json.dumps(exchange.question)}
    body = {"prompt": exchange.question, "messages": [stored]}
    return Target(f"{server.url}/streaming-chat", body, b"|END|", read_parts, exchange.answer)


def read_events(stream: bytes) -> str:
    """Return the answer in AG-UI's events, if it is complete.

    Args:
        stream: All that came.
    """
    *parts, end = events(stream)
    assert end["type"] == "RUN_FINISHED", end
    return "".join(one["delta"] for one in parts if one["type"] == "TEXT_MESSAGE_CONTENT")


def read_parts(stream: bytes) -> str:
    """Return the answer as vizro-experimental streams it, without the tokens that some append.

    Args:
        stream: All that came.
    """
    parts = re.findall(rb"^data: (\S+)\|END\|$", stream, re.MULTILINE)
    return b"".join(map(base64.b64decode, parts)).decode().partition("\n\n\u2063")[0]


async def ask(session: aiohttp.ClientSession, target: Target, waits: Waits) -> None:
    """Ask once.

    Args:
        session: The connections.
        target: Where to ask.
        waits: Where to note how long it took.
    """
    begin = time.perf_counter()
    first = float("nan")
    came = bytearray()
    try:
        async with session.post(target.url, json=target.body) as response:
            async for part in response.content.iter_any():
                seen = len(came)
                came += part
                if first != first and came.find(target.first_word, max(0, seen - 40)) >= 0:
                    first = time.perf_counter() - begin
        last = time.perf_counter() - begin
        assert target.read(bytes(came)) == target.answer, f"{response.status}, {bytes(came[-200:])}"
    except Exception as error:
        waits.failures.append(repr(error))
    else:
        waits.first.append(first)
        waits.last.append(last)


async def at_once(target: Target, people: int, waits: Waits, messages: int = 1) -> float:
    """Let people ask at the same time, and return how many seconds it took until all had answers.

    Args:
        target: Where to ask.
        people: How many ask; each opens a connection of its own for each message.
        waits: Where to note how long each waited.
        messages: How many each asks, one after the other.
    """
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    session = aiohttp.ClientSession(
        connector=connector,
        headers={"Authorization": "Bearer test", "x-api-key": "test"},
        timeout=aiohttp.ClientTimeout(SECONDS),
    )

    async def person() -> None:
        for _ in range(messages):
            await ask(session, target, waits)

    async with session:
        begin = time.perf_counter()
        await asyncio.gather(*(person() for _ in range(people)))
        return time.perf_counter() - begin
