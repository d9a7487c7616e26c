"""Saving and loading tensors in nests, as safetensors files: data alone, no code, readable by other tools.

In: tensors in dictionaries, lists and tuples, with numbers, strings, bools and None between them; a path.  Out: a file, and the
same nest back.  Never pickles.  A flat dictionary of tensors, a module's `state_dict()`, makes a plain file; what else a nest
holds stands as JSON in the file's metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .dtypes import as_dtype, bfloat16
from .eager.convert import memory_of, rebuild
from .eager.creation import tensor
from .eager.tensor import Tensor
from .errors import explain

_KEY = "autojit"
_NAMES = {"C64": "complex64", "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
          "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


def _library() -> Any:
    try:
        import safetensors
    except ModuleNotFoundError:
        raise explain(ModuleNotFoundError("save() and load() need the library safetensors", name="safetensors"),
                      hint="pip install 'autojit[save]', or pip install safetensors") from None
    return safetensors


# ---------------------------------------------------------------- nests
def _taken(x: Any, path: str, found: dict[str, Any]) -> Any:
    """The nest with tensors taken out, under their paths."""
    if isinstance(x, (Tensor, np.ndarray)):
        found[path] = tensor(x) if isinstance(x, np.ndarray) else x
        return {"tensor": path, "array": True} if isinstance(x, np.ndarray) else {"tensor": path}
    if x is None or isinstance(x, (bool, int, str)):
        return x
    if isinstance(x, float):
        return {"float": repr(x)}
    if isinstance(x, np.generic):
        return _taken(x.item(), path, found)
    if isinstance(x, Mapping):
        return {"items": [[_taken(k, path, {}), _taken(v, f"{path}.{k}" if path else str(k), found)] for k, v in x.items()]}
    if isinstance(x, (list, tuple)):
        parts = [_taken(v, f"{path}.{k}" if path else str(k), found) for k, v in enumerate(x)]
        return {"list" if isinstance(x, list) else "tuple": parts}
    raise explain(TypeError(f"save() cannot store {type(x).__name__} (at {path or 'the top'})"),
                  hint="save tensors, numbers, strings, and nests of them: of a module, its state_dict()")


def _given(x: Any, found: dict[str, Any]) -> Any:
    """The nest with tensors put back."""
    if not isinstance(x, dict):
        return x
    if "tensor" in x:
        t = found[x["tensor"]]
        return t.numpy() if x.get("array") else t
    if "float" in x:
        return float(x["float"])
    if "items" in x:
        return {_given(k, found): _given(v, found) for k, v in x["items"]}
    return [_given(v, found) for v in x["list"]] if "list" in x else tuple([_given(v, found) for v in x["tuple"]])


# ---------------------------------------------------------------- files
def save(obj: Any, f: str | os.PathLike[str]) -> None:
    """Write tensors, in a nest or alone, to a file.  TypeError names what cannot be stored.

    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "w.safetensors")
    >>> save({"w": tensor([1.0, 2.0]), "epoch": 3}, path); load(path)
    {'w': tensor([1., 2.]), 'epoch': 3}
    """
    library = _library()
    found: dict[str, Tensor] = {}
    nest = _taken(obj, "", found)
    plain = isinstance(obj, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in obj.items())
    if len(found) != _count(nest):
        raise explain(ValueError("two tensors of the nest have the same dotted name"), hint="use keys without dots")
    arrays = [np.ascontiguousarray(memory_of(t.detach())) for t in found.values()]       # held until they are written
    raw = {name or "tensor": _described(library, t, a) for (name, t), a in zip(found.items(), arrays)}
    text = library.serialize(raw, None if plain else {_KEY: json.dumps(nest)})
    path = os.fspath(f)
    with open(path + ".part", "wb") as file:
        file.write(text)
    os.replace(path + ".part", path)                      # a file that is there is whole


def _described(library: Any, t: Tensor, a: Any) -> Any:
    """A tensor as the library wants it: by address since its 0.8, before that by a copy."""
    if not hasattr(library, "TensorSpec"):
        return {"dtype": t.dtype.name, "shape": list(t.shape), "data": a.tobytes()}
    return library.TensorSpec(dtype=t.dtype.name, shape=list(t.shape), data_ptr=a.ctypes.data, data_len=a.nbytes)


def _count(x: Any) -> int:
    if isinstance(x, dict):
        return 1 if "tensor" in x else sum(map(_count, x.values()))
    return sum(map(_count, x)) if isinstance(x, list) else 0


def load(f: str | os.PathLike[str], device: Any = None) -> Any:
    """What `save` wrote: the same nest, with new tensors.  Of a file that other tools wrote, its tensors by name."""
    library = _library()
    with open(os.fspath(f), "rb") as file:
        text = file.read()
    try:
        parts = library.deserialize(text)
        header = json.loads(text[8:8 + int.from_bytes(text[:8], "little")])
    except (library.SafetensorError, ValueError) as e:
        raise explain(RuntimeError(f"{os.fspath(f)} is no safetensors file: {e}"),
                      hint="files of torch.save are pickles: load them with torch and save with safetensors") from None
    found: dict[str, Any] = {name: _made(name, part, device) for name, part in parts}
    nest = header.get("__metadata__", {}).get(_KEY)
    if nest is None:
        return {name: found[name] for name in header if name in found}
    found.setdefault("", found.get("tensor"))
    return _given(json.loads(nest), found)


def _made(name: str, part: dict[str, Any], device: Any) -> Tensor:
    if part["dtype"] not in _NAMES:
        raise explain(RuntimeError(f"tensor {name!r} has a dtype that is not supported here: {part['dtype']}"))
    d = as_dtype(_NAMES[part["dtype"]])
    array = np.frombuffer(bytes(part["data"]), np.uint16 if d is bfloat16 else d.np).reshape(part["shape"]).copy()
    return rebuild(array, False, device or "cpu")
