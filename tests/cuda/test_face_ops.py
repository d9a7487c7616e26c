"""Every public op, and every program made to hurt, on the front's fake device: what they give, and where.

In: the samples of `tests/oplist.py` and the programs of `tests/eagerly`.  Whatever is on the device must be what the CPU gives
(on the fake bit for bit: both run the oracle), on the device, without a copy in between; then the same through the kernels
that the stand-in driver interprets.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import autojit as aj
from autojit.config import config
from autojit.dtypes import FLOAT
from autojit.eager.apply import apply
from autojit.ir.graph import linearise, scalar

from ..checking import Number, leaf, outputs
from ..eagerly.frame import outcome, same
from ..oplist import SAMPLES
from ..test_eager_programs import EXPECTED, PROGRAMS
from .fake import FakeBackend, installed
from .programs import WITHOUT_KERNEL


@pytest.fixture(scope="module", params=["fake", "standin"])
def device(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "tier", "numpy")
        if request.param == "fake":
            backend = FakeBackend()
            backend.missing = WITHOUT_KERNEL
            with installed(backend):
                yield backend
        else:
            yield request.getfixturevalue("standin")


def called(sample: Any, arrays: list[Any], where: str) -> tuple[list[Any], list[Any]]:
    """Results and gradients of one op."""
    args: list[Any] = []
    for a in arrays:
        if isinstance(a, Number):
            d = next(x.dtype for x in arrays if isinstance(x, np.ndarray))
            args.append(scalar(a.value, aj.tensor(np.zeros(1, d)).dtype))
        else:
            args.append(None if a is None else aj.tensor(a, device=where))
    leaves = [t for t in args if isinstance(t, aj.Tensor) and t.dtype.category >= FLOAT]
    for t in leaves:
        t.requires_grad_()
    out = apply(sample.op, args, tuple(sample.static), any([isinstance(a, Number) for a in arrays]))
    outs = list(out) if isinstance(out, tuple) else [out]
    wanted = [o for o in outs if o.requires_grad]
    if wanted:
        aj.autograd.backward([(o * o).real.sum() for o in wanted])
    return outs, [t.grad for t in leaves]


def made_of(sample: Any, arrays: list[Any]) -> set[str]:
    """The names of the primitives that the op is made of."""
    return {n.op for n in linearise(outputs(sample.call(*[leaf(a, "float32") for a in arrays])))}


@pytest.mark.parametrize("name", SAMPLES)
def test_an_op_on_the_device(device, name):
    for sample in SAMPLES[name]:
        arrays = sample.arrays("float32")
        here = called(sample, arrays, "cpu")
        fake = isinstance(device, FakeBackend)
        primitives = made_of(sample, arrays)
        powers = "pow" in primitives                        # NumPy's depends on how the array lies in memory, by an ulp
        if primitives & WITHOUT_KERNEL:
            with pytest.raises(NotImplementedError, match="has no kernel on cuda"):
                called(sample, arrays, "cuda")
            continue
        if fake:
            device.copied.clear()
        there = called(sample, arrays, "cuda")
        if fake:
            assert device.bytes("out") == 0
        for a, b in zip([*here[0], *here[1]], [*there[0], *there[1]], strict=True):
            assert (a is None) is (b is None)
            if a is not None:
                assert b.is_cuda and b.dtype is a.dtype and b.shape == a.shape
                got, wanted = b.cpu().detach().numpy(), a.detach().numpy()
                if fake and not powers:
                    np.testing.assert_array_equal(got, wanted)
                else:                                       # sums that cancel are as exact as their terms
                    large = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
                    rtol, atol = (1e-6, 1e-6) if fake else (1e-4, 1e-5)
                    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol * large)


# programs that look at NumPy's view of a tensor's memory, which a device does not have
OF_HOST_MEMORY = {"exported_memory_changed", "export_of_what_is_still_read", "export_of_a_view", "export_of_a_parameter",
                  "export_of_a_gradient", "as_tensor_shares_and_tensor_copies", "numpy_refuses_what_wants_grad",
                  "path_memory_seen_by_numpy"}
MAKERS = {"tensor", "zeros", "ones", "full", "empty", "eye", "arange", "linspace", "rand", "randn", "randint", "as_tensor"}


class OnDevice:
    """The namespace `autojit`, where all that is made is made on the device."""

    def __getattr__(self, name: str) -> Any:
        f = getattr(aj, name)
        return f if name not in MAKERS else lambda *a, **w: f(*a, **{"device": "cuda", **w})


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - OF_HOST_MEMORY))
def test_a_program_on_the_device(device, name):
    got = json.loads(json.dumps(outcome(PROGRAMS[name], OnDevice())).replace("torch.cuda.", "torch."))
    assert same(got, EXPECTED[name]), f"\n   here {got}\n  torch {EXPECTED[name]}"


def test_random_programs_of_writes_and_views(device):
    """Those of `test_eager_fuzz`: here against the CPU."""
    pytest.importorskip("torch")
    from ..test_eager_fuzz import Machine
    from ..test_eager_fuzz import program as random_program
    from ..test_eager_fuzz import same as alike
    for seed in range(5000, 5060 if isinstance(device, FakeBackend) else 5015):
        there, here = Machine(OnDevice()).run(random_program(seed)), Machine(aj).run(random_program(seed))
        assert alike(there, here), f"seed {seed}: {random_program(seed)}"
