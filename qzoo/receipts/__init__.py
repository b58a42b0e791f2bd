"""Receipts: made with a measurement, matched with images on this machine, compared with its predictions."""
