"""Writes ../training.json: what 20 training steps make of a small model, and learning rates of schedules.

    {"steps": [{"optimizer": "adam:lr=0.01", "schedule": ..., "warmup": ..., "regularize": ..., "clip": ...,
                "losses": [...], "w": [...], "b": [...], "slots": {"b.exp_avg": [...], ...}}, ...],
     "rates": [{"learning_rate": 0.5, "schedule": "step:size=3", "warmup": ..., "rates": [...]}, ...]}

The model is loss = mean((tanh(x w + b) - t)^2) with x [5, 4], w [4, 3], b [3], t [5, 3], all float64. Its numbers are
fraction(i) = ((7919 i + 13) mod 101) / 101 - 0.5: w has i = 0 .. 12, b 12 .. 15, and step k takes x and then t from
i = 100 + 35 k on. `losses` are those of steps 0, 1 and 19; the rest is after the last step. The texts are those of
`graphc grad`.

`rates` has the rates of 25 steps, and of a few later ones for what has long cycles: pairs of a step and its rate.

Everything is PyTorch's but Lion (Chen et al. 2023, algorithm 2), LAMB (You et al. 2020, algorithm 2), max-norm and the
inverse-time schedule, which are written here from their formulas.

Needs torch and numpy:  python training.py
Written with torch 2.9.1, numpy 2.4.6.
"""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.optim import lr_scheduler as schedulers

OUT = Path(__file__).resolve().parent.parent / "training.json"
STEPS = 20

# NAdam and ASGD keep numbers of theirs in the default type.
torch.set_default_dtype(torch.float64)


def fraction(first, shape):
    i = np.arange(first, first + math.prod(shape), dtype=np.int64)
    return torch.tensor((((7919 * i + 13) % 101) / 101 - 0.5).reshape(shape))


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, beta1=beta1, beta2=beta2, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                c = group["beta1"] * m + (1 - group["beta1"]) * p.grad
                new = group["beta2"] * m + (1 - group["beta2"]) * p.grad
                p -= group["lr"] * (torch.sign(c) + group["weight_decay"] * p)
                m.copy_(new)


