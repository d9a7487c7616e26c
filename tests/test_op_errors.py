"""What torch refuses is refused with the same exception and the same words: each line is run with both libraries."""

from __future__ import annotations

import warnings

import pytest

import autojit

torch = pytest.importorskip("torch")

PROGRAMS = """
m.ones(2, 3) @ m.ones(2, 3)
m.ones(3) @ m.ones(4)
m.ones(2, 3) @ m.ones(4)
m.ones(3) @ m.ones(4, 2)
m.ones(5, 2, 3) @ m.ones(5, 2, 3)
m.ones(5, 2, 3) @ m.ones(4, 2)
m.ones(2, 3).mm(m.ones(3))
m.ones(2, 3).mv(m.ones(2))
m.ones(2, 2).dot(m.ones(2))
m.tensor(1.) @ m.ones(2)
m.ones(2, 3) @ m.ones(3, 2, dtype=m.float64)
m.ones(3) @ m.ones(3, dtype=m.float64)
m.ones(2, 3, 4).bmm(m.ones(2, 3, 4))
m.ones(2, 3).addmm(m.ones(2, 3), m.ones(2, 3))
m.ones(5).addmm(m.ones(2, 3), m.ones(3, 2))
m.addmm(m.ones(2, 2), m.ones(2), m.ones(3, 2))
m.outer(m.ones(2, 2), m.ones(2))
m.cross(m.ones(2), m.ones(2), dim=0)
m.einsum('ij,jk', m.ones(2, 3))
m.einsum('ij,jk', m.ones(2, 3), m.ones(4, 5))
m.einsum('ijk->i', m.ones(2, 3))
m.einsum('ij->k', m.ones(2, 3))
m.tensordot(m.ones(2, 3), m.ones(4, 5), 1)
m.ones(2, 3) + m.ones(4)
m.ones(2, 3).sum(2)
m.ones(2, 3).sum((0, 0))
m.ones(3, dtype=m.int64).mean()
m.ones(3, dtype=m.int64).var()
m.ones(3, dtype=m.int64).norm()
m.ones(3, dtype=m.int64).softmax(0)
m.ones(3).logsumexp(1)
m.ones(0).max()
m.ones(0, 3).max(0)
m.ones(0).amax()
m.ones(0).argmax()
m.ones(2, 3).reshape(4)
m.ones(2, 3).reshape(-1, -1)
m.ones(2, 3).reshape(5, -1)
m.ones(2, 3).view(7)
m.ones(2, 3).permute(0)
m.ones(2, 3).permute(0, 0)
m.ones(2, 3).transpose(0, 2)
m.ones(2, 3, 4).t()
m.ones(2, 3).expand(4, 3)
m.ones(2, 3).expand(3)
m.ones(2, 3).expand(-1, 2, 3)
m.ones(2, 3).squeeze(3)
m.ones(2, 3).unsqueeze(4)
m.ones(2, 3).flatten(1, 0)
m.ones(2, 3).unflatten(1, (2, 2))
m.ones(3).movedim(0, 1)
m.ones(2, 3).movedim((0, 1), (0, 0))
m.ones(3).select(0, 5)
m.ones(3).narrow(0, 2, 2)
m.ones(2, 2).diagonal(0, 0, 0)
m.cat([m.ones(2, 3), m.ones(2, 4)])
m.cat([m.ones(2, 3), m.ones(2)])
m.cat([m.tensor(1.)])
m.stack([m.ones(2), m.ones(3)])
m.ones(5).split(-1)
m.ones(5).split([1, 2])
m.ones(5).chunk(0)
m.ones(3).tensor_split(0)
m.ones(3).hsplit(2)
m.ones(3).unbind(1)
m.tensor(1.).unbind()
m.ones(2, 3).repeat(2)
m.ones(3).roll((1, 2), 0)
m.ones(3).rot90()
m.ones(3).flip(1)
m.ones(3).unfold(0, 4, 1)
m.ones(3).tril()
m.ones(3).trace()
m.ones(2, 2, 2).diag()
m.ones(2, 3)[2]
m.ones(2, 3)[0, 3]
m.ones(2, 3)[0, 0, 0]
m.tensor(1.)[0]
m.tensor(1.)[:]
m.ones(3)[::-1]
m.ones(3)[m.tensor([3])]
m.ones(3)[m.tensor([0, 1]), m.tensor([0])]
m.ones(3, 4)[m.tensor([0, 1]), m.tensor([0, 1, 2])]
m.ones(3).gather(0, m.tensor([3]))
m.ones(3, 3).gather(0, m.tensor([0]))
m.ones(3).gather(0, m.tensor([0.]))
m.ones(3).index_select(0, m.tensor([5]))
m.ones(3).take(m.tensor([9]))
m.ones(3).scatter(0, m.tensor([0, 1]), m.ones(1))
m.ones(3).index_add(0, m.tensor([0]), m.ones(2))
m.ones(3).topk(4)
m.ones(3).kthvalue(0)
m.ones(3) & m.ones(3)
-m.tensor([True])
m.tensor([True]) - m.tensor([True])
m.tensor([True]) - 1
m.tensor([2]) ** -1
m.tensor([1]) // 0
m.tensor([1]) % m.tensor([0])
m.ones(3).clamp()
m.where(m.ones(3), m.ones(3), m.ones(3))
m.ones(3).masked_fill(m.ones(3), 0)
m.ones(3).div(2, rounding_mode='x')
m.tensor([1]).add(1, alpha=0.5)
m.isclose(m.ones(2), m.ones(2, dtype=m.float64))
f.gelu(m.ones(3, dtype=m.int64))
f.gelu(m.ones(2), approximate='x')
f.softplus(m.ones(2, dtype=m.int64))
f.relu(m.tensor([True]))
f.hardtanh(m.ones(2), 2., 1.)
f.prelu(m.ones(2, 3), m.ones(2))
f.glu(m.ones(3))
f.mse_loss(m.ones(2), m.ones(3))
f.huber_loss(m.ones(2), m.ones(2), delta=-1.)
f.smooth_l1_loss(m.ones(2), m.ones(2), beta=-1.)
f.l1_loss(m.ones(2), m.ones(2), reduction='y')
f.kl_div(m.ones(2), m.ones(2), reduction='y')
f.cross_entropy(m.ones(2, 3), m.tensor([0]))
f.cross_entropy(m.ones(2, 3), m.tensor([0, 3]))
f.cross_entropy(m.ones(2, 3), m.tensor([0, 1]), reduction='x')
f.nll_loss(m.ones(2, 3), m.tensor([0, -1]))
f.binary_cross_entropy(m.ones(2), m.ones(3))
f.binary_cross_entropy_with_logits(m.ones(2), m.ones(3))
f.layer_norm(m.ones(2, 3), (2,))
f.group_norm(m.ones(2, 3), 2)
f.linear(m.ones(2, 3), m.ones(4, 2))
f.linear(m.ones(3), m.ones(4, 2))
f.pad(m.ones(3), (1, 1, 1))
f.pad(m.ones(3), (1, 1, 1, 1))
f.pad(m.ones(2, 3), (3, 3), mode='reflect')
f.one_hot(m.tensor([3]), 2)
f.one_hot(m.tensor([1.]), 2)
f.embedding(m.tensor([5]), m.ones(3, 2))
"""


def refusal(program: str, m, f) -> tuple[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as caught:          # noqa: B017, PT011  (any: it is compared below)
            eval(program, {"m": m, "f": f})
    return caught.type.__name__, str(caught.value).split("\n")[0]


@pytest.mark.parametrize("program", PROGRAMS.strip().splitlines())
def test_refused_in_torchs_words(program):
    assert refusal(program, autojit, autojit.nn.functional) == refusal(program, torch, torch.nn.functional)
