"""The host's own metrics: names and labels as services have them, for the whole machine and no service of it."""

from __future__ import annotations

import platform
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ..exporters.exposition import write
from ..exporters.families import Family
from ..exporters.ops import is_open_to
from ..units import NJ_PER_J
from .host import Host

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response


def families(host: Host, errors: dict[str, int]) -> list[Family]:
    """The host's families, as `frugal_meter.exporters.spec.SPEC` has them."""
    known = list(zip(host.sources, list(host.totals), strict=True))
    measured = sum(totals.energy_nj for source, totals in known if source.tier == "measured")
    total = sum(totals.energy_nj for _, totals in known)
    samples: dict[str, list[Any]] = {
        "frugal_host_energy_joules": [((s.component, s.name, s.tier), t.energy_nj / NJ_PER_J) for s, t in known],
        "frugal_unattributed_energy_joules": [
            ((s.component, s.name, reason), nj / NJ_PER_J)
            for s, t in known
            for reason, nj in (("idle", t.idle_nj), ("gap", t.gap_nj))
        ],
        "frugal_energy_source_up": [((s.component, s.name), float(up)) for s, up in zip(host.sources, host.up, strict=True)],
        "frugal_measured_ratio": [((), measured / total)] if total else [],
        "frugal_build_info": [((metadata.version("frugal-meter"), platform.python_version()), 1)],
        "frugal_meter_cpu_seconds": [((), time.process_time())],
        "frugal_meter_errors": [((stage,), count) for stage, count in sorted(errors.items())],
    }
    return [Family(name, values) for name, values in samples.items()]


def metrics_app(host: Host, errors: dict[str, int], *, token: str | None, public: bool) -> Starlette:
    """An application with ``/metrics``, guarded as the ops pages of a service are."""
    from prometheus_client.exposition import choose_encoder
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def see(request: Request) -> Response:
        if not is_open_to(request.scope, token, public):
            return PlainTextResponse("These metrics answer the machine itself only; see --metrics.\n", 403)
        kind = choose_encoder(request.headers.get("accept", ""))[1]
        body = write(families(host, errors), openmetrics=kind.startswith("application/openmetrics-text"))
        return Response(body, headers={"content-type": kind, "cache-control": "no-store"})

    return Starlette(routes=[Route("/metrics", see)])
