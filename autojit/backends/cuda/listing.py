"""A program of the device as text that a person reads.

In: a Schedule and its launches.  Out: each kernel once, then the steps in the order they run.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...schedule.loops import GemmStep, Schedule
from .emitted import Launches


def source(plan: Schedule, emitted: Mapping[int, Launches]) -> str:
    """All kernels, then a line a launch or product."""
    names: dict[str, str] = {}
    for made in emitted.values():
        for one in made.launches:
            names.setdefault(one.text, f"kernel{len(names)}")
    lines = [text.replace("def kernel(", f"def {name}(", 1).rstrip() + "\n" for text, name in names.items()]
    lines.append("# steps")
    for k, step in enumerate(plan.steps):
        if isinstance(step, GemmStep):
            count = step.batch * step.outer[0]
            lines.append(f"#   {step.c} = {step.a}{'.T' * step.trans_a} @ {step.b}{'.T' * step.trans_b}  "
                         f"{step.m}x{step.n}x{step.k}" + f" batch {count}" * (count > 1))
            continue
        for one in emitted[k].launches:
            buffers = ", ".join([e[1] for e in one.table if e[0] == "buffer"])
            lines.append(f"#   {names[one.text]}({buffers})  {one.blocks} x {one.threads} threads")
    return "\n".join(lines)
