"""Pytrees: nested tuples, lists, dictionaries and named tuples of leaves.

In: any nest.  Out: its leaves in a fixed order and a structure that puts leaves back.  What is no container is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

LEAF = ("leaf",)


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """(leaves, structure); structures are hashable and equal for equal nests.

    >>> flatten({"b": (1, 2), "a": [3]})[0]
    [3, 1, 2]
    """
    leaves: list[Any] = []
    return leaves, _walk(tree, leaves)


def _walk(tree: Any, leaves: list[Any]) -> Any:
    kind = type(tree)
    if kind is tuple or kind is list:
        return (kind, tuple([_walk(t, leaves) for t in tree]))
    if kind is dict:
        keys = tuple(sorted(tree, key=lambda k: (str(type(k)), str(k))))
        return (kind, keys, tuple([_walk(tree[k], leaves) for k in keys]))
    if isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return (kind, tuple([_walk(t, leaves) for t in tree]))
    if tree is None:
        return (None,)
    leaves.append(tree)
    return LEAF


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """The nest of `structure` with these leaves."""
    return _build(structure, iter(leaves))


def _build(structure: Any, leaves: Iterator[Any]) -> Any:
    if structure == LEAF:
        return next(leaves)
    kind = structure[0]
    if kind is None:
        return None
    if kind is dict:
        return dict(zip(structure[1], [_build(s, leaves) for s in structure[2]]))
    parts = [_build(s, leaves) for s in structure[1]]
    return kind._make(parts) if hasattr(kind, "_make") else kind(parts)      # what `sort` returns takes a sequence


def tree_map(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """`f` on corresponding leaves of one or more trees of one structure.

    >>> tree_map(lambda a, b: a + b, (1, [2]), (10, [20]))
    (11, [22])
    """
    leaves, structure = flatten(tree)
    others = []
    for r in rest:
        more, other = flatten(r)
        if other != structure:
            raise ValueError(f"trees differ: {structure} and {other}")
        others.append(more)
    return unflatten(structure, [f(*parts) for parts in zip(leaves, *others)])
