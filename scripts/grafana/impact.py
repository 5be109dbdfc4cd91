"""The dashboard of those who report: energy and emissions of a period, per unit delivered, and what the figures stand on."""

from __future__ import annotations

from .model import JOB, ROUTE, Dashboard, Panel, Query, Row

_J_PER_KWH = "3.6e6"


def _grown(metric: str, by: str = "", more: str = "", over: str = "$__range") -> str:
    """What a counter grew by over the period shown, summed by labels."""
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(increase({metric}{{{ROUTE}{more}}}[{over}]))"


def _full(by: str = "", over: str = "$__range") -> str:
    """Dynamic energy and the slice of idle held while requests ran."""
    return f"({_grown('frugal_energy_joules_total', by, over=over)} + {_grown('frugal_idle_energy_joules_total', by, over=over)})"


_CITED = "For watching: a figure to be cited is summed from readings (docs/metrics.md, cited totals)."
_PERIOD = Row(
    "The period shown",
    (
        Panel(
            "Energy of requests, dynamic",
            "stat",
            "kwatth",
            f"What requests used beyond idle. IT energy, before PUE. {_CITED}",
            (Query(f"{_grown('frugal_energy_joules_total', 'job')} / {_J_PER_KWH}", "{{job}}"),),
            width=6,
            height=5,
        ),
        Panel(
            "Energy of requests, full",
            "stat",
            "kwatth",
            f"Dynamic, and the slice of idle that was held while they ran. {_CITED}",
            (Query(f"{_full('job')} / {_J_PER_KWH}", "{{job}}"),),
            width=6,
            height=5,
        ),
        Panel(
            "Energy of the host",
            "stat",
            "kwatth",
            "All of it, used by this service or not. Services that share a host each show all of it: do not add them up.",
            (Query(f"sum by (job) (increase(frugal_host_energy_joules_total{{{JOB}}}[$__range])) / {_J_PER_KWH}", "{{job}}"),),
            width=6,
            height=5,
        ),
        Panel(
            "Emissions of requests",
            "stat",
            "masskg",
            f"CO2e, operational (full energy, PUE, factor in force) and embodied. {_CITED}",
            (Query(f"{_grown('frugal_co2e_grams_total', 'job')} / 1000", "{{job}}"),),
            width=6,
            height=5,
        ),
        Panel(
            "Energy by period",
            "timeseries",
            "kwatth",
            "Full energy of requests, an hour or more a bar.",
            (Query(f"{_full('job', '$__rate_interval')} / {_J_PER_KWH}", "{{job}}"),),
            stacked=True,
            interval="1h",
        ),
        Panel(
            "Emissions by period",
            "timeseries",
            "massg",
            "CO2e of requests, an hour or more a bar.",
            (Query(_grown("frugal_co2e_grams_total", "job, scope", over="$__rate_interval"), "{{job}} {{scope}}"),),
            stacked=True,
            interval="1h",
        ),
        Panel(
            "Operational and embodied",
            "piechart",
            "massg",
            "CO2e of electricity used, and of making the machine, as the slice held while requests ran.",
            (Query(_grown("frugal_co2e_grams_total", "scope"), "{{scope}}"),),
        ),
    ),
)
_UNITS = Row(
    "Per functional unit",
    (
        Panel(
            "Units delivered",
            "stat",
            "none",
            "What the service says it delivers: answers, pages, searches.",
            (Query(_grown("frugal_functional_units_total", "unit"), "{{unit}}"),),
            width=6,
            height=5,
        ),
        Panel(
            "Energy per unit",
            "stat",
            "joule",
            "Full energy of the routes and models chosen, over units delivered by them.",
            (Query(f"scalar({_full()}) / ({_grown('frugal_functional_units_total', 'unit')} > 0)", "{{unit}}"),),
            width=6,
            height=5,
        ),
        Panel(
            "Emissions per unit",
            "stat",
            "massg",
            "CO2e of the routes and models chosen, over units delivered by them.",
            (
                Query(
                    f"scalar({_grown('frugal_co2e_grams_total')}) / ({_grown('frugal_functional_units_total', 'unit')} > 0)",
                    "{{unit}}",
                ),
            ),
            width=6,
            height=5,
        ),
        Panel(
            "Dynamic energy per output token",
            "stat",
            "joule",
            "By model, of everything charged to it.",
            (
                Query(
                    f"{_grown('frugal_energy_joules_total', 'model')}"
                    f""" / ({_grown("frugal_tokens_total", "model", ', direction="output"')} > 0)""",
                    "{{model}}",
                ),
            ),
            width=6,
            height=5,
        ),
    ),
)
_MODELS = Row(
    "Models at equal task",
    (
        Panel(
            "Energy of one request, by model",
            "barchart",
            "joule",
            "Choose one route: models that answer the same requests. Mean of the period, part of idle included.",
            (
                Query(
                    f"{_grown('frugal_request_energy_joules_sum', 'route, model')}"
                    f" / ({_grown('frugal_request_energy_joules_count', 'route, model')} > 0)",
                    "{{route}} {{model}}",
                ),
            ),
        ),
        Panel(
            "Quality, by model",
            "barchart",
            "percentunit",
            "Mean of the scores that the service gave, 0 to 1: a cheaper answer is cheaper only if it is an answer.",
            (
                Query(
                    f"{_grown('frugal_quality_sum_total', 'route, model')}"
                    f" / ({_grown('frugal_quality_count_total', 'route, model')} > 0)",
                    "{{route}} {{model}}",
                ),
            ),
        ),
        Panel(
            "Energy per point of quality, by model",
            "barchart",
            "joule",
            "Mean energy of a request over mean quality: what a full score costs; with scores of 0 or 1, a right answer.",
            (
                Query(
                    f"({_grown('frugal_request_energy_joules_sum', 'route, model')}"
                    f" / ({_grown('frugal_request_energy_joules_count', 'route, model')} > 0))"
                    f" / ({_grown('frugal_quality_sum_total', 'route, model')}"
                    f" / ({_grown('frugal_quality_count_total', 'route, model')} > 0) > 0)",
                    "{{route}} {{model}}",
                ),
            ),
        ),
        Panel(
            "Energy by model",
            "piechart",
            "joule",
            "Dynamic energy of the period.",
            (Query(_grown("frugal_energy_joules_total", "model"), "{{model}}"),),
        ),
    ),
)
_BASIS = Row(
    "What the figures stand on",
    (
        Panel(
            "Measured share of requests' energy",
            "stat",
            "percentunit",
            "Dynamic energy that a sensor measured; the rest is modelled.",
            (
                Query(
                    f"""{_grown("frugal_energy_joules_total", more=', tier="measured"')}"""
                    f" / ({_grown('frugal_energy_joules_total')} > 0)"
                ),
            ),
            width=6,
            height=5,
        ),
        Panel(
            "Factor in force, g CO2e per kWh",
            "stat",
            "none",
            "Which table, year and scope: a figure without them cannot be compared.",
            (
                Query(
                    f"max by (zone, dataset, year, scope) (frugal_grid_carbon_intensity_grams_per_joule{{{JOB}}}) * {_J_PER_KWH}",
                    "{{zone}} {{dataset}} {{year}} {{scope}}",
                ),
            ),
            width=6,
            height=5,
        ),
        Panel(
            "PUE",
            "stat",
            "none",
            "Facility energy over IT energy, and whether it is declared or a default.",
            (Query(f"max by (source) (frugal_pue_ratio{{{JOB}}})", "{{source}}"),),
            width=6,
            height=5,
        ),
        Panel(
            "Method",
            "table",
            "none",
            "Method, family of factors, and what is counted.",
            (Query(f"max by (method, factor, boundary) (frugal_method_info{{{JOB}}})"),),
            width=6,
            height=5,
        ),
    ),
)
_ELSEWHERE = Row(
    "Spent elsewhere: models that other machines run",
    (
        Panel(
            "Energy elsewhere",
            "stat",
            "kwatth",
            "Calls to models elsewhere, IT energy, by how it is known. Beside the host's, never in it: tell the two apart.",
            (Query(f"{_grown('frugal_downstream_energy_joules_total', 'tier')} / {_J_PER_KWH}", "{{tier}}"),),
            width=6,
            height=5,
        ),
        Panel(
            "Emissions elsewhere",
            "stat",
            "masskg",
            "CO2e of these calls, by the factor of the place where each model runs. Not in the emissions of requests.",
            (Query(f"{_grown('frugal_downstream_co2e_grams_total', 'job')} / 1000", "{{job}}"),),
            width=6,
            height=5,
        ),
        Panel(
            "Energy of one call, by model",
            "barchart",
            "joule",
            "Mean over the calls whose cost is known.",
            (
                Query(
                    f"{_grown('frugal_downstream_energy_joules_total', 'model')}"
                    f" / ({_grown('frugal_downstream_calls_total', 'model')}"
                    f" - {_grown('frugal_downstream_unknown_calls_total', 'model')} > 0)",
                    "{{model}}",
                ),
            ),
            width=6,
            height=5,
        ),
        Panel(
            "Calls without a known cost",
            "stat",
            "none",
            "Energy and emissions elsewhere lack these calls: name a kin of their model (docs/remote.md).",
            (Query(_grown("frugal_downstream_unknown_calls_total", "model"), "{{model}}"),),
            width=6,
            height=5,
        ),
    ),
)
IMPACT = Dashboard(
    "frugal-meter-impact",
    "Frugal: impact",
    "Energy and emissions of a period and per unit delivered, models compared, and what the figures stand on.",
    ("job", "instance", "route", "model"),
    (_PERIOD, _UNITS, _MODELS, _BASIS, _ELSEWHERE),
    "now-7d",
)
