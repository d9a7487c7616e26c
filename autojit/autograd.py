"""`autojit.autograd`: gradients on request, modes, custom functions, anomaly detection."""

from . import derivatives as functional
from .eager.anomaly import detect_anomaly, is_anomaly_enabled, set_detect_anomaly
from .eager.autograd import backward_function as backward
from .eager.autograd import grad
from .eager.function import Function, FunctionCtx, once_differentiable
from .eager.modes import enable_grad, inference_mode, no_grad, set_grad_enabled
from .eager.tensor import Tensor as Variable
from .testing import GradcheckError, gradcheck, gradgradcheck


class function:
    """torch's `autograd.function` module."""

    Function = Function
    FunctionCtx = FunctionCtx
    once_differentiable = staticmethod(once_differentiable)


__all__ = ["Function", "FunctionCtx", "GradcheckError", "Variable", "backward", "detect_anomaly", "enable_grad", "function",
           "functional", "grad", "gradcheck", "gradgradcheck", "inference_mode", "is_anomaly_enabled", "no_grad",
           "once_differentiable", "set_detect_anomaly", "set_grad_enabled"]
