"""The app's login at a cloud."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

SECONDS = 5  # to wait for a login

Token = TypeVar("Token")


class Login(Generic[Token]):
    """A login that is looked for in the background, as that may take long."""

    def __init__(self, find: Callable[[], Token]) -> None:
        """Begin to look for it.

        Args:
            find: Returns a token that is still valid, or raises if there is no login.
        """
        self._find = find
        self._thread = ThreadPoolExecutor(1)
        self._search = self._thread.submit(find)

    def token(self) -> Token:
        """Return a token that is still valid; each request asks for one.

        Raises:
            TimeoutError: If none is found within 5 seconds.
        """
        if self._search.done():
            self._search = self._thread.submit(self._find)
        return self._search.result(timeout=SECONDS)
