"""Parameter sweeps that resume: spaces of parameters, and functions of all their points, kept on disk.

`Parameter` and `ParameterSpace` are at the top of the package too. Which points there are is decided here; where they
are computed by `megalith.maps`, and how they are kept by `megalith.context` and `megalith.records`.
"""

from megalith.sweep.parameter import Parameter
from megalith.sweep.space import DryRun, ParameterSpace

__all__ = ["DryRun", "Parameter", "ParameterSpace"]
