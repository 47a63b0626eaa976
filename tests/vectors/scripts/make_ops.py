"""Writes ../ops.json: results and gradients of operations on small tensors, computed by PyTorch in float64.

    {"cases": [{"name": "softmax_axis1", "op": "softmax", "attrs": {"axis": 1},
                "in": {"x": TENSOR}, "out": {"y": TENSOR}, "cotangent": {"y": TENSOR}, "grad": {"x": TENSOR}}, ...]}

A TENSOR is {"type": "f64[2,3]", "data": [...]} with its elements in row-major order; "type" is as in graphc's files,
"data" is flat also for rank 0. `grad` holds, for each input that has one, the gradient of the sum over the outputs in
`cotangent` of (output * cotangent); a scalar loss has the cotangent 1. Outputs that are not in `cotangent` take
no part in it. Float inputs and cotangents are multiples of 1/64, so float32 and float64 hold the same numbers.

`op` is graphc's name where there is one operation for it; what the inputs, outputs and attributes of a case mean is said
at its function below. Compare with a relative L2 error for each tensor.

Needs torch and numpy:  python make_ops.py
Written with torch 2.9.1, numpy 2.4.6.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

OUT = Path(__file__).resolve().parent.parent / "ops.json"
EPSILON = 1e-5
MOMENTUM = 0.1

random = np.random.default_rng(20170)


def draw(*shape, scale=1.0):
    """Normal numbers, rounded to multiples of 1/64, that take a gradient."""
    values = np.round(random.standard_normal(shape) * scale * 64) / 64
    return torch.tensor(values + 0.0, dtype=torch.float64, requires_grad=True)


def integers(values):
    """Labels or indices."""
    return torch.tensor(values, dtype=torch.int64)


def encode(tensor):
    """A tensor as JSON."""
    dtype = {torch.float64: "f64", torch.int64: "i64"}[tensor.dtype]
    dims = ",".join(map(str, tensor.shape))
    return {"type": f"{dtype}[{dims}]", "data": tensor.detach().reshape(-1).tolist()}


def case(name, op, inputs, outputs, attrs=None, without_gradient=()):
    """One case: draws a cotangent for every float output but `without_gradient`, and differentiates."""
    flowing = {
        key: torch.ones_like(out) if out.ndim == 0 else draw(*out.shape).detach()
        for key, out in outputs.items()
        if out.dtype.is_floating_point and key not in without_gradient
    }
    leaves = {key: tensor for key, tensor in inputs.items() if tensor.requires_grad}
    grads = torch.autograd.grad([outputs[key] for key in flowing], list(leaves.values()), list(flowing.values()))
    return {
        "name": name,
        "op": op,
        "attrs": attrs or {},
        "in": {key: encode(tensor) for key, tensor in inputs.items()},
        "out": {key: encode(tensor) for key, tensor in outputs.items()},
        "cotangent": {key: encode(tensor) for key, tensor in flowing.items()},
        "grad": {key: encode(tensor) for key, tensor in zip(leaves, grads, strict=True)},
    }


def softmaxes():
    """softmax and log_softmax of x over `axis`; the last has rows where a naive exponential overflows."""
    for op, function in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):
        for shape, axis in (((5, 7), 1), ((3, 5, 2), 1), ((7, 3), 0)):
            x = draw(*shape)
            yield case(f"{op}_rank{len(shape)}_axis{axis}", op, {"x": x}, {"y": function(x, axis)}, {"axis": axis})
        x = torch.tensor([[1000.0, 1001.0, 999.5], [-1000.0, 0.0, -0.25], [88.75, 88.75, 88.75]], dtype=torch.float64)
        x.requires_grad_()
        yield case(f"{op}_large", op, {"x": x}, {"y": function(x, 1)}, {"axis": 1})


def losses():
    """cross_entropy: mean over rows, labels are class indices. mse: mean over all elements of (x - target)^2."""
    logits, labels = draw(7, 5, scale=3.0), integers([0, 4, 2, 2, 1, 3, 4])
    loss = functional.cross_entropy(logits, labels)
    yield case("cross_entropy", "cross_entropy", {"logits": logits, "labels": labels}, {"loss": loss})
    logits, labels = draw(1, 3, scale=30.0), integers([1])
    loss = functional.cross_entropy(logits, labels)
    yield case("cross_entropy_one_row", "cross_entropy", {"logits": logits, "labels": labels}, {"loss": loss})
    x, target = draw(3, 5), draw(3, 5)
    yield case("mse", "mse", {"x": x, "target": target}, {"loss": functional.mse_loss(x, target)})


def linears():
    """linear: y = x w + b, w [in, out]; the last without b."""
    for rows, fan_in, fan_out in ((5, 7, 3), (1, 3, 1), (3, 1, 5)):
        x, w, b = draw(rows, fan_in), draw(fan_in, fan_out), draw(fan_out)
        yield case(f"linear_{rows}x{fan_in}x{fan_out}", "linear", {"x": x, "w": w, "b": b}, {"y": x @ w + b})
    x, w = draw(5, 3), draw(3, 7)
    yield case("linear_without_bias", "linear", {"x": x, "w": w}, {"y": x @ w})


def batch_norms():
    """Channels are axis 1. Training: y, the batch's mean and biased variance, and the running statistics afterwards.

    new = 0.9 old + 0.1 batch, with the unbiased variance of the batch, as PyTorch has it. Inference takes the running ones.
    """
    for shape in ((6, 3), (2, 3, 5, 3), (3, 2, 1, 1)):
        channels = shape[1]
        x, gamma, beta = draw(*shape, scale=2.0), draw(channels), draw(channels)
        old_mean, old_var = draw(channels).detach(), draw(channels).detach().abs() + 0.5
        mean, var = old_mean.clone(), old_var.clone()
        y = functional.batch_norm(x, mean, var, gamma, beta, True, MOMENTUM, EPSILON)
        axes = [axis for axis in range(len(shape)) if axis != 1]
        batch_var, batch_mean = torch.var_mean(x.detach(), axes, correction=0)
        inputs = {"x": x, "gamma": gamma, "beta": beta, "running_mean": old_mean, "running_var": old_var}
        outputs = {"y": y, "mean": batch_mean, "var": batch_var, "new_running_mean": mean, "new_running_var": var}
        attrs = {"epsilon": EPSILON, "momentum": MOMENTUM}
        still = ("mean", "var", "new_running_mean", "new_running_var")
        yield case(f"batch_norm_rank{len(shape)}_{shape[0]}", "batch_norm", inputs, outputs, attrs, still)
    y = functional.batch_norm(x, old_mean, old_var, gamma, beta, False, MOMENTUM, EPSILON)
    yield case("batch_norm_inference", "batch_norm_inference", inputs, {"y": y}, {"epsilon": EPSILON})


def reductions():
    """Over the last axis of [rows, columns]; `mean_var` has the biased variance; layer_norm is over that axis, too."""
    x = draw(5, 7)
    for name, out in {
        "sum": x.sum(1), "mean": x.mean(1), "max": x.amax(1), "min": x.amin(1), "prod": x.prod(1), "logsumexp": x.logsumexp(1),
    }.items():
        yield case(f"row_{name}", f"reduce_{name}", {"x": x}, {"y": out}, {"axes": [1]})
    x = draw(3, 5, 4)
    yield case("sum_axes_0_2", "reduce_sum", {"x": x}, {"y": x.sum((0, 2))}, {"axes": [0, 2]})
    var, mean = torch.var_mean(x, (0, 2), correction=0)
    yield case("mean_var_axes_0_2", "moments", {"x": x}, {"mean": mean, "var": var}, {"axes": [0, 2]})
    x, gamma, beta = draw(5, 7, scale=2.0), draw(7), draw(7)
    y = functional.layer_norm(x, (7,), gamma, beta, EPSILON)
    yield case("layer_norm", "layer_norm", {"x": x, "gamma": gamma, "beta": beta}, {"y": y}, {"epsilon": EPSILON})


def indexing():
    """gather: slices of x along `axis` by idx [n], with repeats. scatter_add: base, with slice i of upd added at idx[i]."""
    for axis in (0, 1):
        x, idx = draw(5, 3), integers([2, 0, 2, 1, 2, 0] if axis else [4, 0, 4, 3, 1, 4, 4])
        yield case(f"gather_axis{axis}", "gather", {"x": x, "idx": idx}, {"y": x.index_select(axis, idx)}, {"axis": axis})
    base, idx, upd = draw(5, 3), integers([4, 0, 4, 3, 0, 4, 4]), draw(7, 3)
    y = base.index_add(0, idx, upd)
    yield case("scatter_add", "scatter_add", {"base": base, "idx": idx, "upd": upd}, {"y": y}, {"axis": 0})
    x = draw(5, 3)
    yield case("cumsum_axis0", "cumsum", {"x": x}, {"y": x.cumsum(0)}, {"axis": 0})


def recurrent():
    """A scan of 3 steps over x [3, 5, 4]: h' = tanh(x wx + h wh + b); ys are all h' stacked, h_last is the last."""
    x, h0 = draw(3, 5, 4), draw(5, 3)
    wx, wh, b = draw(4, 3), draw(3, 3), draw(3)
    h, ys = h0, []
    for x_t in x:
        h = torch.tanh(x_t @ wx + h @ wh + b)
        ys.append(h)
    inputs = {"x": x, "h0": h0, "wx": wx, "wh": wh, "b": b}
    yield case("rnn_tanh", "scan", inputs, {"ys": torch.stack(ys), "h_last": h})


def main():
    groups = (softmaxes, losses, linears, batch_norms, reductions, indexing, recurrent)
    lines = ",\n".join(json.dumps(c, allow_nan=False, separators=(",", ":")) for group in groups for c in group())
    OUT.write_text(f'{{"cases": [\n{lines}\n]}}\n', encoding="ascii")


if __name__ == "__main__":
    main()
