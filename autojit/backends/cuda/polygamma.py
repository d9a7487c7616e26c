"""Derivatives of digamma, by sums: polygamma(n, x) = (-1)**(n + 1) n! zeta(n + 1, x).

In: a builder, a float, a constant n >= 0.  Out: an LLVM value.  The Hurwitz zeta function is summed up to where Euler and
Maclaurin's formula takes over; for x < 0 from below, as SciPy does.  At the poles 0, -1, ... it is Inf.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from autojit.backends.cpu.instructions import power
from autojit.backends.cuda.words import F32, call, declared, device

# B(2 k) / (2 k)! for k = 1, 2, ...
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)
_FROM, _TERMS = {"f32": 9.0, "f64": 12.0}, {"f32": 4, "f64": 7}  # from there on, and n more


def called(b: ir.IRBuilder, x: Any, n: int) -> Any:
    """polygamma(n, x)."""
    from autojit.backends.cuda import mathematics

    kind = "f32" if x.type == F32 else "f64"
    if n == 0:
        return mathematics.called(b, f"digamma_{kind}", [x])
    name = f"autojit_polygamma{n}_{kind}"
    function = declared(b.module, name, x.type, x.type)
    if function.is_declaration:
        function.linkage = "internal"
        _write(function, n, kind)
    return call(b, name, x.type, x)


def _write(function: Any, n: int, kind: str) -> None:
    x, ty, s, start = function.args[0], function.args[0].type, n + 1, _FROM[kind] + n
    entry, loop, turn, tail = (function.append_basic_block(name) for name in ("entry", "loop", "turn", "tail"))
    b = ir.IRBuilder(entry)
    pole = b.and_(b.fcmp_ordered("<=", x, ty(0.0)), b.fcmp_ordered("==", device(b, "floor", x), x))
    b.branch(loop)
    b.position_at_end(loop)
    a, total = b.phi(ty), b.phi(ty)
    a.add_incoming(x, entry)
    total.add_incoming(ty(0.0), entry)
    b.cbranch(b.fcmp_ordered("<", a, ty(start)), turn, tail)
    b.position_at_end(turn)
    one = ty(1.0)
    more = b.fadd(total, b.fdiv(one, power(b, a, s)))
    after = b.fadd(a, one)
    stuck = b.fcmp_ordered("==", after, a)                # so far below 0 that steps of 1 are lost
    following = b.select(stuck, ty(start), after)
    a.add_incoming(following, turn)
    total.add_incoming(more, turn)
    b.branch(loop)
    b.position_at_end(tail)
    # a**(1-s) / (s-1) + a**-s / 2 + sum of B(2 k) / (2 k)! s (s+1) ... (s+2 k-2) a**(1-s-2 k)
    inverse = b.fdiv(one, a)
    square = b.fmul(inverse, inverse)
    rest = ty(0.0)
    for k in reversed(range(1, _TERMS[kind] + 1)):
        rising = math.prod(range(s, s + 2 * k - 1))
        rest = b.fmul(b.fadd(rest, ty(_BERNOULLI[k - 1] * rising)), square if k > 1 else inverse)
    scale = power(b, inverse, s - 1)
    near = b.fadd(ty(1.0 / (s - 1)), b.fmul(inverse, b.fadd(ty(0.5), rest)))
    zeta = b.fadd(total, b.fmul(scale, near))
    factor = float(math.factorial(n)) * (1.0 if n % 2 else -1.0)
    result = b.fmul(ty(factor), zeta)
    b.ret(b.select(pole, ty(math.copysign(math.inf, factor)), result))
