"""Files of tensors, and batches of examples."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

import autojit as aj
from autojit import nn
from autojit.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)


# ---------------------------------------------------------------- files
def test_what_is_saved_comes_back(tmp_path):
    pytest.importorskip("safetensors")
    f = tmp_path / "nest.safetensors"
    nest = {"w": aj.tensor([[1.0, -0.0], [float("nan"), 2.0]]), "deep": [{"k": aj.arange(3)}, (1, 2.5, None, "word", True)],
            3: aj.tensor(7, dtype=aj.int8), "empty": aj.zeros(0, 2), "array": np.arange(4.0), "inf": float("-inf"),
            "half": aj.tensor([1.5], dtype=aj.bfloat16), "view": aj.arange(6).reshape(2, 3).t(),
            "flag": aj.tensor([True, False])}
    aj.save(nest, f)
    back = aj.load(f)
    assert list(back) == list(nest) and back["deep"][1] == (1, 2.5, None, "word", True) and back["inf"] == float("-inf")
    for k in ("w", 3, "empty", "half", "view", "flag"):
        assert back[k].dtype is nest[k].dtype and back[k].shape == nest[k].shape
        assert np.array_equal(back[k].float().numpy(), nest[k].float().numpy(), equal_nan=True)
    assert back["deep"][0]["k"].tolist() == [0, 1, 2] and type(back["array"]) is np.ndarray
    assert np.signbit(back["w"][0, 1].item())
    aj.save(aj.ones(2), f)
    assert aj.load(f).tolist() == [1, 1]
    aj.save({"a": {"x": 1.0}, "b": []}, f)
    assert aj.load(f) == {"a": {"x": 1.0}, "b": []}


def test_modules_and_optimisers_go_on_after_a_file(tmp_path):
    pytest.importorskip("safetensors")
    f = tmp_path / "training.safetensors"

    def made():
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        opt = aj.optim.Adam(net.parameters(), lr=0.05)
        return net, opt, aj.optim.lr_scheduler.CosineAnnealingLR(opt, 10)

    def train(net, opt, plan, steps):
        x = aj.tensor(np.random.default_rng(0).standard_normal((8, 3)), dtype=aj.float32)
        for _ in range(steps):
            opt.zero_grad()
            (net(x) ** 2).mean().backward()
            opt.step(), plan.step()
    a, b = made(), made()
    train(*a, 3)
    aj.save([x.state_dict() for x in a], f)
    for x, state in zip(b, aj.load(f)):
        x.load_state_dict(state)
    train(*a, 3), train(*b, 3)
    for p, q in zip(a[0].state_dict().values(), b[0].state_dict().values()):
        assert np.array_equal(p.numpy(), q.numpy())


def test_a_state_dict_is_a_plain_file(tmp_path):
    st = pytest.importorskip("safetensors.numpy")
    f = tmp_path / "net.safetensors"
    net = nn.Linear(2, 3)
    aj.save(net.state_dict(), f)
    assert set(st.load_file(f)) == {"weight", "bias"}
    st.save_file({"weight": np.ones((3, 2), np.float32), "bias": np.zeros(3, np.float32)}, f)
    net.load_state_dict(aj.load(f))
    assert net(aj.ones(2)).tolist() == [2, 2, 2]


def test_what_cannot_be_saved_or_loaded(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    f = tmp_path / "bad.safetensors"
    twice = {"a.b": aj.ones(1), "a": {"b": aj.ones(1)}}
    for bad, error in ((object(), TypeError), ({"a": [len]}, TypeError), (twice, ValueError)):
        with pytest.raises(error):
            aj.save(bad, f)
    assert not f.exists()
    f.write_bytes(b"\x80\x04 a pickle, perhaps")
    with pytest.raises(RuntimeError, match="no safetensors file"):
        aj.load(f)
    with pytest.raises(FileNotFoundError):
        aj.load(tmp_path / "nothing")
    plain = builtins.__import__

    def without(name, *rest):
        if name.startswith("safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return plain(name, *rest)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="safetensors") as e:
        aj.save({}, f)
    assert "autojit[save]" in "".join(e.value.__notes__)


# ---------------------------------------------------------------- batches
X, Y = aj.arange(20.0).reshape(10, 2), aj.arange(10)


def test_batches_in_order():
    loader = DataLoader(TensorDataset(X, Y), batch_size=4)
    sizes = [(len(x), y.tolist()) for x, y in loader]
    assert sizes == [(4, [0, 1, 2, 3]), (4, [4, 5, 6, 7]), (2, [8, 9])] and len(loader) == 3
    assert [y.tolist() for _, y in DataLoader(TensorDataset(X, Y), 4, drop_last=True)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    x, _ = next(iter(loader))
    x.fill_(0)                                            # a batch is a copy
    assert X[1, 1].item() == 3


def test_batches_are_shuffled_by_the_generator():
    def order(seed):
        loader = DataLoader(TensorDataset(X, Y), 3, shuffle=True, generator=aj.Generator().manual_seed(seed))
        return [k for _, y in loader for k in y.tolist()]
    assert order(0) == order(0) != order(1) and sorted(order(0)) == list(range(10))
    loader = DataLoader(TensorDataset(Y), 10, shuffle=True)
    assert next(iter(loader))[0].tolist() != next(iter(loader))[0].tolist()
    assert len(RandomSampler(Y, replacement=True, num_samples=30)) == 30 == len(list(RandomSampler(Y, True, 30)))
    drawn = list(RandomSampler(Y, num_samples=25))         # twice all of them, then five
    assert len(drawn) == 25 and sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10)) and len(set(drawn[20:])) == 5


def test_any_dataset_will_do():
    class Squares(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, k):
            return {"x": np.float32([k, k * k]), "y": k, "name": str(k), "pair": (aj.tensor(k), float(k))}
    first, second = DataLoader(Squares(), 3)
    assert first["x"].tolist() == [[0, 0], [1, 1], [2, 4]] and first["y"].dtype is aj.int64 and first["name"] == ["0", "1", "2"]
    assert second["pair"][0].tolist() == [3, 4] and second["pair"][1].dtype is aj.float64
    assert [b.tolist() for b in DataLoader([1, 2, 3], 2)] == [[1, 2], [3]]
    assert [b.tolist() for b in DataLoader(np.eye(2), 1)] == [[[1, 0]], [[0, 1]]]
    assert [b for b in DataLoader([1, 2, 3], 2, collate_fn=sum)] == [3, 3]
    assert [b for b in DataLoader([1, 2], batch_size=None)] == [1, 2]
    assert [b.tolist() for b in DataLoader([1, 2, 3], batch_sampler=BatchSampler([2, 0], 1, False))] == [[3], [1]]
    both = ConcatDataset([Squares(), Squares()])
    assert len(Squares() + both) == 15 and both[-1]["y"] == 4 and both[5]["y"] == 0


def test_datasets_in_parts():
    parts = random_split(TensorDataset(Y), [7, 3], aj.Generator().manual_seed(0))
    assert [len(p) for p in parts] == [7, 3] and sorted(p[k][0].item() for p in parts for k in range(len(p))) == list(range(10))
    assert [len(p) for p in random_split(TensorDataset(Y), [0.5, 0.25, 0.25])] == [6, 2, 2]
    assert Subset(TensorDataset(Y), [3, 4])[1][0].item() == 4
    inner = Subset(Subset(TensorDataset(X, Y), [9, 8, 7, 6]), [2, 0, -1])
    for collate in (None, default_collate):                # a batch at once, and one example after another
        batches = list(DataLoader(inner, 2, collate_fn=collate))
        assert not list(DataLoader(Subset(inner, []), collate_fn=collate))
        assert [y.tolist() for _, y in batches] == [[7, 9], [6]] and batches[0][0].tolist() == [[14, 15], [18, 19]]
    with pytest.raises(ValueError, match="Sum of input lengths"):
        random_split(TensorDataset(Y), [1, 2])


def test_a_loader_refuses():
    data = TensorDataset(X)
    for words in ({"batch_size": 0}, {"batch_size": -1}, {"shuffle": True, "sampler": [1]},
                  {"batch_size": None, "drop_last": True}, {"batch_sampler": [[1]], "batch_size": 2}, {"num_workers": -1}):
        with pytest.raises(ValueError):
            DataLoader(data, **words)
    for count in (0, -1, 2.5):
        with pytest.raises(ValueError, match="num_samples should be a positive integer"):
            RandomSampler(data, num_samples=count)
    with pytest.raises(TypeError, match="replacement should be a boolean"):
        RandomSampler(data, replacement=1)
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(X, aj.ones(3))
    with pytest.raises(TypeError, match="default_collate"):
        list(DataLoader([object()], 1))
    with pytest.raises(NotImplementedError):
        Dataset()[0]
