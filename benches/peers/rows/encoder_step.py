"""The train step of `models/encoder`: a transformer encoder of 4 layers, Adam."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from harness.row import Arrays, Row, State, Step
from networks.encoder import CHARACTERS, TOKENS, parameters, torch_logits

BATCH = 8
LEARNING_RATE = 5e-4


class EncoderStep(Row):
    """Shapes: x, y i32[8, 128] in 0..97. The loss is the mean cross-entropy, with the old weights."""

    name = "encoder_step"
    title = "train step of a transformer encoder, 4 layers of 256, 8 sequences of 128 tokens, f32"
    module = "models/encoder/encoder.json"
    function = "train_step"
    output = "loss"
    repeats = 5
    tolerance = 1e-5

    def feeds(self) -> Arrays:
        random = np.random.default_rng(1)
        return {name: random.integers(0, CHARACTERS, (BATCH, TOKENS), dtype=np.int32) for name in ("x", "y")}

    def state(self) -> Arrays:
        return parameters() | {"learning_rate": np.float32(LEARNING_RATE).reshape(())}

    def reference(self) -> tuple[Step, State]:
        import torch

        # Adam divides by the root of squares that are rounding errors at first, so that weights are not compared.
        return self._torch_step(torch.float64), lambda: {}

    def peers(self) -> Mapping[str, Callable[[], Step]]:
        return {"torch": self._torch_step}

    def _torch_step(self, dtype: object = None) -> Step:
        import torch
        from torch.nn import functional

        dtype = dtype or torch.float32
        x, y = (torch.from_numpy(array).long() for array in self.feeds().values())
        state = {n: torch.from_numpy(a.copy()).to(dtype).requires_grad_() for n, a in parameters().items()}
        optimizer = torch.optim.Adam(state.values(), lr=LEARNING_RATE, fused=True)

        def step() -> float:
            loss = functional.cross_entropy(torch_logits(state, x).reshape(-1, CHARACTERS), y.reshape(-1))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step


ROW = EncoderStep()
