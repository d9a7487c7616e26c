"""What each word of kernel text is in an exported module: an expression over the names of `exported`.

In: kernel texts.  Out: the text of the definitions that they need.  The same words with the same instructions as `words` has,
whose table this one follows; a test holds them against the language (`interpret`).  Never imports Numba.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from . import interpret
from .extract import Extract

_NAME = re.compile(r"[A-Za-z_]\w*")
_POWERS = {("vecmath.powers", "scale"): "def scale(p, t, k):\n    return _scale_by_bits(p, bits(t), k)",
           ("vecmath.powers", "split"): "def split(x):\n    return _split_by_bits(x)"}
"""Single instructions of some processors, which are linked in late, are left out: an exported module runs anywhere."""

_REGISTERED = {("exported", "Buffer"): ("BufferModel", "load", "Load", "store", "Store"),
               ("exported", "called"): ("CALL_TYPED", "call_outside"),
               ("exported", "called_f64"): ("NUMBER_TYPED", "number_outside")}
_INTRINSICS = {"sqrt": 1, "floor": 1, "ceil": 1, "trunc": 1, "rint": 1, "fabs": 1, "maximum": 2, "minimum": 2, "maxnum": 2,
               "minnum": 2, "copysign": 2, "fma": 3}
_CALLED = {"fabs": "abs", "maxnum": "fmax", "minnum": "fmin"}


def _floats(s: str) -> dict[str, str]:
    ty, bits = ("F32", "I32") if s == "f32" else ("F64", "I64")
    out = {}
    for llvm, arity in _INTRINSICS.items():
        args = ", ".join("xyz"[:arity])
        wanted = " ".join([s] * arity)
        out[f"{_CALLED.get(llvm, llvm)}_{s}"] = f'word("{s}", "{wanted}", lambda b, {args}: llvm(b, "{llvm}", {args}))'
    two = f'"{s}", "{s} {s}"'
    size = 'llvm(b, "fabs", x)'
    out |= {f"{name}_{s}": text for name, text in {
        "add": f"word({two}, lambda b, x, y: b.fadd(x, y, flags=FREE_ORDER))",
        "mul": f"word({two}, lambda b, x, y: b.fmul(x, y, flags=FREE_ORDER))",
        "fmod": f"word({two}, lambda b, x, y: b.frem(x, y))",
        "remainder": f"word({two}, remainder_float)",
        "floordiv": f"word({two}, floordiv_float)",
        "isnan": f'word("b1", "{s}", lambda b, x: b.fcmp_unordered("uno", x, x))',
        "isinf": f'word("b1", "{s}", lambda b, x: b.fcmp_ordered("==", {size}, {ty}(float("inf"))))',
        "isfinite": f'word("b1", "{s}", lambda b, x: b.fcmp_ordered("<", {size}, {ty}(float("inf"))))',
        "signbit": f'word("b1", "{s}", lambda b, x: b.icmp_signed("<", b.bitcast(x, {bits}), {bits}(0)))',
        "bits": f'word("i64", "{s}", lambda b, x: to_integer(b, b.bitcast(x, {bits}), {bits}.width))',
        "from_bits": f'word("{s}", "i64", lambda b, i: b.bitcast(i if {bits} == I64 else b.trunc(i, {bits}), {ty}))',
        "powi": f'powers("{s}", power)', "to": f'cast("{s}", lambda b, x: to_float(b, x, {ty}))', "c": f'slot("{s}")',
    }.items()}
    return out


def _integers() -> dict[str, str]:
    two = '"i64", "i64 i64"'
    shifts = {"shl": "shift(b, b.shl, x, n, I64(0))", "ushr": "shift(b, b.lshr, x, n, I64(0))",
              "shr": "shift(b, b.ashr, x, n, b.ashr(x, I64(63)))"}
    out = {f"{name}_i64": f"word({two}, lambda b, x, y: b.{name}(x, y))" for name in ("add", "sub", "mul")}
    out |= {f"{name}_i64": f"word({two}, lambda b, x, n: {text})" for name, text in shifts.items()}
    out |= {f"{name}_i64": f"word({two}, {function})" for name, function in (
        ("floordiv", "floordiv_int"), ("remainder", "remainder_int"), ("fmod", "fmod_int"), ("pow", "pow_int"))}
    out |= {f"{name}_i64": f'word({two}, lambda b, x, y: llvm(b, "{llvm}", x, y))' for name, llvm in (
        ("maximum", "smax"), ("minimum", "smin"))}
    return out | {
        "neg_i64": 'word("i64", "i64", lambda b, x: b.neg(x))', "powi_i64": 'powers("i64", power)',
        "abs_i64": 'word("i64", "i64", lambda b, x: b.select(b.icmp_signed("<", x, I64(0)), b.neg(x), x))',
        "index_div": f"word({two}, lambda b, i, n: b.udiv(i, n))", "index_mod": f"word({two}, lambda b, i, n: b.urem(i, n))",
        "to_b1": 'cast("b1", to_bool)', "size": 'slot("i64")', "c_i64": 'slot("i64")', "select": "choice()",
        **{f"philox_{s}": f'word("{s}", "i64 i64 i64", lambda b, place, seed, draw: philox(b, place, seed, draw, {ty}))'
           for s, ty in (("i64", "I64"), ("f32", "F32"), ("f64", "F64"))},
        "address": "place_of", "call": "called", "call_f64": "called_f64", "refuse": "refused",
        "f4": "np.float32", "f8": "np.float64", "inf": "np.inf", "nan": "np.nan",
        **{f"to_{v}": f'cast("i64", lambda b, x: to_integer(b, x, {bits}, {v != "u8"}))' for v, bits in (
            ("i64", 64), ("i32", 32), ("i16", 16), ("i8", 8), ("u8", 8))},
        **{view: f'buffer("{view}")' for view in interpret.VIEWS}}


@cache
def table() -> dict[str, str]:
    """Word → its definition; those of vecmath apart."""
    return {**_floats("f32"), **_floats("f64"), **_integers()}


def definitions(texts: Sequence[str], others: Sequence[str] = ()) -> tuple[list[str], str]:
    """(imports, definitions) of all words in kernel texts, and of further names of `exported`."""
    from .vecmath import FUNCTIONS

    known = table()
    used = sorted({n for text in texts for n in _NAME.findall(text)})
    out = Extract(_POWERS, _REGISTERED)
    out.reserve([*known, *FUNCTIONS, "intrinsic"])
    for name in others:
        out.need("exported", name)
    for name in used:
        if name in known:
            out.define(name, known[name], "exported")
        elif name in FUNCTIONS:
            f = FUNCTIONS[name]
            file = f.__module__.removeprefix("autojit.backends.cpu.")
            made = out.need(file, f.__name__)
            base, kind = name.rsplit("_", 1)
            out.define(name, f'mathematics("{kind}", {2 if base in interpret.BINARY else 1}, {made})', "exported")
    return sorted(out.imports), out.text()
