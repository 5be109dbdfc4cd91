"""One GET of a stranger's declaration: bounded in time, size and redirects, and to public addresses unless told otherwise.

No proxy is used and no cookie, token or Referer is sent. A host name is looked up once and that address is the one connected to,
so that a name cannot turn into an address of this network between the check and the connection. A timer ends the connection: a
server that drips a byte a second passes every timeout of a socket.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from ..declaration.reading import MOST_BYTES
from ..errors import DeclarationError

TIMEOUT_S: Final = 10.0
MOST_REDIRECTS: Final = 3
_CHUNK: Final = 65_536
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: a prefix that carries an IPv4 address inside: NAT64 (RFC 6052)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
#: what not every Python's table has as private: IPv4-compatible (RFC 4291) and -translated (RFC 2765) addresses, local NAT64
#: (RFC 8215), site-local (RFC 3879), documentation (RFC 9637), segment routing (RFC 9602), protocol assignments (RFC 6890)
_NOT_PUBLIC: Final = tuple(
    map(
        ipaddress.ip_network,
        ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10", "3fff::/20", "5f00::/16", "192.0.0.0/24", "192.88.99.0/24"),
    )
)


class Limits(NamedTuple):
    """How long to wait for one declaration, s, and whether private addresses may be asked."""

    timeout_s: float = TIMEOUT_S
    allow_private: bool = False


def fetch(url: str, limits: Limits) -> bytes:
    """The body at ``url``, at most 1 MB of ``application/json``. Raises DeclarationError, which says why not."""
    until = time.monotonic() + limits.timeout_s
    for _ in range(MOST_REDIRECTS + 1):
        body, url = _one(url, limits, until)
        if body is not None:
            return body
    raise DeclarationError(f"redirected more than {MOST_REDIRECTS} times")


def _one(url: str, limits: Limits, until: float) -> tuple[bytes | None, str]:
    """The body, or None and where to ask instead."""
    parts = _parts(url)
    connection = _Connection(parts, limits, until)
    try:
        with connection.ended_by(until):
            connection.ask(parts)
            reply = connection.http.getresponse()
            if reply.status in _REDIRECTS:
                return None, urljoin(url, _location(reply))
            return _body(reply), url
    except DeclarationError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        if connection.expired:
            raise DeclarationError(f"no whole answer within {limits.timeout_s:g} s") from None
        raise DeclarationError(f"cannot be fetched ({_told(error)})") from None
    finally:
        connection.close()


def _told(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        raise DeclarationError("not an address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DeclarationError("not an address that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise DeclarationError("its address holds a user or a password")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise DeclarationError("its address holds characters that no address has; write them in percent signs or as xn--")
    return parts


def _location(reply: http.client.HTTPResponse) -> str:
    location = reply.headers.get("Location")
    if not location:
        raise DeclarationError(f"HTTP {reply.status} that leads nowhere")
    return location


def _body(reply: http.client.HTTPResponse) -> bytes:
    if reply.status != 200:
        raise DeclarationError(f"HTTP {reply.status}")
    kind = reply.headers.get_content_type() if "Content-Type" in reply.headers else None
    if kind is None or not (kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))):
        raise DeclarationError(f"its content type is {(kind or 'not told')[:60]!r}, not application/json")
    if (reply.headers.get("Content-Encoding") or "identity").strip().lower() != "identity":
        raise DeclarationError("sent compressed though it was asked not to be")
    length = reply.length  # of Content-Length; None when it is chunked
    if length is not None and length > MOST_BYTES:
        raise DeclarationError(f"larger than {MOST_BYTES // 1_000_000} MB ({length} bytes)")
    parts, size = [], 0
    while part := reply.read(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise DeclarationError(f"larger than {MOST_BYTES // 1_000_000} MB")
    if length is not None and size < length:
        raise DeclarationError("cut short on its way")
    return b"".join(parts)


class _Connection:
    """A connection to an address that was checked, closed when its time is over."""

    def __init__(self, parts: SplitResult, limits: Limits, until: float) -> None:
        self.expired = False
        host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
        address = _address(host, port, limits)
        self.http = http.client.HTTPConnection(host, port)
        self._open: socket.socket | None = None
        self._secure = parts.scheme == "https"
        self._to = (host, address, port)
        self._until = until

    def ask(self, parts: SplitResult) -> None:
        """Connect and send the request."""
        host, address, port = self._to
        left_s = max(0.001, self._until - time.monotonic())
        self._open = socket.create_connection((address, port), timeout=left_s)
        self._check()
        if self._secure:
            context = ssl.create_default_context()
            # The handshake apart: what it waits for can then be ended as well.
            secure = context.wrap_socket(self._open, server_hostname=host, do_handshake_on_connect=False)
            self._open = secure
            self._check()
            secure.do_handshake()
        self.http.sock = self._open
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        agent = f"frugal-meter/{metadata.version('frugal-meter')} (harvest)"
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": agent, "Connection": "close"}
        self.http.request("GET", path, headers=headers)

    @contextlib.contextmanager
    def ended_by(self, until: float) -> Iterator[None]:
        """End whatever the connection waits for at that moment (monotonic s)."""
        timer = threading.Timer(max(0.0, until - time.monotonic()), self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        self._check()

    def _end(self) -> None:
        self.expired = True
        found = self._open
        if found is not None:
            with contextlib.suppress(OSError):
                # Not the TLS way, which would wait for the other side.
                socket.socket.shutdown(found, socket.SHUT_RDWR)

    def _check(self) -> None:
        # The timer may have gone off while there was nothing yet to end.
        if self.expired:
            raise OSError

    def close(self) -> None:
        """Let go of it."""
        self.http.close()
        if self._open is not None:
            self._open.close()


def _address(host: str, port: int, limits: Limits) -> str:
    """The first address of ``host``; all of them must be public, unless private ones are allowed."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise DeclarationError(f"no host of that name: {host[:100]}") from None
    addresses = [str(each[4][0]) for each in found]
    if not limits.allow_private and (private := next((each for each in addresses if not is_public(each)), None)):
        told = private if host == private else f"{host[:100]} is {private}"
        raise DeclarationError(f"{told}, no public address (--allow-private asks it all the same)")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet: not this machine, nor a private, shared, local or reserved network."""
    ip: Any = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        inside = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if ip in _NAT64:
            inside = ipaddress.ip_address(int(ip) & 0xFFFF_FFFF)
        if inside is not None:
            return is_public(str(inside))
    return bool(ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC))
