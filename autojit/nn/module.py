"""`Module`: parameters, buffers and modules within modules, called like a function.

In: attributes that are assigned.  Out: names for them, hooks, saved state, conversion as a whole.  Under `@trace` a module
tells the recording what it depends on, so that `eval()`, or a parameter put in another's place, is noticed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ..dtypes import FLOAT, DType
from ..eager.state import state
from ..eager.tensor import Tensor
from ..errors import explain
from .hooks import SPACES, Passing, Removable
from .loading import load
from .naming import Names, assign

_WATCHED = (int, float, bool, str, complex, type(None), bytes, list, tuple, dict, Tensor)


class Module(Names):
    """Base of all networks: subclass it, assign Parameters and Modules in `__init__`, compute in `forward`.

    >>> from autojit import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = nn.Parameter(ones(2))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> [name for name, _ in Scale().named_parameters()]
    ['factor']
    """

    _state_pre_hooks = _state_hooks = _load_pre_hooks = _load_hooks = MappingProxyType[int, Any]({})

    def __init__(self) -> None:
        put = self.__dict__
        put["training"] = True
        for name in ("_parameters", "_buffers", "_modules", *SPACES):
            put[name] = {}
        put["_non_persistent_buffers_set"] = set()
        put["_hooked"] = False
        put["_compiled"] = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes: for subclasses to say."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    # ------------------------------------------------------------ calling
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.trace is not None:
            self._tell(state.trace)
        elif self._compiled is not None:
            return self._compiled(*args, **kwargs)
        return self._with_hooks(args, kwargs) if self._hooked else self.forward(*args, **kwargs)

    def compile(self) -> None:
        """Have calls of this module recorded and compiled, as by `aj.trace`."""
        from ..tracing.traced import trace  # imported when first needed

        def run(*args: Any, **kwargs: Any) -> Any:
            return self(*args, **kwargs)
        run.__name__ = type(self).__name__.lower()
        self.__dict__["_compiled"] = trace(run)

    def __getstate__(self) -> dict[str, Any]:
        """For copies: recordings are not part of a module."""
        return {**self.__dict__, "_compiled": None}

    def _tell(self, trace: Any) -> None:
        """What a recording, and one that it stands in, depends on: every module below this one, once."""
        while getattr(trace, "outer", None) is not None:
            trace = trace.outer
        watched = getattr(trace, "watched", None)
        if watched is None or self in watched:
            return
        for m in self.modules():
            if m in watched:
                continue
            watched[m] = places = []
            for space in (m._parameters, m._buffers, m._modules):
                places += [(space, name, v) for name, v in space.items()]
            places += [(m.__dict__, name, v) for name, v in m.__dict__.items()
                       if (name[0] != "_" or name == "_hooked") and isinstance(v, _WATCHED)]

    # ------------------------------------------------------------ hooks
    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False) -> Any:
        """Call `hook(module, args)` before `forward`; what it returns, if not None, takes the arguments' place."""
        return Removable(self, self._forward_pre_hooks, (hook, with_kwargs, False), prepend)

    def register_forward_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> Any:
        """Call `hook(module, args, output)` after `forward`; what it returns, if not None, takes the output's place."""
        return Removable(self, self._forward_hooks, (hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Any:
        """Call `hook(module, grad_output)` when the gradients of the outputs are there; it may return others."""
        return Removable(self, self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> Any:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are there; it may return others."""
        return Removable(self, self._backward_hooks, hook, prepend)

    def _with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook, words, _ in list(self._forward_pre_hooks.values()):
            found = hook(self, args, kwargs) if words else hook(self, args)
            if words and found is not None:
                if not (isinstance(found, tuple) and len(found) == 2):
                    raise explain(RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but "
                                               f"got {found}."))
                args, kwargs = found
            elif found is not None:
                args = found if isinstance(found, tuple) else (found,)
        passing = None
        if self._backward_hooks or self._backward_pre_hooks:
            passing = Passing(self, list(self._backward_pre_hooks.values()), list(self._backward_hooks.values()))
            args = passing.enter(args)
        done: set[int] = set()
        try:
            out = self.forward(*args, **kwargs)
            for k, (hook, words, _) in list(self._forward_hooks.items()):
                done.add(k)
                found = hook(self, args, kwargs, out) if words else hook(self, args, out)
                out = out if found is None else found
        except BaseException:
            for k, (hook, words, always) in list(self._forward_hooks.items()):
                if always and k not in done:
                    hook(self, args, kwargs, None) if words else hook(self, args, None)
            raise
        return out if passing is None else passing.leave(out)

    # ------------------------------------------------------------ attributes
    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        for space in ("_parameters", "_buffers", "_modules"):
            found = own.get(space)
            if found is not None and name in found:
                return found[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, v: Any) -> None:
        if not assign(self, name, v):
            object.__setattr__(self, name, v)

    def __delattr__(self, name: str) -> None:
        for space in (self._parameters, self._buffers, self._modules):
            if name in space:
                del space[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [*dir(type(self)), *self.__dict__, *self._parameters, *self._buffers, *self._modules]
        return sorted([n for n in names if not n[:1].isdigit()])

    # ------------------------------------------------------------ mode and gradients
    def train(self, mode: bool = True) -> Any:
        """Set training mode, here and in all modules within; returns the module."""
        if not isinstance(mode, bool):
            raise explain(ValueError("training mode is expected to be boolean"))
        self.training = mode
        for m in self.children():
            m.train(mode)
        return self

    def eval(self) -> Any:
        """Set evaluation mode: dropout passes everything, batch norm uses its running statistics."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Ask for gradients of all parameters, or no longer."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or (`set_to_none=False`) make them zero in place."""
        for p in self.parameters():
            if p.grad is not None:
                if set_to_none:
                    p.grad = None
                else:
                    p.grad.detach_().zero_()

    # ------------------------------------------------------------ conversion
    def _apply(self, fn: Callable[[Any], Any]) -> Any:
        """Replace every parameter's data (and gradient) and every buffer by `fn` of it; parameters stay the same objects."""
        for m in self.children():
            m._apply(fn)
        for p in self._parameters.values():
            if p is not None:
                grad = p.grad
                p.grad = None
                p.data = fn(p.detach())
                if grad is not None:
                    p.grad = fn(grad.detach())
        for name, b in self._buffers.items():
            if b is not None:
                self._buffers[name] = fn(b)
        return self

    def to(self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> Any:
        """Move and convert all parameters and buffers: `to(device)`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`.  A dtype
        concerns floating ones only.  Returns the module itself."""
        for a in args:
            if isinstance(a, Tensor):
                dtype, device = a.dtype, a.device
            elif isinstance(a, DType):
                dtype = a
            elif not isinstance(a, bool):
                device = a
        if dtype is not None and dtype.category < FLOAT:
            raise explain(TypeError("nn.Module.to only accepts floating point or complex dtypes, but got desired "
                                    f"dtype={dtype}"))

        def convert(t: Any) -> Any:
            if device is not None:
                t = t.to(device)
            return t.to(dtype) if dtype is not None and t.is_floating_point() else t
        return self._apply(convert)

    def type(self, dst_type: Any) -> Any:
        """All parameters and buffers as this dtype."""
        return self._apply(lambda t: t.type(dst_type))

    def float(self) -> Any:
        """Floating parameters and buffers as float32."""
        return self._apply(lambda t: t.float() if t.is_floating_point() else t)

    def double(self) -> Any:
        """Floating parameters and buffers as float64."""
        return self._apply(lambda t: t.double() if t.is_floating_point() else t)

    def half(self) -> Any:
        """Floating parameters and buffers as float16."""
        return self._apply(lambda t: t.half() if t.is_floating_point() else t)

    def bfloat16(self) -> Any:
        """Floating parameters and buffers as bfloat16."""
        return self._apply(lambda t: t.bfloat16() if t.is_floating_point() else t)

    def cuda(self, device: Any = None) -> Any:
        """All parameters and buffers to a GPU."""
        return self._apply(lambda t: t.cuda() if device is None else t.cuda(device))

    def cpu(self) -> Any:
        """All parameters and buffers to the CPU."""
        return self._apply(lambda t: t.cpu())

    # ------------------------------------------------------------ saved state
    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Parameters and persistent buffers by their dotted names.  They share the module's memory: clone what is to stay.

        >>> from autojit import nn
        >>> list(nn.Sequential(nn.Linear(2, 3)).state_dict())
        ['0.weight', '0.bias']
        """
        out = OrderedDict() if destination is None else destination
        for hook in list(self._state_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        for name, p in self._parameters.items():
            if p is not None:
                out[prefix + name] = p if keep_vars else p.detach()
        for name, b in self._buffers.items():
            if b is not None and name not in self._non_persistent_buffers_set:
                out[prefix + name] = b if keep_vars else b.detach()
        for name, m in self._modules.items():
            if m is not None:
                m.state_dict(destination=out, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in list(self._state_hooks.values()):
            if hook(self, out, prefix, {}) is not None:
                raise explain(RuntimeError("state_dict post-hook must return None"))
        return out

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> Any:
        """Call `hook(module, prefix, keep_vars)` before `state_dict` takes this module's part."""
        return Removable(None, self._own("_state_pre_hooks"), hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> Any:
        """Call `hook(module, state_dict, prefix, metadata)` when this module's part is in: it may change the dictionary."""
        return Removable(None, self._own("_state_hooks"), hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> Any:
        """Call `hook(module, state_dict, prefix, metadata, strict, missing_keys, unexpected_keys, error_msgs)` before names are
        looked up in the dictionary, a copy that it may change."""
        return Removable(None, self._own("_load_pre_hooks"), hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> Any:
        """Call `hook(module, incompatible_keys)` when values have been taken; what it removes from the lists of names is no
        error."""
        return Removable(None, self._own("_load_hooks"), hook)

    def _own(self, space: str) -> Any:
        """Rare hooks of this very module."""
        return self.__dict__.setdefault(space, {})

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take values by name, copied into the memory there is (`assign=True`: the given tensors themselves).  Shapes must be
        equal, and with `strict` the names too; RuntimeError tells all that does not fit.  Returns the names that do not."""
        return load(self, state_dict, strict, assign)

    # ------------------------------------------------------------ text
    def extra_repr(self) -> str:
        """What stands between the parentheses of the module's text."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self._modules.items()]
        if len(lines) == 1 and not children:
            return f"{self._get_name()}({lines[0]})"
        inner = [*lines, *children]
        return self._get_name() + "(" + ("\n  " + "\n  ".join(inner) + "\n" if inner else "") + ")"

