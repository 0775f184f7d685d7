"""Functions over the blocks of an array, computed by many workers, with results that go straight to HDF5 files."""

from megalith.hdf5.compute import compute
from megalith.hdf5.decorators import FauxTrial, unwrap_cfg, unwrap_io
from megalith.hdf5.virtual import open_virtual

__all__ = ["FauxTrial", "compute", "open_virtual", "unwrap_cfg", "unwrap_io"]
