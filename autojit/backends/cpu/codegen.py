"""Kernel text to object code, by LLVM.

In: the text of a kernel (see `interpret`).  Out: `Compiled`: a symbol, relocatable object bytes, the
outside symbols they need.  The code has the ABI ``int32 f(void *, void *, int64 *args, int64 lo,
int64 hi, int64 chunk)``; the two leading slots and the status (0) are those of Numba's functions, and not used.
`direct` reads the text; what it does not know goes to Numba (`front`), which is imported then.  Never executes what it
compiles.
"""

from __future__ import annotations

import re
import time
from typing import Any

import llvmlite.binding as llvm

from autojit.backends.cpu import direct, elf, mathcode, target
from autojit.backends.cpu.objects import Compiled, symbol_of
from autojit.errors import CompileError

_INLINED = re.compile(r"\balwaysinline\b")


def _front(text: str, name: str) -> str:
    """LLVM text of the kernel."""
    try:
        return direct.translate(text, name)
    except direct.Foreign:
        from . import front

        return front.translate(text, name)


def _not_inlined(module: Any) -> Any:
    """The module with functions that stay functions."""
    return llvm.parse_assembly(_INLINED.sub("noinline", str(module)))


def lower(text: str) -> Any:
    """The kernel as an optimised LLVM module."""
    name = symbol_of(text)
    front, forms = _front(text, name), mathcode.forms(text)
    module = llvm.parse_assembly(mathcode.announced(front, forms) if forms else front)
    module.verify()
    words = [llvm.parse_bitcode(mathcode.bitcode(word)) for word in mathcode.words_in(text)]
    apart = mathcode.called_apart(text)
    if not apart:
        _link(module, words, name)
    target.optimise(module)
    if apart:
        forms_code = [llvm.parse_bitcode(mathcode.bitcode(form)) for form in forms]
        _link(module, [*map(_not_inlined, words), *forms_code], name)
    _link(module, mathcode.late_code(module), name)
    target.drop_unused(module)
    return module


def _link(module: Any, others: list[Any], name: str) -> None:
    """Put other modules into one, and leave nothing visible but the kernel."""
    for other in others:
        module.link_in(other)
    for inner in (*module.functions, *module.global_variables):
        if not (inner.is_declaration or inner.name == name or inner.name.startswith("llvm.")):
            inner.linkage = "internal"


def _outside(module: Any, code: bytes, name: str) -> set[str]:
    if elf.NATIVE:
        defined, undefined = elf.symbols(code)
        if name not in defined:
            raise CompileError(f"the object code does not define {name}")
        return undefined
    return {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}


def compile_text(text: str) -> Compiled:
    """Compile one kernel.

    Raises CompileError with the text and the compiler's words: for a syntax or type error, an unknown
    word, or code that would need a symbol outside the C library.
    """
    start = time.perf_counter()
    name = symbol_of(text)
    module = lower(text)
    code = target.machine().emit_object(module)
    needs = _outside(module, code, name)
    foreign = sorted(needs - mathcode.OUTSIDE)
    if foreign:
        raise CompileError(f"a kernel would need {', '.join(foreign)} from outside:\n{text}")
    return Compiled(name, code, tuple(sorted(needs)), time.perf_counter() - start)


def assembly(text: str) -> str:
    """The machine code of a kernel, to read."""
    return target.assembly(lower(text))


def warm_up() -> None:
    """Do ahead of the first kernel what no kernel decides: make the target machine."""
    target.machine()
