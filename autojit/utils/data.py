"""Batches of examples: thin iterators over tensors and anything with a length, torch's names.

In: datasets.  Out: batches, in order or shuffled by this package's generator.  Everything happens in this process, when the
next batch is asked for: `num_workers` and `pin_memory` are taken and change nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..eager import functions
from ..eager.convert import memory_of
from ..eager.creation import as_tensor, tensor
from ..eager.random import Generator, randint, randperm
from ..eager.tensor import Tensor, of_array
from ..errors import explain

_stack = functions()["stack"]


class Dataset:
    """Base of datasets: `__getitem__(index)`, and `__len__`."""

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class TensorDataset(Dataset):
    """Examples along the first dim of tensors (or arrays) of one length.

    >>> data = TensorDataset(arange(6).reshape(3, 2), arange(3)); data[1]
    (tensor([2, 3]), tensor(1))
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple([as_tensor(t) for t in tensors])
        if not self.tensors:
            raise explain(ValueError("TensorDataset needs at least one tensor"))
        if any(t.ndim == 0 or t.shape[0] != self.tensors[0].shape[0] for t in self.tensors):
            raise explain(AssertionError("Size mismatch between tensors"))

    def __getitem__(self, index: Any) -> Any:
        return tuple([t[index] for t in self.tensors])

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])


class Subset(Dataset):
    """Some examples of a dataset."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset):
    """Datasets one after another."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise explain(AssertionError("datasets should not be an empty iterable"))
        self.cumulative_sizes = np.cumsum([len(d) for d in self.datasets]).tolist()

    def __len__(self) -> int:
        return int(self.cumulative_sizes[-1])

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise explain(ValueError("absolute value of index should not exceed dataset length"))
        index %= len(self)
        k = bisect_right(self.cumulative_sizes, index)
        return self.datasets[k][index - (self.cumulative_sizes[k - 1] if k else 0)]


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """A dataset in random parts of these lengths, or of these shares of it."""
    n, parts = len(dataset), list(lengths)
    if any(isinstance(p, float) for p in parts) and math.isclose(sum(parts), 1):
        parts = [math.floor(n * p) for p in parts]
        for k in range(n - int(sum(parts))):
            parts[k % len(parts)] += 1
    if sum(parts) != n:
        raise explain(ValueError("Sum of input lengths does not equal the length of the input dataset!"))
    order, out, at = _order(n, generator).tolist(), [], 0
    for p in parts:
        out.append(Subset(dataset, order[at:at + int(p)]))
        at += int(p)
    return out


def _order(n: int, generator: Generator | None) -> Any:
    return memory_of(randperm(n, generator=generator))


# ---------------------------------------------------------------- which examples, in which order
class SequentialSampler:
    """0, 1, 2 ..."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(SequentialSampler):
    """`num_samples` examples (all) in random order, in a new one when all have been; or drawn one by one with replacement."""

    def __init__(self, data_source: Any, replacement: bool = False, num_samples: int | None = None,
                 generator: Generator | None = None) -> None:
        super().__init__(data_source)
        self.replacement, self.num_samples, self.generator = replacement, num_samples, generator
        if not isinstance(replacement, bool):
            raise explain(TypeError(f"replacement should be a boolean value, but got replacement={replacement}"))
        count = len(data_source) if num_samples is None else num_samples
        if not isinstance(count, int) or count <= 0:
            raise explain(ValueError(f"num_samples should be a positive integer value, but got num_samples={count}"))

    def __iter__(self) -> Iterator[int]:
        n = len(self.data_source)
        if self.replacement:
            return iter(memory_of(randint(0, n, (len(self),), generator=self.generator)).tolist())
        return (k for at in range(0, len(self), n) for k in _order(n, self.generator)[:len(self) - at].tolist())

    def __len__(self) -> int:
        return len(self.data_source) if self.num_samples is None else self.num_samples


class BatchSampler:
    """Lists of `batch_size` indices of a sampler."""

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise explain(ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}"))
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for k in self.sampler:
            batch.append(k)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        n = len(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


# ---------------------------------------------------------------- batches
def default_collate(batch: Sequence[Any]) -> Any:
    """Examples as one batch: tensors, arrays and numbers stacked, within tuples, lists and dictionaries."""
    first = batch[0]
    if isinstance(first, Tensor):
        return _stack(list(batch))
    if isinstance(first, (np.ndarray, np.generic)):
        return as_tensor(np.stack(batch))
    if isinstance(first, float):
        return tensor(list(batch), dtype="float64")
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, str):
        return list(batch)
    if isinstance(first, dict):
        return {k: default_collate([b[k] for b in batch]) for k in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*[default_collate(parts) for parts in zip(*batch)])
    if isinstance(first, (tuple, list)):
        if any(len(b) != len(first) for b in batch):
            raise explain(RuntimeError("each element in list of batch should be of equal size"))
        return [default_collate(parts) for parts in zip(*batch)]
    raise explain(TypeError("default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
                            f"{type(first)}"), hint="give collate_fn=")


def _rows(t: Tensor, at: Any) -> Tensor:
    """Rows of a tensor, copied at once: a batch is data, not part of the programs that use it."""
    if t.aval.device != "cpu" or t.requires_grad:
        return t[tensor(at, device=t.device)]  # type: ignore[no-any-return]
    return of_array(memory_of(t)[at])


def _whole(dataset: Any) -> Any:
    """What a dataset, or a part of a part of one, takes its examples from."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return dataset


