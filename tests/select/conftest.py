"""Cluster ids to select from."""

import numpy as np
import pytest


@pytest.fixture
def clusters():
    """Cluster ids of 20,000 spikes: small ones, 0, -1, a huge and a sparse one."""
    rng = np.random.default_rng(3)
    return rng.choice(
        np.array([-1, 0, 1, 2, 5, 77, 10**6, 2**62]), 20_000, p=[0.1, 0.3, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]
    )