class Lamb(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["beta1"], group["beta2"]
            for p in group["params"]:
                state = self.state[p]
                t = state["step"] = state.get("step", 0) + 1
                m = state.setdefault("exp_avg", torch.zeros_like(p))
                v = state.setdefault("exp_avg_sq", torch.zeros_like(p))
                m.copy_(b1 * m + (1 - b1) * p.grad)
                v.copy_(b2 * v + (1 - b2) * p.grad**2)
                r = (m / (1 - b1**t)) / (torch.sqrt(v / (1 - b2**t)) + group["eps"]) + group["weight_decay"] * p
                wanted, length = torch.linalg.norm(p), torch.linalg.norm(r)
                scale = wanted / length if wanted > 0 and length > 0 else 1.0
                p -= group["lr"] * scale * r


OPTIMIZERS = [
    ("sgd:lr=0.3,momentum=0", lambda p: torch.optim.SGD(p, lr=0.3)),
    ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    ("sgd:momentum=0.8,dampening=0.3", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, dampening=0.3)),
    ("sgd:lr=0.05,nesterov=true", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True)),
    ("sgd:weight_decay=0.1", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1)),
    ("sgd:lr=0.2,momentum=0,weight_decay=0.1", lambda p: torch.optim.SGD(p, lr=0.2, weight_decay=0.1)),
    ("sgd:momentum=0.5,dampening=1,weight_decay=0.01",
     lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5, dampening=1, weight_decay=0.01)),
    ("adagrad", lambda p: torch.optim.Adagrad(p)),
    ("adagrad:lr=0.1,lr_decay=0.2", lambda p: torch.optim.Adagrad(p, lr=0.1, lr_decay=0.2)),
    ("adagrad:lr=0.1,initial_accumulator=0.5,eps=1e-3",
     lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.5, eps=1e-3)),
    ("adagrad:lr=0.1,weight_decay=0.1", lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.1)),
    ("adadelta", lambda p: torch.optim.Adadelta(p)),
    ("adadelta:lr=0.5,rho=0.8,eps=1e-3", lambda p: torch.optim.Adadelta(p, lr=0.5, rho=0.8, eps=1e-3)),
    ("adadelta:eps=1e-4,weight_decay=0.1", lambda p: torch.optim.Adadelta(p, eps=1e-4, weight_decay=0.1)),
    ("rmsprop", lambda p: torch.optim.RMSprop(p)),
    ("rmsprop:lr=0.02,alpha=0.9,eps=1e-4", lambda p: torch.optim.RMSprop(p, lr=0.02, alpha=0.9, eps=1e-4)),
    ("rmsprop:momentum=0.5", lambda p: torch.optim.RMSprop(p, momentum=0.5)),
    ("rmsprop:centered=true", lambda p: torch.optim.RMSprop(p, centered=True)),
    ("rmsprop:centered=true,momentum=0.7,alpha=0.95,weight_decay=0.1",
     lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.7, alpha=0.95, weight_decay=0.1)),
    ("adam", lambda p: torch.optim.Adam(p)),
    ("adam:lr=0.05,beta1=0.8,beta2=0.95", lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95))),
    ("adam:lr=0.02,eps=1e-2", lambda p: torch.optim.Adam(p, lr=0.02, eps=1e-2)),
    ("adam:lr=0.02,weight_decay=0.1", lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.1)),
    ("amsgrad", lambda p: torch.optim.Adam(p, amsgrad=True)),
    ("amsgrad:lr=0.05,beta2=0.8,weight_decay=0.1",
     lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.9, 0.8), weight_decay=0.1, amsgrad=True)),
    ("adamw", lambda p: torch.optim.AdamW(p)),
    ("adamw:lr=0.05,weight_decay=0.3", lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.3)),
    ("adamw:lr=0.05,beta1=0.7,beta2=0.9,eps=1e-4,weight_decay=0",
     lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.7, 0.9), eps=1e-4, weight_decay=0)),
    ("adamw:lr=0.05,beta2=0.8,amsgrad=true",
     lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.9, 0.8), amsgrad=True)),
    ("adamax", lambda p: torch.optim.Adamax(p)),
    ("adamax:lr=0.05,beta1=0.8,beta2=0.9", lambda p: torch.optim.Adamax(p, lr=0.05, betas=(0.8, 0.9))),
    ("adamax:lr=0.05,eps=1e-2,weight_decay=0.1",
     lambda p: torch.optim.Adamax(p, lr=0.05, eps=1e-2, weight_decay=0.1)),
    ("nadam", lambda p: torch.optim.NAdam(p)),
    ("nadam:lr=0.05,beta1=0.8,beta2=0.95", lambda p: torch.optim.NAdam(p, lr=0.05, betas=(0.8, 0.95))),
    ("nadam:lr=0.02,momentum_decay=0.1,weight_decay=0.1",
     lambda p: torch.optim.NAdam(p, lr=0.02, momentum_decay=0.1, weight_decay=0.1)),
    ("nadam:lr=0.02,weight_decay=0.2,decoupled_weight_decay=true",
     lambda p: torch.optim.NAdam(p, lr=0.02, weight_decay=0.2, decoupled_weight_decay=True)),
    ("rprop", lambda p: torch.optim.Rprop(p)),
    ("rprop:lr=0.1,etaminus=0.3,etaplus=1.5", lambda p: torch.optim.Rprop(p, lr=0.1, etas=(0.3, 1.5))),
    ("rprop:lr=0.05,min_step=0.02,max_step=0.06",
     lambda p: torch.optim.Rprop(p, lr=0.05, step_sizes=(0.02, 0.06))),
    ("asgd", lambda p: torch.optim.ASGD(p)),
    ("asgd:lr=0.3,lambd=0.1,alpha=0.5", lambda p: torch.optim.ASGD(p, lr=0.3, lambd=0.1, alpha=0.5)),
    ("asgd:lr=0.3,t0=5", lambda p: torch.optim.ASGD(p, lr=0.3, t0=5)),
    ("asgd:lr=0.3,t0=0,weight_decay=0.1", lambda p: torch.optim.ASGD(p, lr=0.3, t0=0, weight_decay=0.1)),
    ("lion", Lion),
    ("lion:lr=0.01,weight_decay=0.5", lambda p: Lion(p, lr=0.01, weight_decay=0.5)),
    ("lion:lr=0.01,beta1=0.8,beta2=0.7", lambda p: Lion(p, lr=0.01, beta1=0.8, beta2=0.7)),
    ("lamb", Lamb),
    ("lamb:lr=0.05,weight_decay=0.1", lambda p: Lamb(p, lr=0.05, weight_decay=0.1)),
    ("lamb:lr=0.05,beta1=0.8,beta2=0.9,eps=1e-3", lambda p: Lamb(p, lr=0.05, beta1=0.8, beta2=0.9, eps=1e-3)),
]

