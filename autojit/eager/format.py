"""Text of a tensor, character for character as torch prints it.

In: a NumPy array that holds the values, and the few words that stand behind them (dtype, grad_fn,
device). Out: text. Never touches a Tensor, never computes a pending value, and looks at no more of
a long array than it prints. Half types that NumPy lacks come in widened to float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_PREFIX = "tensor("
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}
_options: dict[str, Any] = {**_PROFILES["default"], "sci_mode": None}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed, for the whole process.

    precision: digits after the point (4). threshold: arrays with more elements are summarised
    (1000). edgeitems: elements shown at each end of a summarised axis (3). linewidth: where lines
    break (80). profile: `"default"`, `"short"` or `"full"`, applied before the other words.
    sci_mode: scientific notation always (True), never (False), or where the values ask for it
    (None). As in torch, a call that leaves `sci_mode` out sets it back to None, and a profile of
    another name changes nothing.

    >>> set_printoptions(precision=2)
    >>> format_tensor(np.float32([1.2345]), dtype_name="float32", default=True)
    'tensor([1.23])'
    >>> set_printoptions(profile="default")
    """
    if profile is not None:
        _options.update(_PROFILES.get(profile, {}))
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    _options.update((key, value) for key, value in given.items() if value is not None)
    _options["sci_mode"] = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The options in force, as words for `set_printoptions`.

    >>> get_printoptions()["threshold"]
    1000
    """
    return dict(_options)


@contextmanager
def printoptions(**words: Any) -> Iterator[None]:
    """`set_printoptions(**words)` for the length of a `with` block.

    >>> with printoptions(sci_mode=True):
    ...     format_tensor(np.float32(250.0), dtype_name="float32", default=True)
    'tensor(2.5000e+02)'
    """
    before = get_printoptions()
    set_printoptions(**words)
    try:
        yield
    finally:
        _options.update(before)


def format_tensor(
    array: np.ndarray,
    *,
    dtype_name: str,
    default: bool,
    requires_grad: bool = False,
    grad_fn: str | None = None,
    device: str = "cpu",
) -> str:
    """The text of `repr(tensor)`.

    array: the values, of any shape; bool, integer, floating or complex. dtype_name: `"float64"` or
    `"torch.float64"`. default: whether this dtype goes without saying (the default float and its
    complex partner, int64, bool). grad_fn: class name such as `"MulBackward0"`, or None; it takes
    the place of `requires_grad=True`. device: named in the text unless it is `"cpu"`.

    >>> format_tensor(np.float32([1, 2]), dtype_name="float32", default=True, requires_grad=True)
    'tensor([1., 2.], requires_grad=True)'
    >>> format_tensor(np.float64(0.1), dtype_name="float64", default=False, grad_fn="MulBackward0")
    'tensor(0.1000, dtype=torch.float64, grad_fn=<MulBackward0>)'
    """
    array = np.asanyarray(array)
    name = dtype_name.removeprefix("torch.")
    suffixes = [] if device == "cpu" else [f"device='{device}'"]
    if array.size == 0:
        if array.ndim != 1:
            suffixes.append(f"size={array.shape}")
        # no element tells an empty bool or int64 tensor from a floating one, so those say so
        default = default and "float" in name
        body = "[]"
    else:
        if not _options["edgeitems"]:
            suffixes.append(f"size={array.shape}")
        body = _body(array)
    if not default:
        suffixes.append(f"dtype=torch.{name}")
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(_PREFIX + body, suffixes)


def format_spec(array: np.ndarray, spec: str, whole: Callable[[], str]) -> str:
    """What `format(tensor, spec)` returns; `whole` gives the tensor's `str` if that is wanted.

    A 0-d tensor formats as its Python value does; any other one takes the empty spec only.
    Raises TypeError for another spec, in Python's words.

    >>> format_spec(np.float32(2.5), ".3f", str)
    '2.500'
    """
    if np.ndim(array) == 0:
        return format(np.asanyarray(array).item(), spec)
    if spec:
        raise TypeError("unsupported format string passed to Tensor.__format__")
    return whole()


class _Number:
    """How the elements of one array are written: all in one notation and to one width."""

    __slots__ = ("floating", "integral", "scientific", "width")

    def __init__(self, shown: np.ndarray) -> None:
        self.floating = shown.dtype.kind == "f"
        self.integral = True
        self.scientific = False
        self.width = 1
        flat = shown.reshape(-1)
        if self.floating:
            # zeros, NaN and infinities have no say in notation and width
            flat = flat[np.isfinite(flat) & (flat != 0)]
            if flat.size == 0:
                return
            magnitude = np.abs(flat.astype(np.float64))
            self.integral = bool(np.all(flat == np.ceil(flat)))
            self.scientific = _wants_scientific(float(magnitude.min()), float(magnitude.max()))
        # an integral float has its point to add even where it is inf, which has none
        self.width = max(1, max((len(self._digits(v)) for v in flat.tolist()), default=1))

    def _digits(self, value: Any) -> str:
        if not self.floating:
            return str(value)
        precision = _options["precision"]
        if self.scientific:
            return f"{value:.{precision}e}"
        if self.integral:
            return f"{value:.0f}" + ("." if math.isfinite(value) else "")
        return f"{value:.{precision}f}"

    def text(self, value: Any) -> str:
        return self._digits(value).rjust(self.width)


def _wants_scientific(least: float, greatest: float) -> bool:
    if _options["sci_mode"] is not None:
        return bool(_options["sci_mode"])
    return greatest / least > 1000.0 or greatest > 1.0e8 or least < 1.0e-4


class _Complex:
    """Complex elements: the real parts share one notation, the imaginary ones another."""

    __slots__ = ("imag", "real", "width")

    def __init__(self, shown: np.ndarray) -> None:
        self.real = _Number(shown.real)
        self.imag = _Number(shown.imag)
        self.width = self.real.width + self.imag.width + 1

    def text(self, value: complex) -> str:
        imag = self.imag.text(value.imag).lstrip() + "j"
        return self.real.text(value.real) + ("" if imag[0] == "-" else "+") + imag


def _body(array: np.ndarray) -> str:
    summarize = array.size > _options["threshold"]
    shown = _edges(array) if summarize else array
    number = _Complex(shown) if array.dtype.kind == "c" else _Number(shown)
    return _nested(array, len(_PREFIX), summarize, number)


def _edges(array: np.ndarray) -> np.ndarray:
    """The elements that a summary shows; they alone decide notation and width."""
    edge = _options["edgeitems"]
    for axis, extent in enumerate(array.shape):
        if extent > 2 * edge:
            picks = [*range(edge), *range(extent - edge, extent)]
            array = array.take(picks, axis=axis)
    return array


def _nested(array: np.ndarray, indent: int, summarize: bool, number: _Number | _Complex) -> str:
    if array.ndim == 0:
        return number.text(array.item())
    if array.ndim == 1:
        return _row(array, indent, summarize, number)
    edge = _options["edgeitems"]
    extent = array.shape[0]

    def parts(first: int, last: int) -> list[str]:
        return [_nested(array[i], indent + 1, summarize, number) for i in range(first, last)]

    if summarize and extent > 2 * edge:
        texts = [*parts(0, edge), "...", *parts(extent - edge, extent)]
    else:
        texts = parts(0, extent)
    between = "," + "\n" * (array.ndim - 1) + " " * (indent + 1)
    return "[" + between.join(texts) + "]"


def _row(array: np.ndarray, indent: int, summarize: bool, number: _Number | _Complex) -> str:
    edge = _options["edgeitems"]
    if summarize and not edge:
        texts = ["..."]
    elif summarize and len(array) > 2 * edge:
        first, last = array[:edge].tolist(), array[-edge:].tolist()
        texts = [*map(number.text, first), " ...", *map(number.text, last)]
    else:
        texts = [number.text(value) for value in array.tolist()]
    per_line = max(1, (_options["linewidth"] - indent) // (number.width + 2))
    lines = [", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _with_suffixes(text: str, suffixes: list[str]) -> str:
    # one more than the last line really has, for torch counts so
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if column + len(suffix) + 2 > _options["linewidth"]:
            text += ",\n" + " " * len(_PREFIX) + suffix
            column = len(_PREFIX) + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + 2
    return text + ")"
