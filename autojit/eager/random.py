"""Random tensors: counter streams, so that a seed gives the same numbers everywhere.

In: a generator (a seed, and the number of the next draw), shapes, distributions.  Out: tensors.  Inside a trace the numbers
are nodes of the program (`ops/random.py`), and each call draws their keys anew (`trace.draw`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..backends.devices import backend, from_host
from ..dtypes import COMPLEX, FLOAT, DType, as_dtype, default_float, float64, int64, memory
from ..engine import programs
from ..errors import explain
from ..ir.aval import Shape, aval
from ..ir.graph import Graph, Node, buffer, placeholder
from ..ops import philox, random
from ..ops.checks import c_type, scalar_type
from ..ops.declare import P, cast, full
from .convert import array_of, copy_
from .counting import holds
from .creation import finish, shape_of, size_of, whole
from .placing import named
from .searching import sampled
from .state import state
from .tensor import Tensor, expect, of_array, wrap

FEW = 4096                                                # numbers that are drawn without a program


class Generator:
    """A stream of random numbers: a seed, and how many draws there have been.  The same on every device."""

    def __init__(self, device: Any = "cpu") -> None:
        named(device)
        self.seed_value, self.draws = 2147483647, 0

    def manual_seed(self, seed: int) -> Generator:
        """Start again from this seed."""
        if not -1 << 63 <= int(seed) < 1 << 64:
            raise explain(ValueError("Overflow when unpacking long long"), hint="a seed has 64 bits")
        self.seed_value, self.draws = int(seed) & 0xFFFFFFFFFFFFFFFF, 0
        return self

    def initial_seed(self) -> int:
        """The seed it started from."""
        return self.seed_value

    def seed(self) -> int:
        """Start again from a seed of the operating system's, and return it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self.seed_value

    def get_state(self) -> Tensor:
        """Seed and number of draws, as a tensor."""
        return of_array(np.array([self.seed_value, self.draws], np.uint64).view(np.int64))

    def set_state(self, new_state: Tensor) -> None:
        """Go on from what `get_state` gave."""
        seed, draws = np.ascontiguousarray(array_of(new_state)).view(np.uint64)
        self.seed_value, self.draws = int(seed), int(draws)

    def next(self) -> tuple[int, int]:
        """Seed and number of the next draw."""
        self.draws += 1
        return self.seed_value, self.draws - 1


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Start the default stream again from a seed; returns the generator.

    >>> _ = manual_seed(0); a = rand(3); _ = manual_seed(0); bool((a == rand(3)).all())
    True
    """
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start the default stream from a random seed, and return it."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default stream."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """Where the default stream stands."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Go on from what `get_rng_state` gave."""
    default_generator.set_state(new_state)


# ---------------------------------------------------------------- drawing
class Draw:
    """A draw of a generator, made when it is called: its key, the seed and the number of the draw."""

    __slots__ = ("generator", "device")

    def __init__(self, generator: Generator | None, device: str) -> None:
        self.generator, self.device = generator or default_generator, device

    def __call__(self) -> Any:
        seed, draw = self.generator.next()
        key = np.array((seed if seed < 1 << 63 else seed - (1 << 64), draw))
        return key if self.device == "cpu" else from_host(key, int64, self.device)


def _key(generator: Generator | None, device: str) -> Node:
    """The key of a draw in the open recording: an input of its program."""
    n: Node = state.trace.draw(Draw(generator, device), aval((2,), int64, device))
    return n


def _draw(shape: Shape, d: DType, kind: str, generator: Generator | None, device: str, low: int = 0, high: int = 1) -> Node:
    """Numbers as a node: of the open recording's program, or drawn now.  Complex ones: both parts are drawn, normal ones with
    half the variance each."""
    if d.category == COMPLEX:
        parts = _draw((*shape, 2), d.part, kind, generator, device, low, high)
        return P.as_complex(P.mul(parts, full(0.5 ** 0.5, parts.shape, d.part)) if kind == "normal" else parts)  # type: ignore[no-any-return]
    if state.trace is not None:
        return NODES[kind](_key(generator, device), shape, d, low, high)
    g = generator or default_generator
    if device != "cpu":
        drawn = int64 if kind == "integers" else d
        made = buffer(backend(device).random(kind, *g.next(), shape, drawn, low, high), aval(shape, drawn, device))
        return cast(made, d)
    seed, draw = g.next()
    n: Node = of_array(_filled_array(kind, seed, draw, shape, d, low, high)).storage.value
    return n


