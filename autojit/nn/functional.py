"""`autojit.nn.functional`: the functions of networks, torch's names.

In: tensors.  Out: tensors.  Ops that are declared as functional, what is random or changes in place, and for the rest the
public functions of the same names (`relu`, `softmax`, `sigmoid` ...).
"""

from __future__ import annotations

from typing import Any

from ..eager import functional, functions
from ..eager.random import dropout
from ..eager.tensor import expect

_PUBLIC: dict[str, Any] = {**functions(), **functional(), "dropout": dropout}


def relu(input: Any, inplace: bool = False) -> Any:
    """The input, or 0 where it is negative."""
    expect("relu", input)
    return input.relu_() if inplace else input.relu()


globals().update({name: f for name, f in _PUBLIC.items() if name not in globals()})
