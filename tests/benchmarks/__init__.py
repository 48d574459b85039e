"""Benchmarks: ratios whose terms are measured in the same run, written to build/bench."""
