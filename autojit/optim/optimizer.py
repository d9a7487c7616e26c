"""What all optimisers share: groups of parameters, clearing gradients, saving state.

In: parameters, or groups of them with options.  Out: in-place updates under `no_grad`.  Numbers that a schedule may change
stand in 0-d tensors, so that a traced training step follows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..eager.creation import tensor
from ..eager.modes import enable_grad
from ..eager.tensor import Tensor
from ..errors import explain


class Group(dict[str, Any]):
    """Options of some parameters.  A float that is assigned also goes to the 0-d tensor `number(name)`."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self._numbers: dict[str, Tensor] = {}
        for k, v in options.items():
            self[k] = v

    def __setitem__(self, name: str, v: Any) -> None:
        super().__setitem__(name, v)
        if type(v) is float:
            t = self._numbers.get(name)
            if t is None:
                self._numbers[name] = tensor(v, dtype="float64")
            else:
                t.fill_(v)

    def number(self, name: str) -> Any:
        """An option as a tensor that follows its changes."""
        return self[name] if isinstance(self[name], Tensor) else self._numbers[name]


class Optimizer:
    """Base of all: `param_groups`, `state`, `zero_grad()`, `step()`, `state_dict()`."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise explain(TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                                    "torch.FloatTensor"), hint="put it in a list: [w]")
        self.defaults = defaults
        self.state: dict[Any, dict[str, Any]] = {}
        self.param_groups: list[Group] = []
        given = list(params)
        if not given:
            raise explain(ValueError("optimizer got an empty parameter list"))
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """More parameters, with options of their own; what is not given is the default."""
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        for p in params:
            if not isinstance(p, Tensor):
                raise explain(TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}"))
            if not p.is_leaf:
                raise explain(ValueError("can't optimize a non-leaf Tensor"))
        made = Group({**self.defaults, **group, "params": params})
        self.param_groups.append(made)
        for p in params:
            self.make_state(made, p)

    def make_state(self, group: Group, p: Tensor) -> None:
        """Make what a parameter needs besides its gradient: now, so that a traced step finds it as it will be."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or (`set_to_none=False`) make them zero in place."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    if set_to_none:
                        p.grad = None
                    else:
                        p.grad.detach_()
                        p.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update.  `closure` computes the loss again, and is returned."""
        raise NotImplementedError

    def _loss(self, closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            return None
        with enable_grad():
            return closure()

    def state_dict(self) -> dict[str, Any]:
        """State by parameter number, and groups with numbers for parameters."""
        numbers: dict[int, int] = {}
        for group in self.param_groups:
            for p in group["params"]:
                numbers.setdefault(id(p), len(numbers))
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[id(p)]: dict(s) for p, s in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        params = [p for group in self.param_groups for p in group["params"]]
        for group, saved in zip(self.param_groups, state_dict["param_groups"]):
            for k, v in saved.items():
                if k != "params":
                    group[k] = v
        self.state = {params[k]: {n: v.clone() if isinstance(v, Tensor) else v for n, v in s.items()}
                      for k, s in state_dict["state"].items()}

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for k, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {k}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])
