"""Taking values by name into a module.

In: a module and a mapping from dotted names to tensors.  Out: the module's memory overwritten, and the names that did not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """`Module.load_state_dict`.  Nothing is written where something does not fit (unless a hook is to hear of names first)."""
    if not isinstance(given, Mapping):
        raise explain(TypeError(f"Expected state_dict to be dict-like, got {type(given)}."))
    modules = list(module.named_modules())
    late = [(m, hook) for _, m in reversed(modules) for hook in m._load_hooks.values()]
    found = IncompatibleKeys([], [])
    wrong: list[str] = []
    if any([m._load_pre_hooks for _, m in modules]):
        given = dict(given)
        for path, m in modules:
            for hook in list(m._load_pre_hooks.values()):
                hook(m, given, f"{path}." if path else "", {}, strict, *found, wrong)
    targets = _targets(module)
    found.missing_keys.extend([name for name in targets if name not in given])
    found.unexpected_keys.extend([name for name in given if name not in targets])
    misfits = [*wrong, *_misfits(targets, given)]
    _refuse(module, [*([] if late or not strict else _names(found)), *misfits])
    with no_grad():
        for name, (t, space, own) in targets.items():
            if name in given:
                _put(t, space, own, given[name], assign)
    for m, hook in late:
        if hook(m, found) is not None:
            raise explain(RuntimeError("Hooks registered with ``register_load_state_dict_post_hook`` are not expected to "
                                       "return new values, if incompatible_keys need to be modified, it should be done "
                                       "inplace."))
    _refuse(module, _names(found) if strict else [])
    return found


def _names(found: IncompatibleKeys) -> list[str]:
    """What `strict` says of names that do not fit."""
    return [f"{word} key(s) in state_dict: " + ", ".join([f'"{n}"' for n in names]) + ". "
            for names, word in ((found.missing_keys, "Missing"), (found.unexpected_keys, "Unexpected")) if names]


def _misfits(targets: dict[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with values."""
    for name, (t, _, _) in targets.items():
        v = given.get(name)
        if name in given and not isinstance(v, Tensor):
            yield (f'While copying the parameter named "{name}", expected torch.Tensor or Tensor-like object from '
                   f"checkpoint but received {type(v)}")
        elif v is not None and v.shape != t.shape:
            yield (f"size mismatch for {name}: copying a param with shape {v.shape} from checkpoint, the shape in "
                   f"current model is {t.shape}.")


def _refuse(module: Any, wrong: list[str]) -> None:
    if wrong:
        raise explain(RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t" + "\n\t".join(wrong)))


def _put(t: Any, space: dict[str, Any], name: str, v: Any, assign: bool) -> None:
    if not assign:
        t.copy_(v)
    elif isinstance(t, Parameter) and not isinstance(v, Parameter):
        space[name] = Parameter(v, t.requires_grad)
    else:
        space[name] = v
