"""Latency tables as regression tests: suites of cases, their baselines, and what moved."""
