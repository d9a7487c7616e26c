"""What the front's tests run on: the fake device, and the stand-in's with a count of copies.

In: pytest's request.  Out: backends, each installed as "cuda" for one test.
"""

from __future__ import annotations

import pytest

from autojit.backends import devices
from autojit.config import config

from .fake import FakeBackend, forget, installed


class Counted:
    """The stand-in's backend, with a count of what goes between host and device."""

    def __init__(self, backend):
        self.backend, self.copied = backend, []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def from_host(self, array, dtype):
        self.copied.append(("in", array.nbytes))
        return self.backend.from_host(array, dtype)

    def to_host(self, array):
        self.copied.append(("out", array.nbytes))
        return self.backend.to_host(array)

    bytes = FakeBackend.bytes


KINDS = ("fake", "standin")


def opened(request):
    """The backend of the kind that a fixture's parameter says; for `yield from`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "tier", "numpy")
        if request.param == "fake":
            with installed(FakeBackend()) as backend:
                yield backend
        else:
            backend = Counted(request.getfixturevalue("standin"))
            patch.setitem(devices._opened, "cuda", backend)
            forget()
            yield backend


def quiet(device):
    """Bytes that went in and out since the last time."""
    return device.bytes("in"), device.bytes("out")