NODES: dict[str, Callable[..., Node]] = {
    "uniform": lambda key, shape, d, low, high: random.uniform(key, shape, d),
    "normal": lambda key, shape, d, low, high: random.normal(key, shape, d),
    "integers": lambda key, shape, d, low, high: cast(random.integers(key, shape, low, high), d)}


def _filled_array(kind: str, seed: int, draw: int, shape: Shape, d: DType, low: int, high: int) -> Any:
    """Numbers as memory: where there are many, by a program."""
    count = prod(shape)
    if count <= FEW:
        made: Any = HOST[kind](seed, draw, count, d, low, high)
        return memory(made, d).reshape(shape)

    def build() -> Graph:
        n = placeholder(aval((2,), int64))
        return Graph([n], [NODES[kind](n, (count,), d, low, high)])

    program = programs.find(("random", kind, count, d, low, high), build)
    return program([np.array([seed, draw], np.uint64).view(np.int64)])[0].reshape(shape)


def _uniform(seed: int, draw: int, count: int, d: DType, *_: int) -> Any:
    if not d.half:
        return (philox.uniform64 if d is float64 else philox.uniform32)(seed, draw, count)
    steps = np.float32(random.DIGITS[d])
    return np.floor(philox.uniform32(seed, draw, count) * steps) / steps


HOST: dict[str, Callable[..., Any]] = {
    "uniform": _uniform,
    "normal": lambda seed, draw, count, d, low, high: philox.normal(seed, draw, count, d.number),
    "integers": lambda seed, draw, count, d, low, high: philox.integers(seed, draw, count, low, high)}


def uniform_node(shape: Shape, d: DType, generator: Generator | None = None, device: str = "cpu") -> Node:
    """Numbers in [0, 1); for halves with as many binary digits as they have, so that none becomes 1."""
    return _draw(shape, d, "uniform", generator, device)


def _made(n: Node, requires_grad: bool = False) -> Tensor:
    return finish(wrap(n), requires_grad)


def _floating(name: str, dtype: Any) -> DType:
    d = default_float() if dtype is None else as_dtype(dtype)
    if d.category < FLOAT:
        raise explain(NotImplementedError(f'"{name}" not implemented for \'{d.name}\''))
    return d


def rand(*size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False,
         **words: Any) -> Tensor:
    """Uniform in [0, 1)."""
    where = named(device)
    shape = shape_of("rand", size_of("rand", size, words))
    return _made(uniform_node(shape, _floating("check_uniform_bounds", dtype), generator, where), requires_grad)


def randn(*size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False,
          **words: Any) -> Tensor:
    """Normal with mean 0 and variance 1."""
    where = named(device)
    d = _floating("normal_kernel_cpu", dtype)
    shape = shape_of("randn", size_of("randn", size, words))
    return _made(_normal(shape, d, generator, where), requires_grad)


def _normal(shape: Shape, d: DType, generator: Generator | None, device: str = "cpu") -> Node:
    return _draw(shape, d, "normal", generator, device)


def randint(low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None, dtype: Any = None,
            device: Any = None, requires_grad: bool = False) -> Tensor:
    """Integers in [low, high): `randint(high, size)` or `randint(low, high, size)`."""
    where = named(device)
    if size is None:
        low, high, size = 0, low, high
    if not low < high:
        raise explain(RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"))
    d = int64 if dtype is None else as_dtype(dtype)
    shape = shape_of("randint", (size,) if isinstance(size, (tuple, list)) else ((size,),))
    return _made(_draw(shape, d, "integers", generator, where, low, high), requires_grad)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    where = named(device)
    d = int64 if dtype is None else as_dtype(dtype)
    if whole("randperm", "n", n) < 0:
        raise explain(RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]"))
    if state.trace is not None:
        return _made(cast(random.permutation(_key(generator, where), n), d), requires_grad)
    order = np.argsort(philox.longs(*(generator or default_generator).next(), n), kind="stable")
    return _made(buffer(from_host(memory(order, d), d, where), aval((n,), d, where)), requires_grad)


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`rand` of another tensor's shape and dtype."""
    expect("rand_like", input)
    return rand(input.aval.shape, dtype=dtype or input.aval.dtype, device=_beside(input, device), requires_grad=requires_grad)


def _beside(t: Tensor, device: Any) -> Any:
    return t.aval.device if device is None else device


def randn_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`randn` of another tensor's shape and dtype."""
    expect("randn_like", input)
    return randn(input.aval.shape, dtype=dtype or input.aval.dtype, device=_beside(input, device), requires_grad=requires_grad)


def randint_like(input: Tensor, low: int, high: Any = None, *, dtype: Any = None, device: Any = None,
                 requires_grad: bool = False) -> Tensor:
    """`randint` of another tensor's shape and dtype."""
    expect("randint_like", input)
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, input.aval.shape, dtype=dtype or input.aval.dtype, device=_beside(input, device),
                   requires_grad=requires_grad)


