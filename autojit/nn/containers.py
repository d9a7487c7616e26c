"""Modules that hold modules or parameters: in a row, in a list, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..eager.tensor import Tensor
from ..errors import explain
from .module import Module
from .parameter import Parameter


def _place(n: int, index: Any) -> int:
    """A place in [0, n), counted from either end.  IndexError in torch's words."""
    k = index.__index__()
    if not -n <= k < n:
        raise explain(IndexError(f"index {k} is out of range"))
    return int(k % n)


class _Numbered(Module):
    """Modules under the names "0", "1" ..."""

    def _renumbered(self, modules: Iterable[Any]) -> None:
        held = list(modules)
        self._modules.clear()
        for k, m in enumerate(held):
            self.add_module(str(k), m)

    def _key(self, index: Any) -> str:
        return list(self._modules)[_place(len(self._modules), index)]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._modules.values()))

    def __setitem__(self, index: Any, module: Any) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: Any) -> None:
        held = list(self._modules.values())
        del held[index]
        self._renumbered(held)

    def append(self, module: Any) -> Any:
        """Add a module at the end; returns the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Any]) -> Any:
        """Add modules at the end; returns the container."""
        for m in list(modules):
            self.append(m)
        return self

    def insert(self, index: int, module: Any) -> Any:
        """Put a module before the one at `index`."""
        held = list(self._modules.values())
        held.insert(index, module)
        self._renumbered(held)
        return self

    def pop(self, key: int = -1) -> Any:
        """Take a module out and return it."""
        found = self[key]  # type: ignore[index]
        del self[key]
        return found


class Sequential(_Numbered):
    """Modules one after another: each gets what the one before gave.

    >>> from autojit import nn
    >>> nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, m in args[0].items():
                self.add_module(name, m)
        else:
            for k, m in enumerate(args):
                self.add_module(str(k), m)

    def forward(self, input: Any) -> Any:
        for m in self._modules.values():
            input = m(input)
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return self._modules[self._key(index)]

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, Sequential):
            raise explain(ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given."))
        return Sequential(*self, *other)


class ModuleList(_Numbered):
    """A list of modules, whose parameters count."""

    def __init__(self, modules: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self._modules.values())[index])
        return self._modules[self._key(index)]

    def __iadd__(self, modules: Iterable[Any]) -> Any:
        return self.extend(modules)

    def __add__(self, other: Iterable[Any]) -> Any:
        return ModuleList([*self, *other])

    def __repr__(self) -> str:
        """As torch's: a run of equal modules on one line."""
        runs: list[list[Any]] = []
        for k, m in enumerate(self):
            said = repr(m)
            if runs and runs[-1][2] == said:
                runs[-1][1] = k
            else:
                runs.append([k, k, said])
        lines = [f"({a}): {said}" if a == b else f"({a}-{b}): {b - a + 1} x {said}" for a, b, said in runs]
        inner = "".join(["\n  " + line.replace("\n", "\n  ") for line in lines])
        return f"{type(self).__name__}({inner}\n)" if lines else f"{type(self).__name__}()"


class ModuleDict(Module):
    """Modules by name, whose parameters count."""

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Any) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Take all modules out."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Take a module out and return it."""
        return self._modules.pop(key)

    def keys(self) -> Any:
        """The names."""
        return self._modules.keys()

    def items(self) -> Any:
        """Names and modules."""
        return self._modules.items()

    def values(self) -> Any:
        """The modules."""
        return self._modules.values()

    def update(self, modules: Any) -> None:
        """Add modules from a mapping or from pairs."""
        for name, m in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            self.add_module(name, m)


def _shown(p: Any) -> str:
    what = "Parameter" if isinstance(p, Parameter) else "Tensor"
    return f"{what} containing: [torch.{p.dtype.name} of size {'x'.join(map(str, p.shape))}]"


class ParameterList(Module):
    """A list of parameters; tensors become parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def _made(self, v: Any) -> Any:
        return Parameter(v) if isinstance(v, Tensor) and not isinstance(v, Parameter) else v

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._parameters.values()))

    def __getitem__(self, index: Any) -> Any:
        held = list(self._parameters.values())
        return type(self)(held[index]) if isinstance(index, slice) else held[_place(len(held), index)]

    def __setitem__(self, index: Any, v: Any) -> None:
        setattr(self, str(_place(len(self), index)), self._made(v))

    def append(self, value: Any) -> Any:
        """Add a parameter at the end; returns the list."""
        self.register_parameter(str(len(self)), self._made(value))
        return self

    def extend(self, values: Iterable[Any]) -> Any:
        """Add parameters at the end; returns the list."""
        for v in list(values):
            self.append(v)
        return self

    def extra_repr(self) -> str:
        return "\n".join([f"  ({k}): {_shown(p)}" for k, p in self._parameters.items()])


class ParameterDict(Module):
    """Parameters by name; tensors become parameters."""

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        for name, v in (parameters.items() if isinstance(parameters, Mapping) else parameters or ()):
            self[name] = v

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, v: Any) -> None:
        made = Parameter(v) if isinstance(v, Tensor) and not isinstance(v, Parameter) else v
        self.register_parameter(key, made)

    def __delitem__(self, key: str) -> None:
        del self._parameters[key]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: str) -> bool:
        return key in self._parameters

    def keys(self) -> Any:
        """The names."""
        return self._parameters.keys()

    def items(self) -> Any:
        """Names and parameters."""
        return self._parameters.items()

    def values(self) -> Any:
        """The parameters."""
        return self._parameters.values()

    def extra_repr(self) -> str:
        return "\n".join([f"  ({k}): {_shown(p)}" for k, p in self._parameters.items()])
