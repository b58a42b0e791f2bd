"""Weights and ranges as files: finding, checking, reading, writing. Knows no models."""
