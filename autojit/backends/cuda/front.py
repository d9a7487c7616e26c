"""Kernel text to PTX, by Numba-CUDA and NVVM.

In: the text of a kernel, its signature, the block size, the width of indices, the compute capability.  Out: PTX whose entry is
`name`, the same bytes in every process.  Numba-CUDA is the front end only, on contexts of our own (`contexts`).  Where this
Numba-CUDA is put together otherwise, its public `cuda.compile` does it, more slowly.  Importing this imports
Numba-CUDA.  Never needs a GPU.
"""

from __future__ import annotations

import ast
import re
import threading
from functools import cache
from typing import Any

from numba.core.errors import NumbaError as NumbaOwnError
from numba.cuda.core.errors import NumbaError

from autojit.backends.cuda import branches, library
from autojit.backends.cuda.types import Array, index_type, kinds
from autojit.backends.cuda.words import setting
from autojit.errors import CacheWarning, CompileError

LOCK = threading.RLock()                                  # Numba's compilers share state, and `setting` is ours
_ENTRY = re.compile(r"\.visible \.entry (\S+?)\(")
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


# --------------------------------------------------------------------------------------- compiling
def _public(kernel: Any, args: Any, threads: int, cc: tuple[Any, ...]) -> str:
    """The same by `numba.cuda.compile`; products are fused with sums."""
    from numba import cuda
    from numba.cuda.descriptor import cuda_target

    library.ensure(library.namespace())
    cuda_target.typing_context.install_registry(library.TYPING)
    cuda_target.target_context.install_registry(library.LOWERING)
    ptx, _ = cuda.compile(kernel, args, device=False, abi="numba", cc=cc, output="ptx", launch_bounds=threads)
    return str(ptx)


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
            args = argument_types(function, signature, wide)
            exec(compile(branches.fewer(tree), f"<{name}>", "exec"), space)
            kernel = space[function.name]
            unknown = sorted(set(kernel.__code__.co_names) - set(space))
            if unknown:
                raise CompileError(f"unknown words: {', '.join(unknown)}")
            made = _made(kernel, args, threads, cc, public)
        except (NumbaError, NumbaOwnError, SyntaxError, KeyError, NotImplementedError, CompileError) as e:
            raise CompileError(f"a kernel does not compile: {e}\n{text}") from e
    found = _ENTRY.search(made)
    if found is None:
        raise CompileError(f"no entry in the PTX of a kernel:\n{text}")
    return library.ENVIRONMENT.sub("", made.replace(found[1], name)).strip("\x00 \n") + "\n"


def _made(kernel: Any, args: Any, threads: int, cc: tuple[Any, ...], public: bool) -> str:
    contexts = None if public else _contexts()
    if contexts is None:
        return _public(kernel, args, threads, cc)
    if library.ensure(kernel.__code__.co_names):
        contexts.refresh()
    return str(contexts.ptx(kernel, args, threads, cc))


@cache
def _contexts() -> Any:
    """The module of our own contexts, tried once; None where it does not work, which is said."""
    def kernel(x0: Any) -> None:
        x0[0] = 0

    try:
        from . import contexts

        contexts.ptx(kernel, (Array("i64", "global", 0, 1, False),), 32, (9, 0))
    except (ImportError, AttributeError, TypeError) as e:
        import warnings

        warnings.warn(f"autojit does not know how this Numba-CUDA is put together ({type(e).__name__}: {e}); kernels compile "
                      "by its public way, which takes longer", CacheWarning, stacklevel=2)
        return None
    return contexts
