"""Measure rendered projects, the documentation's code and Chainlit: see CONTRIBUTING.md.

Everything runs on this machine at once: the stand-in for the providers, the apps and the people who
ask. All are asked in turn, round after round, so that a slow minute of the machine is everybody's.
"""

import argparse
import asyncio
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
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from math import inf
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import browser  # noqa: E402
import load  # noqa: E402
from apps import CHAINLIT, PROVIDERS, Apps, cpu, tree  # noqa: E402
from browser import Person  # noqa: E402
from exchanges import ENDLESS, LONG, SECTIONS, SHORT, write_fixtures  # noqa: E402
from load import Waits, at_once, median_and_95th  # noqa: E402
from stand_in import StandIn  # noqa: E402

RESULTS = HERE / "RESULTS.md"
PACKAGES = ("vizro", "vizro-experimental", "gunicorn", "gevent", "anthropic", "openai")
CHATS = {
    "rendered": (Apps.rendered, browser.RENDERED),
    "Chainlit": (Apps.chainlit, browser.CHAINLIT),
    "documentation": (Apps.documented, browser.DOCUMENTED),
}


class Bench:
    """What is measured, and how often.

    Attributes:
        lines: What came out, in Markdown.
    """

    def __init__(self, provider: StandIn, apps: Apps, before: str, is_trial: bool) -> None:
        """Take what is asked.

        Args:
            provider: The stand-in for the providers.
            apps: What is served.
            before: The commit that streams are compared with.
            is_trial: Whether to measure as little as possible, to see that all works.
        """
        self._provider = provider
        self._apps = apps
        self._before = before
        self._rounds = 2 if is_trial else 12
        self._kept = 10 if is_trial else 120
        self._streams = {10: 2} if is_trial else {100: 4, 300: 3, 1000: 3}
        self.lines: list[str] = []

    def say(self, *new: str) -> None:
        """Print lines, and keep them for the results.

        Args:
            new: The lines, in Markdown.
        """
        print(*new, sep="\n", flush=True)
        self.lines.extend(new)

    def table(self, heading: str, rows: list[tuple[object, ...]]) -> None:
        """Say a table.

        Args:
            heading: Its headings, separated by bars.
            rows: Its cells.
        """
        self.say("", f"| {heading} |", "|---" * (heading.count("|") + 1) + "|")
        self.say(*(f"| {' | '.join(map(str, row))} |" for row in rows), "")

    def _stand_in(self, provider: str, *earlier: load.Exchange) -> load.Target:
        return load.stand_in(provider, self._provider.url, SHORT, *earlier)

    async def person(self) -> None:
        """Measure how soon one person reads the first word, in new chats and in long ones."""
        rows = []
        for provider in PROVIDERS:
            with ExitStack() as stack:
                async with browser.chromium() as chromium:
                    people = {}
                    for name, (serve, selectors) in CHATS.items():
                        url = stack.enter_context(serve(self._apps, provider)).url
                        people[name, 0] = await Person.open(chromium, url, selectors)
                        if name != "documentation":  # whose page takes seconds then
                            long = await Person.open(chromium, url, selectors)
                            people[name, self._kept] = long
                            for _ in range(self._kept):
                                await long.ask(SECTIONS)
                    over = defaultdict(list)
                    for number in range(self._rounds + 1):  # the first is not counted
                        for key, person in people.items():
                            alone = Waits()
                            await at_once(self._stand_in(provider, *person.asked), 1, alone)
                            first, _ = await person.ask(SHORT)
                            if number:
                                over[key].append((first - alone.first[0]) * 1000)
            for (name, kept), milliseconds in over.items():
                middle, most = median_and_95th(milliseconds)
                rows.append((f"{name}, {provider}", kept, f"+{middle:.0f}", f"+{most:.0f}"))
        self.say("## One person in a browser", "")
        self.say(
            "Milliseconds from the stand-in's own first word, given the same conversation, to the one"
            f" that is seen. Medians of {self._rounds} questions."
        )
        self.table("who | exchanges in the page before | median | 95th", rows)

    async def opening(self) -> None:
        """Measure how soon a chat with many exchanges opens."""
        rows = []
        for provider in PROVIDERS:
            with self._apps.rendered(provider) as server:
                async with browser.chromium() as chromium:
                    person = await Person.open(chromium, server.url, browser.RENDERED)
                    await person.ask(SECTIONS)
                    for kept in (500, 120, 0):
                        await person.keep(server.url, kept)
                        reloads = [await person.reload(server.url) for _ in range(self._rounds)]
                        changes = [await person.change_page() for _ in range(self._rounds)]
                        seconds = (f"{median(some):.2f}" for some in (reloads, changes))
                        rows.append((f"rendered, {provider}", kept, *seconds))
        self.say("## Opening a chat", "")
        self.say("Seconds until the chat can be used and its last answer be read, medians of")
        self.say(f"{self._rounds} each: after a reload, and on the way back from the other page.")
        self.table("who | exchanges | reload | page change", rows)

    async def ten(self) -> None:
        """Measure ten people in one browser."""
        rows = []
        rounds = max(2, self._rounds // 3)
        for provider in PROVIDERS:
            for name, (serve, selectors) in CHATS.items():
                with serve(self._apps, provider) as server:
                    async with browser.chromium() as chromium:
                        people = [
                            await Person.open(chromium, server.url, selectors) for _ in range(10)
                        ]
                        target = load.stand_in(provider, self._provider.url, LONG)
                        waits, alone = Waits(), Waits()
                        used = [0.0, 0.0]
                        for number in range(rounds + 1):  # the first is not counted
                            await asyncio.gather(*(one.type(LONG) for one in people))
                            parts = tree(server.process), browser.processes()
                            begin = [cpu(some) for some in parts]
                            answered = await asyncio.gather(*(one.enter() for one in people))
                            end = [cpu(some) for some in parts]
                            is_late = any(last == inf for _, last in answered)
                            if number or is_late:
                                waits.first += [first for first, _ in answered]
                                waits.last += [last for _, last in answered]
                                for place, (b, e) in enumerate(zip(begin, end, strict=True)):
                                    used[place] += sum(e[pid] - b[pid] for pid in e)
                            await at_once(target, 1, alone)
                            if is_late:  # the next round would meet unfinished answers
                                break
                own, first = median(alone.first), median(waits.first)
                seconds = f"{first:.2f} · {first / own:.2f} x", f"{median(waits.last):.2f}"
                server_cpu, browser_cpu = (one / (len(waits.first) / 10) for one in used)
                cpus = f"{server_cpu:.1f}", f"{browser_cpu:.1f}", f"{server_cpu + browser_cpu:.1f}"
                rows.append((f"{name}, {provider}", *seconds, *cpus))
        self.say("## Ten people in one browser", "")
        self.say(
            "Seconds, and how many times the stand-in's own for one; then the seconds that the"
        )
        self.say(
            f"processors computed until all ten had their answers. {rounds} rounds; inf: not all of"
            f" the ten had a whole answer after {browser.SECONDS} seconds."
        )
        heading = "who | first word, median | last word | server | browser | both"
        self.table(heading, rows)

    async def long(self) -> None:
        """Measure what the page computes while a very long answer comes."""
        rows = []
        for provider in PROVIDERS:
            target = load.stand_in(provider, self._provider.url, ENDLESS)
            with self._apps.rendered(provider) as server:
                async with browser.chromium() as chromium:
                    for _ in range(3):
                        alone = Waits()
                        await at_once(target, 1, alone)
                        person = await Person.open(chromium, server.url, browser.RENDERED)
                        await person.ask(SHORT)
                        runs, last = await person.trace(ENDLESS)
                        await person.page.context.close()
                        over = sum(one > 20 for one in runs)
                        cells = f"{max(runs):.0f}", over, f"{sum(runs) / 1000:.1f}"
                        ends = f"{last:.1f}", f"{alone.last[0]:.1f}"
                        rows.append((f"rendered, {provider}", *cells, *ends))
        self.say("## A very long answer", "")
        self.say(
            "20,000 characters of mixed Markdown, which the stand-in sends in four seconds, three"
        )
        self.say("times: milliseconds of the longest run of scripts, and how many took over 20 ms.")
        self.table(
            "who | longest | over 20 ms | all scripts, s | whole after, s | the stand-in's own",
            rows,
        )

    async def streams(self) -> None:
        """Measure streams at the same time."""
        measured: dict[tuple[int, str], Waits] = defaultdict(Waits)
        with ExitStack() as stack:
            targets, servers = {}, {}
            for provider in PROVIDERS:
                targets[f"stand-in, {provider}"] = load.stand_in(provider, self._provider.url, LONG)
                for name, server in {
                    "rendered": self._apps.rendered(provider),
                    "before": self._apps.rendered(provider, self._before),
                    "documentation": self._apps.documented(provider),
                }.items():
                    who = f"{name}, {provider}"
                    servers[who] = stack.enter_context(server)
                    targets[who] = load.app(servers[who], LONG)
            for target in targets.values():
                await at_once(target, 20, Waits())
            idle = {who: server.memory() for who, server in servers.items()}
            for people, rounds in self._streams.items():
                for _ in range(rounds):
                    for who, target in targets.items():
                        if people < 1000 or not who.startswith("documentation"):
                            await at_once(target, people, measured[people, who])
            memory = [
                (who, f"{idle[who]:.0f}", f"{server.memory():.0f}")
                for who, server in servers.items()
            ]
        rows = []
        for (people, who), waits in measured.items():
            direct = measured[people, f"stand-in, {who.rpartition(', ')[2]}"]
            cells: list[object] = [people, who]
            for own, others in ((waits.first, direct.first), (waits.last, direct.last)):
                for one, other in zip(median_and_95th(own), median_and_95th(others), strict=True):
                    cells.append(f"{one:.2f} · {one / other:.1f} x")
            rows.append((*cells, f"{len(waits.failures)} of {len(waits.failures + waits.last)}"))
        self.say("## Streams", "")
        self.say(
            "Seconds, and how many times the stand-in's own. The project from before is that of"
        )
        self.say(f"`{self._before}`, {subject(self._before)}.")
        heading = "streams | who | first word, median | 95th | last word, median | 95th | failed"
        self.table(heading, rows)
        for (people, who), waits in measured.items():
            for failure in sorted(set(waits.failures))[:3]:
                self.say(f"- {who}, {people} streams: {failure}")
        self.say("The servers' memory in MB, after the first streams and after all of them.")
        self.table("who | first | last", memory)


def subject(commit: str) -> str:
    """Return what a commit is, in one line.

    Args:
        commit: The commit.
    """
    command = ["git", "log", "-1", "--format=%h (%s)", commit]
    return subprocess.run(
        command, cwd=HERE, check=True, capture_output=True, text=True
    ).stdout.strip()


def circumstances() -> str:
    """Return when and where this is measured, and how much else the machine has to do."""
    cpu_info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", cpu_info.read_text()) if cpu_info.exists() else []
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%d %B %Y}, {subject('HEAD')}, {os.cpu_count()} processors "
        f"({(names or [platform.machine()])[0]}), {platform.system()}, "
        f"Python {platform.python_version()}, {versions}, {CHAINLIT}; "
        f"load of the last minute {os.getloadavg()[0]:.1f}"
    )


