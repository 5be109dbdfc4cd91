"""Harvesting what strangers publish: bounds on time, size and reach, refusals in one line, and the tables that come of it."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from declaration_samples import NOW, declared, hostile, kept, later, town
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from frugal_meter.cli.app import app
from frugal_meter.declaration.calendar import last_whole, valid_until
from frugal_meter.declaration.document import Declaration, as_json
from frugal_meter.declaration.serving import schema_file
from frugal_meter.errors import ConfigurationError, DeclarationError
from frugal_meter.harvest.fetch import MOST_REDIRECTS, Limits, fetch, is_public
from frugal_meter.harvest.gathering import Found, gathered, sources_of
from frugal_meter.harvest.harvest import groups, harvest, likeness
from frugal_meter.harvest.tables import as_csv
from frugal_meter.harvest.tables import as_json as as_table

GOOD = as_json(town(1))
HERE = Limits(timeout_s=20.0, allow_private=True)
#: for servers that never end: what is waited for is this limit, and a machine that is busy makes it no shorter
SHORT = Limits(timeout_s=0.5, allow_private=True)
#: a fetch that is not ended by its limit runs into this
FOR_EVER_S = 60.0


class Stranger:
    """A server on a spare loopback port that answers every connection with what ``say`` writes to it."""

    def __init__(self, say: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self._say, self._context = say, context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.asked: list[bytes] = []
        self.over = threading.Event()
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._listening.getsockname()[1]}/frugal-ai.json"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                door, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(door,), daemon=True).start()

    def _answer(self, door: socket.socket) -> None:
        with contextlib.suppress(OSError), door:
            door.settimeout(FOR_EVER_S)
            if self._context is None:
                self._talk(door)
            else:
                with self._context.wrap_socket(door, server_side=True) as secure:
                    self._talk(secure)

    def _talk(self, door: socket.socket) -> None:
        self.asked.append(door.recv(65_536))
        self._say(door)

    def close(self) -> None:
        self.over.set()
        self._listening.close()


@pytest.fixture
def stranger() -> Iterator[Callable[..., Stranger]]:
    made: list[Stranger] = []

    def make(say: Callable[[socket.socket], None] | bytes, context: ssl.SSLContext | None = None) -> Stranger:
        made.append(Stranger((lambda door: door.sendall(say)) if isinstance(say, bytes) else say, context))
        return made[-1]

    yield make
    for each in made:
        each.close()


def reply(body: bytes = GOOD, *lines: str, status: str = "200 OK", kind: str | None = "application/json") -> bytes:
    heads = [f"HTTP/1.1 {status}", *([f"Content-Type: {kind}"] if kind else []), *lines]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        heads.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*heads, "", ""]).encode() + body


def refusal(url: str, limits: Limits = HERE) -> str:
    with pytest.raises(DeclarationError) as raised:
        fetch(url, limits)
    assert str(raised.value).isprintable()
    return str(raised.value)


# -- fetching


def test_a_declaration_is_fetched_with_nothing_of_ours_but_a_name(stranger: Callable[..., Stranger]) -> None:
    server = stranger(reply())
    assert fetch(server.url, HERE) == GOOD
    (asked,) = server.asked
    assert asked.startswith(b"GET /frugal-ai.json HTTP/1.1\r\n")
    assert b"accept-encoding: identity" in asked.lower()
    assert not any(word in asked.lower() for word in (b"cookie", b"authorization", b"referer"))


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/ld+json", "Application/JSON"])
def test_every_content_type_of_json_is_taken(stranger: Callable[..., Stranger], kind: str) -> None:
    assert fetch(stranger(reply(kind=kind)).url, HERE) == GOOD


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (reply(status="404 Not Found"), "HTTP 404"),
        (reply(status="500 Oops"), "HTTP 500"),
        (reply(kind="text/html"), "its content type is 'text/html'"),
        (reply(kind="text/plain"), "its content type is 'text/plain'"),
        (reply(kind=None), "its content type is 'not told'"),
        (reply(kind="application/json2"), "its content type"),
        (reply(gzip.compress(b"0" * 10_000_000), "Content-Encoding: gzip"), "sent compressed"),
        (reply(GOOD, "Content-Length: 100000000"), "larger than 1 MB (100000000 bytes)"),
        (reply(GOOD, f"Content-Length: {len(GOOD) + 1}"), "cut short"),
        (reply(b"zz\r\n", "Transfer-Encoding: chunked"), "cannot be fetched"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", "cannot be fetched"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "cannot be fetched"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be fetched"),
        (b"", "cannot be fetched"),
        (reply(status="302 Found"), "leads nowhere"),
        (reply(b"", "Location: file:///etc/passwd", status="302 Found"), "not an address that begins with https://"),
        (reply(b"", "Location: http://user:word@127.0.0.1/", status="302 Found"), "a user or a password"),
        (reply(b"", "Location: //[", status="302 Found"), "cannot be fetched"),
    ],
)
def test_what_is_no_answer_is_refused(stranger: Callable[..., Stranger], answer: bytes, says: str) -> None:
    assert says in refusal(stranger(answer).url)


def test_a_body_of_a_hundred_megabytes_is_left_after_one(stranger: Callable[..., Stranger]) -> None:
    sent = []

    def endless(door: socket.socket) -> None:
        door.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1600):
            door.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            sent.append(65_536)

    assert "larger than 1 MB" in refusal(stranger(endless).url)
    assert sum(sent) < 50_000_000  # what the kernel's buffers took


def drip(door: socket.socket, text: bytes) -> None:
    """A byte at a time, faster than any timeout of a socket, for longer than anybody waits."""
    for n in range(len(text)):
        door.sendall(text[n : n + 1])
        time.sleep(0.05)  # what is tested is slowness


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"], ids=["head", "body"])
def test_a_slow_drip_is_ended(stranger: Callable[..., Stranger], begins: bytes) -> None:
    def slowly(door: socket.socket) -> None:
        door.sendall(begins)
        drip(door, b"HTTP/1.1 100 Continue\r\n\r\n" * 500)

    begun = time.monotonic()
    assert refusal(stranger(slowly).url, SHORT) == "no whole answer within 0.5 s"
    assert time.monotonic() - begun < FOR_EVER_S / 2


def test_silence_is_ended(stranger: Callable[..., Stranger]) -> None:
    server = stranger(lambda door: door.recv(1) and None)
    assert refusal(server.url, SHORT) == "no whole answer within 0.5 s"


def test_redirects_are_followed_a_few_times_and_a_loop_is_not(stranger: Callable[..., Stranger]) -> None:
    target = stranger(reply())
    once = stranger(reply(b"", f"Location: {target.url}", status="301 Moved Permanently"))
    assert fetch(once.url, HERE) == GOOD
    loop = stranger(reply(b"", "Location: /again", status="307 Temporary Redirect"))
    assert f"redirected more than {MOST_REDIRECTS} times" in refusal(loop.url)
    assert len(loop.asked) == MOST_REDIRECTS + 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    openssl = shutil.which("openssl") or pytest.skip("needs openssl; on Debian: apt-get install -y openssl")
    folder = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.authority = folder / "cert.pem"  # type: ignore[attr-defined]
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused(
    stranger: Callable[..., Stranger], certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = stranger(reply(), certificate)
    assert "its certificate" in refusal(server.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))  # type: ignore[attr-defined]
    assert fetch(server.url, HERE) == GOOD


def test_a_handshake_that_never_ends_is_ended(stranger: Callable[..., Stranger]) -> None:
    server = stranger(lambda door: drip(door, b"\x16\x03\x03\x40\x00" + b"\x02" * 2000))
    assert refusal(server.url.replace("http:", "https:"), SHORT) == "no whole answer within 0.5 s"


# -- reach


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "ff02::1", "::ffff:127.0.0.1",
        "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::a00:1", "fec0::1", "3fff::1", "5f00::1", "192.0.0.8", "192.88.99.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_an_address_of_a_network_of_ones_own_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "193.51.208.13", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_an_address_of_the_internet_is(address: str) -> None:
    assert is_public(address)


def test_this_machine_is_not_asked_unless_it_is_allowed(stranger: Callable[..., Stranger]) -> None:
    server = stranger(reply())
    why = refusal(server.url, Limits(timeout_s=5.0))
    assert "127.0.0.1, no public address (--allow-private" in why
    assert "no public address" in refusal(server.url.replace("127.0.0.1", "localhost"), Limits(timeout_s=5.0))
    assert server.asked == []


def test_a_redirect_into_ones_own_network_is_not_followed(
    stranger: Callable[..., Stranger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a public host, looked up to this test's server: the one thing of the internet that a test cannot have."""
    inside = stranger(reply())
    outside = stranger(reply(b"", f"Location: {inside.url}", status="302 Found"))
    port = int(outside.url.rpartition(":")[2].partition("/")[0])
    looked_up, connect = socket.getaddrinfo, socket.create_connection

    def look_up(host: str, *more: object, **named: object) -> object:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("193.51.208.13", port))]
        return found if host == "ville.example" else looked_up(host, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(
        socket, "create_connection", lambda to, **named: connect(("127.0.0.1", port) if to[0] == "193.51.208.13" else to, **named)
    )
    why = refusal(f"http://ville.example:{port}/", Limits(timeout_s=20.0))
    assert "127.0.0.1, no public address" in why
    assert len(outside.asked) == 1
    assert inside.asked == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://ville.example/x", "begins with https://"),
        ("file:///etc/passwd", "begins with https://"),
        ("https://", "begins with https://"),
        ("https://a:b@ville.example/", "a user or a password"),
        ("https://ville.example:99999/", "not an address"),
        ("https://ville.example/a b", "characters"),
        ("https://ville.example/\r\nX: y", "characters"),
        ("https://villé.example/", "characters"),
        ("https://[::1", "not an address"),
        ("https://no-such-host.invalid/", "no host of that name"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_asked(url: str, says: str) -> None:
    assert says in refusal(url)


@given(st.ip_addresses())
def test_no_address_confuses_the_judge(address: object) -> None:
    assert is_public(str(address)) in (True, False)


# -- sources


def test_sources_are_files_folders_addresses_and_lists_of_them(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(GOOD)
    (tmp_path / "a.json").write_bytes(GOOD)
    (tmp_path / "frugal-ai-1.schema.json").write_bytes(schema_file())
    listed = tmp_path / "list.txt"
    listed.write_text(f"# towns\nhttps://ville.example/x  # a remark\n\n{tmp_path / 'a.json'}\n", encoding="utf-8")
    expected = [str(tmp_path / "a.json"), str(tmp_path / "b.json"), "https://ville.example/x"]
    assert sources_of([str(tmp_path)], listed) == expected


def test_what_names_nothing_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9")
    for given_sources, listed in (([], None), ([str(empty)], None), ([], tmp_path / "none.txt"), ([], latin)):
        with pytest.raises(ConfigurationError):
            sources_of(given_sources, listed)
    (found,) = gathered(sources_of([str(tmp_path / "gone")], None), HERE)
    assert found.why == "there is no such file"


def test_a_file_of_a_hundred_megabytes_is_not_read_and_a_pipe_not_waited_for(tmp_path: Path) -> None:
    large, pipe = tmp_path / "large.json", tmp_path / "pipe.json"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    os.mkfifo(pipe)
    assert [found.why for found in gathered([str(large), str(pipe)], HERE)] == ["larger than 1 MB", "there is no such file"]


# -- what is taken


def found(source: str, of: Declaration | bytes, origin: str = "") -> Found:
    return Found(source, origin or source, of if isinstance(of, bytes) else as_json(of))


def test_a_service_is_taken_once_and_the_newest_of_one_origin_stands() -> None:
    new = later(town(1), 3)
    same = harvest([found("old", town(1), "host"), found("new", new, "host")], now=NOW.replace(day=10))
    assert [each.source for each in same.taken] == ["new"]
    assert "declared by new as well, more recently" in same.refused[0].why
    other = harvest([found("first", town(1), "a"), found("second", new, "b")], now=NOW.replace(day=10))
    assert [each.source for each in other.taken] == ["first"]
    assert other.refused[0].why.endswith("declared by first as well, and that came first")


def test_services_of_two_organisations_may_have_one_name() -> None:
    both = harvest([found("a", declared()), found("b", declared(siret="13002526500013"))], now=NOW)
    assert len(both.entries) == 2
    unnamed = [found(name, declared(siret=None, organisation=None)) for name in ("a", "b")]
    assert len(harvest(unnamed, now=NOW).entries) == 2


def test_what_is_stale_or_broken_is_refused_and_the_rest_is_taken() -> None:
    result = harvest([found("a", town(1)), found("b", b"{"), Found("c", "", None, "HTTP 404")], now=NOW)
    assert [each.source for each in result.taken] == ["a"]
    assert [each.source for each in result.refused] == ["b", "c"]
    stale = harvest([found("a", town(1))], now=town(1).valid_until)
    assert stale.taken == ()
    assert "stale" in stale.refused[0].why


@pytest.mark.parametrize(
    "unlike",
    [declared(kept(method="cpu-time/1+rapl/1")), declared(kept(unit="letter"), unit="letter")],
    ids=["another method", "another unit"],
)
def test_only_like_is_compared_with_like(unlike: Declaration) -> None:
    result = harvest([found("a", town(1)), found("b", town(2)), found("c", unlike)], now=NOW)
    assert [len(members) for members in groups(result.entries).values()] == [2, 1]


def test_another_boundary_or_kind_of_factor_is_not_compared() -> None:
    def with_(old: bytes, new: bytes) -> Declaration:
        (taken,) = harvest([found("a", GOOD.replace(old, new))], now=NOW).taken
        return taken.declaration

    base = likeness(town(1).services[0])
    assert likeness(with_(b'"board"', b'"node"').services[0]) != base
    assert likeness(with_(b'"lifecycle"', b'"direct"').services[0]) != base
    assert likeness(town(2).services[0]) == base


def test_the_table_holds_every_service_and_no_formula() -> None:
    evil = declared(organisation="=cmd()", siret=None, purpose="+1", necessity="-1")
    result = harvest([found("a", evil), found("b", town(2)), found("c", hostile())], now=NOW)
    rows = list(csv.DictReader(io.StringIO(as_csv(result))))
    assert len(rows) == len(result.entries) == 3
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "@"))]
    assert "'=cmd()" in [row["organisation"] for row in rows]
    for row in rows:
        assert float(row["it_energy_j_per_unit_low"]) < float(row["it_energy_j_per_unit_high"])
    told = json.loads(as_table(result, NOW))
    assert told["schema"] == "frugal-ai-observatory/1"
    assert {each["comparable_with"] for each in told["services"]} == {row["comparable_with"] for row in rows}


