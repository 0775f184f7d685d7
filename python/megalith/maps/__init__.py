"""Where work runs: the calling thread, pools of threads and processes, ipyparallel engines, dask workers.

`run` gives the results of a function for each item in order, `start` does so in the background. Which work there is,
and whether it needs to be done again, is decided by those who call: `megalith.Context.map`, `megalith.hdf5`,
`megalith.sweep`.
"""

from megalith.maps.background import AsyncResult
from megalith.maps.failure import Failure
from megalith.maps.running import run, start

__all__ = ["AsyncResult", "Failure", "run", "start"]
