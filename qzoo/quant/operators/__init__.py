"""Operators that are no layers: seen in the forward that evaluates them, named, and quantized."""
