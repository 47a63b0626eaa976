"""The transformer encoder of `models/src/encoder.rs` in PyTorch, over arrays by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

CHARACTERS, TOKENS, WIDTH, HEADS, FEED_FORWARD, LAYERS = 97, 128, 256, 4, 1024, 4
EPSILON = 1e-5


def parameters() -> dict[str, np.ndarray]:
    """By name; weights are [inputs, outputs]."""
    random = np.random.default_rng(2)

    def draw(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape, dtype=np.float32) / np.sqrt(shape[0], dtype=np.float32)).astype(np.float32)

    all_of = {"embedding": draw(CHARACTERS, WIDTH), "positions": draw(TOKENS, WIDTH)}

    def normalization(name: str) -> None:
        all_of[f"{name}.gamma"], all_of[f"{name}.beta"] = draw(WIDTH) + 1, draw(WIDTH)

    def linear(name: str, inputs: int, outputs: int) -> None:
        all_of[f"{name}.w"], all_of[f"{name}.b"] = draw(inputs, outputs), draw(outputs)

    for layer in range(1, LAYERS + 1):
        name = f"layer{layer}"
        normalization(f"{name}.norm1")
        normalization(f"{name}.norm2")
        linear(f"{name}.qkv", WIDTH, 3 * WIDTH)
        linear(f"{name}.out", WIDTH, WIDTH)
        linear(f"{name}.up", WIDTH, FEED_FORWARD)
        linear(f"{name}.down", FEED_FORWARD, WIDTH)
    normalization("norm")
    linear("head", WIDTH, CHARACTERS)
    return all_of


def torch_logits(state: Mapping[str, object], x: object) -> object:
    """Logits [n, 128, 97] of tokens [n, 128]; `state` are tensors."""
    import torch
    from torch.nn import functional

    def normalized(h: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(h, (WIDTH,), state[f"{name}.gamma"], state[f"{name}.beta"], EPSILON)

    def linear(h: torch.Tensor, name: str) -> torch.Tensor:
        rows = torch.addmm(state[f"{name}.b"], h.reshape(-1, h.shape[-1]), state[f"{name}.w"])
        return rows.view(*h.shape[:-1], -1)

    h = functional.embedding(x, state["embedding"]) + state["positions"]
    for layer in range(1, LAYERS + 1):
        name = f"layer{layer}"
        parts = linear(normalized(h, f"{name}.norm1"), f"{name}.qkv").chunk(3, dim=-1)
        q, k, v = (part.view(*x.shape, HEADS, WIDTH // HEADS).transpose(1, 2) for part in parts)
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(*x.shape, WIDTH)
        h = h + linear(seen, f"{name}.out")
        h = h + linear(functional.gelu(linear(normalized(h, f"{name}.norm2"), f"{name}.up")), f"{name}.down")
    return linear(normalized(h, "norm"), "head")
