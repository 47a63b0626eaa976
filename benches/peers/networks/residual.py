"""Residual networks as `models/src/layers/residual.rs` builds them, in PyTorch and in JAX, over arrays by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harness.row import Arrays

EPSILON = 1e-5
RUNNING = 0.1


@dataclass(frozen=True)
class Convolution:
    """One that is normalized: filters `{name}.w` [outputs, inputs, kernel, kernel], no bias."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Residual:
    """Sizes of a network, as `Sizes` in the Rust builder."""

    channels: int
    stem: tuple[int, int]
    pool: bool
    widths: tuple[int, ...]
    blocks: int
    projected: bool
    classes: int

    def first(self) -> Convolution:
        """The first convolution."""
        return Convolution("stem", self.channels, self.widths[0], *self.stem)

    def block_layers(self) -> Iterator[tuple[Convolution, Convolution, Convolution | None]]:
        """First, second and projecting convolution of every block."""
        inputs = self.widths[0]
        for stage, width in enumerate(self.widths, start=1):
            for block in range(1, self.blocks + 1):
                name = f"stage{stage}.block{block}"
                stride = 2 if stage > 1 and block == 1 else 1
                projection = None
                if self.projected and stride > 1:
                    projection = Convolution(f"{name}.shortcut", inputs, width, 1, stride)
                first = Convolution(f"{name}.conv1", inputs, width, 3, stride)
                yield first, Convolution(f"{name}.conv2", width, width, 3, 1), projection
                inputs = width

    def state(self, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Parameters and running statistics by name.

        Filters by He; a tenth of gamma in the last convolution of a block keeps rounding errors from growing with the depth
        and with the steps.
        """
        random = np.random.default_rng(seed)

        def around(centre: float, size: int) -> np.ndarray:
            return (centre + random.uniform(-0.2, 0.2, size)).astype(np.float32)

        parameters, statistics = {}, {}
        layers = [c for block in self.block_layers() for c in block if c]
        for c in [self.first(), *layers]:
            shape = (c.outputs, c.inputs, c.kernel, c.kernel)
            scale = np.float32(math.sqrt(2 / math.prod(shape[1:])))
            parameters[f"{c.name}.w"] = scale * random.standard_normal(shape, dtype=np.float32)
            damped = np.float32(0.1 if c.name.endswith("conv2") else 1)
            parameters[f"{c.name}.gamma"] = damped * around(1, c.outputs)
            parameters[f"{c.name}.beta"] = around(0, c.outputs)
            statistics[f"{c.name}.mean"] = around(0, c.outputs)
            statistics[f"{c.name}.var"] = around(1, c.outputs)
        features = self.widths[-1]
        scale = np.float32(math.sqrt(2 / features))
        parameters["fc.w"] = scale * random.standard_normal((features, self.classes), dtype=np.float32)
        parameters["fc.b"] = around(0, self.classes)
        return parameters, statistics


def torch_logits(net: Residual, state: Mapping[str, object], x: object, training: bool) -> object:
    """Logits of images [n, channels, h, w]; `state` are tensors. In training the running statistics are updated."""
    import torch
    from torch.nn import functional

    def layer(c: Convolution, x: torch.Tensor) -> torch.Tensor:
        z = functional.conv2d(x, state[f"{c.name}.w"], stride=c.stride, padding=c.kernel // 2)
        mean, var, gamma, beta = (state[f"{c.name}.{part}"] for part in ("mean", "var", "gamma", "beta"))
        return functional.batch_norm(z, mean, var, gamma, beta, training, RUNNING, EPSILON)

    h = torch.relu(layer(net.first(), x))
    if net.pool:
        h = functional.max_pool2d(h, 3, 2, 1)
    for first, second, projection in net.block_layers():
        branch = layer(second, torch.relu(layer(first, h)))
        if projection:
            h = layer(projection, h)
        elif first.stride > 1:
            grown = first.outputs - first.inputs
            h = functional.pad(h[:, :, :: first.stride, :: first.stride], (0, 0, 0, 0, 0, grown))
        h = torch.relu(branch + h)
    return torch.addmm(state["fc.b"], h.mean(dim=(2, 3)), state["fc.w"])


def jax_state(arrays: Arrays) -> dict[str, object]:
    """Arrays of `Residual.state` as `jax_logits` takes them: filters are [kernel, kernel, inputs, outputs]."""
    import jax

    return {name: jax.device_put(a.transpose(2, 3, 1, 0) if a.ndim == 4 else a) for name, a in arrays.items()}


def jax_logits(net: Residual, parameters: Mapping[str, object], x: object) -> tuple[object, dict[str, object]]:
    """Logits of images [n, h, w, channels] in training, and mean and unbiased variance of every normalization."""
    import jax
    import jax.numpy as jnp

    statistics = {}

    def layer(c: Convolution, x: jax.Array) -> jax.Array:
        pads = [(c.kernel // 2,) * 2] * 2
        w = parameters[f"{c.name}.w"]
        z = jax.lax.conv_general_dilated(x, w, (c.stride,) * 2, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        mean, var = z.mean(axis=(0, 1, 2)), z.var(axis=(0, 1, 2))
        count = math.prod(z.shape[:3])
        statistics[f"{c.name}.mean"], statistics[f"{c.name}.var"] = mean, var * (count / (count - 1))
        scale = parameters[f"{c.name}.gamma"] * jax.lax.rsqrt(var + EPSILON)
        return (z - mean) * scale + parameters[f"{c.name}.beta"]

    h = jnp.maximum(layer(net.first(), x), 0)
    for first, second, _ in net.block_layers():
        branch = layer(second, jnp.maximum(layer(first, h), 0))
        if first.stride > 1:
            grown = first.outputs - first.inputs
            h = jnp.pad(h[:, :: first.stride, :: first.stride], ((0, 0), (0, 0), (0, 0), (0, grown)))
        h = jnp.maximum(branch + h, 0)
    return h.mean(axis=(1, 2)) @ parameters["fc.w"] + parameters["fc.b"], statistics
