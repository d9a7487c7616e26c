"""What a traced function tells of itself: `explain()` and `source()`.

In: a Traced.  Out: text.  Never changes anything, though `source()` schedules a program that has not been compiled yet.
"""

from __future__ import annotations

from typing import Any

from ..config import config
from ..engine import families
from ..engine.cuts import plain
from ..ir.outline import outline
from ..ir.text import graph_text
from ..rewrite.inline import inline


def _prepared(traced: Any) -> Any:
    return traced._last().program.prepare()


def source_of(traced: Any) -> str:
    """The kernels of the program that ran last, below the branches that it takes."""
    plan = traced._last()
    head = f"# path: {path_of(plan)}\n" if plan.guards else ""
    return head + _prepared(traced).source()  # type: ignore[no-any-return]


def graph_of(traced: Any) -> str:
    """The graph that was recorded for the last call, below the branches that it takes."""
    plan = traced._last()
    head = f"# path: {path_of(plan)}\n" if plan.guards else ""
    return head + graph_text(plan.graph)


def path_of(plan: Any) -> str:
    """The branches of a path: where they stand and which way they go."""
    said: list[list[Any]] = []
    for g in plan.guards:
        word = f"{g.place} {g.outcome}"
        if said and said[-1][0] == word:
            said[-1][1] += 1
        else:
            said.append([word, 1])
    return ", ".join([word if count == 1 else f"{word} x {count}" for word, count in said])


def explain_traced(traced: Any) -> str:
    """Recordings and their reasons, the program's parts, why what was not fused was not, and where the time of making went."""
    prepared = _prepared(traced)
    plan = traced._last()
    program = plan.program
    lines = [f"{traced.__name__}: {sum(map(len, traced.plans.values()))} recordings"]
    lines += [f"  {h}" for h in list(traced.history)[-10:]]
    for group in traced.plans.values():
        if plan in group:
            lines += [f"path{' (taken last)' * (p is plan)}: {path_of(p)}" for p in group if p.guards]
    lines.append(f"last program: {prepared.summary}")
    lines.append(f"  answered last by the {program.tier} tier, {program.runs} runs" + (
        f"; not compiled: {program.failed}" if program.failed else ""))
    if config.forms and plain(program.graph):
        lines.append(f"  {families.told(outline(inline(program.graph)))}")
    lines += [f"  {note}" for note in prepared.notes]
    return "\n".join(lines)
