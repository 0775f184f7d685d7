"""Caches that are never stale: which calls are the same, and what was computed for them."""

from megalith.records import register_digest

__all__ = ["register_digest"]