PARTS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "person": Bench.person,
    "opening": Bench.opening,
    "ten": Bench.ten,
    "long": Bench.long,
    "streams": Bench.streams,
}


def write(section: str) -> None:
    """Put a section into the results, in the place of the one with the same heading.

    Args:
        section: The section.
    """
    _, *others = RESULTS.read_text(encoding="utf-8").split("\n## ") if RESULTS.exists() else [""]
    sections = {one.partition("\n")[0]: one.strip() for one in others}
    sections[section.partition("\n")[0].removeprefix("## ")] = section.removeprefix("## ").strip()
    start = "# Results\n\n`uv run --isolated --group bench bench/run.py` measures, and writes this."
    RESULTS.write_text("\n\n## ".join([start, *sections.values()]) + "\n", encoding="utf-8")


async def measure(bench: Bench, parts: list[str], is_trial: bool) -> None:
    """Measure, print, and write the results.

    Args:
        bench: What is measured.
        parts: The names of the parts.
        is_trial: Whether the results stay as they are.
    """
    for part in parts:
        begin, circumstance = time.monotonic(), circumstances()
        bench.lines.clear()
        await PARTS[part](bench)
        bench.say(f"{circumstance}; took {time.monotonic() - begin:.0f} s.")
        if not is_trial:
            write("\n".join(bench.lines))


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description="Measure, and write RESULTS.md.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--before", default="45f003c^1", help="compare streams with this commit")
    parser.add_argument("--trial", action="store_true", help="measure little, and write nothing")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"No such part: {', '.join(unknown)}.")
    warnings.simplefilter("ignore")  # Copier's, about the template's uncommitted changes
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each stream is a file or two
    with tempfile.TemporaryDirectory() as folder:
        fixtures = Path(folder) / "answers.json"
        write_fixtures(fixtures)
        provider = StandIn(fixtures)
        provider.url = provider.aimock_url  # the recorder before it would be measured too
        try:
            apps = Apps(provider, Path(folder))
            bench = Bench(provider, apps, options.before, options.trial)
            asyncio.run(measure(bench, options.parts or list(PARTS), options.trial))
        finally:
            provider.stop()


if __name__ == "__main__":
    main()
