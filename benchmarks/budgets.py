"""Do budgets hold, and what do they cost? 200 requests of 10 J at once on a budget of 500 J, beside `limits`; one decision in µs.

    python benchmarks/budgets.py [--seeds 100] [--live-seeds 5] [--rounds 15] [--out .cache/bench-budgets]

First on a virtual clock, the same at every run; then in real time, four processes on a real Redis and on SQLite; then µs for
each decision, interleaved, and as multiples of a PING. Writes budgets.md and budgets.json.
Needs limits and redis beside the package, and redis-server: without it its rows are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import budgets_live
import budgets_virtual
from budgets_virtual import BY_SIZE, POLICIES, Run, costs
from limits import RateLimitItemPerDay
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from frugal_meter import Budget, Meter
from frugal_meter.budgets.stores import Account, Ask, Report
from frugal_meter.budgets.stores.redis import RedisStore
from frugal_meter.testing import SyntheticSource

SIGMAS = (0.5, 1.0)
ARRIVALS = {"200 at once": 200, "10 at once": 10}
#: decisions in one round: of those that stay in the process, and of those that ask a server
FAST, SLOW, BATCH = 2_000, 300, 50
ON_A_LOOP, PING_ON_A_LOOP = "ours, Redis, asking for each, awaited on an event loop", "PING, awaited on an event loop"


def summed_up(runs: list[Run]) -> dict[str, float]:
    """Of all runs: used beyond the limit in % (median, 95th percentile, most), completed and wasted (medians)."""
    over = sorted(100 * run.over for run in runs)
    return {
        "over_median": statistics.median(over), "over_p95": over[-1 - len(over) // 20], "over_most": over[-1],
        "completed": statistics.median(run.completed for run in runs),
        "wasted_j": statistics.median(run.wasted_j for run in runs), "runs": len(runs),
    }  # fmt: skip


def virtual(seeds: int) -> dict[str, dict]:
    return {
        f"{arrivals}, σ {sigma}": {
            name: summed_up([budgets_virtual.live(make(seed, sigma), costs(seed, sigma), most) for seed in range(seeds)])
            for name, make in POLICIES.items()
        }
        for arrivals, most in ARRIVALS.items()
        for sigma in SIGMAS
    }


def by_size(seeds: int) -> dict[str, dict]:
    """The same requests and seeds, where the cost follows the size of the input: what it is worth to know that size."""
    found: dict[str, dict] = {}
    for arrivals, most in ARRIVALS.items():
        for sigma in SIGMAS:
            rows = found[f"cost follows size, {arrivals}, σ {sigma}"] = {}
            for name, make in BY_SIZE.items():
                runs = []
                for seed in range(seeds):
                    wanted = costs(seed, sigma)
                    runs.append(budgets_virtual.live(make(seed, sigma), wanted, most, budgets_virtual.inputs(seed, wanted)))
                rows[name] = summed_up(runs)
    return found


def live(seeds: int, socket: str | None) -> dict[str, dict]:
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        stores = {"SQLite": f"sqlite://{folder}/SEED.sqlite"} | ({"Redis": f"unix://{socket}"} if socket else {})
        for sigma in SIGMAS:
            rows = found[f"four processes, σ {sigma}"] = {}
            if socket:
                runs = budgets_live.burst(f"redis+unix://{socket}", "limits", range(seeds), sigma)
                rows["`limits`, debit afterwards, Redis"] = summed_up(runs)
            for store, address in stores.items():
                for kind, name in {"known": "true cost known", "told": "mean told, hard"}.items():
                    rows[f"ours, {name}, {store}"] = summed_up(budgets_live.burst(address, kind, range(seeds), sigma))
    return found


def a_meter(*budgets: Budget) -> Meter:
    return Meter("bench", zone="FR", sources=SyntheticSource(0, 1), budgets=budgets, tick=0.5, workers="single")


def batch_of(many: int) -> int:
    """Calls timed together: of those that ask a server one, so that a call that lost its processor is one figure of many."""
    return BATCH if many == FAST else 1


def deciding(meter: Meter, many: int) -> list[float]:
    """µs of the caller's time for one admission and its settlement, one figure per batch; each uses up what it reserved."""
    admission, found, batch = meter.admission, [], batch_of(many)
    for _ in range(many // batch):
        spans = [meter.open_span("block") for _ in range(batch)]
        begun = time.perf_counter_ns()
        for span in spans:
            if not admission.admit_plainly(span, time.time_ns()):
                meter.decide(span)
        took = time.perf_counter_ns() - begun
        assert all(span.leases for span in spans)
        for span in spans:
            span.add_tokens(output=1)
        begun = time.perf_counter_ns()
        for span in spans:
            admission.settle(span)
        found.append((took + time.perf_counter_ns() - begun) / batch / 1000)
        for span in spans:
            meter.close_span(span)
    return found


def timed(call, many: int) -> list[float]:
    """µs for one call, one figure per batch."""
    found, batch = [], batch_of(many)
    for _ in range(many // batch):
        begun = time.perf_counter_ns()
        for _ in range(batch):
            call()
        found.append((time.perf_counter_ns() - begun) / batch / 1000)
    return found


async def deciding_on_a_loop(meter: Meter, many: int) -> list[float]:
    """`deciding`, awaited on an event loop as an HTTP request's is."""
    admission, found = meter.admission, []
    for _ in range(many):
        span = meter.open_span("block")
        begun = time.perf_counter_ns()
        admission.admit(span, time.time_ns())
        if span.waiting is not None:
            await admission.wait(span, time.time_ns)
        took = time.perf_counter_ns() - begun
        assert span.leases
        span.add_tokens(output=1)
        begun = time.perf_counter_ns()
        admission.settle(span)
        found.append((took + time.perf_counter_ns() - begun) / 1000)
        meter.close_span(span)
    return found


async def pinging_on_a_loop(url: str, many: int) -> list[float]:
    """µs for a PING by redis-py's asyncio client."""
    import redis.asyncio

    found = []
    async with redis.asyncio.Redis.from_url(url, protocol=2) as client:
        await client.ping()
        for _ in range(many):
            begun = time.perf_counter_ns()
            await client.ping()
            found.append((time.perf_counter_ns() - begun) / 1000)
    return found


class Prices:
    """What is measured, each ready to run for one round."""

    def __init__(self, socket: str | None) -> None:
        wide = Budget("all", "1000000000 tokens", per="month", estimate="1 tokens")
        self.meters = {"ours, memory": a_meter(wide), "ours, memory, three budgets": a_meter(wide, *self._more())}
        item, memory = RateLimitItemPerDay(10**12), FixedWindowRateLimiter(MemoryStorage())
        self.calls = {"`limits`, memory (test and hit)": (lambda: (memory.test(item, "a"), memory.hit(item, "a")), FAST)}
        self.url = f"unix://{socket}" if socket else None
        if socket:
            self._with_redis(
                f"unix://{socket}", wide, item, FixedWindowRateLimiter(storage_from_string(f"redis+unix://{socket}"))
            )
        for meter in self.meters.values():
            meter.start()

    @staticmethod
    def _more() -> list[Budget]:
        return [Budget(name, "1000000000 tokens", per="day", estimate="1 tokens") for name in ("second", "third")]

    def _with_redis(self, url: str, wide: Budget, item, limiter) -> None:
        for name, share in {"ours, Redis, with slices": 0.05, "ours, Redis, asking for each": 0.0}.items():
            self.meters[name] = meter = a_meter(wide)
            meter.admission.share(
                RedisStore(url, name), service=name, address=url, on_error="closed", fault=meter.fault, folder=None, share=share
            )
        import redis

        client = redis.Redis.from_url(url, protocol=2)
        self.calls["PING"] = (client.ping, SLOW)
        self.calls["ours, Redis, one exchange: report and ask"] = (self._exchange(RedisStore(url, "exchange")), SLOW)
        self.calls["`limits`, Redis (test and hit)"] = (lambda: (limiter.test(item, "a"), limiter.hit(item, "a")), SLOW)

    @staticmethod
    def _exchange(store: RedisStore):
        account = Account("all", "tokens", (), int(time.time()), int(time.time()) + 86_400)
        seq = itertools.count(1)

        def once() -> None:
            number = next(seq)
            answer = store.exchange("bench", number, [Report(account, number, 0, 0)], [[Ask(account, 10**12, 1, 1)]], time.time())
            assert answer.grants == [(1,)]

        return once

    def one_round(self) -> dict[str, list[float]]:
        found = {name: timed(call, many) for name, (call, many) in self.calls.items()}
        for name, meter in self.meters.items():
            found[name] = deciding(meter, SLOW if name.endswith("for each") else FAST)
        if self.url is not None:
            found[ON_A_LOOP] = asyncio.run(deciding_on_a_loop(self.meters["ours, Redis, asking for each"], SLOW))
            found[PING_ON_A_LOOP] = asyncio.run(pinging_on_a_loop(self.url, SLOW))
        return found

    def stop(self) -> None:
        for meter in self.meters.values():
            meter.stop()
            assert not meter.errors, meter.errors


def prices(rounds: int, socket: str | None) -> dict[str, dict[str, float]]:
    """µs per decision over all batches of ``rounds``: the median, and the mean, which pays for what happens now and then."""
    measured = Prices(socket)
    try:
        measured.one_round()
        found = [measured.one_round() for _ in range(rounds)]
    finally:
        measured.stop()
    all_of = {name: [us for each in found for us in each[name]] for name in found[0]}
    return {name: {"median_us": statistics.median(us), "mean_us": statistics.fmean(us)} for name, us in all_of.items()}


def report(found: dict) -> str:
    lines = ["# Do budgets hold, and what do they cost?", "", f"{found['machine']}. 500 J, requests of 10 J in the mean."]
    lines += ["Used beyond the limit in % (negative: left over), median / 95th percentile / most over the runs.", ""]
    for title, rows in {**found["virtual"], **found["by_size"], **found["live"]}.items():
        lines += [f"## {title}", "", "| policy | beyond the limit, % | completed | wasted, J | runs |", "|---|---|---|---|---|"]
        for name, row in rows.items():
            over = " / ".join(f"{row[each]:+.1f}" for each in ("over_median", "over_p95", "over_most"))
            lines.append(f"| {name} | {over} | {row['completed']:.0f} | {row['wasted_j']:.0f} | {row['runs']} |")
        lines.append("")
    ping = found["prices"].get("PING", {}).get("median_us")
    lines += [f"## One decision (admit and settle; load {found['load']:.1f})", ""]
    lines += ["| what | µs, median | mean | × PING |", "|---|---|---|---|"]
    on_a_loop = found["prices"].get(PING_ON_A_LOOP, {}).get("median_us")
    for name, us in sorted(found["prices"].items(), key=lambda each: each[1]["median_us"]):
        base = on_a_loop if name == ON_A_LOOP else ping  # each beside the PING of its own kind of client
        times = f"{us['median_us'] / base:.2f}" if base else "–"
        lines.append(f"| {name} | {us['median_us']:.1f} | {us['mean_us']:.1f} | {times} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--live-seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(".cache/bench-budgets"))
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    with budgets_live.redis_server() as socket:
        found = {
            "machine": machine, "virtual": virtual(options.seeds), "by_size": by_size(options.seeds),
            "live": live(options.live_seeds, socket) if options.live_seeds else {},
            "prices": prices(options.rounds, socket), "load": os.getloadavg()[0],
        }  # fmt: skip
    text = report(found)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "budgets.md").write_text(text, encoding="utf-8")
    (options.out / "budgets.json").write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"{text}\nwritten: {options.out}/budgets.md, .json")


if __name__ == "__main__":
    main()
