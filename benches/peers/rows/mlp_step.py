"""The train step of `models/mlp_784`: a 784-512-512-10 classifier with ReLU, cross-entropy and momentum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np

from harness.row import Arrays, Row, State, Step

BATCH = 128
SIZES = (784, 512, 512, 10)
LEARNING_RATE = 0.01
MOMENTUM = 0.9


class MlpStep(Row):
    """Shapes: x f32[128, 784] in [0, 1), y i32[128] in 0..10, weights [in, out] by He, biases [out] at zero.

    The loss is the mean cross-entropy, with the old weights; v = 0.9 v + g and w = w - 0.01 v.
    """

    name = "mlp_step"
    title = "train step with momentum, 784-512-512-10, batch 128, f32"
    module = "models/mlp_784/mlp_784.json"
    function = "train_step"
    output = "loss"
    repeats = 50
    tolerance = 1e-5

    def feeds(self) -> Arrays:
        random = np.random.default_rng(1)
        return {
            "x": random.random((BATCH, SIZES[0]), dtype=np.float32),
            "y": random.integers(0, SIZES[-1], BATCH, dtype=np.int32),
        }

    def state(self) -> Arrays:
        random = np.random.default_rng(2)
        state = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(SIZES), start=1):
            scale = np.float32(np.sqrt(2 / fan_in))
            state[f"w{layer}"] = scale * random.standard_normal((fan_in, fan_out), dtype=np.float32)
            state[f"b{layer}"] = np.zeros(fan_out, dtype=np.float32)
        return state

    def reference(self) -> tuple[Step, State]:
        return self._numpy(np.float64)

    def peers(self) -> Mapping[str, Callable[[], Step]]:
        return {"jax": self._jax, "torch": self._torch, "numpy": lambda: self._numpy(np.float32)[0]}

    def _numpy(self, dtype: type) -> tuple[Step, State]:
        x, y = self.feeds().values()
        x, rows = x.astype(dtype), np.arange(BATCH)
        parameters = [array.astype(dtype) for array in self.state().values()]
        velocities = [np.zeros_like(array) for array in parameters]
        layers = len(SIZES) - 1

        def step() -> np.floating:
            activations = [x]
            for layer in range(layers):
                z = activations[-1] @ parameters[2 * layer] + parameters[2 * layer + 1]
                activations.append(np.maximum(z, 0) if layer < layers - 1 else z)
            shifted = activations[-1] - activations[-1].max(axis=1, keepdims=True)
            log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            loss = -log_softmax[rows, y].mean()
            upstream = np.exp(log_softmax)
            upstream[rows, y] -= 1
            upstream /= dtype(BATCH)
            gradients = []
            for layer in reversed(range(layers)):
                gradients = [activations[layer].T @ upstream, upstream.sum(axis=0), *gradients]
                if layer > 0:
                    upstream = (upstream @ parameters[2 * layer].T) * (activations[layer] > 0)
            for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
                velocity *= dtype(MOMENTUM)
                velocity += gradient
                parameter -= dtype(LEARNING_RATE) * velocity
            return loss

        return step, lambda: dict(zip(self.state(), parameters, strict=True))

    def _torch(self) -> Step:
        import torch
        from torch.nn.functional import cross_entropy

        x, y = (torch.from_numpy(array) for array in self.feeds().values())
        y = y.long()
        parameters = [torch.from_numpy(array).requires_grad_() for array in self.state().values()]
        optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)
        w1, b1, w2, b2, w3, b3 = parameters

        def step() -> float:
            hidden = torch.relu(torch.addmm(b1, x, w1))
            hidden = torch.relu(torch.addmm(b2, hidden, w2))
            loss = cross_entropy(torch.addmm(b3, hidden, w3), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    def _jax(self) -> Step:
        import jax
        import jax.numpy as jnp

        def loss_of(parameters, x, y):
            w1, b1, w2, b2, w3, b3 = parameters
            hidden = jnp.maximum(x @ w1 + b1, 0)
            hidden = jnp.maximum(hidden @ w2 + b2, 0)
            log_softmax = jax.nn.log_softmax(hidden @ w3 + b3)
            return -jnp.take_along_axis(log_softmax, y[:, None], axis=1).mean()

        def train_step(parameters, velocities, x, y):
            loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
            velocities = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocities, gradients)
            parameters = jax.tree.map(lambda p, v: p - LEARNING_RATE * v, parameters, velocities)
            return loss, parameters, velocities

        compiled = jax.jit(train_step, donate_argnums=(0, 1))
        x, y = (jax.device_put(array) for array in self.feeds().values())
        parameters = tuple(jax.device_put(array) for array in self.state().values())
        velocities = tuple(jnp.zeros_like(parameter) for parameter in parameters)

        def step() -> jax.Array:
            nonlocal parameters, velocities
            loss, parameters, velocities = jax.block_until_ready(compiled(parameters, velocities, x, y))
            return loss

        return step


ROW = MlpStep()
