"""Which way a call goes: the paths of a function that branches on values, and how the right one is found.

In: a traced function, its plans for one signature (each a path), a call.  Out: the plan of the call's path, and mostly what its
program gave.  A path is tried as a whole: its program also says which way each branch goes, up to the first that goes another
way what it says is right, and what it computed is thrown away then.  Nothing is written and nobody sees an error before
all branches that come before have been found to agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backends.devices import to_host
from ..eager.state import state
from ..engine import programs
from ..ir.graph import Graph, linearise
from .plan import Asked, Plan, array_of, daring, gather

ALL = -1                                                  # all branches at once, as a key of `Plan.asks`


def follow(traced: Any, plan: Plan, asked: Asked) -> tuple[Plan, list[Any] | None]:
    """The plan of the path that a call takes, recorded if it is new, and what its program gave, if it has run."""
    arrays = None
    while len(asked.outcomes) < len(plan.guards):
        arrays = _try(plan, asked)
        if asked.outcomes != plan.outcomes[:len(asked.outcomes)]:
            plan, arrays = traced.other(asked), None
    return plan, arrays


def _try(plan: Plan, asked: Asked) -> list[Any] | None:
    """Find out which way the branches go, up to the first that goes another way than the plan's.  What the whole program gave,
    if it has run and all agree."""
    pending = plan.pure and any(plan.needs) and state.grad and asked.wrt is None     # a later program computes the results
    if daring(plan):
        before = len(asked.drawn)
        try:
            if not pending:
                return _run(plan, asked)
            _ask(plan, asked, ALL)
            return None
        except Refused as e:
            raise e.error from None
        except Exception:                                 # perhaps of another path's making: look again, step by step
            asked.undraw(before)
    for k in range(len(asked.outcomes), len(plan.guards)):
        _ask(plan, asked, k)
        if asked.outcomes[k] is not plan.guards[k].outcome:
            break
    return None


class Refused(Exception):
    """An error that is the call's own: all branches before it agree."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _inputs(plan: Plan, asked: Asked, draws: int) -> list[Any]:
    """Arrays of the program's inputs, but for random numbers that are drawn after so many."""
    return [array_of(t) for t in asked.tensors] + gather(plan, asked.draw(plan.draws[:draws])[:draws])


def _ask(plan: Plan, asked: Asked, which: int) -> None:
    """By a program of the flags alone, all of them or one."""
    last = len(plan.guards) - 1 if which == ALL else which
    inputs = _inputs(plan, asked, plan.guards[last].draws)
    for k, check in plan.before:
        if check.guards <= last:
            check.array(inputs[k])
    at, program = _program(plan, which)
    arrays = program([inputs[k] for k in at])
    found = [int(to_host(a, n.aval.device)) for a, n in zip(arrays, program.graph.outputs)]
    if which == ALL:
        _take(plan, asked, found)
    else:
        asked.found(bool(found[0]), plan.guards[which].place)


def _program(plan: Plan, which: int) -> tuple[list[int], programs.Program]:
    """The program that computes flags, and the inputs of the plan's that it takes."""
    made = plan.asks.get(which)
    if made is None:
        flags = [plan.graph.outputs[k] for k, _, _ in plan.codes] if which == ALL else [plan.guards[which].flag]
        reached = set(linearise(flags))
        at = [k for k, n in enumerate(plan.inputs) if n in reached]
        graph = Graph([plan.inputs[k] for k in at], flags)
        made = plan.asks[which] = at, programs.find(("asked", graph.key), lambda: graph)
    return made  # type: ignore[no-any-return]


def _run(plan: Plan, asked: Asked) -> list[Any] | None:
    """By the whole program."""
    inputs = _inputs(plan, asked, len(plan.draws))
    for k, check in plan.before:
        check.array(inputs[k])
    arrays = plan.program(inputs)
    found = [int(to_host(arrays[k], plan.results[k].aval.device)) for k, _, _ in plan.codes]
    agreed = _take(plan, asked, found)
    try:
        for least, greatest, check in plan.after:
            if check.guards <= agreed:
                check.range(*[int(to_host(arrays[k], plan.results[k].aval.device)) for k in (least, greatest)])
    except Exception as e:
        raise Refused(e) from None
    return arrays if agreed == len(plan.guards) else None


def _take(plan: Plan, asked: Asked, found: Sequence[int]) -> int:
    """What the codes say of the branches that are not decided yet.  How many go as the plan does."""
    guards, k = plan.guards, len(asked.outcomes)
    bits = [bool(code >> j & 1) for code, (_, _, count) in zip(found, plan.codes) for j in range(count)]
    while k < len(guards):
        asked.found(bits[k], guards[k].place)
        if bits[k] is not guards[k].outcome:
            asked.undraw(guards[k].draws)
            break
        k += 1
    return k
