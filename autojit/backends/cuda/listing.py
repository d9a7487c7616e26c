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
            lines.append(f"#   {step.shown()}")
            continue
        for one in emitted[k].launches:
            buffers = ", ".join([e[1] for e in one.table if e[0] == "buffer"])
            lines.append(f"#   {names[one.text]}({buffers})  {one.blocks} x {one.threads} threads")
    return "\n".join(lines)
