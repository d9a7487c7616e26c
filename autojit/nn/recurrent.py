"""Recurrent networks: cells, and whole sequences through layers in one or both directions.

In: sequences (L, N, H), or (N, L, H) with `batch_first`, or (L, H).  Out: the outputs of the last layer, and the last states.
What the inputs of all steps contribute is one product before the loop.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from ..control import scan
from ..eager import functions
from ..eager.creation import zeros
from ..errors import explain
from . import functional as F
from . import init
from .linear import weights
from .module import Module

LONG = 100                                                # steps from which on a real loop is compiled: 300 steps of an LSTM
                                                          # took 27 s to compile against 3, and ran in half the time
_stack, _cat = functions()["stack"], functions()["cat"]


# ---------------------------------------------------------------- one step, given what input and state contribute
def _rnn(nonlinearity: str) -> Callable[..., Any]:
    def step(gi: Any, h: Any, w: Any, b: Any) -> Any:
        total = gi + F.linear(h, w, b)
        return total.tanh() if nonlinearity == "tanh" else total.relu()
    return step


def _gru(gi: Any, h: Any, w: Any, b: Any) -> Any:
    (ri, zi, ni), (rh, zh, nh) = gi.chunk(3, -1), F.linear(h, w, b).chunk(3, -1)
    r, z = (ri + rh).sigmoid(), (zi + zh).sigmoid()
    n = (ni + r * nh).tanh()
    return n + z * (h - n)


def _lstm(gi: Any, state: Any, w: Any, b: Any) -> Any:
    h, c = state
    i, f, g, o = (gi + F.linear(h, w, b)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _uniform(module: Any) -> None:
    bound = 1.0 / math.sqrt(module.hidden_size) if module.hidden_size > 0 else 0
    for p in module.parameters():
        init.uniform_(p, -bound, bound)


# ---------------------------------------------------------------- cells
class _Cell(Module):
    """Base: gates by gates, each of hidden_size rows."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size
        self.weight_ih = weights((rows, input_size), device, dtype)
        self.weight_hh = weights((rows, hidden_size), device, dtype)
        self.register_parameter("bias_ih", weights((rows,), device, dtype) if bias else None)
        self.register_parameter("bias_hh", weights((rows,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first values anew: within ±1/√hidden_size."""
        _uniform(self)

    def _check(self, input: Any, states: Any) -> Any:
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise explain(ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead"))
        if input.shape[-1] != self.input_size:
            raise explain(RuntimeError(f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}"))
        if states is None:
            start = zeros((*input.shape[:-1], self.hidden_size), dtype=input.dtype, device=input.device)
            return (start, start) if self.gates == 4 else start
        for k, h in enumerate(states if isinstance(states, (tuple, list)) else (states,)):
            if h.ndim not in (1, 2):
                raise explain(ValueError(f"{name}: Expected {f'hx[{k}]' if self.gates == 4 else 'hidden'} to be 1D or 2D, got "
                                         f"{h.ndim}D instead"))
            if h.shape[-1] != self.hidden_size:
                raise explain(RuntimeError(f"hidden{k} has inconsistent hidden_size: got {h.shape[-1]}, expected "
                                           f"{self.hidden_size}"))
        return states

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else f", bias={self.bias}")


class RNNCell(_Cell):
    """h' = tanh(W x + b + U h + c), or relu."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        if nonlinearity not in ("tanh", "relu"):
            raise explain(RuntimeError(f"Unknown nonlinearity: {nonlinearity}"))
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        h = self._check(input, hx)
        return _rnn(self.nonlinearity)(F.linear(input, self.weight_ih, self.bias_ih), h, self.weight_hh, self.bias_hh)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class LSTMCell(_Cell):
    """A step of a long short-term memory: (h', c') from an input and (h, c)."""

    gates = 4

    def forward(self, input: Any, hx: Any = None) -> Any:
        state = self._check(input, hx)
        return _lstm(F.linear(input, self.weight_ih, self.bias_ih), state, self.weight_hh, self.bias_hh)


class GRUCell(_Cell):
    """A step of a gated recurrent unit."""

    gates = 3

    def forward(self, input: Any, hx: Any = None) -> Any:
        h = self._check(input, hx)
        return _gru(F.linear(input, self.weight_ih, self.bias_ih), h, self.weight_hh, self.bias_hh)


# ---------------------------------------------------------------- sequences
class _Recurrent(Module):
    """Base of whole sequences: parameters `weight_ih_l0 ... bias_hh_l0_reverse`, layers one after another."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        if proj_size:
            raise explain(NotImplementedError(f"{type(self).__name__}: proj_size is not supported"))
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise explain(ValueError("dropout should be a number in range [0, 1] representing the probability of an element "
                                     "being zeroed"))
        if dropout > 0 and num_layers == 1:
            warnings.warn("dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                          f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}", stacklevel=3)
        for name, n in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if n <= 0:
                raise explain(ValueError(f"{name} must be greater than zero"))
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, float(dropout), bidirectional
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            wide = input_size if layer == 0 else hidden_size * (2 if bidirectional else 1)
            for suffix in self._suffixes(layer):
                setattr(self, "weight_ih" + suffix, weights((rows, wide), device, dtype))
                setattr(self, "weight_hh" + suffix, weights((rows, hidden_size), device, dtype))
                if bias:
                    setattr(self, "bias_ih" + suffix, weights((rows,), device, dtype))
                    setattr(self, "bias_hh" + suffix, weights((rows,), device, dtype))
        self.reset_parameters()

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", *([f"_l{layer}_reverse"] if self.bidirectional else [])]

    def reset_parameters(self) -> None:
        """Draw the first values anew: within ±1/√hidden_size."""
        _uniform(self)

    def flatten_parameters(self) -> None:
        """torch's hint to its GPU library: nothing to do here."""

    def _step(self) -> Callable[..., Any]:
        raise NotImplementedError

    def _start(self, input: Any, hx: Any) -> list[Any]:
        """First states, one a layer and direction: (h,) or (h, c) of shape (layers, N, H)."""
        shape = (self.num_layers * (2 if self.bidirectional else 1), input.shape[1], self.hidden_size)
        if hx is None:
            given = [zeros(shape, dtype=input.dtype, device=input.device)] * (2 if self.gates == 4 else 1)
        else:
            given = list(hx) if self.gates == 4 else [hx]
        for k, h in enumerate(given):
            if tuple(h.shape) != shape:
                word = "hidden" if self.gates != 4 else f"hidden[{k}]"
                raise explain(RuntimeError(f"Expected {word} size {shape}, got {list(h.shape)}"))
        return given

    def _check(self, input: Any) -> None:
        if input.ndim not in (2, 3):
            raise explain(ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.ndim}D instead"))
        if input.shape[-1] != self.input_size:
            raise explain(RuntimeError("input.size(-1) must be equal to input_size. Expected "
                                       f"{self.input_size}, got {input.shape[-1]}"))

    def forward(self, input: Any, hx: Any = None) -> Any:
        self._check(input)
        alone = input.ndim == 2
        if alone:
            x = input.unsqueeze(1)
            hx = None if hx is None else tuple([h.unsqueeze(1) for h in hx]) if self.gates == 4 else hx.unsqueeze(1)
        else:
            x = input.transpose(0, 1) if self.batch_first else input
        start, step, last = self._start(x, hx), self._step(), list[Any]()
        for layer in range(self.num_layers):
            both = []
            for suffix in self._suffixes(layer):
                state = tuple([h[len(last)] for h in start])
                out, state = self._direction(x, state, step, suffix)
                both.append(out)
                last.append(state)
            x = both[0] if len(both) == 1 else _cat(both, -1)
            if self.dropout and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        ends = [_stack(list(h)) for h in zip(*last)]
        if alone:
            x, ends = x.squeeze(1), [h.squeeze(1) for h in ends]
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, (tuple(ends) if self.gates == 4 else ends[0])

    def _direction(self, x: Any, state: tuple[Any, ...], step: Callable[..., Any], suffix: str) -> Any:
        """One layer in one direction: outputs in the order of the inputs, and the last state."""
        w, u = getattr(self, "weight_ih" + suffix), getattr(self, "weight_hh" + suffix)
        b, c = (getattr(self, "bias_ih" + suffix), getattr(self, "bias_hh" + suffix)) if self.bias else (None, None)
        given, backwards = F.linear(x, w, b), suffix.endswith("reverse")

        def turn(state: Any, gi: Any) -> Any:
            new = step(gi, state if self.gates == 4 else state[0], u, c)
            new = new if self.gates == 4 else (new,)
            return new, new[0]
        if x.shape[0] >= LONG:
            state, out = scan(turn, state, given, reverse=backwards)
            return out, state
        outs = []
        for gi in given.unbind(0)[::-1] if backwards else given.unbind(0):
            state, out = turn(state, gi)
            outs.append(out)
        return _stack(outs[::-1] if backwards else outs), state

    def extra_repr(self) -> str:
        said = f"{self.input_size}, {self.hidden_size}"
        plain = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        for name, usual in plain.items():
            if getattr(self, name) != usual:
                said += f", {name}={getattr(self, name)}"
        return said


class RNN(_Recurrent):
    """Layers of h' = tanh(W x + b + U h + c), or relu.

    >>> out, h = RNN(3, 4)(ones(5, 2, 3)); out.shape, h.shape
    (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]))
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
                 dtype: Any = None) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise explain(ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."))
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)
        self.nonlinearity = nonlinearity

    def _step(self) -> Callable[..., Any]:
        return _rnn(self.nonlinearity)


class LSTM(_Recurrent):
    """Layers of long short-term memory; states are (h, c)."""

    gates = 4

    def _step(self) -> Callable[..., Any]:
        return _lstm


class GRU(_Recurrent):
    """Layers of gated recurrent units."""

    gates = 3

    def _step(self) -> Callable[..., Any]:
        return _gru
