"""Passes over an exported graph: each changes one thing in it that a runtime needs."""
