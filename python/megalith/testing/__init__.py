"""Tools for tests of megalith and of programs that use it.

Modules: `reference` (what each function means, in NumPy and SciPy), `layouts` (every way an array can lie in memory),
`cases` (element types, sizes, values, and all pairs of them), `strategies` (Hypothesis), `values` (nested ones, as
records hold them), `faults` (child processes that may hang, die or run out of space). Nothing here is imported by the
library itself.
"""
