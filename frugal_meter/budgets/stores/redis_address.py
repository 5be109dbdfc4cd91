"""Where a Redis or Valkey server is: one by its own address, or whichever of several the sentinels name now."""

from __future__ import annotations

import contextlib
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from ...errors import ConfigurationError

DIRECT: Final = ("redis", "rediss", "unix")
SENTINEL: Final = ("redis+sentinel", "rediss+sentinel")
SCHEMES: Final = (*DIRECT, *SENTINEL)
SENTINEL_PORT: Final = 26_379
EXAMPLES: Final = (
    "use redis://user:password@host:6379/0, rediss://… for TLS, unix:///path/to/socket, "
    "or redis+sentinel://user:password@host:26379,host2:26379/name/0"
)


class Sentinels(NamedTuple):
    """``redis+sentinel://user:password@host:port,host2:port/name/db?options``: the sentinels, the primary's name, and the rest
    as the address of one server.
    """

    hosts: tuple[tuple[str, int], ...]
    name: str
    server_url: str


def is_address(url: str) -> bool:
    """Whether ``url`` names a server, or sentinels and a name."""
    parts = urlsplit(url)
    if parts.scheme in SENTINEL:
        with contextlib.suppress(ValueError):
            return bool(sentinels_of(url).name)
        return False
    return bool(parts.path if parts.scheme == "unix" else parts.scheme in DIRECT and parts.hostname)


def sentinels_of(url: str) -> Sentinels:
    """The parts of a sentinel address; raises ValueError, which may quote a password."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    name, _, db = parts.path.removeprefix("/").partition("/")
    if not name:
        raise ValueError("no name of a primary")
    scheme, query = parts.scheme.partition("+")[0], f"?{parts.query}" if parts.query else ""
    # The host is a stand-in: sentinels say which it is.
    return Sentinels(tuple(_host(each) for each in hosts.split(",")), unquote(name), f"{scheme}://{login}{at}name/{db}{query}")


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a sentinel without a name")
    return parts.hostname, SENTINEL_PORT if parts.port is None else parts.port


def without_secrets(url: str) -> str:
    """``url`` without user, password and query. Raises ConfigurationError when it is none of Redis."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in SCHEMES:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    raise ConfigurationError(f"the URL of a Redis store is not understood: {EXAMPLES}")


def pool_for(url: str, **settings: Any) -> Any:
    """redis-py's pool of connections to ``url``. Raises what redis-py does, ValueError and TypeError; needs redis-py."""
    import redis.connection
    import redis.sentinel

    parse_url: Any = redis.connection.parse_url  # redis-py leaves them without types
    sentinel: Any = redis.sentinel.Sentinel

    if urlsplit(url).scheme not in SENTINEL:
        return redis.ConnectionPool.from_url(url, **settings)
    at = sentinels_of(url)
    told = parse_url(at.server_url)
    told.pop("host", None)
    tls = told.pop("connection_class", None) is not None
    own = {name: value for name, value in {**settings, **told}.items() if name not in ("username", "password", "db")}
    own |= {name: own.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in own}
    told = {name: value for name, value in told.items() if not name.startswith("sentinel_")}
    client = sentinel(at.hosts, sentinel_kwargs={**own, "ssl": tls}, **settings).master_for(
        at.name, **{**settings, **told}, ssl=tls
    )
    return client.connection_pool
