"""Public ops that read or write an image at places that are data: grid_sample, affine_grid, max_unpool.

In: nodes (batch, channels, places...), coordinates from -1 to 1 or flat places.  Out: nodes.  A coordinate that is not a
number, or lies outside where nothing is, reads zero.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from ..dtypes import FLOAT, int64
from ..errors import explain
from ..ir.graph import Node
from .checks import same_dtype, scalar_type
from .declare import P, cast, full, op, spread, zeros_like
from .elementwise import like, on
from .movement import slice_axis
from .pooling import sizes
from .resampling import far, near
from .windows import Ints, wide, words


# ---------------------------------------------------------------- coordinates
def _reflected(c: Node, low: float, high: float) -> Node:
    """Coordinates turned back at half of low and half of high."""
    if low == high:
        return zeros_like(c)
    width = like((high - low) / 2, c)
    c = P.abs(P.sub(c, like(low / 2, c)))
    turns = P.floor(P.div(c, width))
    rest = P.fmod(c, width)
    odd = P.ne(P.remainder(turns, like(2, turns)), zeros_like(turns))
    return P.add(P.where(odd, P.sub(width, rest), rest), like(low / 2, c))


def _kept(c: Node, n: int, padding_mode: str, align: bool) -> Node:
    """Coordinates brought into the image, as the padding wants it."""
    if padding_mode == "zeros":
        return c
    if padding_mode == "reflection":
        c = _reflected(c, 0, 2 * (n - 1)) if align else _reflected(c, -1, 2 * n - 1)
    return P.minimum(P.maximum(c, zeros_like(c)), like(n - 1, c))


def _taps(c: Node, n: int, mode: str, padding_mode: str, align: bool) -> list[tuple[Node, Node | None]]:
    """Places along one dim, as floats, and their weights."""
    if mode == "bicubic":
        low = P.floor(c)
        t = P.sub(c, low)
        one = like(1, t)
        weights = (far(P.add(t, one)), near(t), near(P.sub(one, t)), far(P.sub(like(2, t), t)))
        return [(_kept(P.add(low, like(k - 1, low)), n, padding_mode, align), w) for k, w in enumerate(weights)]
    c = _kept(c, n, padding_mode, align)
    if mode == "nearest":
        return [(P.rint(c), None)]
    low = P.floor(c)
    t = P.sub(c, low)
    return [(low, P.sub(like(1, t), t)), (P.add(low, like(1, low)), t)]


def _check(input: Node, grid: Node, mode: str, padding_mode: str) -> None:
    where = "nn.functional.grid_sample(): expected"
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise explain(ValueError(f"{where} mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'"))
    if padding_mode not in ("zeros", "border", "reflection"):
        raise explain(ValueError(f"{where} padding_mode to be 'zeros', 'border', or 'reflection', but got: '{padding_mode}'"))
    said = f"but got input with sizes {list(input.shape)} and grid with sizes {list(grid.shape)}"
    if not input.ndim or not grid.ndim or input.shape[0] != grid.shape[0]:
        raise explain(RuntimeError(f"grid_sampler(): expected grid and input to have same batch size, {said}"))
    if grid.shape[-1] != input.ndim - 2:
        raise explain(RuntimeError(f"grid_sampler(): expected grid to have size {input.ndim - 2} in last dimension, but got "
                                   f"grid with sizes {list(grid.shape)}"))
    if input.ndim not in (4, 5) or grid.ndim != input.ndim:
        raise explain(RuntimeError(f"grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, {said}"))
    if min(input.shape[2:]) == 0:
        raise explain(RuntimeError("grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
                                   f"{list(input.shape)} with dimension {input.shape.index(0, 2)} being empty"))
    if mode == "bicubic" and input.ndim != 4:
        raise explain(RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input"))
    same_dtype("expected scalar type {0} but found {1}", input, grid)
    if input.dtype.category < FLOAT:
        raise explain(NotImplementedError(f"\"grid_sampler\" not implemented for '{scalar_type(input.dtype)}'"))


@op(method=False, function=False, functional=True, grad="GridSampler2DBackward0",
    grad_of=lambda input, *rest: f"GridSampler{input.ndim - 2}DBackward0")
def grid_sample(input: Node, grid: Node, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Node:
    """The image (batch, channels, places...) at the coordinates of the grid (batch, places made..., dims): x before y, -1 to 1,
    in between by "bilinear", "nearest" or "bicubic", outside by padding_mode."""
    _check(input, grid, mode, padding_mode)
    align, places = bool(align_corners), input.shape[2:]
    d, made = len(places), grid.shape[1:-1]
    x, g = wide(input), wide(grid)
    lines = []
    for i, n in enumerate(places):
        c = P.reshape(slice_axis(g, g.ndim - 1, d - 1 - i, d - i), g.shape[:-1])
        c = P.add(c, like(1, c))
        c = P.mul(c, like((n - 1) / 2, c)) if align else P.div(P.sub(P.mul(c, like(n, c)), like(1, c)), like(2, c))
        lines.append(_taps(c, n, mode, padding_mode, align))
    size = 1
    for n in places:
        size *= n
    flat = P.reshape(x, (*x.shape[:2], size))
    out: Node | None = None
    for taps in product(*lines):
        part = _tap(flat, taps, places)
        out = part if out is None else P.add(out, part)
    assert out is not None
    return cast(P.reshape(out, (*x.shape[:2], *made)), input.dtype)


def _tap(flat: Node, taps: Any, places: Ints) -> Node:
    """(batch, channels, samples): what one combination of places and weights gives."""
    shape = taps[0][0].shape
    inside, at, weight = full(True, shape, P.gt(taps[0][0], taps[0][0]).dtype), full(0, shape, int64), None
    for (place, _), n in zip(taps, places):
        inside = P.bitwise_and(inside, P.bitwise_and(P.ge(place, zeros_like(place)), P.le(place, like(n - 1, place))))
    for (place, w), n in zip(taps, places):
        at = P.add(P.mul(at, like(n, at)), cast(P.where(inside, place, zeros_like(place)), int64))
        if w is not None:
            weight = w if weight is None else P.mul(weight, w)
    batch, channels = flat.shape[:2]
    samples = at.aval.size // batch if batch else 0
    whole = (batch, channels, samples)
    at, inside = [spread(P.reshape(n, (batch, 1, samples)), whole) for n in (at, inside)]
    value = P.gather(flat, at, 2)
    if weight is not None:
        value = P.mul(value, spread(P.reshape(weight, (batch, 1, samples)), whole))
    return on(inside, value)


# ---------------------------------------------------------------- affine maps
@op(method=False, function=False, functional=True, grad="AffineGridGeneratorBackward0")
def affine_grid(theta: Node, size: Ints, align_corners: bool | None = None) -> Node:
    """Coordinates for grid_sample of a batch of affine maps (batch, 2, 3) or (batch, 3, 4), for images of `size`."""
    if theta.dtype.category < FLOAT:
        raise explain(ValueError(f"Expected theta to have floating point type, but got torch.{theta.dtype.name}"))
    d = len(size) - 2
    if d not in (2, 3):
        raise explain(NotImplementedError("affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, "
                                          f"respectively. Got size {tuple(size)}."))
    if theta.ndim != 3 or theta.shape[1:] != (d, d + 1):
        raise explain(ValueError(f"Expected a batch of {d}D affine matrices of shape Nx{d}x{d + 1} for size {tuple(size)}. Got "
                                 f"torch.Size({list(theta.shape)})."))
    if min(size) <= 0:
        raise explain(ValueError(f"Expected non-zero, positive output size. Got {tuple(size)}"))
    if theta.shape[0] != size[0]:
        raise explain(RuntimeError(f"Expected a batch of {size[0]} affine matrices, but got {theta.shape[0]}"))
    m = wide(theta)
    whole = (theta.shape[0], *size[2:], d)

    def column(k: int) -> Node:
        part = P.reshape(slice_axis(m, 2, k, k + 1), (theta.shape[0], *(1,) * d, d))
        return spread(part, whole)

    out = column(d)
    for i, n in enumerate(size[2:]):
        at = P.iota(whole, 1 + i)
        line = P.sub(P.mul(cast(at, m.dtype), like(2.0, out)), like(n - 1, out))
        line = P.div(line, like(max(n - 1, 1) if align_corners else n, out))
        out = P.add(out, P.mul(column(d - 1 - i), line))
    return cast(out, theta.dtype)


# ---------------------------------------------------------------- the places of a pool, written back
def _unpooled(dims: int, input: Node, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> Ints:
    """The places of the result."""
    name = f"max_unpool{dims}d"
    if input.ndim not in (dims + 1, dims + 2):
        raise explain(RuntimeError(f"Input to max_unpooling{dims}d should be a {dims + 1}d or {dims + 2}d Tensor, but got a "
                                   f"tensor with {input.ndim} dimensions."))
    kernel = sizes(name, "kernel_size", kernel_size, dims)
    steps = kernel if stride is None else sizes(name, "stride", stride, dims)
    pads = sizes(name, "padding", padding, dims)
    places = input.shape[input.ndim - dims:]
    usual = tuple([(n - 1) * s + k - 2 * p for n, s, k, p in zip(places, steps, kernel, pads)])
    if output_size is None:
        return usual
    made = tuple(output_size)
    if len(made) in (dims + 1, dims + 2):
        made = made[-dims:]
    if len(made) != dims:
        raise explain(ValueError(f"output_size should be a sequence containing {dims} or {dims + 2} elements, but it has a "
                                 f"length of '{len(output_size)}'"))
    for i, (m, u, s) in enumerate(zip(made, usual, steps)):
        if not u - s < m < u + s:
            raise explain(ValueError(f'invalid output_size "{made}" (dim {i} must be between {u - s} and {u + s})'))
    return tuple([int(m) for m in made])


def _unpool(dims: int, input: Node, indices: Node, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> Node:
    made = _unpooled(dims, input, kernel_size, stride, padding, output_size)
    if indices.dtype is not int64:
        raise explain(RuntimeError(f"elements in indices should be type int64 but got: {scalar_type(indices.dtype)}"))
    if indices.shape != input.shape:
        raise explain(RuntimeError("Expected shape of indices to be same as that of the input tensor "
                                   f"({list(input.shape)}) but got indices tensor with shape: {list(indices.shape)}"))
    lead = input.shape[:input.ndim - dims]
    count = input.aval.size // max(_size(lead), 1)
    zeros = full(0, (*lead, _size(made)), input.dtype)
    out = P.scatter_set(zeros, P.reshape(indices, (*lead, count)), P.reshape(input, (*lead, count)), len(lead))
    return P.reshape(out, (*lead, *made))


def _size(shape: Ints) -> int:
    out = 1
    for n in shape:
        out *= n
    return out


def _bounds(dims: int) -> Any:
    def bounds(input: Node, indices: Node, kernel_size: Any, stride: Any = None, padding: Any = 0,
               output_size: Any = None) -> list[Any]:
        made = _unpooled(dims, input, kernel_size, stride, padding, output_size)
        if indices.dtype is not int64 or indices.shape != input.shape:
            return []                                      # refused in other words
        return [(indices, 0, _size(made), f"Found an invalid max index: {{value}} (output volumes are of size "
                                          f"{words(made, 'x')})", RuntimeError, None)]
    return bounds


@op(method=False, function=False, functional=True, grad="SqueezeBackward1", bounds=_bounds(1))
def max_unpool1d(input: Node, indices: Node, kernel_size: int | Ints, stride: int | Ints | None = None,
                 padding: int | Ints = 0, output_size: Ints | None = None) -> Node:
    """What max_pool1d gave, at the places it came from; zero elsewhere."""
    return _unpool(1, input, indices, kernel_size, stride, padding, output_size)


@op(method=False, function=False, functional=True, grad="MaxUnpool2DBackward0", bounds=_bounds(2))
def max_unpool2d(input: Node, indices: Node, kernel_size: int | Ints, stride: int | Ints | None = None,
                 padding: int | Ints = 0, output_size: Ints | None = None) -> Node:
    """What max_pool2d gave, at the places it came from; zero elsewhere."""
    return _unpool(2, input, indices, kernel_size, stride, padding, output_size)


@op(method=False, function=False, functional=True, grad="MaxUnpool3DBackward0", bounds=_bounds(3))
def max_unpool3d(input: Node, indices: Node, kernel_size: int | Ints, stride: int | Ints | None = None,
                 padding: int | Ints = 0, output_size: Ints | None = None) -> Node:
    """What max_pool3d gave, at the places it came from; zero elsewhere."""
    return _unpool(3, input, indices, kernel_size, stride, padding, output_size)
