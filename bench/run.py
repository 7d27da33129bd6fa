"""Measure rendered projects beside the documentation's code: `uv run --isolated --group bench bench/run.py`.

Everything runs on this machine at once: the stand-in for the providers, the apps and the people who
ask. At each number of streams all are asked in turn, round after round, so that a slow minute of the
machine is everybody's. The results are printed, and go to RESULTS.md beside this file.
"""

import asyncio
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import anthropic
import openai
import psutil

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests"))

import browser  # noqa: E402
import load  # noqa: E402
from apps import PROVIDERS, Apps  # noqa: E402
from load import Exchange, Waits, at_once, median_and_95th  # noqa: E402
from stand_in import StandIn  # noqa: E402

ROUNDS = {1: 10, 20: 4, 100: 3, 300: 2}  # how often each number of streams is measured
MANY = 1000  # streams, for the stand-in and the rendered projects only
MESSAGES = 2000  # after which the memory is looked at again, twice
STARTS = 3
TYPED = 16  # messages in the browser, the first of which is not counted
COPIER = Path(sys.executable).with_name("copier")
DEFAULT = ("--workers=2",)
PACKAGES = ("vizro", "vizro-experimental", "gunicorn", "gevent", "anthropic", "openai")
LONG, SHORT = (
    Exchange(one["match"]["userMessage"], one["response"]["content"])
    for one in json.loads((HERE / "answers.json").read_text(encoding="utf-8"))["fixtures"]
)

lines: list[str] = []


def say(*new: str) -> None:
    """Print lines, and keep them for the results.

    Args:
        new: The lines, in Markdown.
    """
    print(*new, sep="\n", flush=True)
    lines.extend(new)


def table(heading: str, *rows: tuple[object, ...]) -> None:
    """Say a table.

    Args:
        heading: Its headings, separated by bars.
        rows: Its cells.
    """
    say("", f"| {heading} |", "|---" * (heading.count("|") + 1) + "|")
    say(*(f"| {' | '.join(map(str, row))} |" for row in rows), "")


async def starts(apps: Apps) -> None:
    """Measure how soon an app shows its page, and answers its first message.

    Args:
        apps: What is served, one after the other.
    """
    rows = []
    for name, serve in {"rendered": apps.rendered, "documentation": apps.documented}.items():
        for provider in PROVIDERS:
            pages, first, later = [], Waits(), Waits()
            for _ in range(STARTS):
                with serve(provider) as server:
                    pages.append(server.start)
                    target = load.streaming_app(server.url, LONG)
                    await at_once(target, 1, first)
                    await at_once(target, 20, Waits())  # so that each worker has had one
                    await at_once(target, 1, later)
            firsts, laters = median(first.first), median(later.first)
            cells = f"{median(pages):.1f}", f"{firsts:.2f} · {firsts / laters:.1f} x"
            rows.append((f"{name}, {provider}", *cells, f"{laters:.2f}"))
    say("## Start", "", f"Seconds with gunicorn, medians of {STARTS} starts.")
    heading = "who | first page | first message: first word | later messages: first word"
    table(heading, *rows)


def copies() -> None:
    """Measure how long a project takes to render, beside a template of one file."""
    with tempfile.TemporaryDirectory() as folder:
        single = Path(folder) / "single"
        single.mkdir()
        (single / "README.md").write_text("One file.\n", encoding="utf-8")
        git = ["git", "-c", "user.name=Bench", "-c", "user.email=bench@example.com"]
        for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "One"]):
            subprocess.run([*git, *command], cwd=single, check=True)
        seconds = {ROOT: [], single: []}
        for number in range(STARTS):
            for template, measured in seconds.items():
                target = f"{folder}/{template.name}_{number}"
                command = [COPIER, "copy", "--quiet", "--defaults", "--vcs-ref=HEAD"]
                begin = time.perf_counter()
                subprocess.run([*command, template, target], check=True, capture_output=True)
                measured.append(time.perf_counter() - begin)
    own, one = (median(measured) for measured in seconds.values())
    say(
        "## Rendering",
        "",
        f"`copier copy` takes {own:.2f} s, {own / one:.1f} x a template of one file.",
        "",
    )


