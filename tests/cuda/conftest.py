"""Fixtures of the CUDA tests: the stand-in driver, whatever is in this machine."""

from __future__ import annotations

import pytest

from autojit.backends import devices
from autojit.config import config

from .fake import forget


@pytest.fixture(scope="module")
def standin():
    """The backend "cuda" on the stand-in driver; what was opened before comes back afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOJIT_CUDA", "standin")           # for processes that a test starts
        patch.setattr(config, "cuda", "standin")
        patch.setattr(devices, "_opened", {})
        forget()                                          # what another driver has made
        yield devices.backend("cuda")
        forget()
