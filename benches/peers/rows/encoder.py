"""Inference by `models/encoder`, a transformer encoder of 4 layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from harness.row import Arrays, Row, State, Step
from networks.encoder import CHARACTERS, TOKENS, parameters, torch_logits

BATCH = 8


class Encoder(Row):
    """Shapes: x i32[8, 128] in 0..97."""

    name = "encoder"
    title = "inference by a transformer encoder, 4 layers of 256, 8 sequences of 128 tokens, f32"
    module = "models/encoder/encoder.json"
    function = "predict"
    output = "logits"
    repeats = 2
    tolerance = 1e-5

    def feeds(self) -> Arrays:
        return {"x": np.random.default_rng(1).integers(0, CHARACTERS, (BATCH, TOKENS), dtype=np.int32)}

    def state(self) -> Arrays:
        return parameters()

    def reference(self) -> tuple[Step, State]:
        import torch

        return self._torch(torch.float64), lambda: {}

    def peers(self) -> Mapping[str, Callable[[], Step]]:
        return {"torch": self._torch}

    def _torch(self, dtype: object = None) -> Step:
        import torch

        dtype = dtype or torch.float32
        state = {name: torch.from_numpy(array.copy()).to(dtype) for name, array in parameters().items()}
        x = torch.from_numpy(self.feeds()["x"]).long()

        def step() -> np.ndarray:
            with torch.inference_mode():
                return torch_logits(state, x).numpy()

        return step


ROW = Encoder()
