"""The ops surface: ``/metrics`` and the live page, for loopback only unless opened on purpose."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import msgspec

from ..errors import ConfigurationError, MissingExtraError
from ..records import Reading, as_dict
from .dispatch import OPS_MARK, OPS_THREAD
from .live_page import content_security_policy, negotiate, render_data, render_page
from .page_state import LiveState

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

#: a request that carries one of these came through a proxy: its loopback peer is the proxy, not the client
FORWARDED: Final = frozenset(
    {b"forwarded", b"forwarded-for", b"via", b"x-real-ip", b"x-amzn-trace-id", b"x-envoy-external-address"}
)
#: an id, a score and the name of a metric
MOST_FEEDBACK_BYTES: Final = 4096
_FORWARDED_PARTS: Final = (b"x-forwarded", b"original-forwarded", b"client-ip", b"connecting-ip")
_REFUSED: Final = (
    "This page answers the machine itself only. To open it: ops_app(token=...), ops_app(public=True), "
    "or serve_ops() on a port of its own.\n"
)


class PublicPage(NamedTuple):
    """What a page for the public answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class PublicPages(Protocol):
    """Pages that may be open to everybody while the others are not: declaration, notice, carbon.txt."""

    @property
    def open(self) -> bool:
        """Whether they answer beyond this machine."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Where they are."""

    def answer(self, path: str, lang: Literal["fr", "en"]) -> PublicPage:
        """The page at one of ``paths``; may read a journal, so it is asked off the event loop."""


