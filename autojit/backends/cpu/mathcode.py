"""LLVM code of the mathematical words: one small module a function, made once and kept.

In: a name such as ``exp_f32``.  Out: bitcode that defines ``autojit_exp_f32``, to be linked into
kernels and inlined there: some milliseconds each, so the bitcode travels to the disk cache and back (see
`compiler`).  What vecmath lacks is a call of the C library.  Never runs code.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from autojit.backends.cpu import interpret, target
from autojit.errors import CompileError

_FLOAT_WORD = re.compile(r"\b([a-z0-9]+)_f(?:32|64)\b")
_DECLARED = re.compile(r'^declare \w+ @"?autojit_(\w+?)"?\(.*\)$', re.M)
_PURE = "nounwind willreturn memory(none)"
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
MOST_IN_LOOPS = 64
"""Calls in code with loops.  Beyond, loops call functions of vectors: a third of the time to compile, 10 to 40 % slower."""

_known: dict[str, bytes] = {}


def words_in(text: str) -> list[str]:
    """The mathematical words of a kernel text, sorted."""
    return sorted({m[0] for m in _FLOAT_WORD.finditer(text) if m[1] in _NAMES})


def calls_in(text: str) -> int:
    """How many times a kernel text names a mathematical word."""
    return sum(m[1] in _NAMES for m in _FLOAT_WORD.finditer(text))


def called_apart(text: str) -> bool:
    """Are the words of a text called, and not inlined?  Where they are many."""
    return calls_in(text) > (MOST_IN_LOOPS if " for " in text else MOST_INLINED)


def forms(text: str) -> list[str]:
    """The functions of vectors that the loops of a text call: ``exp_f32_v16``."""
    if " for " not in text or not called_apart(text):
        return []
    from autojit.backends.cpu import vecmath

    bits, names = target.vector_bits(), []
    for word in words_in(text):
        lanes = bits // int(word[-2:])
        if word in vecmath.FUNCTIONS:
            names += [f"{word}_v{lanes}", f"{word}_v{lanes // 2}"]  # the latter for rests, and beside float64
    return names


def needed(text: str) -> list[str]:
    """The names whose code a text is linked with."""
    return words_in(text) + forms(text)


def announced(llvm_text: str, names: list[str]) -> str:
    """LLVM text that declares words, with the vectoriser told of their forms for vectors."""
    lines: list[str] = []
    of: dict[str, list[str]] = {}
    for name in names:
        word, lanes = name.split("_v")
        of.setdefault(word, []).append(lanes)
        ty = f"<{lanes} x {_LLVM[word.rsplit('_', 1)[1]]}>"
        lines.append(f"declare {ty} @autojit_{name}({', '.join([ty] * _arity(word))}) {_PURE}")

    def tell(m: re.Match[str]) -> str:
        word = m[1]
        maps = [f"_ZGV_LLVM_N{n}{'v' * _arity(word)}_autojit_{word}(autojit_{word}_v{n})" for n in of.get(word, ())]
        return f'{m[0]} {_PURE} "vector-function-abi-variant"="{",".join(maps)}"' if maps else m[0]

    kept = ", ".join(f"ptr @autojit_{name}" for name in names)
    lines.append(f'@llvm.compiler.used = appending global [{len(names)} x ptr] [{kept}], section "llvm.metadata"')
    return "\n".join([_DECLARED.sub(tell, llvm_text), *lines, ""])


def learn(codes: dict[str, bytes]) -> None:
    """Take bitcode that another process made."""
    _known.update(codes)


def known() -> dict[str, bytes]:
    """Bitcode of every function this process has made or learned."""
    return dict(_known)


def bitcode(name: str) -> bytes:
    """The module of one function (of scalars, to be inlined; ``_v16``: of vectors), made at the first call."""
    code = _known.get(name)
    if code is None:
        word, _, lanes = name.partition("_v")
        module = llvm.parse_assembly(_from_vecmath(word, int(lanes or 0)) or _from_libm(word))
        module.verify()
        target.optimise(module, vectorise=False)
        module.get_function(f"autojit_{name}").linkage = "linkonce_odr"  # goes once it is inlined
        code = _known[name] = module.as_bitcode()
    return code


def late_code(module: Any) -> list[Any]:
    """Modules to link into an optimised one: what its words left undefined."""
    undefined = [f.name for f in module.functions if f.is_declaration and f.name.startswith("autojit_")]
    if not undefined:
        return []
    from autojit.backends.cpu.vecmath import powers

    return [llvm.parse_bitcode(_late_bitcode(*name)) for name in powers.late_names(undefined)]


@cache
def _late_bitcode(what: str, kind: str) -> bytes:
    from autojit.backends.cpu.vecmath import powers

    return llvm.parse_assembly(_placed(powers.late_module(what, kind))).as_bitcode()  # type: ignore[no-any-return]


def _placed(module: Any) -> str:
    """The text of a module that knows its machine."""
    module.triple, module.data_layout = llvm.get_process_triple(), str(target.machine().target_data)
    return str(module)


def _arity(name: str) -> int:
    return 2 if name.rsplit("_", 1)[0] in interpret.BINARY else 1


def _from_vecmath(name: str, lanes: int) -> str:
    """The function as text; empty when vecmath lacks it."""
    from autojit.backends.cpu import vecmath

    if name not in vecmath.FUNCTIONS:
        return ""
    return _placed(vecmath.module(name, _arity(name), lanes))


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
