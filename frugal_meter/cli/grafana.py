"""What ``frugal-meter dashboards push`` asks of a Grafana: five calls of its HTTP API, over the standard library.

grafana-client does the same and would bring urllib3-future along, which takes the place of urllib3 in the whole environment.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlsplit

from ..errors import ConfigurationError, ReceiverError

Json = dict[str, Any]
#: the first Grafana with folders inside folders, this schema of dashboards and alert rules by provisioning: 11.0 (May 2024)
FIRST: Final = (11, 0)
TIMEOUT_S: Final = 30.0
_REMEDIES: Final = {
    401: "The token is not known there, or has expired: make one under Administration, Service accounts.",
    403: "The token may not do this: give its service account the role Editor, or the permission the message names.",
    404: "Is this Grafana's own address, with its path where it has one (--url https://example.org/grafana)?",
    412: "Somebody changed it there since: look at it, then push again with --force.",
}


class Grafana:
    """A Grafana server and a token for it. Raises `ReceiverError` for what it refuses, in one line without the token."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ConfigurationError("--url is Grafana's address, such as https://grafana.example.org, without a user or a query")
        if not re.fullmatch(r"[!-~]+", token):
            raise ConfigurationError("the token is empty or holds a space: copy it anew from Grafana")
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigurationError(f"--url {url} is not encrypted: the token would be read on the way. Use https://")
        self.url, self._parts, self._path = url.rstrip("/"), parts, parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"}

    def check_version(self) -> str:
        """Its version. Raises `ReceiverError` for one that is too old, or for something else than a Grafana."""
        told = self.call("GET", "/api/health")
        version = told.get("version") if isinstance(told, dict) else None
        numbers = re.match(r"(\d+)\.(\d+)", str(version))
        if numbers is None:
            # a server that is told to hide its version tells it to nobody without a login
            self._fail("does not say its version", "Is this a Grafana?")
        if (int(numbers[1]), int(numbers[2])) < FIRST:
            self._fail(f"is version {version}", f"These dashboards need {FIRST[0]}.{FIRST[1]} or newer.")
        return str(version)

    def find(self, path: str) -> Any:
        """What is at ``path``, or None where nothing is."""
        return self.call("GET", path, missing=True)

    def datasource(self, wanted: str | None) -> str:
        """Uid of the Prometheus data source called ``wanted`` (name or uid); of the only one, or the default, without it."""
        sources = [each for each in self.call("GET", "/api/datasources") if each.get("type") == "prometheus"]
        named = ", ".join(sorted(each["name"] for each in sources)) or "none"
        if wanted is not None:
            chosen = [each for each in sources if wanted in (each["name"], each["uid"])]
        else:
            chosen = sources if len(sources) == 1 else [each for each in sources if each.get("isDefault")]
        if len(chosen) != 1:
            self._fail(f"has these Prometheus data sources: {named}", "Name one: --datasource NAME.")
        return str(chosen[0]["uid"])

    def call(self, method: str, path: str, body: Json | None = None, *, missing: bool = False) -> Any:
        """The JSON of an answer; None for a 404 that is no mistake (``missing``)."""
        status, text = self._ask(method, path, body)
        if status == 404 and missing:
            return None
        try:
            told = json.loads(text or b"null")
        except ValueError:
            self._fail(f"answers {status} with something else than JSON", _REMEDIES[404])
        if status // 100 != 2:
            said = told.get("message") if isinstance(told, dict) else None
            words = " ".join(str(said or http.client.responses.get(status, "")).split())[:200]
            self._fail(
                f"answers {status} to {method} {path}: {words.rstrip('.')}", _REMEDIES.get(status, "See Grafana's own log.")
            )
        return told

    def _ask(self, method: str, path: str, body: Json | None) -> tuple[int, bytes]:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, self._path + path, None if body is None else json.dumps(body), self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException, socket.gaierror, ssl.SSLError) as error:
            self._fail(f"cannot be reached: {error or type(error).__name__}", "Check the address, and the way there.")
        finally:
            connection.close()

    def _fail(self, what: str, remedy: str) -> NoReturn:
        raise ReceiverError(f"Grafana {what}", self.url, remedy)


def escaped(uid: str) -> str:
    """A uid as a part of a path."""
    return quote(uid, safe="")
