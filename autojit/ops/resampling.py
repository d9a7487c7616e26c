"""Public ops that take samples of images anew: im2col and back, pixels to channels, other sizes, and what is near in channels.

In: nodes (batch, channels, places...) and static sizes.  Out: nodes.  Where samples are read is computed from their own
places, so every gradient is a sum over known places.
"""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import FLOAT, DType, float32, float64, int64
from ..errors import explain
from ..ir.graph import Node
from .adaptive import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .arithmetic import pow_number
from .checks import floating, scalar_type
from .declare import P, cast, op, spread
from .elementwise import like
from .windows import Ints, cut, each, padded, span, unwindows, wide, windows


# ---------------------------------------------------------------- windows as columns
def _pairs(kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Ints, Ints, Ints, Ints]:
    kernel, dilated, pads, steps = [each(w, v, 2) for w, v in (("kernel_size", kernel_size), ("dilation", dilation),
                                                               ("padding", padding), ("stride", stride))]
    asked = (("kernel size", kernel, 1), ("dilation", dilated, 1), ("padding", pads, 0), ("stride", steps, 1))
    for what, given, least in asked:
        if min(given) < least:
            word, k = ("non-negative" if least == 0 else "greater than zero"), "pad" if what == "padding" else what.split()[0]
            raise explain(RuntimeError(f"{what} should be {word}, but got {k}_height: {given[0]} {k}_width: {given[1]}"))
    return kernel, dilated, pads, steps


