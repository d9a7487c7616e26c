"""Numba-CUDA's compiler with nothing in it but the words of kernels.

In: a Python function and Numba's types of its arguments.  Out: PTX.  Two contexts that know `library` alone, a pipeline without
the passes that look for what kernels cannot contain, and NVVM called by ourselves: two thirds of the time of the public way, a
third for the first kernel.  Importing this raises ImportError or AttributeError where Numba-CUDA is put
together otherwise than up to 0.30.
"""

from __future__ import annotations

from typing import Any

from numba.core.errors import NumbaError
from numba.cuda import compiler, lowering, target
from numba.cuda.core import analysis, callconv, ir, transforms, typed_passes, untyped_passes
from numba.cuda.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.cuda.cpython import builtins, numbers, tupleobj
from numba.cuda.cudadrv import nvvm
from numba.cuda.flags import CUDAFlags
from numba.cuda.typing import builtins as typed
from numba.cuda.typing import context, templates

from autojit.backends.cuda import library
from autojit.backends.cuda.types import types
from autojit.backends.cuda.words import setting

_LOOPS = ("getiter", "iternext", "pair_first", "pair_second", "static_getitem")


class _Typing(context.BaseContext):  # type: ignore[misc]
    """A typing context that holds loops and the words of kernels."""

    def _load_builtins(self) -> None:
        """Called by every compile; filled once, below."""

    def resolve_value_type(self, val: Any) -> Any:
        """Words first: asking `typeof` takes longer."""
        return self._get_global_type(val) or super().resolve_value_type(val)


class _Target(target.CUDATargetContext):  # type: ignore[misc]
    def load_additional_registries(self) -> None:
        """Filled once, below."""

    def refresh(self) -> None:
        """Nothing can have been added since."""


@register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[untyped-decorator]
class _Plain(FunctionPass):  # type: ignore[misc]
    """A function that is no generator and counts no references: Numba need not know where its variables live."""

    _name = "autojit_plain"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.func_ir.blocks = transforms.canonicalize_cfg(state.func_ir.blocks)
        state.func_ir.generator_info = state.type_annotation = None
        return True


class _Lower(lowering.CUDALower):  # type: ignore[misc]
    def _find_singly_assigned_variable(self) -> None:
        """Values that need no place on the stack: assigned once, and read in that block alone.  Numba looks through the block
        for each of them."""
        assigned: dict[str, int] = {}
        for block in self.func_ir.blocks.values():
            for statement in block.find_insts(ir.assign_types):
                name = statement.target.name
                assigned[name] = assigned.get(name, 0) + 1
        elsewhere: set[str] = set().union(*analysis.compute_use_defs(self.func_ir.blocks).usemap.values())
        self._singly_assigned_vars = {name for name, times in assigned.items() if times == 1 and name not in elsewhere}
        self._blk_local_varmap: dict[str, Any] = {}


@register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[untyped-decorator]
class _Lowering(compiler.CUDANativeLowering):  # type: ignore[misc]
    _name = "autojit_lowering"

    @property
    def lowering_class(self) -> Any:
        return _Lower


_BEFORE = (compiler.CUDATranslateBytecode, untyped_passes.FixupArgs)
_AFTER = (compiler.CreateLibrary, _Lowering, compiler.CUDABackend)


def _pipeline(*steps: Any) -> Any:
    """A compiler that takes these steps."""
    class Pipeline(compiler.CUDACompiler):  # type: ignore[misc]
        def define_pipelines(self) -> list[Any]:
            passes = PassManager("kernel")
            for step in (*_BEFORE, *steps, *_AFTER):
                passes.add_pass(step, step.__name__)
            passes.finalize()
            return [passes]

    return Pipeline


_QUICK = _pipeline(_Plain, typed_passes.NopythonTypeInference)
# a name may have several types, one after the other
_WHOLE = _pipeline(untyped_passes.IRProcessing, untyped_passes.ReconstructSSA, typed_passes.NopythonTypeInference,
                   typed_passes.PreLowerStripPhis, typed_passes.IRLegalization, typed_passes.AnnotateTypes)


_typing = _Typing()
_target = _Target(_typing)
_loops = templates.Registry()
_loops.functions = [t for t in typed.registry.functions if getattr(t, "key", None) in _LOOPS]
_typing.install_registry(_loops)
for _module in (builtins, numbers, tupleobj):
    _target.install_registry(_module.registry)


def refresh() -> None:
    """Take in the words that were added to `library` since."""
    _typing.install_registry(library.TYPING)
    _target.install_registry(library.LOWERING)


refresh()


def _lowered(pipeline: Any, kernel: Any, args: Any, flags: Any) -> Any:
    return compiler.compile_extra(
        typingctx=_typing, targetctx=_target, func=kernel, args=args, return_type=types.void, flags=flags, locals={},
        pipeline_class=pipeline, call_conv=callconv.CUDACallConv(_target), abi_info={})


def ptx(kernel: Any, args: Any, threads: int, cc: tuple[Any, ...]) -> str:
    """PTX of a kernel, as NVVM writes it."""
    flags = CUDAFlags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model, flags.compute_capability = "numpy", cc
    try:
        made = _lowered(_QUICK, kernel, args, flags)
    except NumbaError:
        made = _lowered(_WHOLE, kernel, args, flags)
    made.library.finalize()
    entry = made.library.get_function(made.fndesc.llvm_func_name)
    compiler.kernel_fixup(entry, False)
    nvvm.set_launch_bounds(entry, threads)
    for argument in entry.args:
        if hasattr(argument.type, "addrspace"):
            argument.add_attribute("noalias")
    llvm = library.ENVIRONMENT.sub("", "\n".join(map(str, made.library.modules)))
    options = {"fma": False} if setting.compares else {}
    return str(nvvm.compile_ir([llvm], arch="compute_" + "".join(map(str, cc)), opt=3, **options).decode())