SGD, ADAM = OPTIMIZERS[1], OPTIMIZERS[20]
assert ADAM[0].startswith("adam:")

# Text of each option, and what becomes of gradients before clipping, of all gradients, and of parameters.
OTHERS = [
    (SGD, {"clip": "norm=0.1"}),
    (SGD, {"clip": "norm=100"}),
    (SGD, {"clip": "value=0.02"}),
    (ADAM, {"clip": "value=0.1,norm=0.2"}),
    (SGD, {"regularize": "l1=0.01"}),
    (SGD, {"regularize": "l2=0.05"}),
    (SGD, {"regularize": "l1=0.02,l2=0.03", "clip": "norm=0.2"}),
    (SGD, {"regularize": "max_norm=0.6"}),
    (ADAM, {"regularize": "max_norm=0.5,max_norm_axis=0"}),
    (SGD, {"schedule": "cosine:steps=30", "warmup": "steps=5,start=0.1"}),
    (ADAM, {"schedule": "step:size=4,gamma=0.5"}),
]


def keys(text):
    return {k: float(v) for k, v in (part.split("=") for part in text.split(","))} if text else {}


def lr_scheduler(optimizer, schedule, warmup):
    def main(optimizer):
        name, _, text = schedule.partition(":")
        k = {a: b for a, b in (part.split("=") for part in text.split(","))} if text else {}
        whole, real = (lambda a: int(k[a])), (lambda a, default: float(k.get(a, default)))
        if name == "step":
            return schedulers.StepLR(optimizer, whole("size"), gamma=real("gamma", 0.1))
        if name == "multi_step":
            return schedulers.MultiStepLR(optimizer, [int(m) for m in k["milestones"].split("+")], real("gamma", 0.1))
        if name == "exponential":
            return schedulers.ExponentialLR(optimizer, real("gamma", 0.1))
        if name == "inverse_time":
            return schedulers.LambdaLR(optimizer, lambda t: 1 / (1 + real("decay", 0) * t))
        if name == "polynomial":
            return schedulers.PolynomialLR(optimizer, whole("steps"), real("power", 1))
        if name == "cosine":
            return schedulers.CosineAnnealingLR(optimizer, whole("steps"), real("min_lr", 0))
        if name == "cosine_restarts":
            return schedulers.CosineAnnealingWarmRestarts(optimizer, whole("steps"), int(k.get("factor", 1)),
                                                          real("min_lr", 0))
        if name == "one_cycle":
            return schedulers.OneCycleLR(
                optimizer, optimizer.param_groups[0]["lr"], total_steps=whole("steps"),
                pct_start=real("pct_start", 0.3), div_factor=real("div_factor", 25),
                final_div_factor=real("final_div_factor", 1e4), cycle_momentum=False,
                anneal_strategy="linear" if k.get("linear") == "true" else "cos",
                three_phase=k.get("three_phase") == "true")
        assert not name, name
        return schedulers.ConstantLR(optimizer, factor=1.0)

    if warmup is None:
        return main(optimizer)
    k = keys(warmup)
    steps = int(k["steps"])
    first = schedulers.LinearLR(optimizer, k.get("start", 1 / 3), total_iters=steps)
    return schedulers.SequentialLR(optimizer, [first, main(optimizer)], [steps])


