"""The settings of this installation: environment variables, and a `.env` file for the rest."""

import os

from dotenv import dotenv_values, find_dotenv


def load_env_file() -> None:
    """Fill the environment from the nearest `.env` file, from the working directory upwards.

    A variable that the environment already has wins, unless it is blank: blank means unset.
    """
    for name, value in dotenv_values(find_dotenv(usecwd=True)).items():
        if value and not os.environ.get(name, "").strip():
            os.environ[name] = value


def setting(name: str, default: str = "") -> str:
    """Return an environment variable without the blanks and quotes that copying leaves around it.

    Args:
        name: The name of the variable.
        default: What to return where the variable is missing or blank.
    """
    return os.environ.get(name, "").strip(" \t\r\n\"'“”‘’") or default


def address() -> tuple[str, int]:
    """Return the host and the port to serve on, from `HOST` and `PORT`.

    Raises:
        SystemExit: If `PORT` is not a port number.
    """
    port = setting("PORT", "8050")
    if not (port.isdecimal() and 0 < int(port) < 65536):
        raise SystemExit(f"PORT is {port!r}: set it to a number from 1 to 65535, or leave it out.")
    return setting("HOST", "127.0.0.1").strip("[]"), int(port)
