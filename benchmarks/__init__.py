"""Timings that a stranger can rerun: `make bench`."""
