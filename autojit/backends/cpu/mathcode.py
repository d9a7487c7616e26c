"""LLVM code of the mathematical words: one small module a function, made once and kept.

In: a name such as ``exp_f32``.  Out: bitcode that defines ``autojit_exp_f32``, to be linked into
kernels and inlined there.  A function of `vecmath` is compiled by the whole of Numba (half a second
in a fresh process, so the bitcode travels to the disk cache and back, see `compiler`); what vecmath
lacks is a call of the C library.  Never runs code.
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
        module = llvm.parse_assembly(_from_numba(name) or _from_libm(name))
        module.verify()
        target.optimise(module, vectorise=False)
        module.get_function(f"autojit_{name}").linkage = "linkonce_odr"  # goes once it is inlined
        code = _known[name] = module.as_bitcode()
    return code


def _function(name: str) -> Any:
    try:
        from autojit.backends.cpu import vecmath
    except ImportError:
        return None
    return vecmath.FUNCTIONS.get(name)


def _shape(name: str) -> tuple[str, str, str]:
    """(LLVM type, parameters, head of the definition) of a word."""
    base, suffix = name.rsplit("_", 1)
    ty = _LLVM[suffix]
    count = 2 if base in interpret.BINARY else 1
    params = ", ".join(f"{ty} %x{i}" for i in range(count))
    return ty, params, f"define {ty} @autojit_{name}({params}) alwaysinline nounwind"


def _from_libm(name: str) -> str:
    base, suffix = name.rsplit("_", 1)
    if base not in LIBM:
        raise CompileError(f"no code for the word {name}")
    ty, params, head = _shape(name)
    symbol = LIBM[base] + ("f" if suffix == "f32" else "")
    types = ", ".join(p.split()[0] for p in params.split(", "))
    return (f"declare {ty} @{symbol}({types}) nounwind willreturn memory(none)\n"
            f"{head} {{\n  %r = call {ty} @{symbol}({params})\n  ret {ty} %r\n}}\n")


def _from_numba(name: str) -> str:
    """The function as Numba compiles it, behind a plain signature; empty when vecmath lacks it."""
    function = _function(name)
    if function is None:
        return ""
    from numba.core import types
    from numba.core.compiler import Flags, compile_extra
    from numba.core.registry import cpu_target

    ty, params, head = _shape(name)
    scalar = types.float32 if ty == "float" else types.float64
    flags = Flags()
    cpu_target.options.parse_as_flags(flags, getattr(function, "targetoptions", {}))
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.no_compile, flags.nrt = True, False  # LLVM's part is done below, and nothing is run here
    made = compile_extra(cpu_target.typing_context, cpu_target.target_context,
                         getattr(function, "py_func", function), (scalar,) * (params.count(",") + 1),
                         scalar, flags, {})
    inner = made.fndesc.llvm_func_name
    module = made.library._final_module
    for helpers in dict.fromkeys(made.library._linking_libraries):
        module.link_in(helpers._get_module_for_linking(), preserve=True)
    for defined in (*module.functions, *module.global_variables):
        # Numba counts its names from 1 in every process, so they must not meet; vecmath's own names are its own
        if not (defined.is_declaration or defined.name.startswith(("llvm.", "autojit_"))):
            defined.linkage = "internal"
    text = str(module)
    if not (f"@{inner}(" in text or f'@"{inner}"(' in text):
        raise CompileError(f"Numba did not define {inner}")
    return (f"{text}\n{head} {{\n  %slot = alloca {ty}\n"  # appended: linking cannot see an internal function
            f"  %s = call i32 @\"{inner}\"(ptr %slot, ptr null, {params})\n"
            f"  %r = load {ty}, ptr %slot\n  ret {ty} %r\n}}\n")
