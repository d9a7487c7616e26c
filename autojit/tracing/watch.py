"""The Python values that a traced function reads, watched: a recording made with other ones is not used.

In: a function and the objects among its arguments.  Out: `Watch.changed()`, asked at each call.  Sees globals, closure cells
and defaults, of the function and of the user's functions that it names; one level of attributes of objects, modules and
`self` by the names in the code; what lists, dictionaries, sets and arrays hold.  Does not see properties, `getattr` with a
computed name, or values behind calls (`random.random()`): such Python runs only while recording.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import numpy as np

from ..eager.tensor import Tensor
from ..errors import internal

DEPTH = 3                                                 # functions that call functions that call functions
FEW = 4                                                   # elements of a container that generated code looks at one by one
ELEMENTS = 1024                                           # of a container or array that are looked at
_PLAIN = (int, float, bool, str, complex, type(None), bytes)
_SKIP = (types.ModuleType, types.BuiltinFunctionType, type)
_HELD = (list, tuple, dict, set, frozenset)


def _same(now: Any, old: Any) -> bool:
    """One object, or equal numbers or words of one type."""
    return now is old or type(now) is type(old) and type(now) in _PLAIN and (now == old or now != now and old != old)


def _inner(fn: Any) -> Any:
    """The user's function inside of a transform's."""
    while hasattr(fn, "__wrapped__"):
        code = getattr(fn, "__code__", None)
        if code is not None and not internal(code.co_filename):
            break
        fn = fn.__wrapped__
    return fn


def _contents(v: Any) -> Any:
    """What a container or array holds, as something that stays; None for anything else, and for large ones."""
    if isinstance(v, np.ndarray):
        return v.tobytes() if v.size <= ELEMENTS and v.dtype != object else None
    if type(v) not in _HELD or len(v) > ELEMENTS:
        return None
    return tuple(v.items()) if type(v) is dict else tuple(v)


def _unchanged(now: Any, old: Any) -> bool:
    if type(old) is bytes or type(now) is bytes:
        return bool(now == old)
    if now is None or len(now) != len(old):
        return False
    return all([_same(a, b) if type(b) is not tuple else type(a) is tuple and _unchanged(a, b) for a, b in zip(now, old)])


def _identical(v: Any, old: Any) -> bool:
    """Is it a list, a tuple or a dictionary that holds the very objects of `old`, its contents?  The quick answer."""
    if type(v) is list or type(v) is tuple:
        return len(v) == len(old) and all(map(is_, v, old))
    if type(v) is not dict or len(v) != len(old):
        return False
    for key, (old_key, found) in zip(v, old):
        if key is not old_key or v[key] is not found:
            return False
    return True


class Watch:
    """Places and what stood in them when the function was recorded."""

    __slots__ = ("cells", "places", "defaults", "held", "_seen")

    def __init__(self, fn: Any, objects: Sequence[Any] = ()) -> None:
        self.cells: list[tuple[Any, str, Any]] = []       # closure cells, their names and values
        self.places: list[tuple[dict[str, Any], str, Any]] = []   # dictionaries, names in them and values
        self.defaults: list[tuple[Any, Any]] = []         # functions and their defaults
        self.held: list[tuple[Any, str, Any]] = []        # (container or array, its name, contents)
        self._seen: set[int] = set()
        self._function(fn, DEPTH)
        code = getattr(fn, "__code__", None)
        for x in objects:
            if code is not None and not isinstance(x, _PLAIN):
                self._attributes(x, code.co_names)

    def more(self, places: Sequence[tuple[dict[str, Any], str, Any]]) -> None:
        """Places that an object says it depends on (a module its mode, its parameters), but where the function wrote."""
        for space, key, v in places:
            if space.get(key) is v:
                self.places.append((space, key, v))
                if isinstance(v, _HELD):
                    self._hold(v, key)

    def settle(self) -> None:
        """After recording: what the function itself filled (a log, a counter) is its affair, and not watched."""
        self.held = [(v, name, old) for v, name, old in self.held if _unchanged(_contents(v), old)]

    def _hold(self, v: Any, name: str) -> None:
        old = _contents(v)
        if old is not None:
            self.held.append((v, name, old))

    def _function(self, fn: Any, depth: int) -> None:
        fn = _inner(fn)
        code = getattr(fn, "__code__", None)
        if code is None or id(fn) in self._seen or depth == 0 or internal(code.co_filename):
            return
        self._seen.add(id(fn))
        names = list(code.co_names)
        for inner in code.co_consts:                      # functions and comprehensions written inside
            if isinstance(inner, types.CodeType):
                names += inner.co_names
        for name in names:
            if name in fn.__globals__:
                self._place(fn.__globals__, name, fn.__globals__[name], names, depth)
        for cell, name in zip(fn.__closure__ or (), code.co_freevars):
            try:
                found = cell.cell_contents
            except ValueError:                            # not yet filled
                continue
            self.cells.append((cell, name, found))
            self._look(found, name, names, depth)
        for v in (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()):
            self._look(v, "a default", names, depth)

    def _place(self, owner: dict[str, Any], name: str, found: Any, names: Sequence[str], depth: int) -> None:
        if not isinstance(found, _SKIP):
            self.places.append((owner, name, found))
        self._look(found, name, names, depth)

    def _look(self, found: Any, name: str, names: Sequence[str], depth: int) -> None:
        """Into a value: a function's own values, attributes, contents."""
        inner = _inner(getattr(found, "fn", found) if type(found).__name__ == "Traced" else found)
        if isinstance(inner, (types.FunctionType, types.MethodType)):
            inner = getattr(inner, "__func__", inner)
            if not internal(inner.__code__.co_filename):
                self.defaults.append((inner, inner.__defaults__))
            self._function(inner, depth - 1)
        elif isinstance(found, (np.ndarray, *_HELD)):
            self._hold(found, name)
        elif not isinstance(found, (*_PLAIN, Tensor)):
            self._attributes(found, names)

    def _attributes(self, owner: Any, names: Sequence[str]) -> None:
        """One level of attributes that the code names.  Of modules only plain values and data."""
        space = getattr(owner, "__dict__", None)
        if type(space) is not dict or id(owner) in self._seen:
            return
        module = isinstance(owner, types.ModuleType)
        if module and internal(getattr(owner, "__file__", None) or ""):
            return
        self._seen.add(id(owner))
        for name in dict.fromkeys(names):
            v = space.get(name, self)
            if v is self or isinstance(v, _SKIP):
                continue
            if not module or isinstance(v, (*_PLAIN, *_HELD, Tensor, np.ndarray)):
                self.places.append((space, name, v))
                if isinstance(v, (np.ndarray, *_HELD)):
                    self._hold(v, name)

    @property
    def anything(self) -> bool:
        """Is there anything to ask about?"""
        return bool(self.cells or self.places or self.defaults or self.held)

    def identities(self, name: Callable[[Any, str], str]) -> str | None:
        """What must hold for `changed()` to be worth asking, as an expression; `name` gives objects a name in it.

        It says that some place holds another object than it did.  None: always ask, since something large is watched.
        """
        said = [f"{name(cell, 'q')}.cell_contents is not {name(old, 'o')}" for cell, _, old in self.cells]
        said += [f"{name(space, 'q')}.get({key!r}) is not {name(old, 'o')}" for space, key, old in self.places]
        said += [f"{name(fn, 'q')}.__defaults__ is not {name(old, 'o')}" for fn, old in self.defaults]
        for v, _, old in self.held:
            words = type(v) is not dict or all([type(k) is str for k, _ in old])
            if type(v) not in (list, tuple, dict) or len(old) > FEW or not words:
                return None
            where = name(v, "q")
            said.append(f"len({where}) != {len(old)}")
            inside = [(f".get({k!r})", x) for k, x in old] if type(v) is dict else [(f"[{k}]", x) for k, x in enumerate(old)]
            said += [f"{where}{at} is not {name(x, 'o')}" for at, x in inside]
        return " or ".join(said)

    def changed(self) -> str | None:
        """The first name whose value is another, or None.  Asked at each call: identity first, the rest if that fails."""
        for cell, name, old in self.cells:
            if cell.cell_contents is not old and not _same(cell.cell_contents, old):
                return name  # type: ignore[no-any-return]
        for space, name, old in self.places:
            if space.get(name) is not old and not _same(space.get(name), old):
                return name  # type: ignore[no-any-return]
        for fn, old in self.defaults:
            if fn.__defaults__ is not old:
                return f"the defaults of {fn.__name__}"
        for v, name, old in self.held:
            if not _identical(v, old) and not _unchanged(_contents(v), old):
                return f"what {name} holds"
        return None