def train(text, make, options):
    w = fraction(0, (4, 3)).requires_grad_()
    b = fraction(12, (3,)).requires_grad_()
    params = [w, b]
    optimizer = make(params)
    scheduler = None
    if "schedule" in options or "warmup" in options:
        scheduler = lr_scheduler(optimizer, options.get("schedule", ""), options.get("warmup"))
    regularize, clip = keys(options.get("regularize", "")), keys(options.get("clip", ""))
    losses = []
    for k in range(STEPS):
        x, t = fraction(100 + 35 * k, (5, 4)), fraction(120 + 35 * k, (5, 3))
        optimizer.zero_grad()
        loss = ((torch.tanh(x @ w + b) - t) ** 2).mean()
        losses.append(loss.item())
        loss.backward()
        for p in params:
            p.grad += regularize.get("l1", 0) * torch.sign(p.detach()) + regularize.get("l2", 0) * p.detach()
        if "value" in clip:
            torch.nn.utils.clip_grad_value_(params, clip["value"])
        if "norm" in clip:
            torch.nn.utils.clip_grad_norm_(params, clip["norm"])
        optimizer.step()
        if "max_norm" in regularize:
            axis = int(regularize.get("max_norm_axis", 1))
            with torch.no_grad():
                norms = torch.linalg.norm(w, dim=1 - axis, keepdim=True)
                w *= torch.where(norms > regularize["max_norm"], regularize["max_norm"] / norms, 1.0)
        if scheduler is not None:
            scheduler.step()
    rename = {"momentum_buffer": "momentum"}
    slots = {f"b.{rename.get(k, k)}": v.flatten().tolist() for k, v in optimizer.state[b].items()
             if torch.is_tensor(v) and k not in ("step", "eta", "mu")}
    return {"optimizer": text, **options, "losses": [losses[0], losses[1], losses[-1]],
            "w": w.flatten().tolist(), "b": b.tolist(), "slots": slots}


RATES = [
    (0.5, "step:size=3", None), (0.5, "step:size=7,gamma=0.5", None),
    (0.5, "multi_step:milestones=4+9+10", None), (0.5, "multi_step:milestones=1,gamma=0.7", None),
    (0.5, "exponential:gamma=0.9", None), (2.0, "exponential:gamma=1.05", None),
    (0.5, "inverse_time:decay=0.1", None), (0.5, "inverse_time:decay=2", None),
    (0.5, "polynomial:steps=20", None), (0.5, "polynomial:steps=17,power=2.5", None),
    (0.5, "cosine:steps=24", None), (0.5, "cosine:steps=40,min_lr=0.01", None),
    (0.5, "cosine_restarts:steps=6", None), (0.5, "cosine_restarts:steps=3,factor=2,min_lr=0.05", None),
    (0.5, "cosine_restarts:steps=1,factor=3", None),
    (0.5, "one_cycle:steps=25", None), (0.5, "one_cycle:steps=25,linear=true,pct_start=0.4", None),
    (0.5, "one_cycle:steps=25,three_phase=true,div_factor=10,final_div_factor=100", None),
    (0.5, "one_cycle:steps=26,three_phase=true,linear=true,pct_start=0.25", None),
    (0.5, None, "steps=10"), (0.5, None, "steps=1,start=0.5"),
    (0.5, "cosine:steps=20", "steps=5,start=0.01"), (0.5, "step:size=4", "steps=3,start=0.2"),
    (0.5, "exponential:gamma=0.8", "steps=6"), (0.5, "cosine_restarts:steps=4,factor=2", "steps=4,start=0.5"),
    (0.5, "polynomial:steps=15,power=0.5", "steps=2"),
]
LATER = {"cosine_restarts:steps=3,factor=2,min_lr=0.05": [92, 93, 94, 190, 500, 1000],
         "cosine_restarts:steps=1,factor=3": [39, 40, 41, 121, 1093, 1500]}


def rates(learning_rate, schedule, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=learning_rate)
    scheduler = lr_scheduler(optimizer, schedule or "", warmup)
    later = LATER.get(schedule, [])
    found = []
    for step in range(max([24, *later]) + 1):
        if step < 25 or step in later:
            found.append([step, optimizer.param_groups[0]["lr"]])
        optimizer.step()
        # The last steps of a schedule that ends may be asked for, but not taken.
        if step < 24 or later:
            scheduler.step()
    options = {"schedule": schedule} if schedule else {}
    options.update({"warmup": warmup} if warmup else {})
    return {"learning_rate": learning_rate, **options, "rates": found}


def main():
    warnings.simplefilter("ignore")
    steps = [train(text, make, {}) for text, make in OPTIMIZERS]
    steps += [train(text, make, options) for (text, make), options in OTHERS]
    file = {"steps": steps, "rates": [rates(*r) for r in RATES]}
    lines = [json.dumps(entry) for entry in file["steps"]]
    others = [json.dumps(entry) for entry in file["rates"]]
    OUT.write_text('{"steps": [\n' + ",\n".join(lines) + '\n], "rates": [\n' + ",\n".join(others) + "\n]}\n")
    print(f"{len(lines)} trainings, {len(others)} schedules")


if __name__ == "__main__":
    main()
