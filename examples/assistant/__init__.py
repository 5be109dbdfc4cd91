"""A public-service assistant of a fictitious commune, metered per request: the demonstration of frugal_meter."""
