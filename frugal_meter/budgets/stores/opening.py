"""Which store: ``Meter(store=…)``, and "auto" where that is not told."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from ...errors import ConfigurationError
from ...ring.election import run_folder
from ..admission import Admission
from ..budget import Budget
from ..outage import ON_STORE_ERROR
from . import SharedStore, redis_address

log = logging.getLogger("frugal_meter")
_KNOWN: Final = (
    '"auto", "memory", "sqlite:///path/to/file" or "redis://host:6379/0" '
    '(TLS: "rediss://…"; sentinels: "redis+sentinel://host,host2/name")'
)


def several_workers(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process looks like one worker of several: uvicorn's and gunicorn's own, or $WEB_CONCURRENCY of them."""
    told = environ.get("WEB_CONCURRENCY", "")
    return (
        multiprocessing.parent_process() is not None
        or environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")
        or (told.isdigit() and int(told) > 1)
    )


def address_of(
    store: object, service: str, budgets: Sequence[Budget], *, alone: bool, environ: Mapping[str, str] = os.environ
) -> str:
    """The store's address in full: "memory", "sqlite:///…" or "redis://…".

    "auto" is memory for a process on its own and a file in the run folder for one worker of several. ``alone``: nothing is
    shared in any case (a test's own clock). Raises ConfigurationError for an address that cannot mean anything, and under
    Kubernetes for a store that other pods do not see, unless every budget says ``scope="instance"``.
    """
    if not isinstance(store, str) or not (store in ("auto", "memory") or _is_address(store)):
        raise ConfigurationError(f"store={_shown(store)} cannot be: it is {_KNOWN}")
    if not budgets and store == "auto":
        return "memory"  # a store that was named is met all the same: budgets may come with a change of the file
    local = urlsplit(store).scheme not in redis_address.SCHEMES
    if local and not alone and environ.get("KUBERNETES_SERVICE_HOST"):
        for budget in budgets:
            if budget.scope != "instance":
                raise ConfigurationError(
                    f"budget {budget.name!r}: under Kubernetes every pod would have a budget of its own; "
                    'give store="redis://…", or scope="instance" if that is what you mean'
                )
    if store != "auto":
        return store
    if alone or not several_workers(environ):
        return "memory"
    return f"sqlite://{shared_file(service)}"


def shared_file(service: str) -> Path:
    """Where "auto" keeps the budgets of several workers of ``service``. Raises ConfigurationError."""
    return run_folder() / ("budgets-" + hashlib.sha256(service.encode()).hexdigest()[:20] + ".sqlite")


def open_store(address: str, service: str) -> SharedStore | None:
    """The store at ``address``, not yet met; None for memory. Raises ConfigurationError, and MissingExtraError."""
    if address == "memory":
        return None
    if address.startswith("sqlite:"):
        from .sqlite import SqliteStore

        return SqliteStore(unquote(urlsplit(address).path))
    store: SharedStore = import_module(".redis", __package__).RedisStore(address, service)  # its library is an extra
    return store


def check_policy(on_store_error: object) -> None:
    """Raise ConfigurationError unless it says what a worker does while the store is away."""
    if on_store_error not in ON_STORE_ERROR:
        raise ConfigurationError(f'on_store_error={on_store_error!r} cannot be: it is "local", "open" or "closed"')


def share(
    admission: Admission,
    store: object,
    on_store_error: object,
    service: str,
    *,
    alone: bool,
    fault: Callable[[str, BaseException], None],
    budgets: Sequence[Budget] | None = None,
) -> None:
    """Let ``admission`` share its budgets (or ``budgets``, which it is about to take up) as a meter's settings say.

    What shares or keeps them already goes on. Raises ConfigurationError.
    """
    check_policy(on_store_error)
    budgets = admission.budgets if budgets is None else budgets
    address = address_of(store, service, budgets, alone=alone)
    if admission.sharing is not None or admission.keeping is not None:
        return
    opened = open_store(address, service)
    if opened is None:
        if budgets and store == "auto" and not alone:
            _keep(admission, service, fault)
        return
    try:
        folder = run_folder()
    except ConfigurationError:
        folder = None  # nowhere to leave a record: a killed worker is then charged what it held
    admission.share(opened, service=service, address=address, on_error=on_store_error, fault=fault, folder=folder)


def _keep(admission: Admission, service: str, fault: Callable[[str, BaseException], None]) -> None:
    """Keep the budgets of this process in a file beside it, where there is a place for one."""
    from ..keeping import Keeping
    from .sqlite import SqliteStore

    try:
        store = SqliteStore(shared_file(service))
    except ConfigurationError as error:
        log.warning("frugal_meter: budgets are in memory only, a restart forgets them: %s", error)
        return
    admission.keeping = Keeping(store, admission, service=service, fault=fault)


def _is_address(store: str) -> bool:
    parts = urlsplit(store)
    if parts.scheme == "sqlite":
        return not parts.netloc and parts.path not in ("", "/") and not parts.path.endswith("/")
    return redis_address.is_address(store)


def _shown(store: object) -> str:
    """As it was given, without a password."""
    if isinstance(store, str) and "@" in store:
        return repr("…@" + store.rpartition("@")[2])
    return repr(store)
