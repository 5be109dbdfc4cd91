"""The way to a Redis or Valkey server: short timeouts, no retries of its own, and one clear error."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, Final

from ...errors import ConfigurationError, MissingExtraError, StoreError
from .redis_address import EXAMPLES, pool_for, without_secrets

#: for connecting, and for each answer; `?socket_timeout=` in the URL says otherwise
TIMEOUT_S: Final = 0.5


class Link:
    """A connection to ``url`` (see `redis_address`), made when first needed and again after it broke.

    Raises ConfigurationError for another URL and MissingExtraError without redis-py, which takes half a second to import:
    only here. One connection is kept: fetching it from redis-py's pool for every command costs half a PING.
    """

    def __init__(self, url: str) -> None:
        self.where = without_secrets(url)
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise MissingExtraError("redis", f"a budget store at {self.where}") from None
        try:
            # RESP2 and no retries: what it would do on its own blocks for seconds. What we send is safe to send again later.
            self._pool: Any = pool_for(
                url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
            )
            self._pool.make_connection()  # not connected: for options in the URL that mean nothing
            self._pool.reset()
        except (ValueError, TypeError, redis.RedisError):  # its text may quote the URL, and so a password
            raise ConfigurationError(f"the URL of the Redis store at {self.where} is not understood: {EXAMPLES}") from None
        self._errors = redis.exceptions
        self._home = dict(self._pool.connection_kwargs)
        self._begin()

    def _begin(self) -> None:
        self._connection: Any = None
        self._pid, self._using = os.getpid(), threading.RLock()

    def __call__(self, *command: str | bytes | int | float) -> Any:
        """The answer to one command. Raises StoreError."""
        return self.many([command])[0]

    def many(self, commands: Sequence[Sequence[str | bytes | int | float]]) -> list[Any]:
        """The answers to ``commands``, sent together. Raises StoreError for the first that failed."""
        if self._pid != os.getpid():
            self._begin()  # after a fork: the connection and whoever is using it are the parent's
        with self._using:
            try:
                try:
                    return self._sent(commands)
                except self._errors.MovedError as moved:  # a cluster: all our keys are on one node, and this is not it
                    self._go(host=moved.host or self._home.get("host"), port=moved.port)
                    return self._sent(commands)
            except (self._errors.RedisError, OSError) as error:
                raise self._understood(error) from None

    def _sent(self, commands: Sequence[Sequence[str | bytes | int | float]]) -> list[Any]:
        connection, answers = self._connected(), []
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            for _ in commands:
                try:
                    answers.append(connection.read_response())
                except self._errors.ResponseError as error:
                    answers.append(error)
        except BaseException:
            connection.disconnect()  # what is still to come must not be taken for the next one's answer
            raise
        failed = next((answer for answer in answers if isinstance(answer, Exception)), None)
        if failed is not None:
            raise failed
        return answers

    def _connected(self) -> Any:
        """The connection, made anew where the server has let go of it."""
        if self._connection is None:
            self._connection = self._pool.get_connection()
        try:
            if self._connection.can_read():  # nothing has been asked: it is closed, or out of step
                self._connection.disconnect()
        except (self._errors.ConnectionError, OSError):
            self._connection.disconnect()
        self._connection.connect()
        return self._connection

    def _go(self, **where: Any) -> None:
        """Let the connection go, and make the next one to another place."""
        self._connection = None
        self._pool.disconnect()
        self._pool.reset()  # connections that are kept would go where they went before
        self._pool.connection_kwargs.update(where)

    def script(self, text: str, sha: str, keys: Sequence[str], argument: bytes) -> Any:
        """The answer of a script: by its hash, in full where the server does not know it (new, or taken over)."""
        try:
            return self("EVALSHA", sha, len(keys), *keys, argument)
        except _UnknownScript:
            return self("EVAL", text, len(keys), *keys, argument)

    def close(self) -> None:
        """Let the connections go; the next command makes new ones."""
        self._connection = None
        self._pool.disconnect()
        self._pool.reset()

    def _understood(self, error: Exception) -> StoreError:
        errors = self._errors
        if isinstance(error, errors.NoScriptError):
            return _UnknownScript("the script is not known", self.where, "")
        if isinstance(error, errors.AuthenticationError | errors.AuthorizationError):
            what, remedy = "the budget store refuses the user or password", "Check those in the store's URL."
        elif isinstance(error, errors.NoPermissionError):
            what, remedy = "the budget store's user may not do what is needed", "docs/redis.md has the ACL rule it needs."
        elif isinstance(error, errors.ReadOnlyError | errors.MovedError):
            what, remedy = "the budget store is not the primary for these keys", "Point the URL at the primary."
        elif isinstance(error, errors.ResponseError):
            what, remedy = f"the budget store says: {error}", "Mend it there; until then on_store_error holds."
        else:
            what = f"the budget store does not answer: {error or type(error).__name__}"
            remedy = "Start it or mend the way to it; until then on_store_error holds."
        self._go(**self._home)  # another server may stand at the same name by now
        return StoreError(what, self.where, remedy)


class _UnknownScript(StoreError):
    """NOSCRIPT: nothing was run."""
