"""Kernel text to PTX, by Numba-CUDA and NVVM.

In: the text of a kernel, its signature, the block size, the width of indices, the compute capability.  Out: PTX whose entry is
`name`, the same bytes in every process.  Numba-CUDA is the front end only, on two contexts of its own that know nothing but
`library`: the full ones take ten times as long a statement.  Where this Numba-CUDA is put together otherwise, its public
`cuda.compile` does it, more slowly.  Importing this imports Numba-CUDA.  Never needs a GPU.
"""

from __future__ import annotations

import ast
import re
import threading
from functools import cache
from typing import Any

from numba.core.errors import NumbaError as NumbaOwnError
from numba.cuda.core.errors import NumbaError

from autojit.backends.cuda import library
from autojit.backends.cuda.types import Array, index_type, kinds, types
from autojit.backends.cuda.words import setting
from autojit.errors import CacheWarning, CompileError

LOCK = threading.RLock()                                  # Numba's compilers share state, and `setting` is ours
_LOOPS = ("getiter", "iternext", "pair_first", "pair_second", "static_getitem")
_ENTRY = re.compile(r"\.visible \.entry (\S+?)\(")
_ENVIRONMENT = re.compile(r"^.*NumbaEnv.*$\n?", re.M)
_WRITING = ("store", "atomic")


# ------------------------------------------------------------------------------------------ text
def written(tree: ast.AST) -> set[str]:
    """Names of arrays that a kernel writes to."""
    out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            out.add(node.value.id)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith(_WRITING):
            out |= {a.id for a in node.args[:1] if isinstance(a, ast.Name)}
    return out


def _extremes(tree: ast.AST) -> bool:
    """Does a kernel look for greatest or least values?"""
    for node in ast.walk(tree):
        if (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
                and node.value.func.id.startswith(("maximum_f", "minimum_f")) and node.value.args
                and ast.unparse(node.value.args[0]) == ast.unparse(node.targets[0])):
            return True
    return False


def argument_types(tree: ast.FunctionDef, signature: tuple[str, ...], wide: bool) -> tuple[Any, ...]:
    """Numba's types of the parameters."""
    names = [a.arg for a in tree.args.args]
    if len(names) != len(signature):
        raise CompileError(f"a kernel of {len(names)} parameters, with a signature of {len(signature)}")
    changed, buffers = written(tree), [k for k, code in enumerate(signature) if code[0] == "*"]
    out: list[Any] = []
    for k, (name, code) in enumerate(zip(names, signature)):
        if code[0] == "*":
            out.append(Array(code[1:], "global", buffers.index(k), len(buffers), name not in changed))
        else:
            out.append(index_type(64 if wide else 32) if code == "ix" else kinds()[code])
    return tuple(out)


# -------------------------------------------------------------------------------------- contexts
@cache
def _private() -> Any:
    """What a kernel is compiled with: contexts of our own and a short pipeline.  AttributeError or ImportError where this
    Numba-CUDA is put together otherwise."""
    from numba.cuda import compiler, target
    from numba.cuda.core import callconv, typed_passes, untyped_passes
    from numba.cuda.core.compiler_machinery import PassManager
    from numba.cuda.cpython import builtins, numbers, tupleobj
    from numba.cuda.cudadrv import nvvm
    from numba.cuda.flags import CUDAFlags
    from numba.cuda.typing import builtins as typed
    from numba.cuda.typing import context, templates

    class Typing(context.BaseContext):  # type: ignore[misc]
        """A typing context that holds loops and the words of kernels."""

        def _load_builtins(self) -> None:
            """Called by every compile; filled once, below."""

        def resolve_value_type(self, val: Any) -> Any:
            return self._get_global_type(val) or super().resolve_value_type(val)

    class Target(target.CUDATargetContext):  # type: ignore[misc]
        def load_additional_registries(self) -> None:
            """Filled once, below."""

        def refresh(self) -> None:
            """Nothing can have been added since."""

    class Compiler(compiler.CUDACompiler):  # type: ignore[misc]
        """Numba-CUDA's pipeline without the passes that look for what kernels cannot contain."""

        def define_pipelines(self) -> list[Any]:
            passes = PassManager("kernel")
            for step in (compiler.CUDATranslateBytecode, untyped_passes.FixupArgs, untyped_passes.IRProcessing,
                         untyped_passes.ReconstructSSA, typed_passes.NopythonTypeInference,
                         typed_passes.PreLowerStripPhis, typed_passes.IRLegalization, typed_passes.AnnotateTypes,
                         compiler.CreateLibrary, compiler.CUDANativeLowering, compiler.CUDABackend):
                passes.add_pass(step, step.__name__)
            passes.finalize()
            return [passes]

    typing = Typing()
    loops = templates.Registry()
    loops.functions = [t for t in typed.registry.functions if getattr(t, "key", None) in _LOOPS]
    typing.install_registry(loops)
    whole = Target(typing)
    for module in (builtins, numbers, tupleobj):
        whole.install_registry(module.registry)

    def refresh() -> None:
        typing.install_registry(library.TYPING)
        whole.install_registry(library.LOWERING)

    def make(kernel: Any, args: Any, threads: int, cc: tuple[Any, ...]) -> str:
        flags = CUDAFlags()
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        flags.error_model, flags.compute_capability = "numpy", cc
        made = compiler.compile_extra(
            typingctx=typing, targetctx=whole, func=kernel, args=args, return_type=types.void, flags=flags, locals={},
            pipeline_class=Compiler, call_conv=callconv.CUDACallConv(whole), abi_info={})
        made.library.finalize()
        entry = made.library.get_function(made.fndesc.llvm_func_name)
        compiler.kernel_fixup(entry, False)
        nvvm.set_launch_bounds(entry, threads)
        for argument in entry.args:
            if hasattr(argument.type, "addrspace"):
                argument.add_attribute("noalias")
        llvm = _ENVIRONMENT.sub("", "\n".join(map(str, made.library.modules)))
        options = {"fma": False} if setting.compares else {}
        return str(nvvm.compile_ir([llvm], arch="compute_" + "".join(map(str, cc)), opt=3, **options).decode())

    refresh()
    make.refresh = refresh  # type: ignore[attr-defined]
    return make


