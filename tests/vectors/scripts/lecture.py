"""Writes ../lecture.json: the two-layer network with which PyTorch is introduced, trained by PyTorch in float64.

    {"losses": [[step, loss], ...], "w1": [...], "w2": [...]}

x [64, 1000], y [64, 10], w1 [1000, 100] and w2 [100, 10] are drawn in this order from SplitMix64 with seed 4, each number
(2 u - 1) sqrt(3) with u uniform in [0, 1), so that its variance is 1. The prediction is max(x w1, 0) w2, the loss the sum of
the squared differences from y, and each of 500 steps goes 1e-6 times the gradient down. `losses` has the loss before some
steps, `w1` and `w2` have every 4999th and every 49th element after the last.

Needs torch and numpy:  python lecture.py
Written with torch 2.9.1, numpy 2.4.6.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch

OUT = Path(__file__).resolve().parent.parent / "lecture.json"


def words(seed, count):
    """The first words of SplitMix64 from a seed."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def main():
    shapes = [(64, 1000), (64, 10), (1000, 100), (100, 10)]
    sizes = [math.prod(s) for s in shapes]
    u = (words(4, sum(sizes)) >> np.uint64(11)).astype(np.float64) / 2.0**53
    parts = np.split((2 * u - 1) * math.sqrt(3), np.cumsum(sizes)[:-1])
    x, y, w1, w2 = (torch.tensor(p.reshape(s)) for p, s in zip(parts, shapes))
    w1.requires_grad_()
    w2.requires_grad_()
    losses = []
    for step in range(500):
        loss = (x.mm(w1).clamp(min=0).mm(w2) - y).pow(2).sum()
        loss.backward()
        if step in (0, 1, 2, 10, 100, 499):
            losses.append([step, loss.item()])
        with torch.no_grad():
            for w in (w1, w2):
                w -= 1e-6 * w.grad
                w.grad = None
    numbers = {"losses": losses, "w1": w1.flatten()[::4999].tolist(), "w2": w2.flatten()[::49].tolist()}
    OUT.write_text(json.dumps(numbers, indent=1) + "\n")
    print(losses)


if __name__ == "__main__":
    main()
