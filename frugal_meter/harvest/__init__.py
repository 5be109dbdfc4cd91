"""Declarations of many services, fetched, checked and shown side by side; see docs/declaration.md."""
