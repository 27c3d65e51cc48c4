"""Judging reads only the journal: values in, a verdict out. No clock, no file, no network."""
