"""The dashboard of those who answer for budgets: use, pace, decisions, exceptions, and the store behind them."""

from __future__ import annotations

from .model import BUDGET, JOB, LADDER, UP, Dashboard, Panel, Query, Row

#: of several hosts that share a budget each tells the whole of it: the highest is the newest
_OF = "budget, resource, key"
_USED = f"max by ({_OF}) (sum by (job, instance, {_OF}) (frugal_budget_usage_ratio{{{BUDGET}}}))"
_SETTLED = f'frugal_budget_usage_ratio{{{BUDGET}, state="settled"}}'
_DECIDED = 'action=~"admit|warn|degrade|throttle|refuse"'

_USE = Row(
    "Use",
    (
        Panel(
            "Used in this window",
            "bargauge",
            "percentunit",
            "Settled and reserved, over the limit. Above 100 %: spent is recorded, never clamped.",
            (Query(_USED, "{{budget}} {{key}}"),),
            width=12,
            steps=LADDER,
        ),
        Panel(
            "Pace",
            "bargauge",
            "none",
            "Share used over share of the window gone by: 1 uses the budget up exactly when its window ends. "
            "Unsteady just after a window begins.",
            (
                Query(
                    f"max by ({_OF}) ({_SETTLED}) / on (budget, resource) group_left () max by (budget, resource) (1 - "
                    f"(frugal_budget_reset_timestamp_seconds{{{BUDGET}}} - time()) / frugal_budget_window_seconds{{{BUDGET}}})",
                    "{{budget}} {{key}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Time to exhaustion",
            "stat",
            "s",
            "At the pace of the period shown. Nothing where nothing was used.",
            (
                Query(
                    f"clamp_min(1 - {_USED}, 0) / (max by ({_OF}) (delta({_SETTLED}[$__range])) > 0) * $__range_s",
                    "{{budget}} {{key}}",
                ),
            ),
        ),
        Panel(
            "Window ends in",
            "stat",
            "s",
            "When use begins at 0 again.",
            (Query(f"max by (budget, resource) (frugal_budget_reset_timestamp_seconds{{{BUDGET}}}) - time()", "{{budget}}"),),
        ),
        Panel(
            "Limits",
            "table",
            "none",
            "Of one window, in the unit of the resource: joules, grams, seconds, tokens or requests.",
            (
                Query(
                    "max by (budget, resource) ("
                    + " or ".join(
                        f"frugal_budget_limit_{unit}{{{BUDGET}}}" for unit in ("joules", "grams", "seconds", "tokens", "requests")
                    )
                    + ")"
                ),
            ),
        ),
        Panel(
            "Use over time",
            "timeseries",
            "percentunit",
            "Settled and reserved apart.",
            (
                Query(
                    f"max by ({_OF}, state) (frugal_budget_usage_ratio{{{BUDGET}}})",
                    "{{budget}} {{key}} {{state}}",
                ),
            ),
            width=24,
        ),
    ),
)
_DECISIONS = Row(
    "Decisions",
    (
        Panel(
            "Decisions",
            "timeseries",
            "reqps",
            "`would_refuse`: of a budget that only watches. `override`: let through by name.",
            (
                Query(
                    f"sum by (budget, action) (rate(frugal_budget_decisions_total{{{BUDGET}}}[$__rate_interval]))",
                    "{{budget}} {{action}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Share degraded or refused",
            "timeseries",
            "percentunit",
            "Of what was decided.",
            (
                Query(
                    "sum by (budget, action) (rate(frugal_budget_decisions_total{"
                    f'{BUDGET}, action=~"degrade|refuse"}}[$__rate_interval])) / on (budget) group_left () '
                    f"(sum by (budget) (rate(frugal_budget_decisions_total{{{BUDGET}, {_DECIDED}}}[$__rate_interval])) > 0)",
                    "{{budget}} {{action}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Enforced",
            "stat",
            "none",
            "0: it refuses nothing here (shadow, too weak a tier, or the meter is off).",
            (Query(f"min by (budget, tier) (frugal_budget_enforced{{{BUDGET}}})", "{{budget}} ({{tier}})"),),
            width=6,
            steps=UP,
        ),
        Panel(
            "Overrides in force",
            "stat",
            "none",
            "Permissions to pass a budget, each with a name, a reason and an end.",
            (Query(f"max by (budget) (frugal_budget_overrides{{{BUDGET}}})", "{{budget}}"),),
            width=6,
        ),
        Panel(
            "Waiting",
            "stat",
            "none",
            "Requests that are throttled and wait for their turn.",
            (Query(f"sum(frugal_budget_queued_requests{{{JOB}}})"),),
            width=6,
        ),
        Panel(
            "Drawn for no whole answer",
            "stat",
            "joule",
            "Energy of requests that a hard budget cut, in the period shown.",
            (Query(f"sum(increase(frugal_cut_energy_joules_total{{{JOB}}}[$__range]))"),),
            width=6,
        ),
    ),
)
_LEASES = Row(
    "Reservations and the store",
    (
        Panel(
            "Leases",
            "timeseries",
            "none",
            "Reservations of what runs now.",
            (Query(f"max by (budget) (frugal_budget_leases{{{BUDGET}}})", "{{budget}}"),),
        ),
        Panel(
            "Estimate over use",
            "timeseries",
            "none",
            "1: estimates are just. At 3, two thirds of what is reserved was not needed; below 1 work outgrows its reservation.",
            (Query(f"max by (budget, resource) (frugal_budget_estimator_bias_ratio{{{BUDGET}}})", "{{budget}}"),),
        ),
        Panel(
            "Leases that went wrong",
            "timeseries",
            "none",
            "Topped up while work ran; charged in full for want of news; settled before the meter had ticked.",
            (
                Query(f"sum(increase(frugal_budget_top_ups_total{{{JOB}}}[$__rate_interval]))", "topped up"),
                Query(f"sum(increase(frugal_budget_expired_leases_total{{{JOB}}}[$__rate_interval]))", "expired"),
                Query(f"sum(increase(frugal_budget_blind_settlements_total{{{JOB}}}[$__rate_interval]))", "blind"),
            ),
        ),
        Panel(
            "Store",
            "stat",
            "none",
            "1: every worker's last exchange with the shared store succeeded. Nothing without a shared store.",
            (Query(f"min by (store) (frugal_budget_store_up{{{JOB}}})", "{{store}}"),),
            height=4,
            steps=UP,
        ),
        Panel(
            "Workers that share it",
            "stat",
            "none",
            "Those of other hosts included.",
            (Query(f"max(frugal_budget_store_holders{{{JOB}}})"),),
            height=4,
        ),
        Panel(
            "Workers that decide alone",
            "stat",
            "none",
            "The store is away for them, and they do what `on_store_error` says.",
            (Query(f"sum by (policy) (frugal_budget_workers_alone{{{JOB}}})", "{{policy}}"),),
            height=4,
        ),
    ),
)
BUDGETS = Dashboard(
    "frugal-meter-budgets",
    "Frugal: budgets",
    "What budgets have left and how fast it goes, what was decided and for whom an exception was made.",
    ("job", "instance", "budget"),
    (_USE, _DECISIONS, _LEASES),
    "now-24h",
)
