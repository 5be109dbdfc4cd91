"""The journal: readings, books and decisions that outlive the process; see docs/journal.md."""
