"""Recipes: their schema, loading, catalogue and resolution. Never imports torch."""
