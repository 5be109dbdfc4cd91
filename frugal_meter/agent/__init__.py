"""The host agent: reads this machine's sensors once, and tells each of its services the joules that are its own."""
