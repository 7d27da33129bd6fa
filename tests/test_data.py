"""The way into the data: hostile statements, odd tables, stale ones, and limits."""

import importlib
import json
import math
import os
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import processes
import pytest
from hostile import EXHAUSTING, REFUSED

if sys.platform == "win32":
    pytest.skip("gunicorn does not run on Windows.", allow_module_level=True)

from test_serving import Gunicorn, stream

PACKAGE = "demo_streaming_full_data"
STALL = 1.5  # seconds: far less than a query may take, and more than a busy machine does


@pytest.fixture(scope="module")
def server(
    renders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gunicorn]:
    """The demo that looks into its data, served by one worker."""
    log = tmp_path_factory.mktemp("gunicorn") / "gunicorn.log"
    started = Gunicorn(renders[PACKAGE], log, WEB_CONCURRENCY="1", SOME_API_KEY="a-secret-key")
    try:
        started.wait()
        assert run(started, "SELECT 42 AS n") == (200, "n\r\n42\r\n")
        yield started
    finally:
        started.kill()


def run(server: Gunicorn, sql: str) -> tuple[int, str]:
    """Return the status and the text of the answer to a query, run as for a download.

    Args:
        server: The app.
        sql: The query.
    """
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/chat/csv",
        json.dumps({"sql": sql}).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as response:
            return response.status, response.read().decode("utf-8-sig")
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


@contextmanager
def watched(server: Gunicorn) -> Iterator[None]:
    """Check that another stream goes on without a stall, and that no worker is replaced.

    Args:
        server: The app.
    """
    gaps, is_over = [], threading.Event()

    def listen() -> None:
        while not is_over.is_set():
            response = stream(server.port, "word " * 200)
            before = time.monotonic()
            while not is_over.is_set() and response.readline():
                gaps.append(time.monotonic() - before)
                before = time.monotonic()
            response.close()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield
    finally:
        is_over.set()
        listener.join()
    assert gaps and max(gaps) < STALL
    assert server.log().count("Booting worker") == 1


def query_processes(folder: Path) -> dict[int, dict[str, str]]:
    """Return the environments of the processes that answer queries, by their ids.

    Args:
        folder: The folder of the project or of the data.
    """
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
            environment = (process / "environ").read_text(errors="replace")
        except OSError:  # it has ended, or is not ours
            continue
        if str(folder) in command and "query_process.py" in command:
            pairs = (pair.partition("=") for pair in environment.split("\0") if pair)
            found[int(process.name)] = {name: value for name, _, value in pairs}
    return found


def test_there_are_enough_hostile_statements() -> None:
    assert len({*REFUSED, *EXHAUSTING}) == len(REFUSED) + len(EXHAUSTING) >= 60


def test_refused_statements_harm_nobody(server: Gunicorn) -> None:
    with watched(server):
        for sql in REFUSED:
            status, text = run(server, sql)
            assert status in (400, 422), (sql[:200], text[:200])
            assert run(server, "SELECT count(*) AS n FROM gapminder") == (200, "n\r\n1704\r\n"), sql
    for name in ("exported", "copied.csv", "other.duckdb", "logged"):
        assert not Path("/tmp", name).exists()


@pytest.mark.parametrize("sql", EXHAUSTING, ids=lambda sql: sql[:30])
@pytest.mark.skipif(sys.platform != "linux", reason="It is read in /proc.")
def test_exhausting_statements_harm_nobody(
    server: Gunicorn, renders: dict[str, Path], sql: str
) -> None:
    with watched(server):
        started = time.monotonic()
        assert run(server, sql)[0] == 422
        assert time.monotonic() - started < 9
        started = time.monotonic()
        counted = run(server, "SELECT count(*) AS n FROM gapminder")
        seconds = time.monotonic() - started
        assert counted == (200, "n\r\n1704\r\n"), f"After {seconds:.1f} s: {server.log()[-2000:]}"
        assert seconds < 4
    (process,) = query_processes(renders[PACKAGE])
    used = Path(f"/proc/{process}/status").read_text().partition("VmRSS:")[2].split()[0]
    assert int(used) < 200_000, "The memory of the query is given back."


def test_columns_of_one_name_get_numbers(server: Gunicorn) -> None:
    sql = "SELECT 1 AS a, 2 AS a_2, 3 AS a, 4 AS a"
    assert run(server, sql) == (200, "a,a_2,a_1,a_3\r\n1,2,3,4\r\n")


