"""A Hugging Face hub on loopback: a real HTTP server that the real client pushes to and pulls from.

It knows nothing of qzoo. Its own tests stand beside it, and run when it has changed: see `passed.py`.
"""
