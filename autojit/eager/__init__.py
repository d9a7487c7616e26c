"""The eager face: tensors that look like PyTorch's, over lazy nodes.  Importing this package puts every op on Tensor."""

from . import autograd, binding, convert, creation, indexing, viewing
from .binding import functional

convert.install()
creation.install()
indexing.install()
autograd.install()
viewing.install()
binding.bind_methods()


def functions() -> dict[str, object]:
    """Public functions by name: what stands in the namespace of `autojit`."""
    return {**binding.functions(), **viewing.functions()}


__all__ = ["functional", "functions"]
