"""Errors: the words torch users know, the line of the user's own file, and a hint.

In: what happened.  Out: an exception whose text is torch's, so that programs which print it print the same, with the
user's line and the way out attached as notes (``__notes__``, shown below a traceback).  Never catches anything.
"""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import TypeVar

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep

E = TypeVar("E", bound=BaseException)


class TraceError(RuntimeError):
    """A value was looked at, or an impossible thing asked, while a function is being traced."""


class CompileError(RuntimeError):
    """A kernel could not be compiled; the message carries the source and the compiler's words."""


class NoDerivative(RuntimeError):
    """An operation has no derivative: told where somebody asks for it, and not before."""


class Refused(RuntimeError):
    """A kernel leaves the values it was given to NumPy, which raises what is to be raised or has the result."""


class VerifyError(AssertionError):
    """The compiler made something ill-formed: a bug of autojit, never of the user."""


class CacheWarning(UserWarning):
    """The disk cache cannot be used as it is; programs run all the same."""


def internal(filename: str) -> bool:
    """Is this file part of autojit (and not of the user's program)?"""
    return filename.startswith(_HERE)


def user_frame(depth: int = 1) -> FrameType | None:
    """The innermost frame that is not autojit's own."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and internal(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def place(code: CodeType, lasti: int) -> str:
    """'file:line' of an instruction: records keep (code, lasti) because it costs nothing to take."""
    line: int | None = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= lasti < end and number is not None:
            line = number
    return f"{code.co_filename}:{line}"


def user_place() -> str:
    """'file:line' of the user's statement that is running now."""
    frame = user_frame(2)
    return "<unknown>" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def explain(error: E, *, where: str | None = None, hint: str | None = None) -> E:
    """Attach the user's line and a hint to an exception, and return it: ``raise explain(IndexError(...), hint=...)``."""
    error.add_note(f"  at {where or user_place()}")
    if hint:
        error.add_note(f"  hint: {hint}")
    return error
