"""Who used it: own clocks, hooks, pools, the exact split and the tick that runs them."""
