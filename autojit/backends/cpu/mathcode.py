"""LLVM code of the mathematical words: one small module a function, made once and kept.

In: a name such as ``exp_f32``.  Out: bitcode that defines ``autojit_exp_f32``, to be linked into
kernels and inlined there: some milliseconds each, so the bitcode travels to the disk cache and back (see
`compiler`).  What vecmath lacks is a call of the C library.  Never runs code.
"""

from __future__ import annotations

import re
from typing import Any

import llvmlite.binding as llvm

from autojit.backends.cpu import interpret, target
from autojit.errors import CompileError

_FLOAT_WORD = re.compile(r"\b([a-z0-9]+)_f(?:32|64)\b")
_NAMES = frozenset(interpret.MATH)
_LLVM = {"f32": "float", "f64": "double"}

LIBM = {name: name for name in ("exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh "
                                "cosh tanh asinh acosh atanh cbrt erf erfc pow atan2 hypot").split()}
LIBM["lgamma"] = "lgamma"

OUTSIDE = frozenset(n + s for n in (*LIBM.values(), "fmod", "fma", "sqrt", "floor", "ceil", "trunc",
                                    "rint", "fmax", "fmin") for s in ("", "f")
                    ) | {"memcpy", "memset", "memmove", "sincos", "sincosf"}
"""Symbols that kernels may leave undefined: the C library's, found in every process."""

MOST_INLINED = 100
"""Calls in straight code; 1,500 inlined ones take 4.6 s of LLVM's time, called ones 0.2 s."""

_known: dict[str, bytes] = {}


def words_in(text: str) -> list[str]:
    """The mathematical words of a kernel text, sorted."""
    return sorted({m[0] for m in _FLOAT_WORD.finditer(text) if m[1] in _NAMES})


def calls_in(text: str) -> int:
    """How many times a kernel text names a mathematical word."""
    return sum(m[1] in _NAMES for m in _FLOAT_WORD.finditer(text))


def called_apart(text: str) -> bool:
    """Are the words of a text called, and not inlined?  Where there is no loop to vectorise, and they are many."""
    return " for " not in text and calls_in(text) > MOST_INLINED


def learn(codes: dict[str, bytes]) -> None:
    """Take bitcode that another process made."""
    _known.update(codes)


def known() -> dict[str, bytes]:
    """Bitcode of every function this process has made or learned."""
    return dict(_known)


def bitcode(name: str) -> bytes:
    """The module of one function, made at the first call."""
    code = _known.get(name)
    if code is None:
        module = llvm.parse_assembly(_from_vecmath(name) or _from_libm(name))
        module.verify()
        target.optimise(module, vectorise=False)
        module.get_function(f"autojit_{name}").linkage = "linkonce_odr"  # goes once it is inlined
        code = _known[name] = module.as_bitcode()
    return code


def late_code(module: Any) -> list[Any]:
    """Modules to link into an optimised one: what its words left undefined."""
    undefined = {f.name for f in module.functions if f.is_declaration and f.name.startswith("autojit_")}
    if not undefined:
        return []
    from autojit.backends.cpu import vecmath

    return [llvm.parse_assembly(_placed(m)) for m in vecmath.late(undefined)]


def _placed(module: Any) -> str:
    """The text of a module that knows its machine."""
    module.triple, module.data_layout = llvm.get_process_triple(), str(target.machine().target_data)
    return str(module)


def _arity(name: str) -> int:
    return 2 if name.rsplit("_", 1)[0] in interpret.BINARY else 1


def _from_vecmath(name: str) -> str:
    """The function as text; empty when vecmath lacks it."""
    from autojit.backends.cpu import vecmath

    if name not in vecmath.FUNCTIONS:
        return ""
    return _placed(vecmath.module(name, _arity(name)))


def _from_libm(name: str) -> str:
    base, suffix = name.rsplit("_", 1)
    if base not in LIBM:
        raise CompileError(f"no code for the word {name}")
    ty = _LLVM[suffix]
    params = ", ".join(f"{ty} %x{i}" for i in range(_arity(name)))
    symbol = LIBM[base] + ("f" if suffix == "f32" else "")
    types = ", ".join([ty] * _arity(name))
    return (f"declare {ty} @{symbol}({types}) nounwind willreturn memory(none)\n"
            f"define {ty} @autojit_{name}({params}) alwaysinline nounwind {{\n"
            f"  %r = call {ty} @{symbol}({params})\n  ret {ty} %r\n}}\n")
