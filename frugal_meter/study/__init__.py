"""The study: what a service would cost, or did cost, per functional unit and per year, beside its alternatives."""
