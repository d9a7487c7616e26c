"""Cubins are kept in the disk cache that the CPU's kernels have: the next process compiles nothing."""

from __future__ import annotations

import pytest

from autojit.backends import devices
from autojit.backends.cuda import compiler
from autojit.backends.cuda.emitted import Emitted
from autojit.config import config
from autojit.engine import kernels

ONE = Emitted("def kernel(x0, n0):\n    pass\n", ("*f32", "ix"), (("buffer", "x"), ("size", 1)), 32, 1)


def test_the_backend_asks_a_store_over_the_engines_disk(standin, monkeypatch, tmp_path):
    monkeypatch.setattr(config, "cache_dir", str(tmp_path))
    monkeypatch.setattr(standin, "interpreted", False)
    asked = []

    class Store:
        def require(self, items, capability):
            asked.append((devices.disk(), capability))
            return ["made"] * len(items)
    monkeypatch.setattr(compiler, "store", Store)
    assert standin.compile([ONE, ONE]) == ["made", "made"]
    assert asked == [(kernels.disk(), (9, 0, "a"))] and kernels.disk() is not None
    standin.driver.capability = (8, 6)
    standin.compile([ONE])
    assert asked[1][1] == (8, 6)
    standin.driver.capability = (9, 0)


def test_the_store_is_over_the_engines_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "cache_dir", str(tmp_path))
    monkeypatch.setattr(compiler, "_stores", {})
    assert compiler.store()._disk is kernels.disk() is not None and compiler.store() is compiler.store()


@pytest.mark.proof
def test_a_second_store_reads_what_the_first_wrote(standin, monkeypatch, tmp_path):
    monkeypatch.setattr(config, "cache_dir", str(tmp_path))
    monkeypatch.setattr(standin, "interpreted", False)
    monkeypatch.setattr(compiler, "_stores", {})
    made = standin.compile([ONE])[0]
    assert compiler.store().counters["compiled"] == 1
    monkeypatch.setattr(compiler, "_stores", {})
    assert standin.compile([ONE])[0].cubin == made.cubin
    assert compiler.store().counters["compiled"] == 0 and compiler.store().counters["disk_hits"] == 1