def _blocks(places: Ints, kernel: Ints, dilated: Ints, pads: Ints, steps: Ints) -> Ints:
    return tuple([(n + 2 * p - r) // s + 1 for n, p, r, s in zip(places, pads, span(kernel, dilated), steps)])


@op("im2col", method=False, function=False, grad="Im2ColBackward0")
def im2col(input: Node, kernel_size: int | Ints, dilation: int | Ints = 1, padding: int | Ints = 0,
           stride: int | Ints = 1) -> Node:
    """Windows as columns, nn.functional.unfold: (batch, channels, rows, columns) → (batch, channels * window, windows)."""
    kernel, dilated, pads, steps = _pairs(kernel_size, dilation, padding, stride)
    if input.ndim not in (3, 4) or 0 in input.shape[-3:]:
        raise explain(RuntimeError("Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero "
                                   f"dimensions for input, but got: {list(input.shape)}"))
    x = input if input.ndim == 4 else P.reshape(input, (1, *input.shape))
    made = _blocks(x.shape[2:], kernel, dilated, pads, steps)
    if min(made) < 1:
        raise explain(RuntimeError(
            f"Given input with spatial size {_tuple(x.shape[2:])}, kernel_size={_tuple(kernel)}, dilation={_tuple(dilated)}, "
            f"padding={_tuple(pads)}, calculated shape of the array of sliding blocks as {_tuple(made)}, but its components "
            "must be at least one."))
    n = windows(padded(x, tuple([(p, p) for p in pads])), kernel, steps, dilated)
    out = P.reshape(P.permute(n, (0, 1, 4, 5, 2, 3)), (x.shape[0], x.shape[1] * kernel[0] * kernel[1], made[0] * made[1]))
    return out if input.ndim == 4 else P.reshape(out, out.shape[1:])


def _tuple(values: Any) -> str:
    return f"({', '.join([str(v) for v in values])})"


@op(method=False, function=False, functional=True, grad="Col2ImBackward0")
def fold(input: Node, output_size: int | Ints, kernel_size: int | Ints, dilation: int | Ints = 1, padding: int | Ints = 0,
         stride: int | Ints = 1) -> Node:
    """Columns added up as windows of an image, the transpose of unfold: (batch, channels * window, windows) → an image."""
    kernel, dilated, pads, steps = _pairs(kernel_size, dilation, padding, stride)
    places = each("output_size", output_size, 2)
    if input.ndim not in (2, 3) or 0 in input.shape[-2:]:
        raise explain(RuntimeError("Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero "
                                   f"dimensions for input, but got: {list(input.shape)}"))
    x = input if input.ndim == 3 else P.reshape(input, (1, *input.shape))
    size = kernel[0] * kernel[1]
    if x.shape[1] % size:
        raise explain(RuntimeError("Expected size of input's dimension 1 to be divisible by the product of kernel_size, but "
                                   f"got input.size(1)={x.shape[1]} and kernel_size={_tuple(kernel)}."))
    made = _blocks(places, kernel, dilated, pads, steps)
    if min(made) < 1 or made[0] * made[1] != x.shape[2]:
        raise explain(RuntimeError(
            f"Given output_size={_tuple(places)}, kernel_size={_tuple(kernel)}, dilation={_tuple(dilated)}, "
            f"padding={_tuple(pads)}, stride={_tuple(steps)}, expected size of input's dimension 2 to match the calculated "
            f"number of sliding blocks {made[0]} * {made[1]} = {made[0] * made[1]}, but got input.size(2)={x.shape[2]}."))
    n = P.reshape(x, (x.shape[0], x.shape[1] // size, *kernel, *made))
    n = unwindows(P.permute(n, (0, 1, 4, 5, 2, 3)), tuple([s + 2 * p for s, p in zip(places, pads)]), steps, dilated)
    n = cut(n, tuple([(p, p) for p in pads]))
    return n if input.ndim == 3 else P.reshape(n, n.shape[1:])


# ---------------------------------------------------------------- pixels and channels
def _image(name: str, input: Node, what: str, factor: int) -> None:
    if input.ndim < 3:
        raise explain(RuntimeError(f"{name} expects input to have at least 3 dimensions, but got input with {input.ndim} "
                                   "dimension(s)"))
    if factor <= 0:
        raise explain(RuntimeError(f"{name} expects a positive {what}, but got {factor}"))


@op(method=False, functional=True)
def pixel_shuffle(input: Node, upscale_factor: int) -> Node:
    """(..., channels * r², height, width) → (..., channels, height * r, width * r)."""
    r = upscale_factor
    _image("pixel_shuffle", input, "upscale_factor", r)
    *lead, c, h, w = input.shape
    if c % (r * r):
        raise explain(RuntimeError("pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
                                   f"upscale_factor, but input.size(-3)={c} is not divisible by {r * r}"))
    k = len(lead)
    n = P.permute(P.reshape(input, (*lead, c // (r * r), r, r, h, w)), (*range(k + 1), k + 3, k + 1, k + 4, k + 2))
    return P.reshape(n, (*lead, c // (r * r), h * r, w * r))


@op(method=False, functional=True)
def pixel_unshuffle(input: Node, downscale_factor: int) -> Node:
    """(..., channels, height * r, width * r) → (..., channels * r², height, width)."""
    r = downscale_factor
    _image("pixel_unshuffle", input, "downscale_factor", r)
    *lead, c, h, w = input.shape
    for word, at, size in (("height", -2, h), ("width", -1, w)):
        if size % r:
            raise explain(RuntimeError(f"pixel_unshuffle expects {word} to be divisible by downscale_factor, but "
                                       f"input.size({at})={size} is not divisible by {r}"))
    k = len(lead)
    n = P.permute(P.reshape(input, (*lead, c, h // r, r, w // r, r)), (*range(k + 1), k + 2, k + 4, k + 1, k + 3))
    return P.reshape(n, (*lead, c * r * r, h // r, w // r))


@op(method=False, functional=True)
def channel_shuffle(input: Node, groups: int) -> Node:
    """The channels of `groups` groups dealt in turn: channel i of group g becomes channel i * groups + g."""
    if input.ndim < 3:
        raise explain(RuntimeError("channel_shuffle expects input with > 2 dims, but got input with sizes "
                                   f"{list(input.shape)}"))
    b, c, *rest = input.shape
    if groups <= 0:
        raise explain(RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}"))
    if c % groups:
        raise explain(RuntimeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups."))
    n = P.permute(P.reshape(input, (b, groups, c // groups, *rest)), (0, 2, 1, *range(3, input.ndim + 1)))
    return P.reshape(n, input.shape)


@op(method=False, function=False, functional=True, grad="DivBackward0")
def local_response_norm(input: Node, size: int, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0) -> Node:
    """input / (k + alpha * mean of squares in the `size` channels around)**beta."""
    if input.ndim < 3:
        raise explain(ValueError(f"Expected 3D or higher dimensionality                          input (got {input.ndim} "
                                 "dimensions)"))
    floating("local_response_norm", input)
    if input.aval.size == 0:
        return input
    x = wide(input)
    squares = P.permute(P.mul(x, x), (0, *range(2, input.ndim), 1))
    near = windows(padded(squares, ((size // 2, (size - 1) // 2),)), (size,), (1,), (1,))
    mean = P.div(P.sum(near, (near.ndim - 1,)), like(size, squares))
    mean = P.permute(mean, (0, input.ndim - 1, *range(1, input.ndim - 1)))
    return cast(P.div(x, pow_number(P.add(P.mul(mean, like(alpha, mean)), like(k, mean)), beta)), input.dtype)


# ---------------------------------------------------------------- other sizes
_MODES = "nearest | linear | bilinear | bicubic | trilinear | lanczos | area | nearest-exact"
_DIMS = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
_LETTERS = {1: "W", 2: "HW", 3: "DHW"}


def _sizes(input: Node, size: Any, scale: Any) -> tuple[Ints, tuple[float | None, ...]]:
    """The places wanted, and the scale of each dim if one was given."""
    dims, places = input.ndim - 2, input.shape[2:]
    if size is not None and scale is not None:
        raise explain(ValueError("only one of size or scale_factor should be defined"))
    if size is not None:
        made = (size,) * dims if isinstance(size, int) else tuple(size)
        if len(made) != dims:
            raise explain(ValueError(
                f"Input and output must have the same number of spatial dimensions, but got input with spatial dimensions of "
                f"{list(places)} and output size of {size}. Please provide input tensor in (N, C, d1, d2, ...,dK) format and "
                "output size in (o1, o2, ...,oK) format."))
        return tuple([int(m) for m in made]), (None,) * dims
    if scale is None:
        raise explain(ValueError("either size or scale_factor should be defined"))
    scales = (float(scale),) * dims if isinstance(scale, (int, float)) else tuple([float(s) for s in scale])
    if len(scales) != dims:
        raise explain(ValueError(
            "Input and scale_factor must have the same number of spatial dimensions, but got input with spatial dimensions "
            f"of {list(places)} and scale_factor of shape {scale}. Please provide input tensor in (N, C, d1, d2, ...,dK) "
            "format and scale_factor in (s1, s2, ...,sK) format."))
    return tuple([math.floor(n * s) for n, s in zip(places, scales)]), scales


def _check(input: Node, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in ("nearest", "area", "nearest-exact", *_DIMS) or input.ndim not in (3, 4, 5):
        raise explain(NotImplementedError(f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for "
                                          f"the modes: {_MODES} (got {mode})"))
    if align_corners is not None and mode not in _DIMS:
        raise explain(ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | "
                                 "bicubic | trilinear"))
    if antialias:
        if mode not in ("bilinear", "bicubic") or input.ndim != 4:
            raise explain(ValueError("Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a "
                                     "4-D tensor as input"))
        raise explain(NotImplementedError("interpolate with antialias=True is not there yet"))
    if mode in _DIMS and input.ndim - 2 != _DIMS[mode]:
        raise explain(NotImplementedError(f"Got {input.ndim}D input, but {mode} mode needs {_DIMS[mode] + 2}D input"))


class _Line:
    """One dim of `places` sampled at `made` places, as torch computes where: in float32, but for float64 data."""

    __slots__ = ("places", "made", "dtype", "ratio", "align")

    def __init__(self, places: int, made: int, scale: float | None, align: bool, dtype: DType) -> None:
        self.places, self.made, self.align, self.dtype = places, made, align, dtype
        if align:
            self.ratio = (places - 1) / (made - 1) if made > 1 else 0.0
        else:
            self.ratio = 1 / scale if scale else places / made

    def scaled(self, half: bool) -> Node:
        at = cast(P.iota((self.made,), 0), self.dtype)
        if half:
            return P.sub(P.mul(P.add(at, like(0.5, at)), like(self.ratio, at)), like(0.5, at))
        return P.mul(at, like(self.ratio, at))

    def inside(self, at: Node) -> Node:
        """Places as integers, moved into the input."""
        n = cast(at, int64)
        return P.minimum(P.maximum(n, like(0, n)), like(self.places - 1, n))

    def nearest(self, exact: bool) -> Node:
        at = cast(P.iota((self.made,), 0), self.dtype)
        return self.inside(P.floor(P.mul(P.add(at, like(0.5, at)) if exact else at, like(self.ratio, at))))

    def taps(self, cubic: bool) -> list[tuple[Node, Node]]:
        """Places and weights that make a sample."""
        at = self.scaled(not self.align)
        at = at if cubic or self.align else P.maximum(at, like(0, at))
        low = P.floor(at)
        t = P.sub(at, low)
        one = like(1, t)
        if not cubic:
            return [(self.inside(low), P.sub(one, t)), (self.inside(P.add(low, one)), t)]
        weights = [far(P.add(t, one)), near(t), near(P.sub(one, t)), far(P.sub(like(2, t), t))]
        return [(self.inside(P.add(low, like(k - 1, low))), w) for k, w in enumerate(weights)]


def near(t: Node) -> Node:
    """The cubic kernel up to 1, with a = -0.75."""
    return P.add(P.mul(P.mul(P.sub(P.mul(like(1.25, t), t), like(2.25, t)), t), t), like(1, t))


def far(t: Node) -> Node:
    """The cubic kernel from 1 to 2."""
    a = like(-0.75, t)
    inner = P.add(P.mul(P.sub(P.mul(a, t), like(-3.75, t)), t), like(-6.0, t))
    return P.sub(P.mul(inner, t), like(-3.0, t))


def _along(n: Node, axis: int, taps: list[tuple[Node, Node]]) -> Node:
    out: Node | None = None
    for at, weight in taps:
        part = P.take(n, at, axis)
        line = P.reshape(cast(weight, n.dtype), tuple([s if i == axis else 1 for i, s in enumerate(part.shape)]))
        part = P.mul(part, spread(line, part.shape))
        out = part if out is None else P.add(out, part)
    assert out is not None
    return out


def _repeated(n: Node, axis: int, times: int) -> Node:
    """Every place `times` times: no index is needed."""
    shape = n.shape
    wide = P.expand(P.reshape(n, (*shape[:axis + 1], 1, *shape[axis + 1:])), (*shape[:axis + 1], times, *shape[axis + 1:]))
    return P.reshape(wide, (*shape[:axis], shape[axis] * times, *shape[axis + 1:]))


def _interpolate_name(input: Node, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *rest: Any) -> str:
    dims = input.ndim - 2
    if mode == "area":
        return {1: "SqueezeBackward1"}.get(dims, f"AdaptiveAvgPool{dims}DBackward0")
    kind = {"nearest-exact": "NearestExact"}.get(mode, mode.capitalize())
    return f"Upsample{kind}{dims}DBackward0"


@op(method=False, function=False, functional=True, grad="UpsampleNearest2DBackward0", grad_of=_interpolate_name)
def interpolate(input: Node, size: int | Ints | None = None, scale_factor: float | tuple[float, ...] | None = None,
                mode: str = "nearest", align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Node:
    """(batch, channels, places...) in another size: nearest, nearest-exact, linear, bilinear, trilinear, bicubic or area."""
    _check(input, mode, align_corners, antialias)
    made, scales = _sizes(input, size, scale_factor)
    if recompute_scale_factor:
        if size is not None:
            raise explain(ValueError("recompute_scale_factor is not meaningful with an explicit size."))
        scales = (None,) * len(made)
    places = input.shape[2:]
    letters = _LETTERS[len(made)]
    if min(made) <= 0 or min(places) <= 0:
        said = [", ".join([f"{c}: {v}" for c, v in zip(letters, sizes)]) for sizes in (places, made)]
        raise explain(RuntimeError(f"Input and output sizes should be greater than 0, but got input ({said[0]}) output "
                                   f"({said[1]})"))
    if input.shape[1] == 0:
        raise explain(RuntimeError(f"Non-empty {input.ndim}D data tensor expected but got a tensor with sizes "
                                   f"{list(input.shape)}"))
    if input.dtype.category < FLOAT:
        raise explain(NotImplementedError(f"\"upsample_{mode.replace('-', '_')}{len(made)}d\" not implemented for "
                                          f"'{scalar_type(input.dtype)}'"), hint="convert it first: x.float()")
    if mode == "area":
        pool = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}[len(made)]
        return pool(input, made)
    n = input if mode.startswith("nearest") else wide(input)
    for i, (p, m, s) in enumerate(zip(places, made, scales)):
        if mode.startswith("nearest"):
            line = _Line(p, m, s, False, float32)
            whole = m % p == 0 and (s is None or s == m // p)
            n = _repeated(n, 2 + i, m // p) if whole else P.take(n, line.nearest(mode != "nearest"), 2 + i)
        else:
            line = _Line(p, m, s, bool(align_corners), float64 if input.dtype is float64 else float32)
            n = _along(n, 2 + i, line.taps(mode == "bicubic"))
    return cast(n, input.dtype)
