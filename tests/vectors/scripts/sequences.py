"""Writes ../sequences.json: results and gradients of operations over sequences, computed by PyTorch in float64.

    {"cases": [{"name": "lstm_0", "op": "lstm", "attrs": {"layers": 2},
                "in": {"x": TENSOR, "w_ih_0": TENSOR, ...}, "out": {"y": TENSOR, "h": TENSOR, "c": TENSOR},
                "cotangent": {"y": TENSOR, ...}, "grad": {"x": TENSOR, ...}}, ...]}

Tensors, `cotangent` and `grad` are as in make_ops.py. `op` and `attrs` are graphc's; inputs and outputs stand in the order
of the operation's operands and results. Float inputs and cotangents are multiples of 1/16, so float32 and float64 hold the
same numbers; what is computed is rounded to twelve digits.

PyTorch has the weights of recurrent networks as [g*h, in]; they and their gradients are written transposed. Lengths go in
as packed sequences, which have neither the length 0 nor sequences of no steps.

Needs torch and numpy:  python sequences.py
Written with torch 2.9.1, numpy 2.4.6.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

OUT = Path(__file__).resolve().parent.parent / "sequences.json"

random = np.random.default_rng(1997)


def draw(*shape, scale=1.0):
    """Normal numbers, rounded to multiples of 1/16, that take a gradient."""
    values = np.round(random.standard_normal(shape) * scale * 16) / 16
    return torch.tensor(values + 0.0, dtype=torch.float64, requires_grad=True)


def number(value):
    return f'"{value}"' if value in (np.inf, -np.inf) else f"{value + 0:.12g}"


def encode(tensor):
    """A tensor as JSON text."""
    dtype = {torch.float64: "f64", torch.int32: "i32", torch.int64: "i64", torch.bool: "bool"}[tensor.dtype]
    dims = ",".join(map(str, tensor.shape))
    values = tensor.detach().reshape(-1).tolist()
    data = ",".join(json.dumps(value) if dtype == "bool" else number(value) for value in values)
    return f'{{"type":"{dtype}[{dims}]","data":[{data}]}}'


def case(name, op, attrs, inputs, outputs, turned=()):
    """One case: draws a cotangent for every output, and differentiates. Inputs in `turned` are written transposed."""
    flowing = {key: draw(*out.shape).detach() for key, out in outputs.items()}
    leaves = {key: tensor for key, tensor in inputs.items() if tensor.requires_grad}
    grads = torch.autograd.grad(list(outputs.values()), list(leaves.values()), list(flowing.values()))

    def group(tensors):
        return "{" + ",".join(f'"{key}":{encode(t.T if key in turned else t)}' for key, t in tensors.items()) + "}"

    parts = {
        "name": json.dumps(name),
        "op": json.dumps(op),
        "attrs": json.dumps({key: value for key, value in attrs.items() if value is not None}, separators=(",", ":")),
        "in": group(inputs),
        "out": group(outputs),
        "cotangent": group(flowing),
        "grad": group(dict(zip(leaves, grads, strict=True))),
    }
    return "{" + ",".join(f'"{key}":{value}' for key, value in parts.items()) + "}"


# (steps, sequences, inputs, units, layers, both directions, biases, batch first, initial states, lengths)
ARRANGEMENTS = [
    (1, 1, 1, 1, 1, False, True, False, False, None),
    (1, 2, 3, 2, 1, False, True, False, True, None),
    (1, 2, 2, 1, 2, True, True, False, True, None),
    (3, 2, 2, 3, 1, False, True, False, False, None),
    (3, 2, 2, 3, 1, False, False, False, False, None),
    (5, 1, 3, 2, 1, False, True, False, True, None),
    (4, 3, 2, 2, 1, False, False, True, True, None),
    (3, 2, 3, 2, 2, False, True, False, False, None),
    (3, 2, 1, 2, 2, False, False, False, True, None),
    (2, 2, 2, 2, 3, False, True, True, False, None),
    (3, 2, 2, 2, 1, True, True, False, False, None),
    (4, 2, 3, 1, 1, True, False, False, True, None),
    (3, 2, 2, 2, 2, True, True, False, True, None),
    (2, 3, 2, 1, 2, True, False, True, False, None),
    (4, 3, 2, 2, 1, False, True, False, False, [4, 1, 3]),
    (4, 3, 2, 2, 1, False, True, False, True, [2, 4, 1]),
    (3, 2, 2, 2, 2, False, False, True, True, [1, 3]),
    (4, 3, 1, 2, 1, True, True, False, False, [3, 4, 2]),
    (4, 2, 2, 2, 1, True, False, False, True, [1, 4]),
    (3, 3, 2, 2, 2, True, True, False, True, [2, 3, 1]),
    (3, 2, 2, 1, 2, True, True, True, True, [3, 2]),
    (2, 2, 2, 2, 1, True, True, False, True, [2, 2]),
]

CELLS = {
    "rnn": (nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
}


def recurrent():
    """Every arrangement with every kind of cell."""
    for kind, (module, options) in CELLS.items():
        for at, arrangement in enumerate(ARRANGEMENTS):
            steps, batch, width, units, layers, both, bias, batch_first, initial, lengths = arrangement
            network = module(
                width, units, layers, bias=bias, batch_first=batch_first, bidirectional=both, dtype=torch.float64, **options
            )
            x = draw(*((batch, steps, width) if batch_first else (steps, batch, width)))
            inputs, turned = {"x": x}, set()
            # PyTorch's order: for each layer and direction w_ih, w_hh, b_ih, b_hh.
            for name, parameter in network.named_parameters():
                parameter.data = draw(*parameter.shape, scale=0.7).detach()
                key = name.replace("weight", "w").replace("bias", "b")
                inputs[key] = parameter
                if parameter.ndim == 2:
                    turned.add(key)
            cells = layers * (2 if both else 1)
            states = [draw(cells, batch, units) for _ in range((2 if kind == "lstm" else 1) if initial else 0)]
            inputs |= dict(zip(("h0", "c0"), states))
            start = None if not states else tuple(states) if kind == "lstm" else states[0]
            if lengths is None:
                y, last = network(x, start)
            else:
                packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False)
                y, last = network(packed, start)
                y, _ = pad_packed_sequence(y, batch_first, total_length=steps)
                inputs["lengths"] = torch.tensor(lengths, dtype=torch.int32 if at % 2 else torch.int64)
            attrs = {
                "layers": layers if layers > 1 else None,
                "bidirectional": both or None,
                "bias": None if bias else False,
                "batch_first": batch_first or None,
                "activation": "relu" if kind == "rnn_relu" else None,
            }
            outputs = {"y": y} | dict(zip(("h", "c"), last if kind == "lstm" else (last,)))
            yield case(f"{kind}_{at}", kind.removesuffix("_relu"), attrs, inputs, outputs, turned)


def attention(q, k, v, mask=None, causal=False, scale=None):
    """PyTorch takes a mask or `causal`, not both; graphc's sees what both let through."""
    if mask is not None and causal:
        past = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        mask = mask & past if mask.dtype == torch.bool else mask.masked_fill(~past, -torch.inf)
        causal = False
    with sdpa_kernel(SDPBackend.MATH):
        return functional.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)


