"""The dashboard of those who run a service: power, energy per request beside latency, sources, and the meter itself."""

from __future__ import annotations

from .model import JOB, ROUTE, UP, Dashboard, Panel, Query, Row

_HOST = Row(
    "The host and the meter",
    (
        Panel(
            "Power of the host",
            "stat",
            "watt",
            "What the sources told, whoever used it. On a host that several services share, each of them shows all of it.",
            (Query(f"sum(rate(frugal_host_energy_joules_total{{{JOB}}}[$__rate_interval]))"),),
            width=4,
            height=4,
        ),
        Panel(
            "Measured share",
            "stat",
            "percentunit",
            "Share of the host's energy that a sensor measured, since the start; the rest is modelled.",
            (Query(f"min(frugal_measured_ratio{{{JOB}}})"),),
            width=4,
            height=4,
        ),
        Panel(
            "Sources up",
            "stat",
            "none",
            "1: read at the last tick. 0: a sensor stopped answering, and its joules are missing.",
            (Query(f"min by (component, source) (frugal_energy_source_up{{{JOB}}})", "{{component}} {{source}}"),),
            width=4,
            height=4,
            steps=UP,
        ),
        Panel(
            "CPU charged to requests",
            "stat",
            "percentunit",
            "Coverage: CPU of requests over CPU of the service's processes. The rest is overhead.",
            (
                Query(
                    f"sum(rate(frugal_cpu_seconds_total{{{JOB}}}[$__rate_interval]))"
                    f" / sum(rate(frugal_process_cpu_seconds_total{{{JOB}}}[$__rate_interval]))"
                ),
            ),
            width=4,
            height=4,
        ),
        Panel(
            "The meter's own share",
            "stat",
            "percentunit",
            "CPU of the meter's thread over CPU of the service's processes: the price of knowing.",
            (
                Query(
                    f"sum(rate(frugal_meter_cpu_seconds_total{{{JOB}}}[$__rate_interval]))"
                    f" / sum(rate(frugal_process_cpu_seconds_total{{{JOB}}}[$__rate_interval]))"
                ),
            ),
            width=4,
            height=4,
        ),
        Panel(
            "Workers",
            "stat",
            "none",
            "Workers whose figures are summed.",
            (Query(f"sum(frugal_workers{{{JOB}}})"),),
            width=2,
            height=4,
        ),
        Panel(
            "Books",
            "stat",
            "joule",
            "Host energy minus everything booked, computed in the process: 0, or figures are not to be used.",
            (Query(f"sum(frugal_books_difference_joules{{{JOB}}})"),),
            width=2,
            height=4,
        ),
    ),
)
_POWER = Row(
    "Power",
    (
        Panel(
            "Power by route and model",
            "timeseries",
            "watt",
            "Dynamic power of requests: what they used beyond idle.",
            (
                Query(
                    f"sum by (route, model) (rate(frugal_energy_joules_total{{{ROUTE}}}[$__rate_interval]))",
                    "{{route}} {{model}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Power by component and tier",
            "timeseries",
            "watt",
            "Dynamic power of requests by what drew it, and how that is known.",
            (
                Query(
                    f"sum by (component, tier) (rate(frugal_energy_joules_total{{{ROUTE}}}[$__rate_interval]))",
                    "{{component}} ({{tier}})",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Where the host's energy goes",
            "timeseries",
            "watt",
            "Requests, and what is charged to no request, by reason. The sum is the power of the host.",
            (
                Query(f"sum(rate(frugal_energy_joules_total{{{JOB}}}[$__rate_interval]))", "requests"),
                Query(
                    f"sum by (reason) (rate(frugal_unattributed_energy_joules_total{{{JOB}}}[$__rate_interval]))", "{{reason}}"
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Overhead by part",
            "timeseries",
            "watt",
            "The service's own use outside of requests: start-up, framework, native threads that spin, the meter.",
            (Query(f"sum by (part) (rate(frugal_overhead_energy_joules_total{{{JOB}}}[$__rate_interval]))", "{{part}}"),),
            stacked=True,
        ),
        Panel(
            "CPU in use",
            "timeseries",
            "none",
            "CPU charged to requests, in CPUs.",
            (Query(f"sum by (route) (rate(frugal_cpu_seconds_total{{{ROUTE}}}[$__rate_interval]))", "{{route}}"),),
        ),
        Panel(
            "GPU in use",
            "timeseries",
            "none",
            "GPU time charged to requests, in GPUs; nothing where no GPU tells it.",
            (Query(f"sum by (route) (rate(frugal_gpu_seconds_total{{{ROUTE}}}[$__rate_interval]))", "{{route}}"),),
        ),
    ),
)
_REQUESTS = Row(
    "Requests: energy beside latency",
    (
        Panel(
            "Energy per request",
            "timeseries",
            "joule",
            "Mean energy of answered requests with their part of idle, nested blocks included. Refusals are not in it.",
            (
                Query(
                    f"sum by (route, model) (rate(frugal_request_energy_joules_sum{{{ROUTE}}}[$__rate_interval]))"
                    f" / (sum by (route, model) (rate(frugal_request_energy_joules_count{{{ROUTE}}}[$__rate_interval])) > 0)",
                    "{{route}} {{model}}",
                ),
            ),
        ),
        Panel(
            "Time per request",
            "timeseries",
            "s",
            "Mean wall time of the same requests.",
            (
                Query(
                    f"sum by (route, model) (rate(frugal_request_duration_seconds_sum{{{ROUTE}}}[$__rate_interval]))"
                    f" / (sum by (route, model) (rate(frugal_request_duration_seconds_count{{{ROUTE}}}[$__rate_interval])) > 0)",
                    "{{route}} {{model}}",
                ),
            ),
        ),
        Panel(
            "Emissions per request",
            "timeseries",
            "massg",
            "Grams of CO2e, operational and embodied, over requests that ended with an answer.",
            (
                Query(
                    f"sum by (route) (rate(frugal_co2e_grams_total{{{ROUTE}}}[$__rate_interval]))"
                    f' / (sum by (route) (rate(frugal_requests_total{{{ROUTE}, outcome="ok"}}[$__rate_interval])) > 0)',
                    "{{route}}",
                ),
            ),
        ),
        Panel(
            "Energy, 95th percentile",
            "timeseries",
            "joule",
            "Nineteen of twenty requests take less; within the width of a bucket.",
            (
                Query(
                    "histogram_quantile(0.95, sum by (le, route) "
                    f"(rate(frugal_request_energy_joules_bucket{{{ROUTE}}}[$__rate_interval])))",
                    "{{route}}",
                ),
            ),
        ),
        Panel(
            "Time, 95th percentile",
            "timeseries",
            "s",
            "Nineteen of twenty requests are faster; within the width of a bucket.",
            (
                Query(
                    "histogram_quantile(0.95, sum by (le, route) "
                    f"(rate(frugal_request_duration_seconds_bucket{{{ROUTE}}}[$__rate_interval])))",
                    "{{route}}",
                ),
            ),
        ),
        Panel(
            "Energy of requests",
            "heatmap",
            "joule",
            "How many requests took how many joules.",
            (Query(f"sum by (le) (increase(frugal_request_energy_joules_bucket{{{ROUTE}}}[$__rate_interval]))", "{{le}}"),),
        ),
        Panel(
            "Requests by outcome",
            "timeseries",
            "reqps",
            "`lost`: ended in a worker that was killed, without route and status.",
            (
                Query(
                    f"sum by (route, outcome) (rate(frugal_requests_total{{{ROUTE}}}[$__rate_interval]))", "{{route}} {{outcome}}"
                ),
            ),
        ),
        Panel(
            "Degraded, throttled and refused",
            "timeseries",
            "reqps",
            "Decisions of budgets other than to admit.",
            (
                Query(
                    "sum by (budget, action) (rate(frugal_budget_decisions_total{"
                    f'{JOB}, action=~"degrade|throttle|refuse|cut"}}[$__rate_interval]))',
                    "{{budget}} {{action}}",
                ),
            ),
        ),
        Panel(
            "Tokens",
            "timeseries",
            "cps",
            "Tokens a second, read and written.",
            (
                Query(
                    f"sum by (model, direction) (rate(frugal_tokens_total{{{ROUTE}}}[$__rate_interval]))",
                    "{{model}} {{direction}}",
                ),
            ),
        ),
        Panel(
            "Faults of the meter",
            "timeseries",
            "none",
            "Faults that were passed over, by stage; any is worth a look.",
            (Query(f"sum by (stage) (increase(frugal_meter_errors_total{{{JOB}}}[$__rate_interval]))", "{{stage}}"),),
            width=12,
        ),
        Panel(
            "Beyond the cap, dropped",
            "timeseries",
            "none",
            "Spans booked as `other` for want of label sets, and readings that a slow exporter lost.",
            (
                Query(
                    f"sum by (set) (increase(frugal_label_overflow_total{{{JOB}}}[$__rate_interval]))", "beyond the cap: {{set}}"
                ),
                Query(f"sum(increase(frugal_meter_dropped_readings_total{{{JOB}}}[$__rate_interval]))", "readings dropped"),
            ),
            width=12,
        ),
    ),
)
_ELSEWHERE = Row(
    "Spent elsewhere: models that other machines run",
    (
        Panel(
            "Power spent elsewhere",
            "timeseries",
            "watt",
            "Joules of calls to models elsewhere, a second, by how they are known: told by a metered callee (measured, modelled) "
            "or a supplier's or EcoLogits' figures (sourced). Never in the host's power.",
            (
                Query(
                    f"sum by (tier) (rate(frugal_downstream_energy_joules_total{{{ROUTE}}}[$__rate_interval]))",
                    "{{tier}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Calls elsewhere",
            "timeseries",
            "reqps",
            "Calls to each model, their cost known or not.",
            (Query(f"sum by (model) (rate(frugal_downstream_calls_total{{{ROUTE}}}[$__rate_interval]))", "{{model}}"),),
        ),
        Panel(
            "Calls of unknown cost",
            "timeseries",
            "percentunit",
            "Share of the calls to each model that have no figure: joules elsewhere are too low by these.",
            (
                Query(
                    f"sum by (model) (rate(frugal_downstream_unknown_calls_total{{{ROUTE}}}[$__rate_interval]))"
                    f" / (sum by (model) (rate(frugal_downstream_calls_total{{{ROUTE}}}[$__rate_interval])) > 0)",
                    "{{model}}",
                ),
            ),
        ),
    ),
)
OPS = Dashboard(
    "frugal-meter-ops",
    "Frugal: operations",
    "Power, joules and grams per request beside latency; whether sources answer, and what the meter itself costs.",
    ("job", "instance", "route", "model"),
    (_HOST, _POWER, _REQUESTS, _ELSEWHERE),
    "now-3h",
)
