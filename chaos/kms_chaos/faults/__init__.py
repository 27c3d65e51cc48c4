"""Faults: each a context manager that knows its inverse before it acts."""