def bools(*shape):
    return torch.tensor(random.random(shape) < 0.6)


def infinities(mask, seen):
    """A mask that is added, -inf where nothing is seen."""
    values = torch.where(seen, mask.detach().broadcast_to(seen.shape), -torch.inf)
    return values.clone().requires_grad_()


def attentions():
    """Leading dims, sizes [queries, keys, elements, elements of a value], masks of every kind, and rows without keys."""
    numbers = itertools.count()

    def one(lead, sizes, mask=None, causal=False, scale=None, size=1.0):
        m, n, d, e = sizes
        q, k, v = draw(*lead, m, d, scale=size), draw(*lead, n, d, scale=size), draw(*lead, n, e)
        inputs = {"q": q, "k": k, "v": v} | ({} if mask is None else {"mask": mask})
        y = attention(q, k, v, mask, causal, scale)
        op = "scaled_dot_product_attention"
        return case(f"attention_{next(numbers)}", op, {"causal": causal or None, "scale": scale}, inputs, {"y": y})

    yield one([], (1, 1, 1, 1))
    yield one([], (3, 5, 4, 2))
    yield one([2], (4, 3, 2, 3))
    yield one([2, 2], (3, 3, 2, 2))
    yield one([1, 2, 1], (2, 3, 2, 1))
    yield one([2], (4, 4, 3, 2), causal=True)
    yield one([], (5, 3, 2, 2), causal=True)
    yield one([2], (3, 5, 2, 2), causal=True)
    yield one([2], (3, 4, 3, 2), scale=0.25)
    yield one([], (3, 3, 2, 2), causal=True, scale=2.0)
    # The products are exact in float32, and their naive exponentials overflow.
    yield one([], (4, 4, 2, 2), scale=64.0, size=2.0)
    yield one([2], (3, 4, 2, 2), mask=bools(2, 3, 4))
    yield one([2], (3, 4, 2, 2), mask=bools(4))
    yield one([2, 2], (3, 4, 2, 2), mask=bools(2, 1, 1, 4))
    yield one([2, 2], (3, 4, 2, 2), mask=bools(2, 3, 1))
    none = torch.tensor([[True, False, True], [False, False, False], [False, True, True]])
    yield one([2], (3, 3, 2, 2), mask=none)
    yield one([2], (3, 3, 2, 2), mask=none, scale=0.5)
    yield one([2], (3, 3, 2, 2), mask=none, causal=True)
    yield one([2], (3, 4, 2, 2), mask=draw(2, 3, 4))
    yield one([2], (3, 4, 2, 2), mask=draw(3, 4))
    yield one([2], (3, 4, 2, 2), mask=draw(4), scale=0.5)
    yield one([2, 2], (3, 4, 2, 2), mask=draw(2, 1, 1, 4))
    yield one([2, 2], (3, 4, 2, 2), mask=draw(2, 3, 4), causal=True)
    yield one([2], (3, 3, 2, 2), mask=infinities(draw(3, 3), none))
    yield one([2], (3, 3, 2, 2), mask=infinities(draw(3, 3), none), causal=True)


