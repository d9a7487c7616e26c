"""Names within a module: what is assigned to it, found under which name, walked in which order.

In: tensors and modules.  Out: iterators over them with dotted names.  Refuses what is no parameter, buffer or module in torch's
words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..eager import functions
from ..eager.tensor import Tensor
from ..errors import explain
from .parameter import Buffer, Parameter

typename = functions()["typename"]
Named = Iterator[tuple[str, Any]]


def kind(v: Any) -> str:
    """torch's name of an object's type."""
    return str(typename(v))


def _check(module: Any, what: str, name: Any, taken: dict[str, Any]) -> None:
    """A name that can be given.  In torch's words."""
    if "_parameters" not in module.__dict__:
        raise explain(AttributeError(f"cannot assign {what} before Module.__init__() call"),
                      hint="call super().__init__() first")
    if not isinstance(name, str):
        raise explain(TypeError(f"{what} name should be a string. Got {kind(name)}"))
    if "." in name:
        raise explain(KeyError(f'{what} name can\'t contain ".", got: {name}' if what == "module" else
                               f'{what} name can\'t contain "."'))
    if name == "":
        raise explain(KeyError(f'{what} name can\'t be empty string ""'))
    if hasattr(module, name) and name not in taken:
        raise explain(KeyError(f"attribute '{name}' already exists"))


class Names:
    """The part of `Module` that knows names."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]

    # ------------------------------------------------------------ giving
    def register_parameter(self, name: str, param: Any) -> None:
        """Add a parameter (or None) under a name."""
        _check(self, "parameter", name, self.__dict__.get("_parameters", {}))
        if param is not None and not isinstance(param, Parameter):
            raise explain(TypeError(f"cannot assign '{kind(param)}' object to parameter '{name}' (torch.nn.Parameter or None "
                                    "required)"), hint="wrap it: nn.Parameter(t)")
        if param is not None and param.grad_fn is not None:
            raise explain(ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. To express "
                f"'{name}' as a function of another Tensor, compute the value in the forward() method."))
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add a tensor that is state but no parameter; `persistent=False` keeps it out of `state_dict`."""
        _check(self, "buffer", name, self.__dict__.get("_buffers", {}))
        if tensor is not None and not isinstance(tensor, Tensor):
            raise explain(TypeError(f"cannot assign '{kind(tensor)}' object to buffer '{name}' (torch Tensor or None "
                                    "required)"))
        self._buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def add_module(self, name: str, module: Any) -> None:
        """Add a module (or None) under a name."""
        if module is not None and not isinstance(module, Names):
            raise explain(TypeError(f"{kind(module)} is not a Module subclass"))
        _check(self, "module", name, self.__dict__.get("_modules", {}))
        self._modules[name] = module

    register_module = add_module

    # ------------------------------------------------------------ walking
    def named_modules(self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Named:
        """This module and all within, with dotted names; one that stands in two places once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, m in self._modules.items():
            if m is not None:
                yield from m.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def _named(self, get: Callable[[Any], dict[str, Any]], prefix: str, recurse: bool, once: bool) -> Named:
        seen: set[int] = set()
        for path, m in self.named_modules(prefix=prefix, remove_duplicate=once) if recurse else [(prefix, self)]:
            for name, v in get(m).items():
                if v is None or id(v) in seen:
                    continue
                if once:
                    seen.add(id(v))
                yield (f"{path}.{name}" if path else name), v

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Named:
        """Parameters with their dotted names, each once."""
        return self._named(lambda m: m._parameters, prefix, recurse, remove_duplicate)

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Named:
        """Buffers with their dotted names, each once."""
        return self._named(lambda m: m._buffers, prefix, recurse, remove_duplicate)

    def named_children(self) -> Named:
        """Modules directly within, with their names."""
        seen: set[int] = set()
        for name, m in self._modules.items():
            if m is not None and id(m) not in seen:
                seen.add(id(m))
                yield name, m

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """Parameters, each once: what an optimiser takes."""
        for _, p in self.named_parameters(recurse=recurse):
            yield p

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """Buffers, each once."""
        for _, b in self.named_buffers(recurse=recurse):
            yield b

    def modules(self) -> Iterator[Any]:
        """This module and all within, each once."""
        for _, m in self.named_modules():
            yield m

    def children(self) -> Iterator[Any]:
        """Modules directly within, each once."""
        for _, m in self.named_children():
            yield m

    def apply(self, fn: Callable[[Any], Any]) -> Any:
        """Call `fn` on every module within and then on this one; returns the module."""
        for m in self.children():
            m.apply(fn)
        fn(self)
        return self

    # ------------------------------------------------------------ finding
    def get_submodule(self, target: str) -> Any:
        """The module of a dotted name."""
        found: Any = self
        for name in target.split(".") if target else []:
            if not hasattr(found, name):
                raise explain(AttributeError(f"{type(found).__name__} has no attribute `{name}`"))
            found = getattr(found, name)
            if not isinstance(found, Names):
                raise explain(AttributeError(f"`{name}` is not an nn.Module"))
        return found

    def get_parameter(self, target: str) -> Any:
        """The parameter of a dotted name."""
        return self._get(target, Parameter, "nn.Parameter")

    def get_buffer(self, target: str) -> Any:
        """The buffer of a dotted name."""
        return self._get(target, Tensor, "a buffer")

    def _get(self, target: str, wanted: type, word: str) -> Any:
        path, _, name = target.rpartition(".")
        m = self.get_submodule(path)
        if not hasattr(m, name):
            raise explain(AttributeError(f"{type(m).__name__} has no attribute `{name}`"))
        found = getattr(m, name)
        if not isinstance(found, wanted) or wanted is Tensor and name not in m._buffers:
            raise explain(AttributeError(f"`{name}` is not an {word}" if wanted is Parameter else f"`{name}` is not {word}"))
        return found


def assign(module: Any, name: str, v: Any) -> bool:
    """`module.name = v` for parameters, modules, buffers and what may stand in their place; False for anything else."""
    own = module.__dict__
    for what, cls, space in (("parameters", Parameter, "_parameters"), ("module", Names, "_modules")):
        if not isinstance(v, cls):
            continue
        if space not in own:
            raise explain(AttributeError(f"cannot assign {what} before Module.__init__() call"),
                          hint="call super().__init__() first")
        for other in (own, own["_parameters"], own["_buffers"], own["_modules"]):
            if other is not own[space]:
                other.pop(name, None)
        if space == "_parameters":
            module.register_parameter(name, v)
        else:
            own[space][name] = v
        return True
    if name in own.get("_parameters", ()):
        return _replaced(own["_parameters"], name, v, None, f"parameter '{name}' (torch.nn.Parameter or None expected)")
    if name in own.get("_modules", ()):
        return _replaced(own["_modules"], name, v, None, f"child module '{name}' (torch.nn.Module or None expected)")
    if name in own.get("_buffers", ()) or isinstance(v, Buffer):
        if isinstance(v, Buffer) and name not in own["_buffers"]:
            module.register_buffer(name, v, v.persistent)
        return _replaced(own["_buffers"], name, v, Tensor,
                         f"buffer '{name}' (torch.nn.Buffer, torch.Tensor or None expected)")
    return False


def _replaced(space: dict[str, Any], name: str, v: Any, allowed: Any, words: str) -> bool:
    if v is not None and (allowed is None or not isinstance(v, allowed)):
        raise explain(TypeError(f"cannot assign '{kind(v)}' as {words}"))
    space[name] = v
    return True
