"""A module as a function of its parameters: for gradients and maps over them.

In: a module, parameters and buffers by name, arguments.  Out: what the module gives with them.  The module is as it was after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import explain


def functional_call(module: Any, parameters_and_buffers: Mapping[str, Any], args: Any = None, kwargs: Any = None, *,
                    tie_weights: bool = True, strict: bool = False) -> Any:
    """Call a module with these tensors in the place of its parameters and buffers; gradients flow into them.

    A tensor that stands under several names is replaced under all of them (`tie_weights`).  `strict`: all must be given.

    >>> from autojit import nn
    >>> net = nn.Linear(2, 1)
    >>> loss = lambda p: nn.stateless.functional_call(net, p, ones(1, 2)).sum()
    >>> grad(loss)({"weight": zeros(1, 2), "bias": zeros(1)})
    {'bias': tensor([1.]), 'weight': tensor([[1., 1.]])}
    """
    places: dict[str, tuple[dict[str, Any], str]] = {}
    for path, m in module.named_modules(remove_duplicate=False):
        for space in (m._parameters, m._buffers):
            places.update({f"{path}.{name}" if path else name: (space, name) for name in space})
    unknown = [name for name in parameters_and_buffers if name not in places]
    missing = [name for name, (space, n) in places.items() if name not in parameters_and_buffers and space[n] is not None]
    if unknown or strict and missing:
        raise explain(RuntimeError(f"functional_call: the module has no {', '.join(unknown)}" if unknown else
                                   f"Missing key(s): {', '.join(missing)}"), hint="names are those of named_parameters()")
    put: list[tuple[dict[str, Any], str, Any]] = []
    for name, v in parameters_and_buffers.items():
        space, own = places[name]
        tied = [at for at in places.values() if at[0][at[1]] is space[own]] if tie_weights else [(space, own)]
        put += [(where, n, v) for where, n in tied]
    before = [(where, n, where[n]) for where, n, _ in put]
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    try:
        for where, n, v in put:
            where[n] = v
        return module(*args, **(kwargs or {}))
    finally:
        for where, n, v in reversed(before):
            where[n] = v
