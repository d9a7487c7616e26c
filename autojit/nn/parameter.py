"""`Parameter`: a tensor that a module counts among its own.

In: data.  Out: a leaf over the same memory that wants a gradient.
"""

from __future__ import annotations

from typing import Any

from ..eager.creation import empty
from ..eager.tensor import Tensor
from ..errors import explain


class Parameter(Tensor):
    """A leaf tensor that becomes a parameter of the module it is assigned to.  It shares the memory of `data`.

    >>> p = Parameter(tensor([1.0, 2.0])); p.requires_grad, p.is_leaf
    (True, True)
    """

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise explain(TypeError(f"Parameter data has to be a tensor, but got {type(data).__name__}"),
                          hint="make one: aj.tensor(data)")
        p = data.detach()
        p.__class__ = cls
        return p.requires_grad_(requires_grad)  # type: ignore[return-value]

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        """All is done by `__new__`."""

    def __repr__(self) -> str:
        return "Parameter containing:\n" + Tensor.__repr__(self)

    __str__ = __repr__


class Buffer(Tensor):
    """A tensor that becomes a buffer of the module it is assigned to; `persistent=False` keeps it out of `state_dict`."""

    __slots__ = ()
    persistent: bool

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Buffer:
        t: Any = (empty(0) if data is None else data).detach()
        t.__class__ = cls
        t.persistent = persistent
        return t  # type: ignore[no-any-return]

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        """All is done by `__new__`."""
