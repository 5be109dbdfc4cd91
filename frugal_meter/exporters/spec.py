"""The list of metrics: names, types, help texts and labels. Documents, dashboards and the exposition are checked against it."""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]
_RMT: Final = ("route", "model", "tenant")
_RM: Final = ("route", "model")
_BR: Final = ("budget", "resource")

#: name (counters without their _total) → (kind, help, labels)
SPEC: Final[dict[str, tuple[Kind, str, tuple[str, ...]]]] = {
    "frugal_requests": ("counter", "Metered requests that ended: answered, refused or failed.", (*_RMT, "status", "outcome")),
    "frugal_requests_in_progress": ("gauge", "Metered requests now in progress.", ()),
    "frugal_request_duration_seconds": ("histogram", "Wall time of a metered request.", _RM),
    "frugal_request_cpu_seconds": ("histogram", "CPU time of one request, nested blocks included.", _RM),
    "frugal_request_energy_joules": ("histogram", "Energy of one request with its part of idle, nested blocks included.", _RM),
    "frugal_cpu_seconds": ("counter", "CPU time attributed to requests.", _RMT),
    "frugal_process_cpu_seconds": ("counter", "CPU time of the service's processes, attributed or not.", ()),
    "frugal_gpu_seconds": ("counter", "GPU busy time attributed to requests.", _RMT),
    "frugal_tokens": ("counter", "Tokens read from or written by a model.", (*_RMT, "direction")),
    "frugal_functional_units": ("counter", "Functional units delivered.", (*_RMT, "unit")),
    "frugal_quality_sum": ("counter", "Sum of quality scores (0 to 1).", _RMT),
    "frugal_quality_count": ("counter", "Number of quality scores.", _RMT),
    "frugal_energy_joules": (
        "counter",
        "Dynamic energy attributed to requests (IT; PUE not applied).",
        (*_RMT, "component", "tier"),
    ),
    "frugal_idle_energy_joules": ("counter", "Idle energy of the service's slice held while requests ran.", _RMT),
    "frugal_co2e_grams": ("counter", "Greenhouse gases attributed to requests, CO2-equivalent.", (*_RMT, "scope")),
    "frugal_downstream_energy_joules": (
        "counter",
        "Energy of calls to models elsewhere, IT; never part of the host's.",
        (*_RMT, "tier"),
    ),
    "frugal_downstream_co2e_grams": ("counter", "Greenhouse gases of calls to models elsewhere, CO2-equivalent.", _RMT),
    "frugal_downstream_calls": ("counter", "Calls to models elsewhere, their cost known or not.", _RMT),
    "frugal_downstream_unknown_calls": ("counter", "Calls to models elsewhere whose cost nobody knows.", _RMT),
    "frugal_host_energy_joules": (
        "counter",
        "Energy of the host as its sources told it, attributed or not.",
        ("component", "source", "tier"),
    ),
    "frugal_unattributed_energy_joules": (
        "counter",
        "Host energy not charged to a request, by reason.",
        ("component", "source", "reason"),
    ),
    "frugal_overhead_energy_joules": ("counter", "Parts of the overhead: framework, startup, the meter itself.", ("part",)),
    "frugal_in_progress_energy_joules": ("gauge", "Dynamic energy already booked to requests still running.", ()),
    "frugal_books_difference_joules": ("gauge", "Host energy minus everything booked; 0 when the books close.", ()),
    "frugal_energy_source_up": ("gauge", "1 if the source could be read at the last tick.", ("component", "source")),
    "frugal_measured_ratio": ("gauge", "Measured share of the host's energy since the start.", ()),
    "frugal_coverage_ratio": ("gauge", "CPU of requests over CPU of the process at the last tick.", ()),
    "frugal_grid_carbon_intensity_grams_per_joule": (
        "gauge",
        "CO2e per joule of electricity now applied.",
        ("zone", "dataset", "year", "scope"),
    ),
    "frugal_pue_ratio": ("gauge", "Power usage effectiveness applied to carbon.", ("source",)),
    "frugal_budget_usage_ratio": (
        "gauge",
        "Share of the budget used in its window, settled and reserved apart.",
        ("budget", "resource", "key", "state"),
    ),
    "frugal_budget_limit_joules": ("gauge", "Limit of a window, of budgets in joules.", _BR),
    "frugal_budget_limit_grams": ("gauge", "Limit of a window, of budgets in gCO2e.", _BR),
    "frugal_budget_limit_seconds": ("gauge", "Limit of a window, of budgets in CPU or GPU seconds.", _BR),
    "frugal_budget_limit_tokens": ("gauge", "Limit of a window, of budgets in tokens.", _BR),
    "frugal_budget_limit_requests": ("gauge", "Limit of a window, of budgets in requests.", _BR),
    "frugal_budget_window_seconds": ("gauge", "Length of the window now open.", _BR),
    "frugal_budget_reset_timestamp_seconds": ("gauge", "Unix time at which the window now open ends.", _BR),
    "frugal_budget_enforced": ("gauge", "1 if the budget can refuse on this machine.", ("budget", "resource", "tier")),
    "frugal_cut_energy_joules": ("counter", "Dynamic energy of requests that a hard budget cut: drawn for no whole answer.", ()),
    "frugal_budget_decisions": ("counter", "Admission decisions.", ("budget", "resource", "action")),
    "frugal_budget_overrides": ("gauge", "Permissions to pass the budget that are in force.", _BR),
    "frugal_budget_leases": ("gauge", "Reservations of work now running, over all workers.", _BR),
    "frugal_budget_estimator_bias_ratio": ("gauge", "Sum of estimates over sum of what was used.", _BR),
    "frugal_budget_queued_requests": ("gauge", "Requests that wait for their turn.", ()),
    "frugal_budget_top_ups": ("counter", "Reservations enlarged while their work ran.", ()),
    "frugal_budget_expired_leases": ("counter", "Reservations charged in full since their work had been idle too long.", ()),
    "frugal_budget_blind_settlements": ("counter", "Requests charged at their reservation since the meter had not ticked.", ()),
    "frugal_budget_store_up": ("gauge", "1 if every worker reached the shared store of budgets last time.", ("store",)),
    "frugal_budget_store_holders": ("gauge", "Workers that share the store of budgets.", ()),
    "frugal_budget_store_exchanges": ("counter", "Exchanges with the shared store of budgets.", ()),
    "frugal_budget_workers_alone": (
        "gauge",
        "Workers that decide without the shared store now, as on_store_error says.",
        ("policy",),
    ),
    "frugal_budget_expired_holdings": ("gauge", "Holdings charged in full since their worker was not heard of.", _BR),
    "frugal_method_info": ("gauge", "Method and factor behind the figures; always 1.", ("method", "factor", "boundary")),
    "frugal_model_info": (
        "gauge",
        "A model that the application declared, and the block that runs it; always 1.",
        ("model", "block"),
    ),
    "frugal_build_info": ("gauge", "Version of frugal_meter; always 1.", ("version", "python")),
    "frugal_workers": ("gauge", "Workers whose figures are summed here.", ()),
    "frugal_meter_cpu_seconds": ("counter", "CPU time of the meter's own thread.", ()),
    "frugal_meter_errors": ("counter", "Faults inside the meter, passed over.", ("stage",)),
    "frugal_meter_dropped_readings": ("counter", "Readings dropped because an exporter was too slow.", ()),
    "frugal_label_overflow": ("counter", 'Times that a label set beyond the cap was booked as "other".', ("set",)),
}
#: where the meter may fail and go on: a counter of each is there from the start, since `increase` misses a first value
STAGES: Final = (
    "admit",
    "agent",
    "budget",
    "closing",
    "estimate",
    "exit",
    "export",
    "grid",
    "journal",
    "open",
    "otel",
    "refusal",
    "remote",
    "route",
    "section",
    "settle",
    "share",
    "size",
    "source",
    "start",
    "state",
    "stop",
    "store",
    "tenant",
    "tick",
    "usage",
    "workers",
)
#: parts of the overhead that are there on every machine
OVERHEAD: Final = ("startup", "framework", "native_spin", "meter")
#: what is capped, by the label of `frugal_label_overflow`
CAPPED: Final = ("requests", "histograms")
