"""Where figures go: one module per receiver. Importing this package imports none of their libraries."""
