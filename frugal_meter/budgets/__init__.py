"""What it may cost: budgets in joules, gCO2e, CPU-s, GPU-s, tokens or requests, and who decides over them."""
