"""The table at the end of a run: what has been proven of which combination."""

import platform
from datetime import date
from pathlib import Path

import pytest
from combinations import COMBINATIONS, IN_THE_BROWSER, PAIRS, Combination

# The column that a test's result goes to, by file and function; the functions are parametrized with
# every combination.
COLUMNS = {
    "rendered": ("test_render.py::test_files", "test_render.py::test_nothing_is_left_unrendered"),
    "lint": ("test_render.py::test_formatted_and_lint_clean",),
    "types": ("test_render.py::test_types",),
    "own tests": ("test_run.py::test_own_tests_pass",),
    "wire": ("test_wire.py::",),
    "browser": ("test_browser.py::",),
}
ALL = [*COMBINATIONS, *PAIRS]
LABELS = {combination.label for combination in ALL}


# What is proven of some combinations alone, as the other answers change nothing there.
PROVEN_OF = {"wire": COMBINATIONS, "browser": IN_THE_BROWSER}


def columns(combination: Combination) -> list[str]:
    """Return the columns that a combination is to be proven in.

    Args:
        combination: The combination.
    """
    return [name for name in COLUMNS if combination in PROVEN_OF.get(name, ALL)]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes the table to a file."""
    parser.addoption(
        "--write-table", type=Path, help="write the table of combinations to this file"
    )


def cells(reporter: pytest.TerminalReporter) -> dict[tuple[str, str], str]:
    """Return what is known of each combination in each column; nothing where no test has run.

    Args:
        reporter: pytest's reporter, which holds the reports of all workers.
    """
    found: dict[tuple[str, str], str] = {}
    for outcome in ("passed", "skipped", "failed", "error"):  # the worst is the one that stays
        for report in reporter.stats.get(outcome, []):
            name, _, parameters = report.nodeid.partition("[")
            label = parameters.rstrip("]")
            for column, tests in COLUMNS.items():
                if label in LABELS and any(test in name for test in tests):
                    found[label, column] = outcome
    return found


def table(found: dict[tuple[str, str], str]) -> str:
    """Return the table in Markdown.

    Args:
        found: The cells, by combination and column.
    """
    rows = [["combination", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    for combination in ALL:
        label, proven = combination.label, columns(combination)
        cells = (found.get((label, name), "" if name in proven else "–") for name in COLUMNS)
        rows.append([label, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def empty_cells(found: dict[tuple[str, str], str]) -> int:
    """Return how many cells should have been filled and are not.

    Args:
        found: The cells, by combination and column.
    """
    wanted = {(one.label, name) for one in ALL for name in columns(one)}
    return len(wanted - set(found))


def is_whole_run(config: pytest.Config) -> bool:
    """Return whether all tests were asked for."""
    options = config.option
    return config.args == config.getini("testpaths") and not (options.keyword or options.markexpr)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of all tests that leaves a cell empty."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and is_whole_run(session.config) and session.exitstatus == pytest.ExitCode.OK:
        found = cells(reporter)
        if empty_cells(found):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table after a run of all tests, and write it where the option says."""
    found = cells(terminalreporter)
    if is_whole_run(config):
        terminalreporter.section("combinations")
        terminalreporter.write(table(found))
        if empty := empty_cells(found):
            terminalreporter.write_line(f"{empty} cells are empty: no test has run for them.")
    if path := config.getoption("--write-table"):
        path.write_text(
            "# What was proven of each combination\n\n"
            f"Written by `uv run pytest --write-table=docs/combinations.md` on {date.today()}, with "
            f"the versions in uv.lock and Python {platform.python_version()}.\n\n{table(found)}",
            encoding="utf-8",
        )
