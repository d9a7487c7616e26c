"""What a traced function tells of itself: `explain()` and `source()`.

In: a Traced.  Out: text.  Never changes anything, though `source()` schedules a program that has not been compiled yet.
"""

from __future__ import annotations

from typing import Any

from ..config import config
from ..engine import families
from ..engine.cuts import plain
from ..ir.outline import outline
from ..rewrite.inline import inline


def _prepared(traced: Any) -> Any:
    return traced._last().program.prepare()


def source_of(traced: Any) -> str:
    """The kernels of the program that ran last."""
    return _prepared(traced).source()  # type: ignore[no-any-return]


def explain_traced(traced: Any) -> str:
    """Recordings and their reasons, the program's parts, why what was not fused was not, and where the time of making went."""
    prepared = _prepared(traced)
    program = traced._last().program
    lines = [f"{traced.__name__}: {sum(map(len, traced.plans.values()))} recordings"]
    lines += [f"  {h}" for h in list(traced.history)[-10:]]
    lines.append(f"last program: {prepared.summary}")
    lines.append(f"  answered last by the {program.tier} tier, {program.runs} runs" + (
        f"; not compiled: {program.failed}" if program.failed else ""))
    if config.forms and plain(program.graph):
        lines.append(f"  {families.told(outline(inline(program.graph)))}")
    lines += [f"  {note}" for note in prepared.notes]
    return "\n".join(lines)
