"""Taking values by name into a module.

In: a module and a mapping from dotted names to tensors.  Out: the module's memory overwritten, and the names that did not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..eager.modes import no_grad
from ..eager.tensor import Tensor
from ..errors import explain
from .parameter import Parameter


class IncompatibleKeys(NamedTuple):
    """Names that the module wants and did not get, and names that it does not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def _targets(module: Any) -> dict[str, tuple[Any, dict[str, Any], str]]:
    """Of each dotted name: the tensor, the dictionary that holds it, its own name."""
    out = {}
    for path, m in module.named_modules(remove_duplicate=False):
        persistent = {k: b for k, b in m._buffers.items() if k not in m._non_persistent_buffers_set}
        for space, held in ((m._parameters, m._parameters), (m._buffers, persistent)):
            for name, t in held.items():
                if t is not None:
                    out[f"{path}.{name}" if path else name] = (t, space, name)
    return out


def load(module: Any, given: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """`Module.load_state_dict`.  Nothing is written where something does not fit."""
    if not isinstance(given, Mapping):
        raise explain(TypeError(f"Expected state_dict to be dict-like, got {type(given)}."))
    targets = _targets(module)
    missing = [name for name in targets if name not in given]
    unexpected = [name for name in given if name not in targets]
    wrong = []
    if strict:
        for names, word in ((missing, "Missing"), (unexpected, "Unexpected")):
            if names:
                wrong.append(f"{word} key(s) in state_dict: " + ", ".join([f'"{n}"' for n in names]) + ". ")
    for name, (t, _, _) in targets.items():
        v = given.get(name)
        if name in given and not isinstance(v, Tensor):
            wrong.append(f'While copying the parameter named "{name}", expected torch.Tensor or Tensor-like object from '
                         f"checkpoint but received {type(v)}")
        elif v is not None and v.shape != t.shape:
            wrong.append(f"size mismatch for {name}: copying a param with shape {v.shape} from checkpoint, the shape in "
                         f"current model is {t.shape}.")
    if wrong:
        raise explain(RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t" + "\n\t".join(wrong)))
    with no_grad():
        for name, (t, space, own) in targets.items():
            if name in given:
                _put(t, space, own, given[name], assign)
    return IncompatibleKeys(missing, unexpected)


def _put(t: Any, space: dict[str, Any], name: str, v: Any, assign: bool) -> None:
    if not assign:
        t.copy_(v)
    elif isinstance(t, Parameter) and not isinstance(v, Parameter):
        space[name] = Parameter(v, t.requires_grad)
    else:
        space[name] = v
