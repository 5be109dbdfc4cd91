"""Clauses of a public contract, checked against a journal: `contract` reads, `judging` judges, `report` tells both parties."""
