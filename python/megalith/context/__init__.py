"""Results that are not computed twice: caches in memory and on disk, and a store of named values."""
