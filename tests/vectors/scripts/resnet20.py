"""Writes ../resnet20.json: training steps of the network of models/resnet20, computed by PyTorch in float64.

    {"batch": 32, "learning_rate": 0.02, "steps": 870, "losses": [...],
     "momentum": {"stem.w": {"norm": N, "elements": [...], "projections": [...]}, ...},
     "statistics": {"stem.mean": [...], ...}}

`losses` are those of one step after the other, of which step k sees the rows batch * k .. batch * (k + 1) of
models/data/digits.csv.gz. `momentum` and `statistics` are after the first step; as the momentum was zero before, it is the
gradient of the loss plus weight decay times the parameter. Of each it has the norm, elements at even distances, and
products with vectors of signs.

The state before comes from SplitMix64, one stream for all variables in the order of `network`, which is that of the module:
with u uniform in [0, 1), filters and weights are (2 u - 1) sqrt(6 / inputs), gamma 0.5 + u, a tenth of that in the second
convolution of a block, the rest of the parameters 0.2 (2 u - 1); then the statistics, mean 0.2 (2 u - 1) and var 0.5 + u;
all rounded to float32. Every sign vector is a stream of its own.

The small gammas make the network one in which rounding errors grow slowly: with large ones, 20 steps in float32 and in
float64 end percents apart.

Needs torch and numpy:  python resnet20.py
Written with torch 2.15.0, numpy 2.4.6.
"""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "resnet20.json"
DIGITS = HERE.parents[2] / "models" / "data" / "digits.csv.gz"

BATCH = 32
STEPS_TAKEN = 20
LEARNING_RATE = 0.02
STEPS = 870
DECAY = 1e-4
ELEMENTS = 20
PROJECTIONS = 4


def words(seed, count):
    """The first words of SplitMix64 from a seed."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def convolutions():
    """Name, input channels, output channels and stride of every convolution."""
    yield "stem", 1, 16, 1
    inputs = 16
    for stage, width in enumerate((16, 32, 64), start=1):
        for block in range(1, 4):
            stride = 2 if stage > 1 and block == 1 else 1
            yield f"stage{stage}.block{block}.conv1", inputs, width, stride
            yield f"stage{stage}.block{block}.conv2", width, width, 1
            inputs = width


def shapes():
    """Names and shapes of the parameters, then of the statistics."""
    parameters, statistics = {}, {}
    for name, inputs, outputs, _ in convolutions():
        parameters[f"{name}.w"] = (outputs, inputs, 3, 3)
        parameters |= {f"{name}.{part}": (outputs,) for part in ("gamma", "beta")}
        statistics |= {f"{name}.{part}": (outputs,) for part in ("mean", "var")}
    parameters |= {"fc.w": (64, 10), "fc.b": (10,)}
    return parameters, statistics


def initial():
    """Parameters and statistics before the first step."""
    parameters, statistics = shapes()
    everything = parameters | statistics
    uniform = (words(20, sum(map(math.prod, everything.values()))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    state, start = {}, 0
    for name, shape in everything.items():
        u = uniform[start : start + math.prod(shape)].reshape(shape)
        start += u.size
        part = name.rsplit(".", 1)[1]
        if part == "w":
            inputs = shape[0] if len(shape) == 2 else math.prod(shape[1:])
            value = (2 * u - 1) * math.sqrt(6 / inputs)
        elif part in ("gamma", "var"):
            value = (0.5 + u) * (0.1 if name.endswith("conv2.gamma") else 1)
        else:
            value = (2 * u - 1) * 0.2
        state[name] = torch.tensor(value.astype(np.float32).astype(np.float64), requires_grad=name in parameters)
    return state


def logits(state, x):
    """The network on images [n, 1, 8, 8], in training: it updates the statistics."""

    def layer(name, x, stride=1):
        z = functional.conv2d(x, state[f"{name}.w"], stride=stride, padding=1)
        mean, var, gamma, beta = (state[f"{name}.{part}"] for part in ("mean", "var", "gamma", "beta"))
        return functional.batch_norm(z, mean, var, gamma, beta, training=True, momentum=0.1, eps=1e-5)

    h = functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    h = torch.relu(layer("stem", h))
    for name, inputs, outputs, stride in convolutions():
        if name.endswith("conv1"):
            branch = torch.relu(layer(name, h, stride))
            around = functional.pad(h[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, outputs - inputs))
        elif name.endswith("conv2"):
            h = torch.relu(layer(name, branch) + around)
    return h.mean(dim=(2, 3)) @ state["fc.w"] + state["fc.b"]


def summary(number, tensor):
    """Norm, elements and projections of the tensor of this number."""
    values = tensor.detach().numpy().reshape(-1)
    at = np.arange(ELEMENTS) * values.size // ELEMENTS
    seeds = range(PROJECTIONS * number, PROJECTIONS * (number + 1))
    signs = [np.where(words(seed, values.size) >> np.uint64(63), -1.0, 1.0) for seed in seeds]
    parts = {
        "norm": [np.linalg.norm(values)],
        "elements": values[at],
        "projections": [values @ sign for sign in signs],
    }
    text = {key: ",".join(f"{value + 0:.9g}" for value in numbers) for key, numbers in parts.items()}
    return f'{{"norm":{text["norm"]},"elements":[{text["elements"]}],"projections":[{text["projections"]}]}}'


def train():
    """The contents of the file."""
    torch.set_default_dtype(torch.float64)
    with gzip.open(DIGITS, "rt", encoding="ascii") as text:
        rows = np.loadtxt(text, delimiter=",", max_rows=BATCH * STEPS_TAKEN)
    x = torch.tensor(rows[:, :64].reshape(-1, 1, 8, 8) / 16)
    y = torch.tensor(rows[:, 64].astype(np.int64))
    state = initial()
    parameters = {name: state[name] for name in shapes()[0]}
    optimizer = torch.optim.SGD(parameters.values(), lr=LEARNING_RATE, momentum=0.9, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    losses, momentum, statistics = [], {}, {}
    for step in range(STEPS_TAKEN):
        batch = slice(BATCH * step, BATCH * (step + 1))
        loss = functional.cross_entropy(logits(state, x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step == 0:
            buffers = {name: optimizer.state[p]["momentum_buffer"] for name, p in parameters.items()}
            momentum = {name: summary(number, b) for number, (name, b) in enumerate(buffers.items())}
            numbers = {name: state[name].tolist() for name in shapes()[1]}
            statistics = {name: ",".join(f"{value:.9g}" for value in values) for name, values in numbers.items()}
    head = {"batch": BATCH, "learning_rate": LEARNING_RATE, "steps": STEPS}
    lines = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    lines.append(f'"losses": [{",".join(f"{loss:.9g}" for loss in losses)}]')
    body = ",\n".join(f'"{name}":{text}' for name, text in momentum.items())
    lines.append(f'"momentum": {{\n{body}\n}}')
    body = ",\n".join(f'"{name}":[{text}]' for name, text in statistics.items())
    lines.append(f'"statistics": {{\n{body}\n}}')
    return losses, "{" + ",\n".join(lines) + "}\n"


def main():
    losses, text = train()
    OUT.write_text(text, encoding="ascii")
    print(OUT.stat().st_size, "bytes, losses", losses)


if __name__ == "__main__":
    main()
