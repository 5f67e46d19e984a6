"""What every test shares: few threads, reproducible examples, and where the repository is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before any engine is imported: two test processes share two cores, and one thread adds up in one order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow machine is no failure, and a failure is the same one everywhere.
settings.register_profile("edgevit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("edgevit")


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent
