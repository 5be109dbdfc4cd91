"""The impact study of the assistant: ``frugal-meter study run examples/impact_study/study.toml --out …``."""
