"""The eager face: tensors that look like PyTorch's, over lazy nodes.  Importing this package puts every op on Tensor."""

from . import autograd, binding, convert, creation
from .binding import functions, functional

convert.install()
creation.install()
autograd.install()
binding.bind_methods()

__all__ = ["functional", "functions"]
