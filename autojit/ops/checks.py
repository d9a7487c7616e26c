"""Refusals in torch's words that several families share.

In: nodes.  Out: nothing, or torch's exception with a hint.  Never changes a node.
"""

from __future__ import annotations

from ..dtypes import BOOL, FLOAT, DType
from ..errors import explain
from ..ir.graph import Node

_NAMES = {"bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int",
          "int64": "Long", "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double",
          "complex64": "ComplexFloat", "complex128": "ComplexDouble"}


def scalar_type(dtype: DType) -> str:
    """The name that torch's messages give a dtype: Long for int64."""
    return _NAMES[dtype.name]


_C_NAMES = {"bool": "bool", "uint8": "unsigned char", "int8": "signed char", "int16": "short", "int32": "int",
            "int64": "long", "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float",
            "float64": "double", "complex64": "c10::complex<float>", "complex128": "c10::complex<double>"}


def c_type(dtype: DType) -> str:
    """The name that some of torch's messages give a dtype: long for int64."""
    return _C_NAMES[dtype.name]


def floating(kernel: str, *nodes: Node) -> None:
    """Refuse integers where torch has no kernel for them."""
    for n in nodes:
        if n.dtype.category < FLOAT:
            raise explain(NotImplementedError(f'"{kernel}" not implemented for '
                                              f"'{scalar_type(n.dtype)}'"),
                          hint="convert it first: x.float()")


def no_bool(kernel: str, *nodes: Node) -> None:
    """Refuse bools where torch has no kernel for them."""
    if all(n.dtype.category == BOOL for n in nodes):
        raise explain(NotImplementedError(f"\"{kernel}\" not implemented for 'Bool'"),
                      hint="convert it first: x.int() or x.float()")


def same_dtype(words: str, a: Node, b: Node) -> None:
    """Refuse unlike dtypes; `words` has {0} and {1} for their names."""
    if a.dtype is not b.dtype:
        raise explain(RuntimeError(words.format(scalar_type(a.dtype), scalar_type(b.dtype))),
                      hint="convert one of them: x.to(y.dtype)")


def reduction_of(reduction: str) -> None:
    """Refuse what is no reduction of a loss."""
    if reduction not in ("none", "mean", "sum"):
        raise explain(ValueError(f"{reduction} is not a valid value for reduction"),
                      hint="reduction is 'none', 'mean' or 'sum'")
