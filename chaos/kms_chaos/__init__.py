"""The drill engine: faults, conductor, journal, verdict and report."""
