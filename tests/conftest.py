"""All tests interpret on the NumPy tier unless they say otherwise, and share one cache directory."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("AUTOJIT_TIER", "numpy")
if "AUTOJIT_CACHE_DIR" not in os.environ:
    os.environ["AUTOJIT_CACHE_DIR"] = tempfile.mkdtemp(prefix="autojit-test-")

import pytest  # noqa: E402

from autojit.config import config  # noqa: E402


@pytest.fixture
def compiled():
    """Run the test with compiled kernels, waited for."""
    old, config.tier = config.tier, "compile"
    yield
    config.tier = old
