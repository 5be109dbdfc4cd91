"""A server that speaks the part of Grafana's HTTP API which `dashboards push` uses, from its published reference.

Shapes and status codes are those of grafana/grafana, docs/sources/developers/http_api (also grafana.com/docs, "HTTP API"):

* other.md, "Health API": `GET /api/health`;
* data_source.md, "Get all data sources": `GET /api/datasources`;
* folder.md, "Get folder by uid", "Create folder": 200, 400, 401, 403, 404, and 409 for a uid that is there;
* dashboard.md, "Create / Update dashboard": 200, 400, 401, 403, and 412 with `version-mismatch`; "Get dashboard by uid";
* alerting_provisioning.md, routes get, post and put alert rule, schema ProvisionedAlertRule: 200, 201, 400, 404, and 409.

It keeps what it is given. Like Grafana it writes defaults into the queries of an alert rule (`intervalMs`, `maxDataPoints`).
It is no Grafana: what is drawn is not tested.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

EDITOR, VIEWER = "glsa_editor", "glsa_viewer"


class GrafanaServer:
    """What it holds, what it was asked, and where it is."""

    def __init__(self) -> None:
        self.version = "11.6.0"
        self.sources = [
            {"name": "Main", "uid": "p1", "type": "prometheus", "isDefault": True},
            {"name": "Other", "uid": "p2", "type": "prometheus", "isDefault": False},
            {"name": "Logs", "uid": "l1", "type": "loki", "isDefault": False},
        ]
        self.folders: dict[str, Any] = {}
        self.dashboards: dict[str, Any] = {}
        self.alerts: dict[str, Any] = {}
        self.asked: list[tuple[str, str]] = []
        self.before_writing = lambda: None
        self.url = ""
        #: where it sends all calls instead of answering them, as a proxy before it would
        self.moved_to = ""
        #: held by a test for as long as nothing shall be answered
        self.awake = threading.Event()
        self.awake.set()

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Calls that change something."""
        return [each for each in self.asked if each[0] != "GET"]

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        """Status and body for one call."""
        self.asked.append((method, path))
        if not path.startswith("/grafana/"):
            return 404, None
        path = path.removeprefix("/grafana")
        if path == "/api/health":
            return 200, {"database": "ok", "version": self.version, "commit": "0"}
        if token not in (EDITOR, VIEWER):
            return 401, {"message": "Invalid API key", "messageId": "api-key.invalid"}
        if method != "GET" and token == VIEWER:
            return 403, {
                "message": "You'll need additional permissions to perform this action. Permissions needed: folders:create"
            }
        if method != "GET":
            self.before_writing()
        return self.write(method, path, body) if method != "GET" else self.read(path)

    def read(self, path: str) -> tuple[int, Any]:
        name = path.rpartition("/")[2]
        if path == "/api/datasources":
            return 200, self.sources
        if path.startswith("/api/folders/"):
            return (200, self.folders[name]) if name in self.folders else (404, {"message": "folder not found"})
        if path.startswith("/api/dashboards/uid/"):
            found = self.dashboards.get(name)
            return (200, {"dashboard": found, "meta": {}}) if found else (404, {"message": "Dashboard not found"})
        if path.startswith("/api/v1/provisioning/alert-rules/"):
            return (200, self.alerts[name]) if name in self.alerts else (404, {})
        return 404, {"message": "Not found"}

    def write(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if (method, path) == ("POST", "/api/folders"):
            if body["uid"] in self.folders:
                return 409, {"message": "a folder with the same name already exists"}
            self.folders[body["uid"]] = {"id": 1, **body, "version": 1}
            return 200, self.folders[body["uid"]]
        if (method, path) == ("POST", "/api/dashboards/db"):
            return self.save(body)
        if path.startswith("/api/v1/provisioning/alert-rules"):
            wanted = {
                "uid",
                "title",
                "ruleGroup",
                "folderUID",
                "condition",
                "data",
                "noDataState",
                "execErrState",
                "for",
                "orgID",
            }
            if wanted - body.keys() or body["folderUID"] not in self.folders:
                return 400, {"message": "invalid alert rule"}
            if method == "POST" and body["uid"] in self.alerts:
                return 409, {"message": "a conflicting alert rule is found: rule UID under the same organisation"}
            if method == "PUT" and body["uid"] not in self.alerts:
                return 404, {}
            stored = {"id": 7, **json.loads(json.dumps(body)), "updated": "2026-01-01T00:00:00Z", "provenance": "api"}
            for query in stored["data"]:
                query["model"] = {"intervalMs": 1000, "maxDataPoints": 43200} | query["model"]
            self.alerts[body["uid"]] = stored | {"keep_firing_for": "0s", "notification_settings": None, "record": None}
            return 201 if method == "POST" else 200, self.alerts[body["uid"]]
        return 404, {"message": "Not found"}

    def save(self, body: Any) -> tuple[int, Any]:
        """As documented under "Create / Update dashboard": an existing uid asks for its version, or to overwrite."""
        new, old = body["dashboard"], self.dashboards.get(body["dashboard"]["uid"])
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        if old and not body["overwrite"] and new.get("version") != old["version"]:
            return 412, {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        version = old["version"] + 1 if old else 1
        self.dashboards[new["uid"]] = new | {"id": 3, "version": version}
        return 200, {"id": 3, "uid": new["uid"], "status": "success", "version": version}


@contextlib.contextmanager
def a_grafana(certificate_in: Path | None = None) -> Iterator[GrafanaServer]:
    """It listens on a spare port of this machine until the block ends; over TLS by a certificate made in a folder."""
    it = GrafanaServer()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            it.awake.wait()
            status, told = (308, {}) if it.moved_to else it.answer(self.command, self.path, token, body)
            text = b"<html>404</html>" if told is None else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if told is None else "application/json; charset=UTF-8")
            if it.moved_to:
                self.send_header("Location", it.moved_to)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = reply

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up, as one does who refuses a certificate, is none of the test's output."""

    server = Server(("127.0.0.1", 0), Handler)
    it.url = f"http://127.0.0.1:{server.server_address[1]}/grafana"
    if certificate_in is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(certificate_in), certificate_in / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        it.url = it.url.replace("http:", "https:")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield it
    finally:
        it.awake.set()
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path) -> Path:
    """A certificate of its own authority for 127.0.0.1, with its key beside it."""
    made = folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(folder / "key.pem"), "-out", str(made)],
        check=True, capture_output=True,
    )  # fmt: skip
    return made