# -- the command


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["harvest", *map(str, words)])
    return done.exit_code, done.output


def fresh(number: int) -> bytes:
    """A declaration of last month, as this command will read it today."""
    now = datetime.now(UTC)
    begin, end = last_whole("month", now, UTC)
    of = town(number)
    stretch = msgspec.structs.replace(of.period, begin=begin, end=end)
    return as_json(msgspec.structs.replace(of, declared_at=now, valid_until=valid_until(begin, end), period=stretch))


def test_an_observatory_is_built_and_what_is_refused_is_told_in_a_line_each(
    stranger: Callable[..., Stranger], tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_bytes(fresh(1))
    server, page = stranger(reply(fresh(2))), stranger(reply(b"<html>", kind="text/html"))
    out = tmp_path / "out"
    words = (tmp_path, server.url, page.url, "--out", out, "--allow-private", "--lang", "en")
    code, said = run(*words)
    assert code == 1
    lines = said.splitlines()
    assert lines[0] == f"frugal-meter: refused: {page.url}: its content type is 'text/html', not application/json"
    assert lines[1] == "frugal-meter: declarations taken: 2; refused: 1; services: 2"
    assert {each.name for each in out.iterdir()} == {
        "observatoire.html",
        "observatory.html",
        "observatory.json",
        "observatory.csv",
    }
    assert "Ville n° 2" in (out / "observatoire.html").read_text(encoding="utf-8")


def test_exit_codes_tell_whether_all_were_taken(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_bytes(fresh(1))
    bad.write_bytes(as_json(town(1)).replace(b"frugal-ai/1", b"frugal-ai/9"))
    assert run(good)[0] == 0
    code, said = run(good, bad, "--lang", "fr")
    assert (code, "refusé : " in said, "wrong version" in said) == (1, True, True)
    assert run(bad)[0] == 2
    assert run()[0] == 2
    assert "nothing to harvest" in run()[1]


def test_a_terminal_is_not_spoken_to_by_a_stranger(tmp_path: Path) -> None:
    evil = tmp_path / "evil\x1b[2J\u202e.json"
    evil.write_bytes(b'{"schema": "\\u001b[31m\\u202e"}')
    _, said = run(evil)
    assert "\x1b" not in said
    assert "\u202e" not in said
