"""Benchmarks: ratios against scvi-tools 1.4.2 in one run, and the service from end to end."""
