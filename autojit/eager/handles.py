"""Where hooks are registered, and how they are taken away again.

In: hooks, and what holds them: tensors, functions of the tape.  Out: `Handle`.  Never calls a hook.
"""

from __future__ import annotations

from typing import Any

from .state import state


class Handle:
    """What registering a hook returns: `remove()` takes the hook away; works as a context manager too."""

    __slots__ = ("holder", "name", "hook")

    def __init__(self, holder: Any, name: str, hook: Any) -> None:
        self.holder, self.name, self.hook = holder, name, hook

    def remove(self) -> None:
        """Once: the same hook may have been registered twice."""
        left, self.name, name = list(getattr(self.holder, self.name or "", None) or ()), "", self.name
        for k, h in enumerate(left):
            if h is self.hook:
                del left[k]
                setattr(self.holder, name, left or None)
                return

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Calls:
    """The hooks of one function: `before` and `after` its reverse; None for none."""

    __slots__ = ("before", "after")

    def __init__(self) -> None:
        self.before: Any = None
        self.after: Any = None


def register(holder: Any, name: str, hook: Any) -> Handle:
    """One more hook of a record, or of a leaf."""
    if state.trace is not None:
        state.trace.cut = True                            # only the tape knows of it
    if holder.calls is None:
        holder.calls = Calls()
    setattr(holder.calls, name, [*(getattr(holder.calls, name) or ()), hook])
    return Handle(holder.calls, name, hook)
