"""Small serial kernels that follow each other as one kernel: nothing is launched between them.

In: the steps of a schedule.  Out: the same steps, runs of kernels without a parallel range joined.  Only their names change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .loops import Kernel, KernelStep, Loop, Run, Store, renamed

LONGEST = 3_000                    # statements of a joined kernel


def joined(steps: Sequence[Any]) -> list[Any]:
    """`steps` with runs of serial kernels as one."""
    out: list[Any] = []
    run: list[KernelStep] = []
    length = 0

    def close() -> None:
        nonlocal length
        if run:
            out.append(run[0] if len(run) == 1 else _one(run))
        run.clear()
        length = 0

    for s in steps:
        serial = isinstance(s, KernelStep) and s.kernel.parallel is None and s.n == s.chunks == 1
        size = _statements(s.kernel.body) if serial else 0
        if not serial or length + size > LONGEST:
            close()
        if serial:
            run.append(s)
            length += size
        else:
            out.append(s)
    close()
    return out


def _statements(body: Sequence[Any]) -> int:
    return sum([1 + _statements(s.body) if isinstance(s, (Loop, Run)) else 1 for s in body])


def _one(run: Sequence[KernelStep]) -> KernelStep:
    body: list[Any] = []
    for k, s in enumerate(run):
        body += _apart(s.kernel.body, k, {})
    return KernelStep(Kernel(tuple(body)), 1, 1)


def _apart(body: Sequence[Any], k: int, names: dict[str, str]) -> list[Any]:
    """Statements whose names no other kernel of the run has."""
    out: list[Any] = []
    for s in body:
        if isinstance(s, (Loop, Run)):
            out.append(replace(s, body=tuple(_apart(s.body, k, names))))
            continue
        if not isinstance(s, Store) and s.name not in names:
            names[s.name] = f"{s.name}_{k}"
        new = renamed(s, names)
        out.append(new if isinstance(s, Store) else replace(new, name=names[s.name]))
    return out
