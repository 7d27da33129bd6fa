"""The description of the data for the model: names, types and ranges, and no rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

CHARACTERS = 12_000  # of a description
FEW = 20  # values, which are told one by one
MOST_COLUMNS = 300  # whose values are looked at
NESTED = ("STRUCT", "MAP", "UNION", "BLOB", "BIT", '"NULL"')


@dataclass
class Column:
    """A column, as the model is told of it."""

    name: str
    type: str
    values: str
    words: str


@dataclass
class Table:
    """A table, as the model is told of it."""

    title: str
    columns: list[Column]


def describe(connection: duckdb.DuckDBPyConnection, words: Mapping[str, str]) -> str:
    """Return a description of all tables, in the fullest form that is short enough.

    Args:
        connection: The connection to the tables.
        words: The owner's descriptions, by "table" or "table.column".
    """
    names = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
    tables = [_table(connection, name, words) for (name,) in names]
    text = ""
    for form in (_with_values, _with_types, _with_names):
        text = "\n\n".join("\n".join([table.title, *map(form, table.columns)]) for table in tables)
        if len(text) <= CHARACTERS:
            return text
    more = "\n… query information_schema.columns for the other columns"
    return text[: CHARACTERS - len(more)] + more


def _table(connection: duckdb.DuckDBPyConnection, table: str, words: Mapping[str, str]) -> Table:
    """Return what there is to tell of a table."""
    ((count,),) = connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchall()
    title = f"Table {quoted(table)}, {count:,} rows{_after(words.get(table))}"
    found = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?"
        " ORDER BY column_index",
        [table],
    ).fetchall()
    return Table(
        title,
        [
            Column(
                quoted(name),
                "ENUM" if kind.startswith("ENUM") else kind[:40],
                _values(connection, table, name, kind) if number < MOST_COLUMNS else "",
                _after(words.get(f"{table}.{name}")),
            )
            for number, (name, kind) in enumerate(found)
        ],
    )


def _values(connection: duckdb.DuckDBPyConnection, table: str, name: str, kind: str) -> str:
    """Return the few values or the range of a column."""
    if kind.endswith("]") or kind.startswith(NESTED):
        return ""
    column, source = quoted(name), quoted(table)
    if kind.startswith(("VARCHAR", "ENUM", "BOOLEAN")):
        rows = connection.execute(
            f"SELECT DISTINCT left({column}::VARCHAR, 40) FROM {source}"
            f" WHERE {column} IS NOT NULL LIMIT {FEW + 1}"
        ).fetchall()
        values = sorted(repr(value) for (value,) in rows)
        if len(values) > FEW:
            return f": many values, such as {values[0]}"
        return f": {', '.join(values)}"[:400] if values else ": empty"
    ((least, most),) = connection.execute(
        f"SELECT min({column})::VARCHAR, max({column})::VARCHAR FROM {source}"
    ).fetchall()
    return ": empty" if least is None else f": {least} to {most}"


def _with_values(column: Column) -> str:
    return f"- {column.name} {column.type}{column.values}{column.words}"


def _with_types(column: Column) -> str:
    return f"- {column.name} {column.type}{column.words}"


def _with_names(column: Column) -> str:
    return f"- {column.name}"


def _after(words: str | None) -> str:
    return f" ({words})" if words else ""


def quoted(name: str) -> str:
    """Return a name as SQL writes it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'
