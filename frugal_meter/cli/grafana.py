"""What ``frugal-meter dashboards push`` asks of a Grafana, by grafana-client: its refusals become one line and a remedy.

grafana-client 3 and not 4: from 4 on it brings urllib3-future, which takes the place of urllib3 in the whole environment.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http.client import responses
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote, urlsplit

from ..errors import ConfigurationError, MissingExtraError, ReceiverError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from grafana_client import GrafanaApi

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
_CERTIFICATE: Final = "Of an authority of your own? Name its file: REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt."


class Grafana:
    """A Grafana server and a token for it. Raises `ReceiverError` for what it refuses, in one line without the token."""

    def __init__(self, url: str, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = _address(url)
        if not re.fullmatch(r"[!-~]+", token):
            raise ConfigurationError(
                "no token: put one of a Grafana service account into GRAFANA_TOKEN"
                if not token
                else "the token holds a space: copy it anew from Grafana"
            )
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigurationError(f"--url {url} is not encrypted: the token would be read on the way. Use https://")
        self.url = url.rstrip("/")
        self._api = _client(parts, token, timeout_s)

    def check_version(self) -> str:
        """Its version. Raises `ReceiverError` for one that is too old, or for something else than a Grafana."""
        told = self._ask("the health check", self._api.health.check)
        version = told.get("version") if isinstance(told, dict) else None
        numbers = re.match(r"(\d+)\.(\d+)", str(version))
        if numbers is None:
            # a server that is told to hide its version tells it to nobody without a login
            self._fail("does not say its version", "Is this a Grafana?")
        if (int(numbers[1]), int(numbers[2])) < FIRST:
            self._fail(f"is version {version}", f"These dashboards need {FIRST[0]}.{FIRST[1]} or newer.")
        return str(version)

    def datasource(self, wanted: str | None) -> str:
        """Uid of the Prometheus data source called ``wanted`` (name or uid); of the only one, or the default, without it."""
        told = self._ask("the list of data sources", self._api.datasource.list_datasources)
        sources = [each for each in told if each.get("type") == "prometheus"]
        named = ", ".join(sorted(each["name"] for each in sources)) or "none"
        if wanted is not None:
            chosen = [each for each in sources if wanted in (each["name"], each["uid"])]
        else:
            chosen = sources if len(sources) == 1 else [each for each in sources if each.get("isDefault")]
        if len(chosen) != 1:
            self._fail(f"has these Prometheus data sources: {named}", "Name one: --datasource NAME.")
        return str(chosen[0]["uid"])

    def folder(self, uid: str) -> Any:
        """The folder, or None where there is none."""
        return self._find(f"folder {uid}", self._api.folder.get_folder, uid)

    def make_folder(self, title: str, uid: str) -> None:
        """A new folder at the top."""
        self._ask(f"a new folder {uid}", lambda: self._api.folder.create_folder(title, uid))

    def dashboard(self, uid: str) -> Any:
        """The model of a dashboard, or None where there is none."""
        found = self._find(f"dashboard {uid}", self._api.dashboard.get_dashboard, uid)
        return None if found is None else found["dashboard"]

    def save_dashboard(self, body: Json) -> None:
        """A new or changed dashboard, in the form of "Create / Update dashboard"."""
        self._ask(f"dashboard {body['dashboard']['uid']}", lambda: self._api.dashboard.update_dashboard(body))

    def rule(self, uid: str) -> Any:
        """An alert rule, or None where there is none."""
        return self._find(f"alert rule {uid}", self._api.alertingprovisioning.get_alertrule, uid)

    def save_rule(self, rule: Json, *, new: bool) -> None:
        """A new or changed alert rule."""
        rules = self._api.alertingprovisioning
        if new:
            self._ask(f"a new alert rule {rule['uid']}", lambda: rules.create_alertrule(rule))
        else:
            self._ask(f"alert rule {rule['uid']}", lambda: rules.update_alertrule(_escaped(rule["uid"]), rule))

    def _find(self, what: str, call: Callable[[str], Any], uid: str) -> Any:
        return self._ask(what, lambda: call(_escaped(uid)), missing=True)

    def _ask(self, what: str, call: Callable[[], Any], *, missing: bool = False) -> Any:
        """The JSON of an answer about ``what``; None for a 404 that is no mistake (``missing``)."""
        from grafana_client.client import GrafanaException
        from requests import JSONDecodeError, RequestException, TooManyRedirects
        from requests.exceptions import SSLError, Timeout

        try:
            told = call()
        except GrafanaException as error:
            # only Grafana says 404 in JSON: the page of another server would pass for a dashboard that is not there
            if missing and error.status_code == 404 and isinstance(error.response, dict):
                return None
            self._refused(what, error.status_code, error.response)
        except JSONDecodeError:
            self._not_json(what)
        except TooManyRedirects:
            self._fail(f"sends {what} to another address", "Give the address that it ends at: a write is lost on the way.")
        except SSLError as error:
            self._fail(f"has a certificate that is not trusted: {_reason(error)}", _CERTIFICATE)
        except Timeout:
            self._fail(f"does not answer within {self._api.client.timeout:g} s", "Check the address, and the way there.")
        except RequestException as error:
            self._fail(f"cannot be reached: {_reason(error)}", "Check the address, and the way there.")
        if not isinstance(told, (dict, list)):
            self._not_json(what)
        return told

    def _refused(self, what: str, status: int, body: object) -> NoReturn:
        said = body.get("message") if isinstance(body, dict) else None
        words = " ".join(str(said or responses.get(status, "")).split())[:200]
        self._fail(f"answers {status} for {what}: {words.rstrip('.')}", _REMEDIES.get(status, "See Grafana's own log."))

    def _not_json(self, what: str) -> NoReturn:
        self._fail(f"answers with something else than JSON for {what}", _REMEDIES[404])

    def _fail(self, what: str, remedy: str) -> NoReturn:
        raise ReceiverError(f"Grafana {what}", self.url, remedy)


def _address(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username or parts.port == 0
    except ValueError:  # brackets, or a port that is none
        wrong = True
    if wrong:
        raise ConfigurationError("--url is Grafana's address, such as https://grafana.example.org, without a user or a query")
    return parts


def _client(parts: SplitResult, token: str, timeout_s: float) -> GrafanaApi:
    try:
        from grafana_client import GrafanaApi
        from grafana_client.client import TokenAuth
    except ImportError:
        raise MissingExtraError("grafana", "dashboards push") from None
    host, path = parts.hostname or "", parts.path.strip("/")
    api = GrafanaApi(
        TokenAuth(token),
        protocol=parts.scheme,
        host=f"[{host}]" if ":" in host else host,
        port=parts.port,
        url_path_prefix=f"{path}/" if path else "",
        timeout=timeout_s,
    )
    # a redirected POST comes back as a GET: it would write nothing, and say that all went well
    api.client.s.max_redirects = 0
    return api


def _escaped(uid: str) -> str:
    """A uid as a part of a path: grafana-client puts it there as it is."""
    return quote(uid, safe="")


def _reason(error: BaseException) -> str:
    """The innermost words: urllib3 and requests wrap what the system said four times, addresses of objects included."""
    inner: object = error
    while isinstance(inner, BaseException) and (next_ := getattr(inner, "reason", None) or next(iter(inner.args), None)):
        if not isinstance(next_, BaseException):
            break
        inner = next_
    words = re.sub(r"(<[^>]*>|HTTPS?Connection\(.*?\)):\s*|\s*\(_ssl\.c:\d+\)", "", str(inner))
    return " ".join((words or type(inner).__name__).split()).rstrip(".")[:200]
