"""The file that the workers of one service share: whose turn it is, its records, and what each worker holds."""