def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """Normal numbers of given means and standard deviations (tensors or numbers)."""
    _spread(std)
    if size is not None:
        shape, d, where = shape_of("normal", (size,)), _floating("normal_kernel_cpu", dtype), "cpu"
    else:
        like = mean if isinstance(mean, Tensor) else std
        if isinstance(mean, Tensor) and isinstance(std, Tensor):
            like = mean + std
        shape, d, where = like.aval.shape, like.aval.dtype, like.aval.device
    z = _made(_normal(shape, d, generator, where))
    grad, state.grad = state.grad, False
    try:
        return z * std + mean  # type: ignore[operator, no-any-return]
    finally:
        state.grad = grad


def _spread(std: Any) -> None:
    """A standard deviation is no less than 0.  RuntimeError in torch's words."""
    if isinstance(std, Tensor):
        s = std.detach()
        if state.trace is None and not (holds(s >= 0) if s.aval.device != "cpu" else not (array_of(s) < 0).any()):
            raise explain(RuntimeError("normal expects all elements of std >= 0.0"))
    elif not std >= 0:
        raise explain(RuntimeError(f"normal expects std >= 0.0, but found std {std:g}"))


def _probable(p: Tensor) -> bool:
    if p.aval.device != "cpu":
        return holds((p >= 0) & (p <= 1))  # type: ignore[operator]
    a = array_of(p)
    return bool(((a >= 0) & (a <= 1)).all())


