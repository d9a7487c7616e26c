"""What all optimisers share: groups of parameters, the loop of a step, clearing gradients, saving state.

In: parameters, or groups of them with options.  Out: in-place updates under `no_grad`, one program however many parameters
there are.  State is made when the optimiser is made, and numbers that a schedule may change stand in
0-d tensors, so that a traced training step finds both as they will be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..eager.creation import tensor
from ..eager.modes import enable_grad, no_grad
from ..eager.state import state as now
from ..eager.tensor import Tensor
from ..errors import explain, internal
from ..tracing.traced import trace


def _is_number(v: Any) -> bool:
    return type(v) is float or type(v) is int


class Group(dict[str, Any]):
    """Options of some parameters.  Those that may follow a schedule are also tensors, `number(name)`, that change along."""

    def __init__(self, options: dict[str, Any], follows: tuple[str, ...]) -> None:
        super().__init__(options)
        self._numbers: dict[str, Any] = {}
        for name in follows:
            v: Any = self.get(name)
            if _is_number(v):
                self._numbers[name] = tensor(float(v), dtype="float64")
            elif type(v) in (tuple, list) and all(map(_is_number, v)):
                self._numbers[name] = tuple([tensor(float(x), dtype="float64") for x in v])

    def __setitem__(self, name: str, v: Any) -> None:
        super().__setitem__(name, v)
        t = self._numbers.get(name)
        if isinstance(t, tuple):
            for one, x in zip(t, v):
                one.fill_(float(x))
        elif t is not None and _is_number(v):
            t.fill_(float(v))
        elif isinstance(v, Tensor):
            self._numbers.pop(name, None)

    def number(self, name: str) -> Any:
        """An option as a tensor (or as tensors) that follows its changes; itself where it is none that changes."""
        return self._numbers.get(name, self[name])


def refuse_negative(**options: Any) -> None:
    """ValueError in torch's words for an option below 0."""
    words = {"lr": "Invalid learning rate: ", "eps": "Invalid epsilon value: "}
    for name, v in options.items():
        if not isinstance(v, Tensor) and not v >= 0.0:
            raise explain(ValueError(f"{words.get(name, f'Invalid {name} value: ')}{v}"))


