"""Public ops that convolve: one matrix product over windows.

In: float nodes (batch, channels, places...) or without the batch, and static sizes.  Out: nodes.  The matrix of windows has
a column for each place of each example, so that a layer is one product, its weights' gradient another, and the gradient of
its input a product and the windows' transpose.  How it lies in memory, or whether it does, is for the schedule.
"""

from __future__ import annotations

from typing import Any

from ..errors import explain
from ..ir.graph import Node
from .checks import same_dtype
from .declare import P, cast, op, spread
from .windows import Ints, Pads, columns, cut, each, padded, span, unwindows, wide, words

_NAMES = {1: ("width",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def _sides(prefix: str, values: Ints) -> str:
    """kernel_height: 3 kernel_width: 3, as torch's messages say it."""
    names = _NAMES[max(len(values), 2)][-len(values):] if len(values) > 1 else ("height", "width")
    return " ".join([f"{prefix}_{n}: {v}" for n, v in zip(names, values)])


class _Call:
    """The sizes of one call, checked."""

    __slots__ = ("dims", "x", "w", "batched", "dtype", "stride", "dilation", "groups")

    def __init__(self, name: str, dims: int, x: Node, w: Node, bias: Node | None, stride: Any, dilation: Any,
                 groups: int) -> None:
        if x.ndim not in (dims + 1, dims + 2):
            raise explain(RuntimeError(f"Expected {dims + 1}D (unbatched) or {dims + 2}D (batched) input to {name}, but got "
                                       f"input of size: {list(x.shape)}"))
        self.dims, self.batched, self.groups = dims, x.ndim == dims + 2, groups
        if w.ndim != dims + 2:
            raise explain(RuntimeError("weight should have at least three dimensions" if w.ndim < 3 else
                                       f"Expected a weight of {dims + 2} dimensions in {name}, but got one of size "
                                       f"{list(w.shape)}"))
        same_dtype("expected scalar type {0} but found {1}", x, w)
        if bias is not None:
            same_dtype("Input type ({0}) and bias type ({1}) should be the same", x, bias)
        self.x, self.w, self.dtype = wide(x if self.batched else P.reshape(x, (1, *x.shape))), wide(w), x.dtype
        self.stride, self.dilation = each("stride", stride, dims), each("dilation", dilation, dims)
        if min(self.stride) <= 0:
            raise explain(RuntimeError("non-positive stride is not supported"))
        if min(self.dilation) <= 0:
            raise explain(RuntimeError(f"dilation should be greater than zero, but got {list(self.dilation)}"))
        if groups <= 0:
            raise explain(RuntimeError("non-positive groups is not supported"))
        if min(w.shape[2:]) <= 0:
            sides = _sides("kernel", w.shape[2:])
            raise explain(RuntimeError(f"kernel size should be greater than zero, but got {sides}"))
        if w.shape[0] < groups:
            raise explain(RuntimeError(f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but "
                                       f"got weight of size {list(w.shape)} instead"))
        if w.shape[0] % groups:
            raise explain(RuntimeError(f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
                                       f"but got weight of size [{list(w.shape)}] instead"))

    def given(self, transposed: bool, channels: int, bias: Node | None, made: int) -> None:
        """Refuse an input or bias of other channels than the weight's."""
        of = "transposed=1" if transposed else f"groups={self.groups}"
        if self.x.shape[1] != channels:
            raise explain(RuntimeError(
                f"Given {of}, weight of size {list(self.w.shape)}, expected input{list(self.x.shape)} to have {channels} "
                f"channels, but got {self.x.shape[1]} channels instead"))
        if bias is not None and bias.shape != (made,):
            of = "Given transposed=1, " if transposed else "Given "
            raise explain(RuntimeError(
                f"{of}weight of size {list(self.w.shape)}, expected bias to be 1-dimensional with {made} elements, but got "
                f"bias of size {list(bias.shape)} instead"))

    def finish(self, out: Node, bias: Node | None) -> Node:
        if bias is not None:
            out = P.add(out, spread(P.reshape(wide(bias), (bias.shape[0],) + (1,) * self.dims), out.shape))
        out = cast(out, self.dtype)
        return out if self.batched else P.reshape(out, out.shape[1:])


def _padding(call: _Call, padding: Any) -> Pads:
    """How many places before and after each dim."""
    kernel = call.w.shape[2:]
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * call.dims
        if padding != "same":
            raise explain(RuntimeError(f"Invalid padding string: '{padding}'"), hint="padding is 'same', 'valid' or numbers")
        if max(call.stride) > 1:
            raise explain(RuntimeError("padding='same' is not supported for strided convolutions"))
        return tuple([((r - 1) // 2, r - 1 - (r - 1) // 2) for r in span(kernel, call.dilation)])
    amounts = each("padding", padding, call.dims)
    if min(amounts) < 0:
        raise explain(RuntimeError("negative padding is not supported"))
    return tuple([(p, p) for p in amounts])


def _convolved(x: Node, w: Node, stride: Ints, dilation: Ints, groups: int) -> Node:
    """One product: the weights times the windows of all examples, side by side."""
    d, (batch, channels), made, kernel = x.ndim - 2, x.shape[:2], w.shape[0], w.shape[2:]
    n = columns(x, kernel, stride, dilation)
    out = n.shape[2 + d:]
    places = batch
    for s in out:
        places *= s
    terms = channels // groups
    for k in kernel:
        terms *= k
    lead = (groups,) if groups > 1 else ()
    n = P.matmul(P.reshape(w, (*lead, made // groups, terms)), P.reshape(n, (*lead, terms, places)))
    return P.permute(P.reshape(n, (made, batch, *out)), (1, 0, *range(2, 2 + d)))


def _conv(name: str, dims: int, input: Node, weight: Node, bias: Node | None, stride: Any, padding: Any, dilation: Any,
          groups: int) -> Node:
    call = _Call(name, dims, input, weight, bias, stride, dilation, groups)
    pads = _padding(call, padding)
    call.given(False, weight.shape[1] * groups, bias, weight.shape[0])
    x = padded(call.x, pads)
    reach = span(weight.shape[2:], call.dilation)
    if any([s < r for s, r in zip(x.shape[2:], reach)]):
        raise explain(RuntimeError(
            f"Calculated padded input size per channel: ({words(x.shape[2:])}). Kernel size: ({words(reach)}). Kernel size "
            "can't be greater than actual input size"))
    return call.finish(_convolved(x, call.w, call.stride, call.dilation, groups), bias)


def _conv_name(dims: int) -> Any:
    def name(input: Node, *rest: Any) -> str:
        return "ConvolutionBackward0" if input.ndim == dims + 2 else "SqueezeBackward1"
    return name


@op(method=False, functional=True, grad="ConvolutionBackward0", grad_of=_conv_name(1))
def conv1d(input: Node, weight: Node, bias: Node | None = None, stride: int | Ints = 1, padding: int | Ints | str = 0,
           dilation: int | Ints = 1, groups: int = 1) -> Node:
    """Convolution of (batch, channels, places) or (channels, places) with weights (channels made, channels / groups, size)."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@op(method=False, functional=True, grad="ConvolutionBackward0", grad_of=_conv_name(2))
def conv2d(input: Node, weight: Node, bias: Node | None = None, stride: int | Ints = 1, padding: int | Ints | str = 0,
           dilation: int | Ints = 1, groups: int = 1) -> Node:
    """Convolution of (batch, channels, rows, columns) with weights (channels made, channels / groups, height, width)."""
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@op(method=False, functional=True, grad="ConvolutionBackward0", grad_of=_conv_name(3))
def conv3d(input: Node, weight: Node, bias: Node | None = None, stride: int | Ints = 1, padding: int | Ints | str = 0,
           dilation: int | Ints = 1, groups: int = 1) -> Node:
    """Convolution over three dims: (batch, channels, depth, rows, columns), weights with three sizes."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


# ---------------------------------------------------------------- transposed
def _transposed(x: Node, w: Node, stride: Ints, dilation: Ints, groups: int, places: Ints) -> Node:
    """What the gradient of a convolution does with its cotangent: a product gives windows, which are added up."""
    d, (batch, channels), kernel = x.ndim - 2, x.shape[:2], w.shape[2:]
    lead = (groups,) if groups > 1 else ()
    terms = w.shape[1]
    for k in kernel:
        terms *= k
    inputs = batch
    for s in x.shape[2:]:
        inputs *= s
    flat = P.reshape(P.permute(x, (1, 0, *range(2, 2 + d))), (*lead, channels // groups, inputs))
    turned = P.reshape(w, (*lead, channels // groups, terms))
    k = len(lead)
    turned = P.permute(turned, (*range(k), k + 1, k))
    n = P.reshape(P.matmul(turned, flat), (groups * w.shape[1], *kernel, batch, *x.shape[2:]))
    n = P.permute(n, (1 + d, 0, *range(2 + d, 2 + 2 * d), *range(1, 1 + d)))
    return unwindows(n, places, stride, dilation)


def _conv_transpose(name: str, dims: int, input: Node, weight: Node, bias: Node | None, stride: Any, padding: Any,
                    output_padding: Any, groups: int, dilation: Any) -> Node:
    call = _Call(name, dims, input, weight, bias, stride, dilation, groups)
    pads, extra = each("padding", padding, dims), each("output_padding", output_padding, dims)
    if min(pads) < 0:
        raise explain(RuntimeError("negative padding is not supported"))
    if min(extra) < 0:
        raise explain(RuntimeError("negative output_padding is not supported"))
    call.given(True, weight.shape[0], bias, weight.shape[1] * groups)
    if any([e >= s and e >= d for e, s, d in zip(extra, call.stride, call.dilation)]):
        said = [v if dims > 1 else (0 if k == 0 else 1, *v) for k, v in enumerate((extra, call.stride, call.dilation))]
        raise explain(RuntimeError(
            "output padding must be smaller than either stride or dilation, but got "
            f"{_sides('output_padding', said[0])} {_sides('stride', said[1])} {_sides('dilation', said[2])}"))
    reach = span(weight.shape[2:], call.dilation)
    whole = [(n - 1) * s + r for n, s, r in zip(call.x.shape[2:], call.stride, reach)]
    made = [n - 2 * p + e for n, p, e in zip(whole, pads, extra)]
    if min(made) <= 0:
        raise explain(RuntimeError(f"Given input size per channel: ({words(call.x.shape[2:])}). Calculated output size per "
                                   f"channel: ({words(made)}). Output size is too small"))
    places = tuple([max(n, p + m) for n, p, m in zip(whole, pads, made)])
    out = _transposed(call.x, call.w, call.stride, call.dilation, groups, places)
    return call.finish(cut(out, tuple([(p, n - p - m) for n, p, m in zip(places, pads, made)])), bias)


@op(method=False, functional=True, grad="ConvolutionBackward0", grad_of=_conv_name(1))
def conv_transpose1d(input: Node, weight: Node, bias: Node | None = None, stride: int | Ints = 1, padding: int | Ints = 0,
                     output_padding: int | Ints = 0, groups: int = 1, dilation: int | Ints = 1) -> Node:
    """The transpose of conv1d: weights are (channels, channels made / groups, size)."""
    return _conv_transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op(method=False, functional=True, grad="ConvolutionBackward0", grad_of=_conv_name(2))
def conv_transpose2d(input: Node, weight: Node, bias: Node | None = None, stride: int | Ints = 1, padding: int | Ints = 0,
                     output_padding: int | Ints = 0, groups: int = 1, dilation: int | Ints = 1) -> Node:
    """The transpose of conv2d: weights are (channels, channels made / groups, height, width)."""
    return _conv_transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op(method=False, functional=True, grad="ConvolutionBackward0", grad_of=_conv_name(3))
def conv_transpose3d(input: Node, weight: Node, bias: Node | None = None, stride: int | Ints = 1, padding: int | Ints = 0,
                     output_padding: int | Ints = 0, groups: int = 1, dilation: int | Ints = 1) -> Node:
    """The transpose of conv3d: weights are (channels, channels made / groups, three sizes)."""
    return _conv_transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)
