"""The train step of `models/two_layer`: y = max(x w1, 0) w2, squared error, plain gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from harness.row import Arrays, Row, State, Step

BATCH, INPUTS, HIDDEN, OUTPUTS = 64, 1000, 100, 1000
LEARNING_RATE = 1e-5


class TwoLayer(Row):
    """Shapes: x and y f32[64, 1000], w1 f32[1000, 100], w2 f32[100, 1000], all standard normal.

    The loss is the mean over rows of the row sums of squared differences, with the old weights.
    """

    name = "two_layer"
    title = "train step, 1000-100-1000, batch 64, f32"
    module = "models/two_layer/two_layer.json"
    function = "train_step"
    output = "loss"
    repeats = 50
    tolerance = 1e-5

    def feeds(self) -> Arrays:
        random = np.random.default_rng(1)
        return {
            "x": random.standard_normal((BATCH, INPUTS), dtype=np.float32),
            "y": random.standard_normal((BATCH, OUTPUTS), dtype=np.float32),
        }

    def state(self) -> Arrays:
        random = np.random.default_rng(2)
        return {
            "w1": random.standard_normal((INPUTS, HIDDEN), dtype=np.float32),
            "w2": random.standard_normal((HIDDEN, OUTPUTS), dtype=np.float32),
        }

    def reference(self) -> tuple[Step, State]:
        return self._numpy(np.float64)

    def peers(self) -> Mapping[str, Callable[[], Step]]:
        return {"jax": self._jax, "torch": self._torch, "numpy": lambda: self._numpy(np.float32)[0]}

    def _numpy(self, dtype: type) -> tuple[Step, State]:
        x, y = (array.astype(dtype) for array in self.feeds().values())
        w1, w2 = (array.astype(dtype) for array in self.state().values())

        def step() -> np.floating:
            nonlocal w1, w2
            hidden = np.maximum(x @ w1, 0)
            difference = hidden @ w2 - y
            loss = np.square(difference).sum() / dtype(BATCH)
            g_output = difference * dtype(2 / BATCH)
            g_hidden = (g_output @ w2.T) * (hidden > 0)
            w1 -= dtype(LEARNING_RATE) * (x.T @ g_hidden)
            w2 -= dtype(LEARNING_RATE) * (hidden.T @ g_output)
            return loss

        return step, lambda: {"w1": w1, "w2": w2}

    def _torch(self) -> Step:
        import torch

        x, y = (torch.from_numpy(array) for array in self.feeds().values())
        w1, w2 = (torch.from_numpy(array).requires_grad_() for array in self.state().values())

        def step() -> float:
            nonlocal w1, w2
            loss = (torch.relu(x @ w1) @ w2 - y).square().sum(dim=1).mean()
            g_w1, g_w2 = torch.autograd.grad(loss, (w1, w2))
            with torch.no_grad():
                w1.sub_(g_w1, alpha=LEARNING_RATE)
                w2.sub_(g_w2, alpha=LEARNING_RATE)
            return loss.item()

        return step

    def _jax(self) -> Step:
        import jax
        import jax.numpy as jnp

        def loss_of(weights, x, y):
            w1, w2 = weights
            return jnp.square(jnp.maximum(x @ w1, 0) @ w2 - y).sum(axis=1).mean()

        def train_step(weights, x, y):
            loss, gradients = jax.value_and_grad(loss_of)(weights, x, y)
            return loss, jax.tree.map(lambda w, g: w - LEARNING_RATE * g, weights, gradients)

        compiled = jax.jit(train_step, donate_argnums=0)
        x, y = (jax.device_put(array) for array in self.feeds().values())
        weights = tuple(jax.device_put(array) for array in self.state().values())

        def step() -> jax.Array:
            nonlocal weights
            loss, weights = jax.block_until_ready(compiled(weights, x, y))
            return loss

        return step


ROW = TwoLayer()
