"""The shortest way from tensors to a native program and back: a function written for one signature.

In: a plan whose program is compiled, and avals.  Out: a Python function without loops or lookups, about a microsecond shorter
than the general way.  It returns None where anything is not as when it was written, and the general way answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..eager.state import state
from ..eager.tensor import of_buffer
from ..ir.aval import Aval
from ..ir.primitive import BUFFER
from .plan import Plan

USES = 8                                                  # calls of a signature before a function is written for it


def write(traced: Any, plan: Plan, native: Any, arguments: Sequence[Aval], results: Sequence[Aval],
          nested: bool) -> Callable[..., Any]:
    """`call(*tensors) -> (value, gradient)`, or (value, (gradients...)) if `nested`; None if it does not apply.

    `native` runs in one plan and has no host steps; the recording has neither captured tensors nor checks.
    """
    names = [f"x{k}" for k in range(len(arguments))]
    lines = [f"def call({', '.join(names)}):"]
    for k, x in enumerate(names):
        lines += [f"    s = {x}.storage; n{k} = s.value",
                  f"    if ({x}.aval is not a{k} or {x}.fn is not None or {x}.req or {x}.chain or s.mem is not None",
                  f"            or n{k}.prim is not BUFFER): return None"]
    watched = " or changed() is not None" if plan.watch.anything else ""
    lines.append(f"    if state.trace is not None{watched}: return None")
    for k in range(len(results)):
        lines.append(f"    r{k} = " + (f"empty(shape{k}, dtype{k})" if native.pools[k].small else f"take{k}()"))
    given = [f"n{k}.data" for k in range(len(arguments))] + [f"r{k}" for k in range(len(results))]
    lines.append(f"    if run(address, {', '.join(given)}): return None")
    lines.append("    traced.last = plan")
    made = [f"of_buffer(r{k}, b{k})" for k in range(len(results))]
    rest = f"({', '.join(made[1:])},)" if nested else made[1]
    lines.append(f"    return {made[0]}, {rest}")
    names_in: dict[str, Any] = {"BUFFER": BUFFER, "state": state, "changed": plan.watch.changed, "traced": traced,
                                "plan": plan, "empty": np.empty,
                                "of_buffer": of_buffer, "run": native.run, "address": native.address}
    names_in.update({f"a{k}": a for k, a in enumerate(arguments)})
    for k, (r, pool) in enumerate(zip(results, native.pools)):
        names_in.update({f"b{k}": r, f"shape{k}": r.shape, f"dtype{k}": r.dtype.np, f"take{k}": pool.take})
    exec(compile("\n".join(lines), f"<the short way of {plan.body.name}>", "exec"), names_in)
    return names_in["call"]  # type: ignore[no-any-return]


def applies(plan: Plan, native: Any) -> bool:
    """Can a function be written for this plan?"""
    return bool(getattr(native, "address", 0)) and not (plan.captured or plan.draws or plan.before or plan.after)
