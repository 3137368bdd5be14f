"""Benchmarks: ``pytest benchmarks`` (one module per operation), ``python -m benchmarks.roofline``, ``python -m benchmarks.promises``."""