def normalizations():
    """layer_norm and rms_norm over the last axes; parameters or none."""
    shapes = [((4, 5), 1), ((2, 3, 4), 1), ((2, 3, 4), 2), ((3, 2), 2), ((6,), 1), ((2, 1, 3), 1)]
    for at, (shape, axes) in enumerate(shapes):
        normal = shape[len(shape) - axes :]
        for count in range(3):
            x, eps = draw(*shape, scale=2.0), 1e-5 if at % 2 else 0.125
            parameters = [draw(*normal) for _ in range(count)]
            inputs = {"x": x} | dict(zip(("gamma", "beta"), parameters))
            attrs = {"axes": axes, "eps": eps}
            weight, bias = (*parameters, None, None)[:2]
            y = functional.layer_norm(x, normal, weight, bias, eps)
            yield case(f"layer_norm_{at}_{count}", "layer_norm", attrs, inputs, {"y": y})
            if count < 2:
                y = functional.rms_norm(x, normal, weight, eps)
                yield case(f"rms_norm_{at}_{count}", "rms_norm", attrs, inputs, {"y": y})


def embeddings():
    """Indices of several ranks, with repeats; some with a row that takes no gradient."""
    for at, (shape, rows, width, padding) in enumerate(
        [((), 3, 2, None), ((5,), 3, 2, None), ((7,), 4, 3, 1), ((2, 4), 3, 2, 0), ((2, 2, 3), 5, 1, None), ((6,), 2, 1, 1)]
    ):
        indices = torch.tensor(random.integers(0, rows, shape), dtype=torch.int32 if at % 2 else torch.int64)
        table = draw(rows, width)
        y = functional.embedding(indices, table, padding)
        attrs = {} if padding is None else {"padding": [padding]}
        yield case(f"embedding_{at}", "embedding", attrs, {"indices": indices, "table": table}, {"y": y})


def main():
    groups = (recurrent, attentions, normalizations, embeddings)
    lines = [text for group in groups for text in group()]
    OUT.write_text('{"cases": [\n' + ",\n".join(lines) + "\n]}\n", encoding="ascii")


if __name__ == "__main__":
    main()
