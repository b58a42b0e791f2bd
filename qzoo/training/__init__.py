"""Quantization-aware training: what a step is, what a run remembers, how it stops."""
