"""Learned rounding: units of a model, learned one after the other by the error of their output."""
