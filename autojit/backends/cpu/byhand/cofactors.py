"""The gradient of the determinant, and that gradient's derivative, as kernels.

In: a `Form` whose operands are batches of matrices.  Out: its kernels, over matrices.  Both are made of singular values with
one or two of them left out, so they are right for singular matrices too.  All is computed in float64.
"""

from __future__ import annotations

from ....dtypes import float32, float64
from . import Form, chunk_rows
from .factorisations import many
from .fortran import INFO, Calls
from .spectra import ONE, SINGULAR_PLACES, cost, finite, singular, singular_sizes, worded


def _signed(call: Calls) -> str:
    """Lines that give `sign` the determinant of U and Vh, which they leave in factors."""
    return "        sign = f8(1.0)\n" + "".join([f"""
        {call.line("dgetrf", "n", "n", f"&w[{matrix}]", "n", "&whole[first]", INFO)}
        for i in range(n):
            sign = select(w[{matrix} + i * n + i] < f8(0.0), -sign, sign)
            if whole[first + i] > i + 1:
                sign = -sign
""".strip("\n") + "\n" for matrix in ("u", "v")])


def _made(f: Form, inner: str, call: Calls, more: dict[str, str] | None = None) -> None:
    """The kernel: `inner` leaves the result at z[side:] but for the sign."""
    f.room("z", float64, call.chunks * 3 * (f.avals[0].shape[-1] ** 2 + 16))
    body = SINGULAR_PLACES + """
    side = chunk * 3 * (n * n + 16)
    for k in range(lo, hi):
        at = k * n * n
""" + finite("n * n", singular(f, call, True) + inner + _signed(call) + f"""
        for j in range(n * n):
            y[at + j] = {"to_f32" if f.out.dtype is float32 else ""}(z[side + j] * sign)
""")
    call.before.append(ONE)
    names = {"w": "w", "whole": "whole", "z": "z"}
    call.kernel(worded(f, body), {"x": "in0", "y": "out"} | names | (more or {}), singular_sizes(f, call.chunks, True), many(f),
                ("out", *names))


def cofactor(f: Form) -> None:
    """U and Vh with the products of the other singular values between them, times the determinant of both."""
    if not f.avals[0].size:
        return
    call = Calls(f, chunk_rows(many(f), 2 * cost(f)))
    _made(f, f"""
        for i in range(n):
            others = f8(1.0)
            for p in range(n):
                others = others * select(to_b1(p - i), w[values + p], f8(1.0))
            for j in range(n):
                w[base + i * n + j] = w[u + i * n + j] * others
        {call.line("dgemm", "'T'", "'T'", "n", "n", "n", "one", "&w[v]", "n", "&w[base]", "n", "0", "&z[side]", "n")}
""", call)


def cofactor_along(f: Form) -> None:
    """With E = U.T C V: between U and Vh stand -rest[i, j] E[j, i], on the diagonal sums of rest[i, j] E[j, j], where rest is
    the product of the singular values but two."""
    if not f.avals[0].size:
        return
    call = Calls(f, chunk_rows(many(f), 4 * cost(f)))
    load = "to_f64({})" if f.avals[1].dtype is float32 else "{}"
    left = call.line("dgemm", "'N'", "'N'", "n", "n", "n", "one", "&w[v]", "n", "&w[base]", "n", "0", "&z[side]", "n")
    turned = call.line("dgemm", "'N'", "'N'", "n", "n", "n", "one", "&z[side]", "n", "&w[u]", "n", "0", "&z[e]", "n")
    back = call.line("dgemm", "'T'", "'T'", "n", "n", "n", "one", "&w[v]", "n", "&z[inner]", "n", "0", "&w[base]", "n")
    done = call.line("dgemm", "'N'", "'T'", "n", "n", "n", "one", "&w[base]", "n", "&w[u]", "n", "0", "&z[side]", "n")
    _made(f, f"""
        for j in range(n * n):
            w[base + j] = {load.format("c[at + j]")}
        e = side + n * n + 16
        inner = e + n * n + 16
        {left}
        {turned}
        for i in range(n):
            z[inner + i * n + i] = f8(0.0)
        for i in range(n):
            for j in range(n):
                if j < i or j > i:
                    rest = f8(1.0)
                    for p in range(n):
                        rest = rest * select(to_b1((p - i) * (p - j)), w[values + p], f8(1.0))
                    z[inner + j * n + i] = -rest * z[e + j * n + i]
                    z[inner + i * n + i] = z[inner + i * n + i] + rest * z[e + j * n + j]
        {back}
        {done}
""", call, {"c": "in1"})
