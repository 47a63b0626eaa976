"""The train step of `models/resnet20`: batch normalization, weight decay, momentum, a cosine schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from harness.row import Arrays, Row, State, Step
from networks.residual import RUNNING, Residual, jax_logits, jax_state, torch_logits

NET = Residual(channels=1, stem=(3, 1), pool=False, widths=(16, 32, 64), blocks=3, projected=False, classes=10)
BATCH = 32
SCALE = 4
LEARNING_RATE = 0.02
STEPS = 1_000_000
MOMENTUM = 0.9
DECAY = 1e-4


class Resnet20Step(Row):
    """Shapes: x f32[32, 1, 8, 8] in [0, 1), which the network enlarges to 32x32 bilinearly, y i32[32] in 0..10.

    The loss is the mean cross-entropy, with the old weights; v = 0.9 v + g + 1e-4 w and w = w - rate v, where the rate falls
    along a cosine. The running statistics are updated. The module also moves images at random; here by 0 pixels, which costs
    it the draws and two small matrix products that the others do not have.
    """

    name = "resnet20_step"
    title = "train step of ResNet-20 for 32x32 images, batch 32, f32"
    module = "models/resnet20/resnet20.json"
    function = "train_step"
    output = "loss"
    repeats = 10
    tolerance = 1e-5

    def feeds(self) -> Arrays:
        random = np.random.default_rng(1)
        return {
            "x": random.random((BATCH, 1, 8, 8), dtype=np.float32),
            "y": random.integers(0, 10, BATCH, dtype=np.int32),
        }

    def state(self) -> Arrays:
        parameters, statistics = NET.state(2)
        numbers = {"learning_rate": np.float32(LEARNING_RATE), "steps": np.int32(STEPS), "shift": np.float32(0)}
        return parameters | statistics | {name: np.asarray(value) for name, value in numbers.items()}

    def reference(self) -> tuple[Step, State]:
        import torch

        return self._torch_step(torch.float64)

    def peers(self) -> Mapping[str, Callable[[], Step]]:
        return {
            "jax": self._jax,
            "torch": lambda: self._torch_step()[0],
            "torch.compile": lambda: self._torch_step(compiled=True)[0],
        }

    def _torch_step(self, dtype: object = None, compiled: bool = False) -> tuple[Step, State]:
        import torch
        from torch.nn.functional import cross_entropy, interpolate

        dtype = dtype or torch.float32
        x, y = (torch.from_numpy(array) for array in self.feeds().values())
        x, y = x.to(dtype), y.long()

        def tensor(array: np.ndarray) -> torch.Tensor:
            value = torch.from_numpy(array.copy()).to(dtype)
            return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value

        parameters, statistics = ({n: tensor(a) for n, a in group.items()} for group in NET.state(2))
        for parameter in parameters.values():
            parameter.requires_grad_()
        options = {"lr": LEARNING_RATE, "momentum": MOMENTUM, "weight_decay": DECAY, "fused": True}
        optimizer = torch.optim.SGD(parameters.values(), **options)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)

        def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            image = interpolate(x, scale_factor=SCALE, mode="bilinear", align_corners=False)
            image = image.contiguous(memory_format=torch.channels_last)
            return cross_entropy(torch_logits(NET, parameters | statistics, image, training=True), y)

        if compiled:
            loss_of = torch.compile(loss_of)

        def step() -> float:
            loss = loss_of(x, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            return loss.item()

        return step, lambda: {n: t.detach().numpy() for n, t in (parameters | statistics).items()}

    def _jax(self) -> Step:
        import jax
        import jax.numpy as jnp

        def loss_of(parameters, x, y):
            image = jax.image.resize(x, (BATCH, 8 * SCALE, 8 * SCALE, 1), "linear", antialias=False)
            logits, statistics = jax_logits(NET, parameters, image)
            log_softmax = jax.nn.log_softmax(logits)
            return -jnp.take_along_axis(log_softmax, y[:, None], axis=1).mean(), statistics

        def train_step(parameters, running, velocities, number, x, y):
            (loss, batch), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters, x, y)
            running = jax.tree.map(lambda r, b: (1 - RUNNING) * r + RUNNING * b, running, batch)
            rate = LEARNING_RATE * (1 + jnp.cos(math.pi * jnp.minimum(number, STEPS) / STEPS)) / 2
            decayed = jax.tree.map(lambda g, p: g + DECAY * p, gradients, parameters)
            velocities = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocities, decayed)
            parameters = jax.tree.map(lambda p, v: p - rate * v, parameters, velocities)
            return loss, parameters, running, velocities, number + 1

        compiled = jax.jit(train_step, donate_argnums=(0, 1, 2, 3))
        x, y = self.feeds().values()
        x, y = jax.device_put(x.transpose(0, 2, 3, 1)), jax.device_put(y)
        parameters, running = (jax_state(group) for group in NET.state(2))
        carried = (parameters, running, jax.tree.map(jnp.zeros_like, parameters), jnp.zeros((), jnp.int32))

        def step() -> jax.Array:
            nonlocal carried
            loss, *carried = jax.block_until_ready(compiled(*carried, x, y))
            return loss

        return step


ROW = Resnet20Step()