@pytest.mark.skipif(sys.platform != "linux", reason="It is read in /proc.")
def test_query_process_has_no_secret(server: Gunicorn, renders: dict[str, Path]) -> None:
    run(server, "SELECT 42")
    (environment,) = query_processes(renders[PACKAGE]).values()
    assert environment.keys() <= {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_CTYPE"}
    assert "a-secret-key" not in str(environment)


@pytest.mark.skipif(sys.platform != "linux", reason="It is read in /proc.")
def test_killed_query_process_is_replaced(server: Gunicorn, renders: dict[str, Path]) -> None:
    run(server, "SELECT 42")
    for _ in range(5):
        (process,) = query_processes(renders[PACKAGE])
        os.kill(process, signal.SIGKILL)  # half gone, or not yet, when the next query comes
        assert run(server, "SELECT 42 AS n") == (200, "n\r\n42\r\n")
        assert process not in query_processes(renders[PACKAGE])


@pytest.mark.skipif(sys.platform != "linux", reason="It is read in /proc.")
def test_killed_worker_leaves_nothing(renders: dict[str, Path], tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    options = {"WEB_CONCURRENCY": "1", "TMPDIR": str(temporary)}
    server = Gunicorn(renders[PACKAGE], tmp_path / "gunicorn.log", **options)
    try:
        server.wait()
        assert run(server, "SELECT 42")[0] == 200
        (folder,) = temporary.glob("chat-data-*")
        (process,) = query_processes(folder)
        status = Path(f"/proc/{process}/status").read_text()
        os.kill(int(status.partition("PPid:\t")[2].split()[0]), signal.SIGKILL)
        processes.until(lambda: not folder.exists() and not query_processes(folder))
    finally:
        server.kill()


def test_many_askers_take_turns(server: Gunicorn) -> None:
    sql = "SELECT sum(sin(range)) AS s FROM range(2000000)"
    statuses: list[int] = []
    with watched(server):
        askers = [
            threading.Thread(target=lambda: statuses.append(run(server, sql)[0])) for _ in range(20)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
    assert len(statuses) == 20
    assert {*statuses} <= {200, 422}  # on a busy machine, the last ones may have waited 10 seconds


def in_project(renders: dict[str, Path], tmp_path: Path, target: Callable[..., int]) -> Any:
    """Return what a function finds out in a rendered project, in a process of its own.

    Args:
        renders: The rendered projects.
        tmp_path: Where to write the findings.
        target: The function; it gets the package's name and the file to write to.
    """
    project, findings = renders[PACKAGE], tmp_path / "findings.json"
    process = processes.run(target, project, PACKAGE, findings, environment={})
    process.join()
    assert process.exitcode == 0, processes.log(project)
    return json.loads(findings.read_text(encoding="utf-8"))


def loaded(package: str, sources: dict[str, Any], words: dict[str, str] | None = None) -> Any:
    """Return the data of a project, with other tables than the dashboard's.

    Args:
        package: The name of its package.
        sources: DataFrames and functions.
        words: Descriptions.
    """
    module: Any = importlib.import_module(f"{package}.web.data")
    return module.Data(sources, words or {})


ODD: dict[str, Any] = {
    "periods": pd.period_range("2020", periods=2, freq="M"),
    "intervals": pd.interval_range(0, 2),
    "complex": [1j, 2j],
    "sparse": pd.arrays.SparseArray([1, 0]),
    "half": np.array([1.5, 2], dtype="float16"),
    "mixed": [1, "x"],
    "lists": [[1, 2], None],
    "nested": [[[1], [2]], None],
    "structs": [{"x": 1}, {"y": [2]}],
    "categories": pd.Categorical(["x", None]),
    "interval categories": pd.cut([1, 3], 2),
    "booleans": pd.array([True, None], dtype="boolean"),
    "large": [2**62, 2**53 - 1],
    "huge": [2**200, 1],
    "not finite": [math.inf, math.nan],
    "zoned": pd.to_datetime(["2020-01-01T12:00+02:00", None], utc=True).tz_convert("Asia/Tokyo"),
    "dates": [pd.Timestamp("2020-01-01").date(), None],
    "durations": pd.to_timedelta([1, None], unit="h"),
    "decimals": [Decimal("1.5"), None],
    "bytes": [b"\xff", None],
    "objects": [math.floor, None],
    "half an emoji": ["\ud83d", "x"],
    "nothing": [None, None],
}
NAMES = ["日本", "a b", 'say "hi"', "select", "A", "a", "a.b", "a", 7, None, ("x", "y"), ""]


def read_odd_tables(package: str, findings: Path) -> int:
    """Write down the first column of tables with odd values, and the rows of odd tables.

    Args:
        package: The name of the project's package.
        findings: The file to write to.
    """
    frames = {name: pd.DataFrame({"value": values}) for name, values in ODD.items()}
    wide = pd.DataFrame(np.zeros((2, 500)), columns=[f"column number {n}" for n in range(500)])
    odd = pd.DataFrame(
        [range(len(NAMES))], columns=pd.Index(NAMES, dtype=object, tupleize_cols=False)
    )
    indexed = frames["mixed"].set_index(pd.Index(["r", "s"], name="value"))
    frames |= {
        "names": odd,
        "Names": odd,
        "no rows": frames["mixed"].head(0),
        "no columns": pd.DataFrame(index=[1, 2]),
        "indexed": indexed,
        "wide": wide,
    }
    data = loaded(package, frames)
    description = data.description()
    found = {}
    for name in [*frames, "Names_1"]:
        if name != "Names":
            result = data.query(f'FROM "{name}"', rows=10, characters=100_000)
            found[name] = [result.columns, result.types, result.rows]
    findings.write_text(json.dumps({"tables": found, "description": description}))
    return 0


@pytest.fixture(scope="module")
def odd(renders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What can be read of odd tables."""
    return in_project(renders, tmp_path_factory.mktemp("odd"), read_odd_tables)


def test_odd_values_can_be_read(odd: dict[str, Any]) -> None:
    values = {name: [row[0] for row in odd["tables"][name][2]] for name in ODD}
    assert values == {
        "periods": ["2020-01", "2020-02"],
        "intervals": ["(0, 1]", "(1, 2]"],
        "complex": ["1j", "2j"],
        "sparse": ["1", "0"],
        "half": [1.5, 2],
        "mixed": ["1", "x"],
        "lists": [[1, 2], None],
        "nested": [[[1], [2]], None],
        "structs": values["structs"],
        "categories": ["x", None],
        "interval categories": ["(0.998, 2.0]", "(2.0, 3.0]"],
        "booleans": [True, None],
        "large": [str(2**62), 2**53 - 1],
        "huge": [str(2**200), "1"],
        "not finite": [None, None],
        "zoned": ["2020-01-01T10:00:00+00:00", None],
        "dates": ["2020-01-01", None],
        "durations": ["1:00:00", None],
        "decimals": [1.5, None],
        "bytes": [r"b'\xff'", None],
        "objects": values["objects"],
        "half an emoji": ["?", "x"],
        "nothing": [None, None],
    }


def test_odd_names_can_be_read(odd: dict[str, Any]) -> None:
    tables, description = odd["tables"], odd["description"]
    columns, _, (row,) = tables["names"]
    assert row == list(range(len(NAMES)))
    assert columns[:5] == ["日本", "a b", 'say "hi"', "select", "A"]
    assert len({name.casefold() for name in columns}) == len(NAMES)
    assert tables["Names_1"][2] == [row]
    assert tables["no rows"][2] == []
    assert tables["no columns"][2] == [[1], [2]]
    assert tables["indexed"][2] == [["r", "1"], ["s", "x"]]
    assert len(tables["wide"][0]) == 500
    assert len(description) <= 12_000
    assert 'Table "no rows", 0 rows' in description


def ask_for_millions_of_rows(package: str, findings: Path) -> int:
    """Write down what a table of five million rows answers.

    Args:
        package: The name of the project's package.
        findings: The file to write to.
    """
    numbers = np.arange(5_000_000)
    data = loaded(package, {"long": pd.DataFrame({"n": numbers, "even": numbers % 2 == 0})})
    description = data.description()
    queries = ['SELECT "even", sum("n") FROM "long" GROUP BY 1 ORDER BY 1', 'FROM "long"']
    found = [data.query(sql, rows=200, characters=20_000) for sql in queries]
    answers = [[len(one.rows), one.has_more, one.rows[:2]] for one in found]
    findings.write_text(json.dumps({"description": description, "answers": answers}))
    return 0


def test_millions_of_rows(renders: dict[str, Path], tmp_path: Path) -> None:
    found = in_project(renders, tmp_path, ask_for_millions_of_rows)
    assert 'Table "long", 5,000,000 rows' in found["description"]
    assert "0 to 4999999" in found["description"]
    grouped, whole = found["answers"]
    assert grouped == [2, False, [[False, 6_250_000_000_000], [True, 6_249_997_500_000]]]
    assert whole == [200, True, [[0, True], [1, False]]]


def describe_large_tables(package: str, findings: Path) -> int:
    """Write down descriptions of ever more columns.

    Args:
        package: The name of the project's package.
        findings: The file to write to.
    """
    descriptions = []
    for count in (3, 700, 1000, 3000):
        names = [f"c{number}" for number in range(count)]
        frame = pd.DataFrame([["text"] * count], columns=names)
        data = loaded(package, {"t": frame}, {"t": "words", "t.c1": "more words"})
        descriptions.append(data.description())
    findings.write_text(json.dumps(descriptions))
    return 0


def test_description_is_never_too_long(renders: dict[str, Path], tmp_path: Path) -> None:
    values, types, names, some = in_project(renders, tmp_path, describe_large_tables)
    assert 'Table "t", 1 rows (words)\n- "c0" VARCHAR: \'text\'\n' in values
    assert "- \"c1\" VARCHAR: 'text' (more words)" in values
    assert '- "c0" VARCHAR\n- "c1" VARCHAR (more words)\n' in types
    assert '- "c0"\n- "c1"\n' in names
    assert '"c999"' in names and '"c2999"' not in some
    assert some.endswith("query information_schema.columns for the other columns")
    assert all(len(one) <= 12_000 for one in (values, types, names, some))


def load_again(package: str, findings: Path) -> int:
    """Write down what a function's table holds over time, and how long questions wait for it.

    Args:
        package: The name of the project's package.
        findings: The file to write to.
    """
    calls = [0]

    def numbers() -> pd.DataFrame:
        calls[0] += 1
        if calls[0] == 3:
            raise OSError("The password secret-password is wrong.")
        time.sleep(0.5)
        return pd.DataFrame({"call": [calls[0]]})

    data = loaded(package, {"numbers": numbers, "still": pd.DataFrame({"a": [1]})})
    seen, waits, descriptions = [], [], []

    def look() -> None:
        started = time.monotonic()
        descriptions.append(data.description())
        waits.append(time.monotonic() - started)
        sql = "SELECT call, a FROM numbers, still"
        seen.append(data.query(sql, rows=1, characters=100).rows[0])

    look()
    look()  # within a minute, nothing is loaded
    for _ in range(3):
        data._due = 0  # a minute has passed
        look()
        processes.until(lambda: not data._loading.locked())
    look()
    findings.write_text(json.dumps([calls[0], seen, waits, descriptions]))
    return 0


def test_functions_are_called_again_beside_the_questions(
    renders: dict[str, Path], tmp_path: Path
) -> None:
    calls, seen, waits, descriptions = in_project(renders, tmp_path, load_again)
    assert calls == 4
    assert seen == [[1, 1], [1, 1], [1, 1], [2, 1], [2, 1], [4, 1]]
    assert max(waits[1:]) < 0.4 < waits[0]
    assert "secret-password" not in str(descriptions)
    assert "secret-password" in processes.log(renders[PACKAGE])  # the operator can read it


def fail_to_load_again(package: str, findings: Path) -> int:
    """Write down what is read before, between and after two tries to load that fail, and all files.

    Args:
        package: The name of the project's package.
        findings: The file to write to.
    """
    calls = [0]

    def numbers() -> pd.DataFrame:
        calls[0] += 1
        return pd.DataFrame({"call": [calls[0]]})

    folder = findings.with_name("it's")
    folder.mkdir()
    tempfile.tempdir = str(folder)
    data = loaded(package, {"numbers": numbers})
    seen = []

    def look() -> None:
        seen.append(data.query("FROM numbers", rows=1, characters=100).rows[0][0])

    def load() -> None:
        data._due = 0  # a minute has passed
        data.prepare()
        processes.until(lambda: not data._loading.locked())

    def fail(*_: object) -> None:
        raise OSError("There is no room for another process.")

    look()
    for owner, name in ((data._queries, "_start"), (data, "_write")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, fail)
            load()
        look()
        load()
        look()
    files = [path.suffix for path in folder.rglob("*") if path.is_file()]
    findings.write_text(json.dumps([seen, files]))
    return 0


def test_load_that_fails_leaves_the_data_of_before(
    renders: dict[str, Path], tmp_path: Path
) -> None:
    seen, files = in_project(renders, tmp_path, fail_to_load_again)
    assert seen == [1, 1, 3, 3, 5]
    assert files == [".duckdb"]