def bernoulli(input: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that each element says, else 0."""
    expect("bernoulli", input)
    if input.aval.dtype.category < FLOAT:
        raise explain(NotImplementedError(f"\"bernoulli_tensor_cpu_p_\" not implemented for '{input.aval.dtype.name}'"))
    if state.trace is None:
        if not _probable(input.detach()):
            raise explain(RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this error message "
                                       "be improved?  If so, please report an enhancement request to PyTorch.)"),
                          hint="probabilities lie between 0 and 1")
    u = _made(uniform_node(input.aval.shape, input.aval.dtype.weak, generator, input.aval.device))
    return (u < input.detach()).to(input.aval.dtype)  # type: ignore[operator, no-any-return]


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Tensor:
    """Places drawn with probabilities proportional to the elements of each row."""
    expect("multinomial", input)
    if input.aval.device != "cpu" or state.trace is not None:
        return _multinomial(input.detach().to(float64), num_samples, replacement, generator)  # type: ignore[attr-defined]
    weights = np.asarray(array_of(input.detach()), np.float64)
    rows = weights.reshape(-1, weights.shape[-1])
    if num_samples <= 0:
        raise explain(RuntimeError("cannot sample n_sample <= 0 samples"))
    if not (np.isfinite(rows) & (rows >= 0)).all():
        raise explain(RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"))
    if (rows.sum(axis=1) <= 0).any():
        raise explain(RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)"))
    if not replacement and (np.count_nonzero(rows, axis=1) < num_samples).any():
        raise explain(RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement"))
    g = generator or default_generator
    if replacement:
        total = np.cumsum(rows, axis=1)
        u = philox.uniform64(*g.next(), len(rows) * num_samples).reshape(len(rows), num_samples) * total[:, -1:]
        out = np.stack([np.searchsorted(t, r, side="right") for t, r in zip(total, u)])
    else:
        u = philox.uniform64(*g.next(), rows.size).reshape(rows.shape)
        with np.errstate(divide="ignore"):
            keys = -np.log1p(-u) / rows                   # exponential races: the first arrivals
        out = np.argsort(keys, axis=1, kind="stable")[:, :num_samples]
    return of_array(out.astype(np.int64).reshape(*weights.shape[:-1], num_samples))


def _multinomial(weights: Tensor, count: int, replacement: bool, generator: Generator | None) -> Tensor:
    """The same on a device, or in a program."""
    shape = weights.aval.shape
    rows = weights.reshape(-1, shape[-1])  # type: ignore[attr-defined]
    if count <= 0:
        raise explain(RuntimeError("cannot sample n_sample <= 0 samples"))
    known = state.trace is None                           # values that a traced function has none of are not looked at
    if known and not holds((rows >= 0) & (rows < float("inf"))):
        raise explain(RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"))
    if known and not holds(rows.sum(1) > 0):
        raise explain(RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)"))
    if known and not replacement and not holds((rows > 0).to(int64).sum(1) >= count):
        raise explain(RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement"))
    drawn = (rows.aval.shape[0], count) if replacement else rows.aval.shape
    u = _made(uniform_node(drawn, float64, generator, rows.aval.device))
    return sampled(rows, u, count, replacement).reshape(*shape[:-1], count)  # type: ignore[attr-defined, no-any-return]


# ---------------------------------------------------------------- in place
def uniform_(self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with uniform numbers in [a, b)."""
    if not a <= b:
        raise explain(RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={a:g} > to={b:g}"))
    u = _made(uniform_node(self.aval.shape, self.aval.dtype, generator, self.aval.device))
    return copy_(self, u * (b - a) + a)  # type: ignore[operator]


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with normal numbers."""
    _spread(std)
    z = _made(_normal(self.aval.shape, self.aval.dtype.weak, generator, self.aval.device))
    return copy_(self, z * std + mean)  # type: ignore[operator]


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with 1 (probability p) and 0."""
    if isinstance(p, (int, float)) and not 0 <= p <= 1:
        raise explain(RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}"))
    d = default_float()
    u = _made(uniform_node(self.aval.shape, d, generator, self.aval.device))
    return copy_(self, (u < p).to(self.aval.dtype))


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with exponential numbers of this rate."""
    if not lambd > 0:
        raise explain(RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}"))
    u = _made(uniform_node(self.aval.shape, self.aval.dtype.weak, generator, self.aval.device))
    return copy_(self, (-u).log1p() / -lambd)  # type: ignore[operator]


def log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with numbers whose logarithms are normal."""
    if not std > 0:
        raise explain(RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}"))
    if self.aval.dtype.category < FLOAT:
        raise explain(NotImplementedError(f"\"log_normal_cpu\" not implemented for '{scalar_type(self.aval.dtype)}'"))
    z = _made(_normal(self.aval.shape, self.aval.dtype.weak, generator, self.aval.device))
    return copy_(self, (z * std + mean).exp())  # type: ignore[operator]


def cauchy_(self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with numbers of a Cauchy distribution."""
    if not sigma > 0:
        raise explain(RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}"))
    if self.aval.dtype.category < FLOAT:
        kind = c_type(self.aval.dtype).replace("long", "long int")
        raise explain(RuntimeError("Cauchy distribution is a continuous probability distribution. dtype must be a floating "
                                   f"point but you specified {kind}"))
    u = _made(uniform_node(self.aval.shape, self.aval.dtype.weak, generator, self.aval.device))
    return copy_(self, ((u - 0.5) * math.pi).tan() * sigma + median)  # type: ignore[operator, attr-defined]


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with how many trials it takes until the first success of probability p."""
    if not 0 < p < 1:
        raise explain(RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}"))
    d = self.aval.dtype.weak if self.aval.dtype.category == FLOAT else default_float()
    u = _made(uniform_node(self.aval.shape, d, generator, self.aval.device))
    trials = ((-u).log1p() / math.log1p(-p)).ceil().clamp_min(1)  # type: ignore[operator]
    return copy_(self, trials.to(self.aval.dtype))


def random_(self: Tensor, low: int = 0, high: int | None = None, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with integers in [low, high)."""
    if high is None and low:
        low, high = 0, low
    d = self.aval.dtype
    top = (random.DIGITS.get(d, 1 << 24) if d.category == FLOAT else np.iinfo(d.np).max) if high is None else high
    return copy_(self, _made(_draw(self.aval.shape, d, "integers", generator, self.aval.device, low, int(top))))


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element 0 with probability p, else divided by 1 - p; itself where not training."""
    if not 0.0 <= p <= 1.0:
        raise explain(ValueError(f"dropout probability has to be between 0 and 1, but got {p}"))
    if not training or p == 0.0:
        return input
    u = _made(uniform_node(input.aval.shape, input.aval.dtype.weak, None, input.aval.device))
    keep = (u >= p).to(input.aval.dtype)  # type: ignore[operator]
    keep = keep * (1.0 / (1.0 - p) if p < 1.0 else 0.0)
    return input.mul_(keep) if inplace else input * keep  # type: ignore[operator, no-any-return]


METHODS = {"uniform_": uniform_, "normal_": normal_, "bernoulli_": bernoulli_, "exponential_": exponential_, "random_": random_,
           "log_normal_": log_normal_, "cauchy_": cauchy_, "geometric_": geometric_,
           "bernoulli": bernoulli, "multinomial": multinomial}


def install() -> None:
    for name, f in METHODS.items():
        setattr(Tensor, name, f)


__all__ = ["Generator", "bernoulli", "default_generator", "dropout", "get_rng_state", "initial_seed", "manual_seed",
           "multinomial", "normal", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "seed",
           "set_rng_state"]
