"""Functions with forms for whole vectors: what LLVM's vectoriser calls in place of several calls.

In: a scalar function and functions of vectors that do the same.  Out: the attribute that tells the vectoriser of them;
this is how vector libraries of mathematics are hooked up, only that ours live in the same module.  Never calls libm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import binding, ir

_NO_EFFECTS = "memory(none)" if binding.llvm_version_info[0] >= 16 else "readnone"


def pure(module: ir.Module, name: str, ty: ir.Type, arity: int, *attributes: str, results: int = 1) -> ir.Function:
    """An empty function of `arity` arguments of a type, and so many results of the same, without effects."""
    fn = ir.Function(module, ir.FunctionType(ty if results == 1 else ir.LiteralStructType([ty] * results), [ty] * arity), name)
    for attribute in ("nounwind", "willreturn", _NO_EFFECTS, *attributes):
        set.add(fn.attributes, attribute)  # llvmlite's own add refuses words it has not heard of
    return fn


def announce(fn: ir.Function, variants: Sequence[ir.Function]) -> None:
    """Tell the vectoriser which functions of vectors do the work of `fn`."""
    vectors = "v" * len(fn.args)
    maps = ",".join(f"_ZGV_LLVM_N{v.args[0].type.count}{vectors}_{fn.name}({v.name})" for v in variants)
    set.add(fn.attributes, f'"vector-function-abi-variant"="{maps}"')
    _keep(fn.module, variants)


def _keep(module: ir.Module, functions: Sequence[ir.Function]) -> None:
    """The variants are named in an attribute only: without this they would be dropped as unused."""
    name, pointer = "llvm.compiler.used", ir.IntType(8).as_pointer()
    kept: list[Any] = [f.bitcast(pointer) for f in functions]
    used = module.globals.get(name)
    if used is None:
        used = ir.GlobalVariable(module, ir.ArrayType(pointer, 0), name)
        used.linkage, used.section = "appending", "llvm.metadata"
    else:
        kept += used.initializer.constant
    used.value_type = ir.ArrayType(pointer, len(kept))
    used.initializer = ir.Constant(used.value_type, kept)
