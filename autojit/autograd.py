"""`autojit.autograd`: gradients on request, modes, custom functions."""

from .eager.autograd import backward_function as backward
from .eager.autograd import grad
from .eager.modes import enable_grad, inference_mode, no_grad, set_grad_enabled

__all__ = ["backward", "enable_grad", "grad", "inference_mode", "no_grad", "set_grad_enabled"]
