import torch
import numpy as np

a = torch.tensor([[1, 2], [3, 4]])
print(a, a.dtype, a.shape, a.device)
b = torch.tensor([1.5, -2.0, 3.25])
print(b, b.size(), b.numel(), b.dim())
n = np.array([[1.0, 2.0], [3.0, 4.0]])
shared = torch.from_numpy(n)
n[0, 0] = 10.0
print(shared)
print(torch.ones_like(a), torch.zeros(2, 3), torch.full((2,), 7.5))
print(torch.arange(5), torch.linspace(0, 1, 5), torch.eye(2))
print(a[0], a[:, 1], a[-1, -1], a[..., 0])
a[:, 1] = 0
print(a)
print(torch.cat([b, b]), torch.stack([b, b], dim=1))
m = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
print(m @ m.T, m.matmul(m.T), torch.mm(m, m))
print(m * m, m.mul(2), m.sum(), m.sum().item(), m.mean(dim=0))
m.add_(5)
print(m)
v = m.numpy()
v += 1
print(m, v)
print(m.view(4), m.reshape(1, 4), m.t(), m.max(), m.argmax(dim=1))
print(torch.tensor(3.0), torch.tensor([True, False]), torch.tensor([1e-8, 1.0]), torch.tensor([1e10, 1.0]))
print(torch.tensor([float("nan"), float("inf"), -1.0]), torch.zeros(0), torch.arange(1200).float())
print(len(a), [r.tolist() for r in a], float(torch.tensor(2.5)), int(torch.tensor(7)), bool(torch.tensor(0)))
