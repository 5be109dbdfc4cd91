"""The public pages of a running meter: declaration, its schema, notice and ``carbon.txt``, made once per period."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final, NamedTuple

from ..budgets.budget import Budget
from ..carbon.published import by_id
from ..errors import FrugalMeterError
from ..exporters.ops import PublicPage
from ..exporters.page_frame import policy
from ..journal.store import JournalStore
from .calendar import last_whole
from .carbon_txt import carbon_txt
from .declaring import Lookup, declare
from .document import Declaration, Language, as_json
from .keeping import kept_of
from .notice import STYLE, notice
from .statement import Statement, statement_of

DECLARATION: Final = "frugal-ai.json"
SCHEMA_FILE: Final = "frugal-ai-1.schema.json"
CARBON_TXT: Final = "carbon.txt"
#: how long after its end a period is taken for settled: its last ticks are written by then
SETTLED_AFTER: Final = timedelta(hours=1)
#: how long a declaration without figures stands before the journal is asked again
LOOKED_AGAIN: Final = timedelta(minutes=10)
_SAFE: Final = {"referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}


class Declarer(NamedTuple):
    """All that a declaration is made of. ``journal`` opens it for reading alone; None where there is none."""

    statement: Statement
    service: str
    journal: Callable[[], JournalStore] | None
    budgets: Callable[[], Sequence[Budget]]
    factor: Lookup

    def declare(self, begin: datetime, end: datetime, now: datetime, *, gently: bool = False) -> Declaration:
        """The declaration of a period. Raises StoreError."""
        kept: Any = "no_journal"
        if self.journal is not None:
            store = self.journal()
            try:
                kept = kept_of(store, begin, end, self.statement.unit, gently=gently)
            finally:
                store.close()
        named: dict[str, Any] = {"begin": begin, "end": end, "now": now, "budgets": self.budgets(), "factor": self.factor}
        return declare(self.statement, self.service, kept, **named)


class CitizenPages:
    """What `Meter.ops_app` serves of a declarer: `exporters.ops.PublicPages`."""

    paths: Final = (f"/{DECLARATION}", f"/{SCHEMA_FILE}", "/notice", f"/{CARBON_TXT}")

    def __init__(self, declarer: Declarer, now_ns: Callable[[], int]) -> None:
        self._declarer, self._now_ns = declarer, now_ns
        self._lock = threading.Lock()
        self._made: Declaration | None = None

    @property
    def open(self) -> bool:
        """Whether ``[declaration] public`` says so."""
        return self._declarer.statement.public

    def answer(self, path: str, lang: Language) -> PublicPage:
        """The page; 503 while the journal cannot be read, 404 for a carbon.txt without an address."""
        if path == f"/{SCHEMA_FILE}":
            return self._page(schema_file(), "application/schema+json")
        try:
            made = self._declaration()
        except FrugalMeterError:
            headers = {**_SAFE, "content-type": "text/plain", "retry-after": "60"}
            return PublicPage(503, headers, b"The journal cannot be read now.\n")
        if path == "/notice":
            page = notice(made, lang).encode("utf-8", "replace")
            told = {"content-language": lang, "content-security-policy": f"{policy(STYLE)}; frame-ancestors 'none'"}
            return self._page(page, "text/html; charset=utf-8", **told, vary="accept-language")
        if path == f"/{DECLARATION}":
            return self._page(as_json(made), "application/json")
        if (url := self._declarer.statement.url) is None:
            why = "carbon.txt needs the public address of these pages: [declaration] url.\n"
            return PublicPage(404, {**_SAFE, "content-type": "text/plain"}, why.encode())
        return self._page(carbon_txt(made, url).encode(), "text/plain; charset=utf-8")

    def _page(self, body: bytes, kind: str, **more: str) -> PublicPage:
        headers = {**_SAFE, "content-type": kind, **more}
        if self.open:
            headers |= {"cache-control": "public, max-age=3600", "access-control-allow-origin": "*"}
        return PublicPage(200, headers, body)

    def _declaration(self) -> Declaration:
        statement, now = self._declarer.statement, datetime.fromtimestamp(self._now_ns() / 1e9, UTC)
        begin, end = last_whole(statement.period, now - SETTLED_AFTER, statement.zone)
        with self._lock:
            made = self._made
            if made is None or made.period.begin != begin or (_is_empty(made) and now - made.declared_at >= LOOKED_AGAIN):
                made = self._made = self._declarer.declare(begin, end, now, gently=True)
            return made


def _is_empty(made: Declaration) -> bool:
    return made.services[0].volume.requests is None


def schema_file() -> bytes:
    """The published JSON Schema."""
    return files(__package__).joinpath(SCHEMA_FILE).read_bytes()


def public_pages(meter: Any) -> CitizenPages:
    """The public pages of a `Meter`."""
    journal, factors = meter.journal, meter.figures.in_force
    opener = None if journal is None else journal.store.reader
    statement = statement_of(meter.statement)
    declarer = Declarer(statement, meter.service, opener, lambda: meter.admission.budgets, finder((factors.now,)))
    return CitizenPages(declarer, meter.clock.time_ns)


def finder(own: Sequence[Any], pack: Any = None) -> Lookup:
    """Finds a factor by its id: among one's ``own``, in a loaded factor pack, in the bundled tables."""
    known = {each.id: each for each in (*own, *(() if pack is None else (*pack.yearly, *pack.hourly)))}
    return lambda id: known.get(id) or by_id(id)
