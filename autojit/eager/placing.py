"""Tensors and devices: names, what may meet what, copies to the host.

In: a device as the user names it, nodes, arguments of an op.  Out: its name in avals, host arrays, arguments on one device.
Never copies a device's memory to the host but where a value is looked at (`host`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backends.devices import backend, from_host, to_host
from ..errors import explain
from ..ir.aval import Aval
from ..ir.graph import Node, buffer
from ..ops.checks import scalar_type
from ..ops.placement import sent
from .evaluate import realise

# arguments from these places on may lie on the CPU beside a tensor on a device: places to look at
_PLACES = {"index": 1, "index_put": 2, "masked_select": 1}
_NAMES = ("cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, vulkan, mps, meta, hpu, mtia, "
          "privateuseone")


class Device:
    """Where a tensor lives; prints as torch's does and compares with names."""

    __slots__ = ("type", "index")

    type: str
    index: int | None

    def __init__(self, name: Any = "cpu", index: int | None = None) -> None:
        if isinstance(name, Device):
            name, index = name.type, name.index
        elif isinstance(name, int) and not isinstance(name, bool):
            name, index = "cuda", name
        text, colon, number = str(name).partition(":")
        if colon:
            if not number.isdigit() or number != str(int(number)):
                raise explain(RuntimeError(f"Invalid device string: '{name}'"))
            index = int(number)
        if text not in ("cpu", "cuda"):
            raise explain(RuntimeError(f"Expected one of {_NAMES} device type at start of device string: {text}"))
        self.type, self.index = text, index

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other == self.type or other == str(self)
        return isinstance(other, Device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r})" if self.index is None else f"device(type={self.type!r}, index={self.index})"


def shown(device: str) -> str:
    """A device of an aval as torch writes it: "cuda:0"."""
    return device if device == "cpu" else f"{device}:{backend(device).number}"


def named(device: Any) -> str:
    """A device in the user's words as avals have it.  RuntimeError, which says what is missing, where it is not there."""
    if device is None or device == "cpu":
        return "cpu"
    d = Device(device)
    if d.type != "cpu":
        try:
            number = backend(d.type).number
        except RuntimeError as e:
            raise explain(e, hint='use device="cpu"') from None
        if d.index is not None and d.index != number:
            raise explain(RuntimeError("CUDA error: invalid device ordinal"),
                          hint=f"a process computes on one device, this one on {shown(d.type)}")
    return d.type


# ---------------------------------------------------------------- arguments of an op
def together(op: Any, nodes: Sequence[Any], number: bool, into: bool) -> tuple[str, list[Any]]:
    """The device of an op, and its arguments there.  Tensors without dimensions may come from the CPU (but not be written to),
    and so may places in an index; an op that works across devices (`copy_`) takes what there is.  RuntimeError in torch's
    words.  number: one of the arguments is a Python number, which goes along."""
    device = next((n.aval.device for n in nodes if n is not None and n.aval.device != "cpu"), "cpu")
    if device == "cpu" or op.across:
        return device, list(nodes)
    if number and sum([n is not None and n.aval.device == "cpu" and not n.aval.shape for n in nodes]) == 1:
        free = next(n for n in nodes if n is not None and n.aval.device == "cpu" and not n.aval.shape)
    else:
        free = None
    out = []
    for k, n in enumerate(nodes):
        if n is not None and n is not free and n.aval.device != device:
            if k == 0 and op.name in _PLACES:
                raise explain(RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)"),
                              hint=f'move it: x.to("{device}")')
            if n.aval.shape and _PLACES.get(op.name, k + 1) > k or into and k == 0:
                raise explain(RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                                           f"{shown(device)} and {shown(n.aval.device)}!"),
                              hint=f'move it: x.to("{device}")')
            n = sent(n, device)
        out.append(n)
    return device, out


def check_kernels(device: str, steps: Sequence[Any], label: str) -> None:
    """Everything that an op is made of has a kernel.  NotImplementedError, which names what has none."""
    missing = backend(device).missing
    for prim, *_ in steps:
        if prim.name in missing:
            raise explain(NotImplementedError(f"{label} needs {prim.name}, which has no kernel on {device}"),
                          hint="compute it on the CPU: x.cpu()")


def carried(t: Any, to: Aval, what: str, where: str | None = None) -> Any:
    """A gradient on the device of what it belongs to: one without dimensions is moved.  RuntimeError in torch's words."""
    if t.aval.shape:
        raise explain(RuntimeError(f"{what} - expected device {shown(to.device)} but got {shown(t.aval.device)}"), where=where)
    return t.to(to.device)


def type_name(a: Aval) -> str:
    """torch's old name of a tensor's type: torch.cuda.FloatTensor."""
    return f"torch.{'' if a.device == 'cpu' else a.device + '.'}{scalar_type(a.dtype)}Tensor"


# ---------------------------------------------------------------- values
def host(n: Node) -> Any:
    """What a node holds, as a NumPy array that must not be written to."""
    return to_host(realise(n), n.aval.device)


def moved(n: Node, to: Aval) -> Node:
    """A computed value on another device, copied now."""
    return buffer(from_host(host(n), to.dtype, to.device), to)

