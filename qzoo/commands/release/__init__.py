"""Giving models to others: everything a published model consists of, sent to the hub or fetched from it."""
