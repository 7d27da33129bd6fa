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
import anthropic
import openai

SECONDS = 60  # nobody waits longer

MODELS = {"anthropic": "claude-haiku-5-5", "openai": "gpt-6-luna"}


@dataclass(frozen=True)
class Exchange:
    """A question, and the answer that the stand-in has for it."""

    question: str
    answer: str


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


def stand_in(provider: str, url: str, exchange: Exchange) -> Target:
    """Return the stand-in itself, asked as the provider's SDK asks.

    Args:
        provider: The provider.
        url: The stand-in's address.
        exchange: What to ask.
    """
    turns = [{"role": "user", "content": exchange.question}]
    body = {"model": MODELS[provider], "stream": True}
    if provider == "anthropic":
        url, event = f"{url}/v1/messages", b"text_delta"
        body |= {"max_tokens": 1024, "messages": turns}
    else:
        url, event = f"{url}/v1/responses", b"response.output_text.delta"
        body |= {"input": turns, "store": False}

    def read(stream: bytes) -> str:
        events = map(json.loads, re.findall(rb"^data: (\{.*\})$", stream, re.MULTILINE))
        deltas = [event.get("delta", "") for event in events]
        return "".join(one if isinstance(one, str) else one.get("text", "") for one in deltas)

    return Target(url, body, event, read, exchange.answer)


def streaming_app(url: str, exchange: Exchange) -> Target:
    """Return an app whose answers stream, asked as its page asks.

    Args:
        url: The app's address.
        exchange: What to ask.
    """
    stored = {"role": "user", "content_json": json.dumps(exchange.question)}
    body = {"prompt": exchange.question, "messages": [stored]}

    def read(stream: bytes) -> str:
        parts = re.findall(rb"^data: (\S+)\|END\|$", stream, re.MULTILINE)
        return b"".join(map(base64.b64decode, parts)).decode()

    return Target(f"{url}/streaming-chat", body, b"|END|", read, exchange.answer)


async def one_shot_app(url: str, exchange: Exchange) -> Target:
    """Return an app whose answers come whole, asked as its page asks.

    Args:
        url: The app's address.
        exchange: What to ask.
    """
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_dash-dependencies") as got:
        callbacks = await got.json()
    (callback,) = (one for one in callbacks if "chat-store.data@" in one["output"])
    page = {"chat-chat-input": exchange.question, "chat-store": [], "chat-file-store": None}
    outputs = [output.split(".") for output in callback["output"].strip(".").split("...")]
    body = {
        "output": callback["output"],
        "outputs": [{"id": one, "property": name} for one, name in outputs],
        "inputs": [one | {"value": 1} for one in callback["inputs"]],
        "state": [one | {"value": page[one["id"]]} for one in callback["state"]],
        "changedPropIds": [f"{one['id']}.{one['property']}" for one in callback["inputs"]],
    }

    def read(reply: bytes) -> str:
        operations = json.loads(reply)["response"]["chat-store"]["data"]["operations"]
        return str(json.loads(operations[-1]["params"]["value"]["content_json"]))

    return Target(f"{url}/_dash-update-component", body, b"chat-store", read, exchange.answer)


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


def ask_sdk(client: anthropic.Anthropic | openai.OpenAI, exchange: Exchange, waits: Waits) -> None:
    """Ask once through a provider's SDK, without an app.

    Args:
        client: The SDK's client.
        exchange: What to ask.
        waits: Where to note how long it took.
    """
    turns: Any = [{"role": "user", "content": exchange.question}]
    begin = time.perf_counter()
    first = float("nan")
    if isinstance(client, anthropic.Anthropic):
        with client.messages.stream(
            model=MODELS["anthropic"], max_tokens=1024, messages=turns
        ) as stream:
            for _ in stream.text_stream:
                if first != first:
                    first = time.perf_counter() - begin
    else:
        for event in client.responses.create(
            model=MODELS["openai"], input=turns, store=False, stream=True
        ):
            if event.type == "response.output_text.delta" and first != first:
                first = time.perf_counter() - begin
    waits.first.append(first)
    waits.last.append(time.perf_counter() - begin)
