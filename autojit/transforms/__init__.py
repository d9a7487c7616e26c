"""Transforms of functions beside `grad` and `vjp`: batching, forward mode, Jacobians, rules of one's own."""

from .custom import checkpoint, custom_vjp
from .jacobians import hessian, jacfwd, jacobian, jacrev
from .mapping import vmap
from .pushing import hvp, jvp, linearize

__all__ = ["checkpoint", "custom_vjp", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "linearize", "vmap"]
