"""Measurements of the product, run by `make bench`: each module's `run` returns tables."""
