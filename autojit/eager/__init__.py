"""The eager face: tensors that look like PyTorch's, over lazy nodes.  Importing this package puts every op on Tensor."""

from typing import Any

from . import autograd, binding, complexes, convert, creation, indexing, interop, queries, random, viewing
from .binding import functional

for _part in (convert, creation, indexing, autograd, viewing, complexes, random, queries, interop):
    _part.install()
binding.bind_methods()


def functions() -> dict[str, Any]:
    """Public functions by name: what stands in the namespace of `autojit`."""
    return {**binding.functions(), **viewing.functions(), **queries.FUNCTIONS, **complexes.FUNCTIONS}


interop.set_functions(functions())

__all__ = ["functional", "functions"]
