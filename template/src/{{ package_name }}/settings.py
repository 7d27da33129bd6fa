"""The settings of this installation: environment variables, and a `.env` file for the rest."""

import codecs
import logging
import os
import re
import socket
from pathlib import Path

from dotenv import dotenv_values, find_dotenv
from pydantic import HttpUrl, ValidationError

# What copying leaves around a value: blanks, some of them invisible, and quotes.
AROUND = " \t\r\n\u00a0\u200b\ufeff\"'“”‘’"

# Blank means unset, but for these: it turns them off.
OFF_IF_BLANK = ("CHAT_RATE_LIMIT", "CHAT_DAILY_LIMIT")


class WrongSetting(Exception):
    """A setting keeps the app from calling the model; the message is the sentence that says which."""


def load_env_file() -> None:
    """Fill the environment from the nearest `.env` file, from the working directory upwards.

    A variable that the environment already has wins, unless it is blank: blank means unset.
    """
    path = find_dotenv(usecwd=True)
    if not path:
        return
    # Windows PowerShell writes UTF-16, and other editors a mark before UTF-8.
    utf_16 = Path(path).read_bytes().startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        values = dotenv_values(path, encoding="utf-16" if utf_16 else "utf-8-sig")
    except UnicodeError:
        logging.getLogger(__name__).warning("%s was not read: save it as UTF-8.", path)
        return
    for name, value in values.items():
        if name in OFF_IF_BLANK:
            os.environ.setdefault(name, value or "")
        elif value and not setting(name):
            os.environ[name] = value


def setting(name: str, default: str = "") -> str:
    """Return an environment variable without the blanks and quotes that copying leaves around it.

    Args:
        name: The name of the variable.
        default: What to return where the variable is missing or blank.
    """
    if name in OFF_IF_BLANK and name in os.environ:
        default = ""
    return os.environ.get(name, "").strip(AROUND) or default


def is_key(text: str) -> bool:
    """Return whether a text can be an API key: letters, digits and signs of ASCII, no blanks.

    Args:
        text: The text.
    """
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def is_web_address(text: str) -> bool:
    """Return whether a text is an address that starts with `http://` or `https://`.

    Args:
        text: The text.
    """
    try:
        HttpUrl(text)
    except ValidationError:
        return False
    return True


def address() -> tuple[str, int]:
    """Return the host and the port to serve on, from `HOST` and `PORT`."""
    port = setting("PORT", "8050")
    if not (port.isdecimal() and 0 < int(port) < 65536):
        logging.getLogger(__name__).warning("PORT is %r, which is no port: 8050 is used.", port)
        port = "8050"
    host = setting("HOST", "127.0.0.1").strip("[]")
    if not is_own_address(host):  # conda sets HOST to the name of a kind of machine
        logging.getLogger(__name__).warning(
            "HOST is %r, which is no address of this machine: 127.0.0.1 is used.", host
        )
        host = "127.0.0.1"
    return host, int(port)


def is_own_address(host: str) -> bool:
    """Return whether a server on this machine can listen there.

    Args:
        host: An address or a name.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.bind((host, 0))
    except (OSError, UnicodeError):
        return False
    return True


def rate(name: str, default: str, unit: str = "") -> str:
    """Return how often something may happen, such as `30/minute`; nothing where that is not limited.

    Args:
        name: The name of the variable.
        default: What to return where the variable is missing or malformed.
        unit: What the variable leaves out, such as `/day`.
    """
    value = setting(name, default)
    if value and not re.fullmatch("[1-9][0-9]*/(second|minute|hour|day)", value + unit):
        logging.getLogger(__name__).warning(
            "%s is %r, which is no limit such as %s: %s is used.", name, value, default, default
        )
        value = default
    return value and value + unit


def trusted_proxies() -> int:
    """Return how many proxies stand between people and the app, from `TRUSTED_PROXIES`."""
    count = setting("TRUSTED_PROXIES", "0")
    if not count.isdecimal():
        logging.getLogger(__name__).warning(
            "TRUSTED_PROXIES is %r, which is no number of proxies, such as 1: 0 is used.", count
        )
        count = "0"
    return int(count)
