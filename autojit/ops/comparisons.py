"""Public ops whose results are bools, and those on bits.

In: nodes.  Out: bool nodes, or integers for the bit operations on integers.  Nothing here has a derivative.
"""

from __future__ import annotations

from ..dtypes import INT
from ..errors import explain
from ..ir.graph import Node
from .checks import scalar_type
from .declare import P, arith, broadcast, op, truth


def _comparison(name: str, sign: str, *aliases: str) -> None:
    def fn(input: Node, other: Node) -> Node:
        out: Node = getattr(P, name)(*arith(input, other))
        return out

    fn.__doc__ = f"input {sign} other, as bool; NaN compares unequal to everything."
    op(name, inplace=True, aliases=aliases)(fn)


_comparison("eq", "==")
_comparison("ne", "!=", "not_equal")
_comparison("lt", "<", "less")
_comparison("le", "<=", "less_equal")
_comparison("gt", ">", "greater")
_comparison("ge", ">=", "greater_equal")


def _logic(name: str, primitive: str, doc: str) -> None:
    def fn(input: Node, other: Node) -> Node:
        out: Node = getattr(P, primitive)(*broadcast(truth(input), truth(other)))
        return out

    fn.__doc__ = doc
    op(name, inplace=True)(fn)


_logic("logical_and", "bitwise_and", "True where both are non-zero.")
_logic("logical_or", "bitwise_or", "True where either is non-zero.")
_logic("logical_xor", "bitwise_xor", "True where exactly one is non-zero.")


@op(inplace=True)
def logical_not(input: Node) -> Node:
    """True where zero."""
    return P.bitwise_not(truth(input))


def _bits(name: str, doc: str) -> None:
    def fn(input: Node, other: Node) -> Node:
        a, b = arith(input, other)
        if a.dtype.category > INT:
            raise explain(NotImplementedError(f'"{name}_cpu" not implemented for '
                                              f"'{scalar_type(a.dtype)}'"))
        out: Node = getattr(P, name)(a, b)
        return out

    fn.__doc__ = doc
    op(name, inplace=True)(fn)


_bits("bitwise_and", "The bits that both have.")
_bits("bitwise_or", "The bits that either has.")
_bits("bitwise_xor", "The bits that exactly one has.")


def _shifted(kernel: str, input: Node, other: Node, left: bool) -> Node:
    a, b = arith(input, other)
    if a.dtype.category != INT:
        raise explain(NotImplementedError(f'"{kernel}" not implemented for \'{scalar_type(a.dtype)}\''))
    return P.shift(a, b, left)


@op(inplace=True)
def bitwise_left_shift(input: Node, other: Node) -> Node:
    """The bits moved to the left, zeros coming in; 0 for negative shifts."""
    return _shifted("lshift_cpu", input, other, True)


@op(inplace=True)
def bitwise_right_shift(input: Node, other: Node) -> Node:
    """The bits moved to the right, the sign coming in."""
    return _shifted("rshift_cpu", input, other, False)


@op(inplace=True)
def bitwise_not(input: Node) -> Node:
    """Each bit turned; not, for bools."""
    if input.dtype.category > INT:
        raise explain(NotImplementedError("\"bitwise_not_cpu\" not implemented for "
                                          f"'{scalar_type(input.dtype)}'"))
    return P.bitwise_not(input)
