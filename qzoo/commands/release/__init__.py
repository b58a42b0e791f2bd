"""Giving models to others: everything a hub model consists of, sent to the hub or fetched from it."""