def _public(kernel: Any, args: Any, threads: int, cc: tuple[Any, ...]) -> str:
    """The same by `numba.cuda.compile`; products are fused with sums."""
    from numba import cuda
    from numba.cuda.descriptor import cuda_target

    library.ensure(library.namespace())
    cuda_target.typing_context.install_registry(library.TYPING)
    cuda_target.target_context.install_registry(library.LOWERING)
    ptx, _ = cuda.compile(kernel, args, device=False, abi="numba", cc=cc, output="ptx", launch_bounds=threads)
    return str(ptx)


# --------------------------------------------------------------------------------------- compiling
def ptx(text: str, name: str, signature: tuple[str, ...], threads: int, wide: bool, cc: tuple[Any, ...],
        public: bool = False) -> str:
    """PTX of a kernel, whose entry is `name`.

    Raises CompileError with the text and the compiler's words: for a syntax or type error, or an unknown word.
    """
    with LOCK:
        try:
            tree = ast.parse(text)
            setting.wide, setting.threads, setting.compares = wide, threads, _extremes(tree)
            function = tree.body[0]
            if len(tree.body) != 1 or not isinstance(function, ast.FunctionDef):
                raise CompileError("a kernel's text is one function")
            space = library.namespace()
            for node in ast.walk(tree):
                if isinstance(node, ast.Name) and node.id == "range":
                    node.id = library.RANGE
            exec(compile(tree, f"<{name}>", "exec"), space)
            kernel, args = space[function.name], argument_types(function, signature, wide)
            unknown = sorted(set(kernel.__code__.co_names) - set(space))
            if unknown:
                raise CompileError(f"unknown words: {', '.join(unknown)}")
            made = _made(kernel, args, threads, cc, public)
        except (NumbaError, NumbaOwnError, SyntaxError, KeyError, NotImplementedError, CompileError) as e:
            raise CompileError(f"a kernel does not compile: {e}\n{text}") from e
    found = _ENTRY.search(made)
    if found is None:
        raise CompileError(f"no entry in the PTX of a kernel:\n{text}")
    return _ENVIRONMENT.sub("", made.replace(found[1], name)).strip("\x00 \n") + "\n"


def _made(kernel: Any, args: Any, threads: int, cc: tuple[Any, ...], public: bool) -> str:
    make = None if public else _shortest()
    if make is None:
        return _public(kernel, args, threads, cc)
    if library.ensure(kernel.__code__.co_names):
        make.refresh()
    return str(make(kernel, args, threads, cc))


@cache
def _shortest() -> Any:
    """`_private()`, tried once; None where it does not work, which is said."""
    def kernel(x0: Any) -> None:
        x0[0] = 0

    try:
        make = _private()
        make(kernel, (Array("i64", "global", 0, 1, False),), 32, (9, 0))
    except (ImportError, AttributeError, TypeError) as e:
        import warnings

        warnings.warn(f"Numba-CUDA is put together in a way that autojit does not know ({type(e).__name__}: {e}); kernels compile "
                      "by its public way, which takes longer", CacheWarning, stacklevel=2)
        return None
    return make
