"""From what quantizers see to their ranges: collectors, histograms, solvers."""