def is_open_to(scope: Any, token: str | None, public: bool) -> bool:
    """Whether a request may see the ops pages: public, the right bearer token, or a direct loopback peer."""
    if public:
        return True
    headers = list(scope.get("headers", ()))
    if token is not None:
        sent = next((value for name, value in headers if name == b"authorization"), b"")
        return hmac.compare_digest(sent, b"Bearer " + token.encode())
    client = scope.get("client")
    if client is None or not is_direct(scope):
        return False
    try:
        address = ipaddress.ip_address(str(client[0]).split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or bool(getattr(address, "ipv4_mapped", None) and address.ipv4_mapped.is_loopback)  # type: ignore[union-attr]


def is_direct(scope: Any) -> bool:
    """Whether a request carries no sign of a proxy between its client and this server."""
    return not any(_is_forwarded(name.lower()) for name, _ in scope.get("headers", ()))


def _is_forwarded(name: bytes) -> bool:
    return name in FORWARDED or any(part in name for part in _FORWARDED_PARTS)


def ops_app(
    metrics: Callable[[str], tuple[bytes, str]],
    state: Callable[[], LiveState],
    find: Callable[[str], Reading | None] = lambda id: None,
    feedback: Callable[[str, float, str | None], None] | None = None,
    *,
    token: str | None,
    public: bool,
    citizens: PublicPages | None = None,
) -> Starlette:
    """A Starlette application with ``/metrics``, ``/`` (live page), ``/data.json`` and ``/readings/ID``, rendered off the event
    loop. A reading is given without its tenant. ``POST /feedback`` hands a score on, and is never public; ``citizens`` may be.
    """
    if token is not None and public:
        raise ConfigurationError("ops_app: token and public=True exclude each other; with a token the pages are not public")
    from anyio.to_thread import run_sync
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route

    def guarded(see: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def see_if_open(request: Request) -> Response:
            request.scope[OPS_MARK] = True
            return await see(request) if is_open_to(request.scope, token, public) else PlainTextResponse(_REFUSED, 403)

        return see_if_open

    def language(request: Request) -> Literal["fr", "en"]:
        return negotiate(request.headers.get("accept-language", ""), request.query_params.get("lang"))

    async def see_metrics(request: Request) -> Response:
        body, kind = await run_sync(metrics, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind, "cache-control": "no-store"})

    async def see_page(request: Request) -> Response:
        lang, nonce = language(request), secrets.token_urlsafe(16)
        page = await run_sync(lambda: render_page(state(), lang=lang, nonce=nonce))
        return HTMLResponse(page, headers=_page_headers(nonce, lang))

    async def see_data(request: Request) -> Response:
        return _json(await run_sync(lambda: render_data(state(), lang=language(request))))

    async def see_reading(request: Request) -> Response:
        found = await run_sync(find, request.path_params["id"])
        if found is None:
            return PlainTextResponse("No such reading among the last of this process.\n", 404)
        return _json(msgspec.json.encode(as_dict(msgspec.structs.replace(found, tenant=None))))

    async def take_feedback(request: Request) -> Response:
        request.scope[OPS_MARK] = True
        if not is_open_to(request.scope, token, public=False):
            return PlainTextResponse(_REFUSED, 403)
        refusal = await _score(request, feedback)
        return Response(status_code=202) if refusal is None else PlainTextResponse(f"{refusal[1]}\n", refusal[0])

    pages = {"/readings/{id}": see_reading, "/metrics": see_metrics, "/data.json": see_data, "/": see_page}
    routes = [Route(path, guarded(see)) for path, see in pages.items()]
    routes += [] if citizens is None else _for_citizens(citizens, lambda request: is_open_to(request.scope, token, public))
    return Starlette(routes=[*routes, Route("/feedback", take_feedback, methods=["POST"])])


def _json(body: bytes) -> Response:
    from starlette.responses import Response

    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


def _for_citizens(pages: PublicPages, is_open: Callable[[Request], bool]) -> list[Route]:
    from anyio.to_thread import run_sync
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    def route(path: str) -> Route:
        async def see(request: Request) -> Response:
            request.scope[OPS_MARK] = True
            if not (pages.open or is_open(request)):
                return PlainTextResponse(_REFUSED, 403)
            lang = negotiate(request.headers.get("accept-language", ""), request.query_params.get("lang"))
            found = await run_sync(pages.answer, path, lang)
            return Response(found.body, found.status, headers=dict(found.headers))

        return Route(path, see)

    return [route(path) for path in pages.paths]


class _Score(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    score: float
    metric: str | None = None


async def _score(request: Request, feedback: Callable[[str, float, str | None], None] | None) -> tuple[int, str] | None:
    """Hand a request's score on; the status and the line of a refusal, or None."""
    # A page of another site can post a form to this machine, but not JSON: its browser would ask first.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "Send application/json."
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FEEDBACK_BYTES:
            return 413, f"Feedback is at most {MOST_FEEDBACK_BYTES} bytes."
    try:
        told = msgspec.json.decode(body, type=_Score)
        if feedback is None:
            return 404, "This meter keeps no feedback."
        feedback(told.id, told.score, told.metric)
    except (msgspec.DecodeError, ConfigurationError, UnicodeDecodeError) as error:
        return 400, str(error)
    return None


def _page_headers(nonce: str, lang: str) -> dict[str, str]:
    return {
        "content-security-policy": content_security_policy(nonce),
        "cache-control": "no-store",
        "content-language": lang,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


class OpsServer:
    """The ops application on uvicorn, on a port and a daemon thread of its own."""

    def __init__(self, app: Starlette, address: str, *, guarded: bool) -> None:
        host, port = _address(address)
        if guarded and not _is_loopback(host):
            raise ConfigurationError(f'serve_ops({address!r}) would listen beyond this machine: give token="…" or public=True')
        try:
            import uvicorn
        except ImportError:
            raise MissingExtraError("cli", "serve_ops") from None
        # Its own client address is the truth here: nothing rewrites it from headers. Loggers are the application's.
        config = uvicorn.Config(app, host=host, port=port, log_config=None, proxy_headers=False, lifespan="off")
        config.access_log = False  # given to the constructor it would silence the application's own
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ConfigurationError(f"serve_ops({address!r}) cannot listen there: {error.strerror}") from None
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=partial(self._server.run, [self._socket]), name=OPS_THREAD, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the live page is."""
        host, port = self.address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join(timeout_s)
        self._socket.close()


def _address(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ConfigurationError(f'serve_ops({address!r}): write an address and a port, such as "127.0.0.1:9464"')
    return host.strip("[]") or "127.0.0.1", int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