class Optimizer:
    """Base of all: `param_groups`, `state`, `zero_grad()`, `step()`, `state_dict()`.

    A subclass says `make_state(group, p)` and `update(group, p, g)`, in `follows` which options a schedule may change, and in
    `real_only` whether its formula is wrong for complex parameters.
    """

    follows: tuple[str, ...] = ("lr",)
    real_only = False

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise explain(TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                                    "torch.FloatTensor"), hint="put it in a list: [w]")
        self.defaults = defaults
        self._recorded: Any = None                        # all updates as one program of the gradients
        self.state: dict[Any, dict[str, Any]] = {}
        self.param_groups: list[Group] = []
        given = list(params)
        if not given:
            raise explain(ValueError("optimizer got an empty parameter list"))
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """More parameters, with options of their own; what is not given is the default."""
        if not isinstance(param_group, dict):
            raise explain(TypeError(f"param_group must be a dict, but got {type(param_group)}"))
        params = param_group["params"]
        if isinstance(params, set):
            raise explain(TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of "
                                    "tensors in sets will change between runs. Please use a list instead."))
        params = [params] if isinstance(params, Tensor) else [p[1] if isinstance(p, tuple) else p for p in params]
        have = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise explain(TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}"))
            if not p.is_leaf:
                raise explain(ValueError("can't optimize a non-leaf Tensor"))
            if p.is_complex() and self.real_only:
                raise explain(NotImplementedError(f"{type(self).__name__} takes no complex parameters"),
                              hint="optimize torch.view_as_real(z) and compute with torch.view_as_complex of it")
            if id(p) in have:
                raise explain(ValueError("some parameters appear in more than one parameter group"))
        made = Group({**param_group, "params": params, **{k: v for k, v in self.defaults.items() if k not in param_group}},
                     self.follows)
        self.param_groups.append(made)
        for p in params:
            self.make_state(made, p)

    def make_state(self, group: Group, p: Tensor) -> None:
        """Make what a parameter needs besides its gradient: now, so that a traced step finds it as it will be."""

    def update(self, group: Group, p: Any, g: Any) -> None:
        """Change one parameter by its gradient, which has the sign and the weight decay in it already."""
        raise NotImplementedError

    # ------------------------------------------------------------ a step
    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient.  `closure` computes the loss (and gradients) again, and is returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        if now.trace is None and now.anomaly is None and internal(type(self).update.__code__.co_filename):
            if self._recorded is None:
                self._recorded = trace(self._all)
            self._recorded(grads)
        else:
            self._all(grads)
        return loss

    def _all(self, grads: list[Any]) -> None:
        """Change every parameter by its gradient, one each in the order of the groups."""
        if now.trace is not None:
            self._tell(now.trace)
        given = iter(grads)
        for group in self.param_groups:
            for p in group["params"]:
                g = next(given)
                if g is not None:
                    self.update(group, p, self._gradient(group, p, g))

    def _gradient(self, group: Group, p: Any, g: Any) -> Any:
        """The gradient with its sign and its weight decay; decay that is apart from it happens here."""
        g = -g if group.get("maximize") else g
        decay = group.get("weight_decay", 0)
        if isinstance(decay, Tensor) or decay:
            if group.get("decoupled_weight_decay"):
                p.mul_(1 - group.number("lr") * decay)
            else:
                g = g + p * decay
        return g

    def _tell(self, recording: Any) -> None:
        """What a recording depends on: the groups, options that are constants in it, the tensors of the state."""
        watched = getattr(recording, "watched", None)
        if watched is None or self in watched:
            return
        watched[self] = places = [(self.__dict__, "param_groups", self.param_groups)]
        for group in self.param_groups:
            places += [(group, name, v) for name, v in group.items() if name not in group._numbers]
        for state in self.state.values():
            places += [(state, name, v) for name, v in state.items()]

    def __getstate__(self) -> dict[str, Any]:
        """For copies: recordings are not part of an optimiser."""
        return {**self.__dict__, "_recorded": None}

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

    # ------------------------------------------------------------ saved state
    def state_dict(self) -> dict[str, Any]:
        """State by parameter number, and groups with numbers for parameters.  Tensors are the optimiser's own."""
        numbers: dict[int, int] = {}
        for group in self.param_groups:
            for p in group["params"]:
                numbers.setdefault(id(p), len(numbers))
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[id(p)]: dict(s) for p, s in self.state.items()}, "param_groups": groups}

    @no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave.  State that is there is overwritten in place, so traced steps go on with it."""
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise explain(ValueError("loaded state dict has a different number of parameter groups"))
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(self.param_groups, groups)):
            raise explain(ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's "
                                     "group"))
        params = {k: p for a, b in zip(self.param_groups, groups) for p, k in zip(a["params"], b["params"])}
        for group, saved in zip(self.param_groups, groups):
            for name, v in saved.items():
                if name != "params":
                    group[name] = v
        for k, saved in state_dict["state"].items():
            k = int(k) if isinstance(k, str) else k       # names of a saved file
            self._load(self.state.setdefault(params[k], {}), saved, params[k])

    def _load(self, own: dict[str, Any], saved: dict[str, Any], p: Any) -> None:
        for name, v in saved.items():
            if isinstance(v, Tensor) and isinstance(own.get(name), Tensor) and own[name].shape == v.shape:
                own[name].copy_(v)
            elif isinstance(v, Tensor):
                own[name] = v.clone() if name == "step" or not v.is_floating_point() else v.to(p.device, p.dtype).clone()
            else:
                own[name] = v

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for k, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {k}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])
