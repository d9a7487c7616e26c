"""The table of `python -m autojit.testing --against torch`: which ops agree with torch, and which leave compiled code.

In: the samples that the tests use.  Out: a table by family, what disagrees, and for each op the primitives that a compiled
CPU program computes by NumPy between its kernels.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from autojit.autodiff.vjp import reverse
from autojit.dtypes import FLOAT
from autojit.engine.compile import prepare
from autojit.ir.graph import Graph, forget, placeholder
from autojit.ops.declare import OPS
from autojit.schedule.loops import ControlStep, HostStep

from .checking import cotangents, floats, gradients, leaf, outputs, run
from .oplist import SAMPLES
from .sampling import Sample
from .test_ops import rules, torch_results


class Tally:
    """What was found for one family."""

    def __init__(self) -> None:
        self.ops: set[str] = set()
        self.samples = self.values = self.derived = self.gradients = 0
        self.hosted: dict[str, set[str]] = {}


def family(op: Any) -> str:
    return str(op.fn.__module__).rsplit(".", 1)[-1]


def values_agree(s: Sample) -> bool:
    """In both dtypes: dtypes, shapes and numbers."""
    for dtype, rtol, atol in (("float64", max(1e-12, s.rtol), 1e-13), ("float32", 2e-5, 2e-6)):
        mine, theirs = run(s.call, s.arrays(dtype), dtype), torch_results(s, dtype)[0]
        if len(mine) != len(theirs):
            return False
        for a, b in zip(mine, theirs):
            if a.dtype != b.dtype or a.shape != b.shape or not np.allclose(a, b, rtol, atol, equal_nan=True):
                return False
    return True


def gradients_agree(s: Sample) -> bool:
    """By each rule that there is, in float64."""
    arrays = s.arrays("float64")
    kept = [k not in s.fixed for k in floats(arrays)]
    cts = cotangents(s.call, arrays, np.random.default_rng(1))
    want = torch_results(s, "float64", cts)[1]
    for pull in rules(s):
        got = [g for g, keep in zip(gradients(s.call, arrays, cts, pull), kept) if keep]
        if len(got) != len(want) or not all(np.allclose(a, b, max(1e-9, s.rtol), 1e-11, equal_nan=True)
                                            for a, b in zip(got, want)):
            return False
    return True


def host_steps(s: Sample) -> set[str]:
    """The primitives that a program of the sample and its gradient computes outside of kernels."""
    arrays = s.arrays("float32")
    leaves = [leaf(a, "float32") for a in arrays]
    given = [n for n in leaves if n is not None and n.op != "const"]
    roots = outputs(s.call(*leaves))
    wanted = [n for n in given if n.dtype.category == FLOAT]
    cts = [placeholder(o.aval) if o.dtype.category == FLOAT else None for o in roots]
    outs = list(roots)
    if wanted and any(c is not None for c in cts):
        outs += [g for g in reverse(roots, cts, wanted) if g is not None]
    graph = Graph([*given, *[c for c in cts if c is not None]], outs)
    found = set(_hosted(prepare(graph).schedule.steps))
    forget()
    return found


def _hosted(steps: Any) -> Any:
    for step in steps:
        if isinstance(step, HostStep):
            yield step.prim.name
        elif isinstance(step, ControlStep):
            for body in step.bodies:
                yield from _hosted(body.steps)


def attempt(check: Callable[[Sample], Any], s: Sample) -> Any:
    """The check's answer; the text of the exception where it raises."""
    try:
        return check(s)
    except Exception as e:                                # told in the table
        return f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"


def table(only: str | None = None, write: Callable[[str], Any] = print) -> int:
    """Print the table; returns how many checks disagree."""
    start, found, wrong = time.perf_counter(), {}, []
    names = [n for n in SAMPLES if only is None or family(OPS[n]) == only]
    for done, name in enumerate(names):
        if sys.stderr.isatty():
            print(f"\r{done}/{len(names)} ops", end="", file=sys.stderr)
        t = found.setdefault(family(OPS[name]), Tally())
        t.ops.add(name)
        for k, s in enumerate(SAMPLES[name]):
            t.samples += 1
            checks = {"values": values_agree}
            if s.torch_grad and floats(s.tensors):
                checks["gradients"] = gradients_agree
                t.derived += 1
            for what, check in checks.items():
                answer = attempt(check, s)
                if answer is True:
                    setattr(t, what, getattr(t, what) + 1)
                else:
                    wrong.append(f"{name}, sample {k}: {what}{'' if answer is False else ': ' + answer}")
            hosted = attempt(host_steps, s)
            if isinstance(hosted, str):
                wrong.append(f"{name}, sample {k}: no program: {hosted}")
            elif hosted:
                t.hosted.setdefault(name, set()).update(hosted)
    _print(found, wrong, write)
    write(f"{len(names)} ops in {time.perf_counter() - start:.0f} s")
    return len(wrong)


def _print(found: dict[str, Tally], wrong: list[str], write: Callable[[str], Any]) -> None:
    if sys.stderr.isatty():
        print("\r" + " " * 20 + "\r", end="", file=sys.stderr)
    write(f"{'family':<16}{'ops':>5}{'samples':>9}{'values':>12}{'gradients':>12}{'leave compiled code':>21}")
    for name, t in sorted(found.items()):
        write(f"{name:<16}{len(t.ops):>5}{t.samples:>9}{t.values:>7}/{t.samples:<4}{t.gradients:>7}/{t.derived:<4}"
              f"{len(t.hosted):>21}")
    write("\nOps that leave a compiled CPU program (values or gradient), and what NumPy computes there:")
    for t in found.values():
        for name, prims in sorted(t.hosted.items()):
            write(f"  {name}: {', '.join(sorted(prims))}")
    write("\nDisagreements: " + ("none" if not wrong else str(len(wrong))))
    for line in wrong:
        write("  " + line)


def main(only: str | None) -> int:
    """The exit status: 0 where all agree."""
    warnings.simplefilter("ignore")
    return 1 if table(only) else 0
