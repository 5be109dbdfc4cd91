"""Where budgets are kept. `memory` bounds one worker; shared stores have the same four verbs."""
