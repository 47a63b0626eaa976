"""The train step of `models/char_lstm`: two layers of LSTM, Adam."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from harness.row import Arrays, Row, State, Step

CHARACTERS, EMBEDDING, HIDDEN, LAYERS = 97, 64, 128, 2
BATCH, STEPS = 32, 64
LEARNING_RATE = 0.004


def parameters() -> dict[str, np.ndarray]:
    """By name; weights are [inputs, outputs]."""
    random = np.random.default_rng(2)

    def draw(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape, dtype=np.float32) / np.sqrt(shape[0], dtype=np.float32)).astype(np.float32)

    all_of = {"embedding": draw(CHARACTERS, EMBEDDING)}
    for layer in range(1, LAYERS + 1):
        all_of[f"lstm{layer}.w_ih"] = draw(EMBEDDING if layer == 1 else HIDDEN, 4 * HIDDEN)
        all_of[f"lstm{layer}.w_hh"] = draw(HIDDEN, 4 * HIDDEN)
        for bias in ("b_ih", "b_hh"):
            all_of[f"lstm{layer}.{bias}"] = draw(4 * HIDDEN)
    return all_of | {"w": draw(HIDDEN, CHARACTERS), "b": draw(CHARACTERS)}


class CharLstmStep(Row):
    """Shapes: x, y i32[32, 64] in 0..97. The loss is the mean cross-entropy, with the old weights; states begin with zeros."""

    name = "char_lstm_step"
    title = "train step of two layers of LSTM of 128 units, 32 windows of 64 characters, f32"
    module = "models/char_lstm/char_lstm.json"
    function = "train_step"
    output = "loss"
    repeats = 5
    tolerance = 1e-5

    def feeds(self) -> Arrays:
        random = np.random.default_rng(1)
        return {name: random.integers(0, CHARACTERS, (BATCH, STEPS), dtype=np.int32) for name in ("x", "y")}

    def state(self) -> Arrays:
        return parameters() | {"learning_rate": np.float32(LEARNING_RATE).reshape(())}

    def reference(self) -> tuple[Step, State]:
        import torch

        step, _ = self._torch_step(torch.float64)
        # Adam divides by the root of squares that are rounding errors at first, so that weights are not compared.
        return step, lambda: {}

    def peers(self) -> Mapping[str, Callable[[], Step]]:
        return {"torch": lambda: self._torch_step()[0]}

    def _torch_step(self, dtype: object = None) -> tuple[Step, State]:
        import torch
        from torch.nn import functional

        dtype = dtype or torch.float32
        x, y = (torch.from_numpy(array).long() for array in self.feeds().values())
        given = {name: torch.from_numpy(array.copy()).to(dtype) for name, array in parameters().items()}
        lstm = torch.nn.LSTM(EMBEDDING, HIDDEN, LAYERS, batch_first=True, dtype=dtype)
        with torch.no_grad():
            for layer in range(LAYERS):
                for theirs, ours in (("weight", "w"), ("bias", "b")):
                    for part in ("ih", "hh"):
                        value = given[f"lstm{layer + 1}.{ours}_{part}"]
                        getattr(lstm, f"{theirs}_{part}_l{layer}").copy_(value.T if value.ndim == 2 else value)
        embedding, w, b = (given[name].requires_grad_() for name in ("embedding", "w", "b"))
        optimizer = torch.optim.Adam([embedding, *lstm.parameters(), w, b], lr=LEARNING_RATE, fused=True)

        def step() -> float:
            hidden, _ = lstm(functional.embedding(x, embedding))
            logits = torch.addmm(b, hidden.reshape(-1, HIDDEN), w)
            loss = functional.cross_entropy(logits, y.reshape(-1))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step, lambda: {}


ROW = CharLstmStep()
