"""What a system is: something that can compute a workload's value and gradients.

In: a `Workload`. Out: a `Prepared` pair: `call()` computes value and gradients once and returns
when they are there; `read()` gives those of the last call as NumPy arrays. A system imports its
library only in `prepare`, never measures time and never checks a result.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NamedTuple

from perf.workloads import Arrays, Workload


class Prepared(NamedTuple):
    call: Callable[[], object]
    read: Callable[[], Arrays]


class System:
    """Base of all systems; the class attributes are what the harness and the report need.

    package: what must be importable. role: "ours" or "peer". form: which form of a program it
    runs. pairs: the programs it was written for; None: all. bound: its calls have fixed buffers.
    early: it compiles while it is prepared and not at its first call.
    slow_compile: left out by `--quick`. env: what its process gets in its environment.
    interpreter: environment variable that names the Python to run it, for what cannot live beside
    our own dependencies.
    """

    name = ""
    package = ""
    role = "peer"
    form = "plain"
    pairs: tuple[str, ...] | None = None
    bound = False
    early = False
    slow_compile = False
    env: dict[str, str] = {}
    interpreter: str | None = None

    def missing(self) -> str | None:
        """Why this system cannot run here, or None."""
        if self.interpreter is not None:
            known = os.environ.get(self.interpreter)
            return None if known else f"{self.interpreter} names no interpreter that has {self.package}"
        found = find_spec(self.package) is not None
        return None if found else f"{self.package} is not installed"

    def python(self) -> str:
        return os.environ[self.interpreter] if self.interpreter else sys.executable

    def environment(self) -> dict[str, str]:
        return self.env

    def handles(self, workload: Workload) -> bool:
        if self.pairs is not None and workload.base not in self.pairs:
            return False
        return self.form == "plain" or workload.scan is not None

    def prepare(self, workload: Workload, dtype: str = "float32") -> Prepared:
        raise NotImplementedError


def cast(arrays: Arrays, dtype: str) -> Arrays:
    """The floating arrays in `dtype`, the others as they are."""
    return [a.astype(dtype, copy=False) if a.dtype.kind == "f" else a for a in arrays]


def torch_shaped(t: Any) -> Any:
    """The namespace of programs from a module with torch's names."""
    return SimpleNamespace(
        exp=t.exp,
        log=t.log,
        log1p=t.log1p,
        sin=t.sin,
        tanh=t.tanh,
        sigmoid=t.sigmoid,
        erf=t.erf,
        sqrt=t.sqrt,
        abs=t.abs,
        maximum=t.maximum,
        minimum=t.minimum,
        amax=lambda x, dim: t.amax(x, dim, keepdim=True),
        permute=lambda x, order: x.permute(order),
        pick=lambda x, column: t.gather(x, 1, column[:, None])[:, 0],
        relu=t.relu,
        conv2=t.conv2d,
        pool2=lambda x: t.nn.functional.max_pool2d(x, 2),
    )
