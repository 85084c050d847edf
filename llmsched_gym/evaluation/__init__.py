"""Runner, metrics, statistics, bounds and reports."""
