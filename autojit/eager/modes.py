"""Grad modes: context managers and decorators, one state a thread.

In: `with no_grad():`, `@no_grad()`, `set_grad_enabled(flag)`.  Out: `state.grad`, `state.inference`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .state import state


class _Mode:
    """A context manager that also decorates functions and generator functions."""

    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        if isinstance(f, type):
            raise TypeError("decorating classes with a grad mode is not supported: decorate the function")
        if f.__code__.co_flags & 0x20 if hasattr(f, "__code__") else False:
            return _decorated_generator(self, f)

        @functools.wraps(f)
        def inner(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return f(*args, **kwargs)
        return inner

    def clone(self) -> Any:
        return type(self)()

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, *exc: object) -> None:
        raise NotImplementedError


def _decorated_generator(mode: Any, f: Callable[..., Any]) -> Callable[..., Any]:
    """The mode holds while the generator runs, not while its caller does."""
    @functools.wraps(f)
    def inner(*args: Any, **kwargs: Any) -> Any:
        g = f(*args, **kwargs)
        send = None
        while True:
            with mode.clone():
                try:
                    got = g.send(send)
                except StopIteration as stop:
                    return stop.value
            send = yield got
    return inner


class no_grad(_Mode):
    """Nothing inside is recorded: results do not require grad.

    >>> x = tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __new__(cls, f: Any = None) -> Any:
        return object.__new__(cls) if f is None else object.__new__(cls)(f)

    def __enter__(self) -> None:
        self.before, state.grad = state.grad, False

    def __exit__(self, *exc: object) -> None:
        state.grad = self.before


class enable_grad(_Mode):
    """Records again, inside a `no_grad` block."""

    def __new__(cls, f: Any = None) -> Any:
        return object.__new__(cls) if f is None else object.__new__(cls)(f)

    def __enter__(self) -> None:
        self.before, state.grad = state.grad, True

    def __exit__(self, *exc: object) -> None:
        state.grad = self.before


class set_grad_enabled(_Mode):
    """Recording on or off from here on; as a context manager, until its end."""

    def __init__(self, mode: bool) -> None:
        self.before, self.mode = state.grad, bool(mode)
        state.grad = self.mode

    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        state.grad = self.before                          # a decorator leaves the mode outside alone
        return super().__call__(f)

    def clone(self) -> Any:
        before = state.grad
        c = set_grad_enabled(self.mode)
        c.before = before
        return c

    def __enter__(self) -> None:
        state.grad = self.mode

    def __exit__(self, *exc: object) -> None:
        state.grad = self.before

    def __repr__(self) -> str:
        return f"set_grad_enabled(mode={self.mode})"


class inference_mode(_Mode):
    """As `no_grad`, and what is made inside can take no part in recorded operations later."""

    mode = True

    def __new__(cls, mode: Any = True) -> Any:
        return object.__new__(cls) if isinstance(mode, bool) else object.__new__(cls)(mode)

    def __init__(self, mode: bool = True) -> None:
        self.mode = mode

    def clone(self) -> Any:
        return inference_mode(self.mode)

    def __enter__(self) -> None:
        self.before = (state.grad, state.inference)
        if self.mode:
            state.grad, state.inference = False, True
        else:
            state.inference = False

    def __exit__(self, *exc: object) -> None:
        state.grad, state.inference = self.before


def is_grad_enabled() -> bool:
    """Is the thread recording?"""
    return state.grad


def is_inference_mode_enabled() -> bool:
    """Is the thread inside `inference_mode`?"""
    return state.inference