async def person(apps: Apps, provider: StandIn) -> None:
    """Measure what one person sees in a browser.

    Args:
        apps: What is served, one after the other.
        provider: The stand-in for the providers.
    """
    rows = []
    async with browser.chromium() as chromium:
        for name in PROVIDERS:
            uses = [
                await browser.first_use(chromium, apps.project(name), apps.environment(name))
                for _ in range(STARTS)
            ]
            with apps.rendered(name) as server:
                await at_once(load.streaming_app(server.url, LONG), 20, Waits())
                direct = load.stand_in(name, provider.url, LONG)
                waits = await browser.converse(chromium, server.url, LONG, direct, TYPED)
            seen, alone = (median_and_95th(one.first) for one in waits)
            over = (f"+{(a - b) * 1000:.0f}" for a, b in zip(seen, alone, strict=True))
            rows.append((f"rendered, {name}", f"{median(uses):.1f}", *over))
    say("## One person in a browser", "")
    say(
        f"Seconds from `uv run` to an input that takes text, median of {STARTS} starts; and milliseconds"
    )
    say(
        f"from the stand-in's own first word to the one that is seen, in {TYPED - 1} messages in a row."
    )
    table("who | start | first word, median | 95th", *rows)


async def streams(apps: Apps, provider: StandIn) -> None:
    """Measure streams at the same time.

    Args:
        apps: What is served, all of it at the same time.
        provider: The stand-in for the providers.
    """
    measured: dict[tuple[int, str], Waits] = defaultdict(Waits)
    sdks = {
        "anthropic": anthropic.Anthropic(api_key="test", base_url=provider.url),
        "openai": openai.OpenAI(api_key="test", base_url=f"{provider.url}/v1"),
    }
    with ExitStack() as stack:
        rendered = {name: stack.enter_context(apps.rendered(name)) for name in PROVIDERS}
        documented = {name: stack.enter_context(apps.documented(name)) for name in PROVIDERS}
        targets = {f"stand-in, {one}": load.stand_in(one, provider.url, LONG) for one in PROVIDERS}
        for name, servers in {"rendered": rendered, "documentation": documented}.items():
            for one, server in servers.items():
                targets[f"{name}, {one}"] = load.streaming_app(server.url, LONG)
        for target in targets.values():
            await at_once(target, 20, Waits())
        for client in sdks.values():
            load.ask_sdk(client, LONG, Waits())
        for people, rounds in ROUNDS.items():
            for _ in range(rounds):
                for name, target in targets.items():
                    await at_once(target, people, measured[people, name])
                for one, client in sdks.items() if people == 1 else ():
                    load.ask_sdk(client, LONG, measured[people, f"SDK, {one}"])
        for name, target in targets.items():
            if not name.startswith("documentation"):
                await at_once(target, MANY, measured[MANY, name])
    with apps.documented("openai", options=DEFAULT) as server:
        target = load.streaming_app(server.url, LONG)
        for people in (20, 100):
            await at_once(target, people, measured[people, "documentation, default worker, openai"])
    say_streams(measured)


def say_streams(measured: dict[tuple[int, str], Waits]) -> None:
    """Say how long people waited.

    Args:
        measured: Their waits, by how many asked and whom.
    """
    rows = []
    for (people, name), waits in sorted(measured.items(), key=lambda item: item[0][0]):
        direct = measured[people, f"stand-in, {name.rpartition(', ')[2]}"]
        cells: list[object] = [people, name]
        for own, others in ((waits.first, direct.first), (waits.last, direct.last)):
            times, alone = median_and_95th(own), median_and_95th(others)
            cells += [
                f"{one:.2f} · {one / other:.1f} x" for one, other in zip(times, alone, strict=True)
            ]
        rows.append((*cells, f"{len(waits.failures)} of {len(waits.failures) + len(waits.last)}"))
    say("## Streams", "", "Seconds, and how many times what the stand-in itself takes.")
    table("streams | who | first word, median | 95th | last word, median | 95th | failed", *rows)
    for (people, name), waits in measured.items():
        for failure in sorted(set(waits.failures))[:3]:
            say(f"- {name}, {people} streams: {failure}")
    say("")