def _places(dataset: Any) -> Any:
    """Where the examples of a part stand in the whole; None: it is the whole."""
    if type(dataset) is not Subset:
        return None
    own, outer = np.asarray(dataset.indices, None if len(dataset.indices) else np.int64), _places(dataset.dataset)
    return own if outer is None else outer[own]


class DataLoader:
    """Batches of a dataset (or of anything with a length and an index), over and over.

    >>> loader = DataLoader(TensorDataset(arange(5.0)), batch_size=2)
    >>> [x for [x] in loader]
    [tensor([0., 1.]), tensor([2., 3.]), tensor([4.])]
    """

    def __init__(self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None, sampler: Any = None,
                 batch_sampler: Any = None, num_workers: int = 0, collate_fn: Callable[[Any], Any] | None = None,
                 pin_memory: bool = False, drop_last: bool = False, *, generator: Generator | None = None) -> None:
        if isinstance(dataset, (Tensor, np.ndarray)):
            dataset = [as_tensor(row) for row in dataset]  # type: ignore[union-attr]
        if sampler is not None and shuffle:
            raise explain(ValueError("sampler option is mutually exclusive with shuffle"))
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise explain(ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and "
                                     "drop_last"))
        if batch_size is None and drop_last:
            raise explain(ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last"))
        if num_workers < 0:
            raise explain(ValueError("num_workers option should be non-negative; use num_workers=0 to disable "
                                     "multiprocessing."))
        self.dataset, self.batch_size, self.drop_last, self.generator = dataset, batch_size, drop_last, generator
        self.collate_fn = collate_fn
        self.sampler = sampler
        if sampler is None and batch_sampler is None:
            self.sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        self.batch_sampler = batch_sampler
        if batch_sampler is None and batch_size is not None:
            self.batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)

    def __iter__(self) -> Iterator[Any]:
        collate = self.collate_fn or (default_collate if self.batch_sampler is not None else as_it_is)
        if self.batch_sampler is None:
            for k in self.sampler:
                yield collate(self.dataset[k])
        elif type(whole := _whole(self.dataset)) is TensorDataset and self.collate_fn is None:
            places = _places(self.dataset)
            for at in self.batch_sampler:
                rows = np.asarray(at) if places is None else places[at]
                yield [_rows(t, rows) for t in whole.tensors]
        else:
            for at in self.batch_sampler:
                yield collate([self.dataset[k] for k in at])

    def __len__(self) -> int:
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)


def as_it_is(example: Any) -> Any:
    """An example that is no batch: arrays become tensors."""
    return as_tensor(example) if isinstance(example, np.ndarray) else example


__all__ = ["BatchSampler", "ConcatDataset", "DataLoader", "Dataset", "RandomSampler", "SequentialSampler", "Subset",
           "TensorDataset", "default_collate", "random_split"]
