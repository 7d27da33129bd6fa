"""The table of models: run it to learn which defaults end soon, and whether the table is old."""

import sys
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("models.toml")
NOTICE = timedelta(days=60)  # before a model ends
MAXIMUM_AGE = timedelta(days=183)  # since its source was read

Models = dict[str, dict[str, Any]]


def models() -> Models:
    """Return what is known of each model that the template names."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def problems(table: Models, today: date) -> list[str]:
    """Return a sentence for each model that ends soon or was looked up too long ago.

    Args:
        table: What is known of each model.
        today: The date to compare with.
    """
    found = []
    for name, model in table.items():
        if "end" in model and today >= model["end"] - NOTICE:
            found.append(f"{name} ends on {model['end']}: choose another default.")
        if today > model["read"] + MAXIMUM_AGE:
            found.append(f"{name} was looked up on {model['read']}: read {model['source']} again.")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(problems(models(), date.today())))
