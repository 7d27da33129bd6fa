"""A process of its own that answers SQL: a query may exhaust it, and nothing else notices.

It is run by its path, so that it loads DuckDB and nothing of the app. It reads one request a line from
its standard input, writes one answer a line, and ends with its input.
"""

import faulthandler
import json
import math
import os
import signal
import sys
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "access_mode": "read_only",
    "enable_external_access": "false",  # no files, no network, no other databases
    "python_enable_replacements": "false",  # no variable of this file is a table
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "max_temp_directory_size": "0B",  # a query that does not fit in memory does not fill the disk
    "threads": "1",
}
ONE_SELECT = "Only one statement is allowed, and it must be a SELECT."
ONLY_DATA = "Only the tables of the data can be read."
TOO_MUCH_MEMORY = "The query needs too much memory: filter or aggregate more."
FAILED = "The database cannot run this query: write it in another way."


def main(path: str, seconds: float, megabytes: int) -> None:
    """Answer queries until the input ends.

    Args:
        path: The DuckDB file.
        seconds: The longest time for a query.
        megabytes: The most memory for a query.
    """
    connection = duckdb.connect(path, config=CONFIG | {"memory_limit": f"{megabytes // 2}MB"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    step_back(megabytes)
    with open(os.devnull, "w") as nowhere:
        for line in sys.stdin.buffer:
            if not (request := json.loads(line)):
                say({})  # the app asks whether this process still runs
                continue
            # Ends this process also while DuckDB is busy, and when the app has died meanwhile.
            faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
            found = answer(connection, **request)
            say(found)
            faulthandler.cancel_dump_traceback_later()
            if found.get("error") == TOO_MUCH_MEMORY:
                return  # much of that memory would stay with this process
    with suppress(OSError):  # the app has ended without a chance to tidy up
        Path(path).unlink()
        Path(path).parent.rmdir()


def step_back(megabytes: int) -> None:
    """Limit the memory of this process, and make it the first to go where memory ends.

    Args:
        megabytes: The most memory beside what it has already.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    if sys.platform != "linux":
        return  # elsewhere there is DuckDB's own limit only
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[5])
    most = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Path("/proc/self/oom_score_adj").write_text("1000")
    os.nice(5)


def answer(
    connection: duckdb.DuckDBPyConnection, sql: str, rows: int, characters: int
) -> dict[str, Any]:
    """Return the result of a query, or the error that tells how to change it.

    Args:
        connection: The connection to the data.
        sql: The query.
        rows: The most rows to return.
        characters: The most characters to return.
    """
    try:
        return result(connection, sql, rows, characters)
    except (duckdb.FatalException, duckdb.InternalException):
        raise SystemExit(1) from None  # the connection is useless from now on
    except (duckdb.PermissionException, duckdb.IOException):
        return {"error": ONLY_DATA}
    except (duckdb.OutOfMemoryException, MemoryError):
        return {"error": TOO_MUCH_MEMORY}
    except (duckdb.ProgrammingError, duckdb.DataError) as error:  # about the SQL, and nothing else
        return {"error": str(error)[:1000]}
    except Exception:
        return {"error": FAILED}


def result(
    connection: duckdb.DuckDBPyConnection, sql: str, rows: int, characters: int
) -> dict[str, Any]:
    """Return the columns, their types, the first rows, and whether there are more."""
    statements = connection.extract_statements(sql)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        return {"error": ONE_SELECT}
    found = connection.execute(statements[0])
    kept: list[list[Any]] = []
    while len(kept) <= rows and (row := found.fetchone()):
        kept.append([plain(value) for value in row])
        characters -= len(json.dumps(kept[-1], ensure_ascii=False)) + 2
        if characters < 0:
            break
    has_more = len(kept) > rows or characters < 0
    return {
        "columns": unique([column[0] for column in found.description]),
        "types": [str(column[1]) for column in found.description],
        "rows": kept[:-1] if has_more else kept,
        "has_more": has_more,
    }


def unique(names: list[str]) -> list[str]:
    """Return names of columns, with numbers after those that come again."""
    seen: list[str] = []
    for name in names:
        one, number = name, 0
        while one in seen:
            number += 1
            one = f"{name}_{number}"
        seen.append(one)
    return seen


def plain(value: Any) -> Any:
    """Return a value as JSON and browsers can hold it."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) < 2**53 else str(value)
        case float() | Decimal():
            return float(value) if math.isfinite(value) else None
        case date() | datetime() | time():
            return value.isoformat()
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case _:
            return str(value)


def say(line: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.buffer.write(json.dumps(line, allow_nan=False).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
