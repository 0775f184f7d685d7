"""Caches of results, and a store of named values."""
