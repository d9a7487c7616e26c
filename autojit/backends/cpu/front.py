"""Kernel text to LLVM text by Numba: for whatever `direct` does not read, and to say what is wrong with a text.

In: the text of a kernel.  Out: LLVM text.  Numba is the front end only, on two contexts of its own that know nothing but
`library`: the full ones take half a second to fill.  Importing this imports Numba.  Never optimises, and never touches the
contexts of a user's Numba.
"""

from __future__ import annotations

import ast
from functools import cache
from typing import Any

from numba.core import cpu, fastmathpass, imputils, types, typing
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler import Compiler, Flags, compile_extra
from numba.core.compiler_machinery import PassManager
from numba.core.errors import NumbaError
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.typing import templates
from numba.core.untyped_passes import (
    FixupArgs,
    IRProcessing,
    ReconstructSSA,
    TranslateByteCode,
)

from autojit.backends.cpu import interpret, library
from autojit.backends.cpu.direct import compares
from autojit.errors import CompileError

_STORE_RESULT = 'store i8* null, i8** %"retptr"'  # a kernel returns nothing: callers may pass null
_LOOPS = ("getiter", "iternext", "pair_first", "pair_second")
SIGNATURE = (library.TABLE, types.int64, types.int64, types.int64)


class _Typing(typing.Context):
    """A typing context that holds Python's numbers, `range` and the words of kernels."""

    def _load_builtins(self) -> None:
        """Called by every compile; filled once, by `_contexts`."""

    def load_additional_registries(self) -> None:
        """None: kernels know neither arrays nor NumPy."""

    def resolve_value_type(self, val: Any) -> Any:
        """Words first: asking `typeof` about a builtin makes Numba import its containers."""
        return self._get_global_type(val) or super().resolve_value_type(val)


class _Target(cpu.CPUContext):
    """A target context without Numba's run time: no reference counts, no wrappers, no engine run."""

    def load_additional_registries(self) -> None:
        """Filled once, by `_contexts`."""

    def refresh(self) -> None:
        """Nothing can have been added since."""

    def post_lowering(self, mod: Any, library: Any) -> None:
        if self.fastmath:
            fastmathpass.rewrite_module(mod, self.fastmath)


class _Text(CPUCodeLibrary):
    """Keeps the LLVM text of the function that Numba lowers, and does nothing with it."""

    text = ""

    def add_ir_module(self, ir_module: Any) -> None:
        self.text = str(ir_module)

    def add_linking_library(self, library: Any) -> None:
        raise CompileError("a kernel called a function that is not part of the language")

    def _finalize_specific(self) -> None:
        """Never finalised: `compile_text` hands the text to LLVM."""


class _Compiler(Compiler):
    """Numba's pipeline without the passes that look for what kernels cannot contain."""

    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("kernel")
        for step in (TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA,
                     NopythonTypeInference, PreLowerStripPhis, IRLegalization, NativeLowering):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


@cache
def _contexts() -> tuple[Any, Any]:
    from numba.core.typing import builtins as _typed  # noqa: F401  (fills the builtin registries)
    from numba.cpython import builtins, numbers, rangeobj  # noqa: F401

    typing_context = _Typing()
    target_context = _Target(typing_context)
    loops = templates.Registry()  # all that kernels take from Numba's own words
    loops.functions = [t for t in templates.builtin_registry.functions if getattr(t, "key", None) in _LOOPS]
    loops.globals = [(value, ty) for value, ty in templates.builtin_registry.globals if value is range]
    for registry in (loops, library.TYPING):
        typing_context.install_registry(registry)
    for registry in (imputils.builtin_registry, library.LOWERING):
        target_context.install_registry(registry)
    return typing_context, target_context


def _flags(fused: bool) -> Any:
    flags = Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.nrt, flags.error_model, flags.fastmath = False, "numpy", {"contract"} if fused else False
    return flags


def translate(text: str, name: str) -> str:
    """LLVM text of the kernel, by Numba."""
    namespace = interpret.python_namespace()
    try:
        exec(compile(text, f"<{name}>", "exec"), namespace)
        kernel = namespace["kernel"]
        typing_context, target_context = _contexts()
        if library.ensure(kernel.__code__.co_names):
            typing_context.install_registry(library.TYPING)
            target_context.install_registry(library.LOWERING)
        out = _Text(target_context.codegen(), name)
        made = compile_extra(typing_context, target_context, kernel, SIGNATURE, types.void,
                             _flags(not compares(ast.parse(text))), {}, library=out, pipeline_class=_Compiler)
    except (NumbaError, SyntaxError, KeyError, NotImplementedError) as e:
        raise CompileError(f"Numba refuses a kernel: {e}\n{text}") from e
    text_of_llvm = out.text.replace(made.fndesc.llvm_func_name, name)
    return text_of_llvm.replace(_STORE_RESULT, "")
