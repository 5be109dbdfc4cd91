"""What is asked of a service in a study: requests out of a file of JSON lines, or from a function."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import ConfigurationError
from ..loading import load_object
from ..tables import only
from .declaring import Plan, VariantTable

#: a load is read into memory before anything runs
MOST_LINES: Final = 1_000_000
#: what makes a request; any other key is for the judge, under "expect"
KEYS: Final = ("path", "method", "json", "body", "headers", "expect")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. ``line`` is its place in the load, from 1: the same in every repetition and variant."""

    line: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    said: dict[str, Any]  # as it was declared: what a judge compares with


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests in their order, where they are from, and the SHA-256 of what they say."""

    origin: str
    sha256: str
    requests: tuple[Request, ...]


def load_of(plan: Plan, variant: VariantTable) -> Load:
    """The load of a variant: its own, or the study's. Raises ConfigurationError with the line that is wrong."""
    table = plan.declared.load
    own = variant.load
    source = own or table.file or table.call or ""
    if (own is None and table.call is not None) or (own is not None and _is_call(own)):
        lines = _called(source, variant.name)
    else:
        lines = _read(plan.folder / source, source)
    requests = tuple(_request(number, line, variant, source) for number, line in enumerate(lines, 1))
    chosen = requests[: table.requests] if table.requests else requests
    if not chosen:
        raise ConfigurationError(f"{source}: holds no request")
    if table.requests and len(chosen) < table.requests:
        raise ConfigurationError(f"{source}: holds {len(chosen)} requests, and [load] requests asks for {table.requests}")
    digest = hashlib.sha256(b"\n".join(msgspec.json.encode(each.said, order="deterministic") for each in chosen))
    return Load(origin=source, sha256=digest.hexdigest(), requests=chosen)


def _is_call(source: str) -> bool:
    return ":" in source and not source.endswith(".jsonl")


def _called(target: str, variant: str) -> Iterable[Any]:
    function = load_object(target, "function", "write MODULE:FUNCTION, such as load:questions")
    try:
        return list(function(variant))
    except Exception as error:
        raise ConfigurationError(f"{target}({variant!r}) failed: {type(error).__name__}: {error}") from None


def _read(file: Path, shown: str) -> Iterable[Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"load {shown}: cannot be read ({error.strerror}); its place is beside study.toml") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"load {shown}: is not UTF-8 text; save it as UTF-8") from None
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            raise ConfigurationError(f"load {shown}, line {number}: is empty; remove it")
        try:
            lines.append(msgspec.json.decode(line))
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"load {shown}, line {number}: not JSON ({error})") from None
        if number > MOST_LINES:
            raise ConfigurationError(f"load {shown}: more than {MOST_LINES} lines")
    return lines


def _request(number: int, line: Any, variant: VariantTable, source: str) -> Request:
    where = f"load {source}, line {number}"
    if not isinstance(line, Mapping):
        raise ConfigurationError(f'{where}: is {type(line).__name__}; write an object, such as {{"path": "/ask", "json": {{…}}}}')
    only(f"{where}:", line, KEYS, what="key")
    said = dict(line)
    path = variant.path or said.get("path", "")
    if not isinstance(path, str) or not path.startswith("/") or any(ord(c) <= 32 or ord(c) > 126 for c in path):
        raise ConfigurationError(f'{where}: path is {path!r}; write one such as "/ask", percent-encoded')
    body, kind = _body(said, variant, where)
    headers = said.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ConfigurationError(f"{where}: headers is an object of texts")
    method = said.get("method") or ("GET" if body is None else "POST")
    if not isinstance(method, str) or not method.isalpha():
        raise ConfigurationError(f'{where}: method is {method!r}; write "GET" or "POST"')
    return Request(line=number, method=method.upper(), path=path, headers={**kind, **headers}, body=body, said=said)


def _body(said: dict[str, Any], variant: VariantTable, where: str) -> tuple[bytes | None, dict[str, str]]:
    if "json" in said and "body" in said:
        raise ConfigurationError(f"{where}: has both json and body; leave one out")
    if "json" in said:
        content = said["json"]
        if variant.set:
            if not isinstance(content, dict):
                raise ConfigurationError(f"{where}: json is no object, and variant {variant.name!r} sets keys in it")
            content = {**content, **variant.set}
        return msgspec.json.encode(content), {"Content-Type": "application/json"}
    body = said.get("body")
    if body is not None and not isinstance(body, str):
        raise ConfigurationError(f"{where}: body is a text; for JSON write json")
    if variant.set:
        raise ConfigurationError(f"{where}: has no json, and variant {variant.name!r} sets keys in it")
    return (None if body is None else body.encode()), {}
