"""Where the agent listens: a Unix socket for a group of users, or TCP for whoever has a token."""

from __future__ import annotations

import contextlib
import grp
import os
import re
import socket
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError

#: shorter ones can be guessed
MIN_TOKEN: Final = 16
_PROBE_S: Final = 0.5


@contextlib.contextmanager
def unix_door(path: Path, group: str | None) -> Iterator[socket.socket]:
    """A socket at ``path`` that only its owner and ``group`` may open; taken away at the end.

    One that an agent left behind is taken over. Raises ConfigurationError: another agent listens there, something else lies
    there, the folder or the group does not exist.
    """
    gid = -1 if group is None else _gid(group)
    _clear(path)
    door = socket.socket(socket.AF_UNIX)
    with door:
        before = os.umask(0o177)
        try:
            door.bind(str(path))
        except OSError as error:
            raise ConfigurationError(f"--socket {path}: no socket can be made there ({error.strerror or error})") from None
        finally:
            os.umask(before)
        try:
            if gid not in (-1, path.stat().st_gid):
                os.chown(path, -1, gid)
        except PermissionError:
            raise ConfigurationError(f"--group {group}: only its members and root may give it a socket") from None
        os.chmod(path, 0o600 if group is None else 0o660)
        made = path.stat().st_ino
        try:
            yield door
        finally:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == made:
                    path.unlink()


def _gid(group: str) -> int:
    if group.isascii() and group.isdecimal():  # in a container the host's groups have no names
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(f"--group {group}: there is no such group; make it with groupadd --system {group}") from None


def _clear(path: Path) -> None:
    """Take away a socket that nobody listens on."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"--socket {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"--socket {path}: something that is no socket lies there; move it away, or choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ConfigurationError(f"--socket {path}: {error.strerror or error}") from None
    raise ConfigurationError(f"--socket {path}: another agent listens there")


@contextlib.contextmanager
def tcp_door(address: str) -> Iterator[socket.socket]:
    """A listening address such as "127.0.0.1:9467"; raises ConfigurationError."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ConfigurationError(f'--tcp {address!r}: write an address and a port, such as "127.0.0.1:9467"')
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        door = socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise ConfigurationError(f"--tcp {address}: cannot listen there ({error.strerror or error})") from None
    with door:
        yield door


def tokens_of(path: Path) -> dict[str, str]:
    """Tokens by service, of a TOML file with one table ``[tokens]``.

    Raises ConfigurationError, which never shows a token: no such file, one that others may read, a token that is short.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
        tokens = tomllib.loads(text).get("tokens")
    except OSError as error:
        raise ConfigurationError(f"--tokens {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = re.search(r"\(at [^)]*\)", str(error))
        raise ConfigurationError(f"--tokens {path}: this is no TOML {where[0] if where else ''}".rstrip()) from None
    if mode & 0o007:
        raise ConfigurationError(f"--tokens {path}: other users may read it; mend it with chmod 640")
    if not isinstance(tokens, dict) or not tokens or not all(isinstance(token, str) for token in tokens.values()):
        raise ConfigurationError(f'--tokens {path}: write a table [tokens] with lines such as accueil = "…"')
    if short := sorted(service for service, token in tokens.items() if len(token) < MIN_TOKEN):
        raise ConfigurationError(f"--tokens {path}: the token of {', '.join(short)} is shorter than {MIN_TOKEN} characters")
    if len(set(tokens.values())) < len(tokens):
        raise ConfigurationError(f"--tokens {path}: two services have the same token")
    return tokens