async def memory(apps: Apps) -> None:
    """Measure the memory of the rendered projects: idle, busy, and after many messages.

    Args:
        apps: What is served, one after the other.
    """
    rows = []
    for provider in PROVIDERS:
        with apps.rendered(provider) as server:
            target = load.streaming_app(server.url, LONG)
            await at_once(target, 20, Waits())
            megabytes = [server.memory()]
            busy = asyncio.create_task(at_once(target, 100, Waits()))
            seen = [0.0]
            while not busy.done():
                seen.append(server.memory())
                await asyncio.sleep(0.3)
            megabytes.append(max(seen))
            for _ in range(2):
                waits = Waits()
                short = load.streaming_app(server.url, SHORT)
                await at_once(short, 20, waits, messages=MESSAGES // 20)
                megabytes.append(server.memory())
        cells = [f"{one:.0f} · {one / megabytes[0]:.2f} x" for one in megabytes]
        rows.append((f"rendered, {provider}", *cells, len(waits.failures)))
    say("## Memory", "", "Of gunicorn and its workers, in MB, and how many times the idle ones.")
    counts = f"after {MESSAGES} messages | after {2 * MESSAGES}"
    table(f"who | idle | most with 100 streams | {counts} | failed", *rows)


async def one_shot(apps: Apps) -> None:
    """Measure how many answers a second come whole, from a provider that answers at once.

    Args:
        apps: What is served, one after the other.
    """
    rows = []
    for name, serve in {"rendered": apps.rendered, "documentation": apps.documented}.items():
        with serve("anthropic", "one_shot") as server:
            target = await load.one_shot_app(server.url, SHORT)
            await at_once(target, 20, Waits())
            waits = Waits()
            seconds = await at_once(target, 20, waits, messages=20)
            rows.append((name, f"{len(waits.last) / seconds:.0f}", len(waits.failures)))
    say("## Answers that come whole", "", "20 people with 20 messages each, for Claude.")
    table("who | answers a second | failed", *rows)


def say_machine() -> None:
    """Say when and where this is measured, and how much else the machine has to do."""
    cpu_info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", cpu_info.read_text()) if cpu_info.exists() else []
    cpu, memory = (names or [platform.machine()])[0], psutil.virtual_memory().total / 1e9
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    say(
        "# Results",
        "",
        "`uv run --isolated --group bench bench/run.py` measures, and writes this.",
        "",
    )
    say(f"- {datetime.now(UTC):%d %B %Y}, {os.cpu_count()} processors ({cpu}), {memory:.0f} GB")
    say(f"- {platform.system()}, Python {platform.python_version()}, {versions}")
    say_load("before")


def say_load(when: str) -> None:
    """Say what the machine has to do.

    Args:
        when: Before the measurements, or after them.
    """
    busy = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    say(f"- load {when} the measurements: {busy} (the last 1, 5 and 15 minutes)", "")


async def measure(apps: Apps, provider: StandIn) -> None:
    """Measure everything.

    Args:
        apps: What is served.
        provider: The stand-in for the providers.
    """
    copies()
    await starts(apps)
    await person(apps, provider)
    await streams(apps, provider)
    await one_shot(apps)
    await memory(apps)


def main() -> None:
    """Measure, print, and write the results."""
    warnings.simplefilter("ignore")  # Copier's, about the template's uncommitted changes
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each stream is a file or two
    say_machine()
    provider = StandIn(HERE / "answers.json")
    provider.url = provider.aimock_url  # the recorder before it would be measured too
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(Apps(provider, Path(folder)), provider))
    finally:
        provider.stop()
    say_load("after")
    (HERE / "RESULTS.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
