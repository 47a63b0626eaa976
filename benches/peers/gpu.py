"""graphc's GPU runtime beside PyTorch on one NVIDIA card, TF32 off.

    python benches/peers/gpu.py --bench target/release/gpu_speed [--rounds 3] [--json FILE] [NAME ...]

`--bench` is the binary of `cargo build --release -p graphc-benches --bin gpu_speed`. Each round runs it and then
PyTorch over the same functions, shapes and kinds of values; the medians of rounds count. Times on the device are of
many runs one after the other by the device's clock or one submission; times with the host go from feeds in the host's
memory to results there (PyTorch: from tensors on the device to a synchronized step), and those ahead too, but of runs that
are started while others are under way. A machine whose only adapter is
a software driver is refused by the binary.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

DEVICE = "cuda"
#: Time of a measurement, at least, and of work before it, in seconds, and measurements of which the median counts.
LEAST, WARM, SAMPLES = 0.03, 0.25, 7

Step = Callable[[], object]


def on_device(step: Step) -> float:
    """Median microseconds of a step, many in a row, by the device's clock."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    torch.cuda.synchronize()
    count = max(1, min(2000, int(LEAST / (time.perf_counter() - started))))
    warm = time.perf_counter()
    while time.perf_counter() - warm < WARM:
        step()
        torch.cuda.synchronize()
    times = []
    for _ in range(SAMPLES):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / count)
    return statistics.median(times)


def with_host(step: Step, runs: int = 200) -> float:
    """Median microseconds of a step that is waited for."""
    times = []
    for run in range(runs + 10):
        started = time.perf_counter()
        step()
        torch.cuda.synchronize()
        if run >= 10:
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE)


def product(m: int, n: int, k: int, turned: tuple[bool, bool] = (False, False)) -> Step:
    a = random(k, m).t() if turned[0] else random(m, k)
    b = random(n, k).t() if turned[1] else random(k, n)
    return lambda: a @ b


def fused(m: int, n: int, k: int) -> Step:
    a, b, bias, other = random(m, k), random(k, n), random(n), random(m, n)
    return lambda: functional.gelu(torch.addmm(bias, a, b)) + other


def chain(elements: int) -> Step:
    x = random(elements)

    def step() -> torch.Tensor:
        y = torch.relu(x * 1.01 + 0.5) - 0.25
        return torch.sqrt(y * y + 1.0) * 0.5

    return step


def of(function: Callable[[torch.Tensor], object], *shape: int) -> Step:
    x = random(*shape)
    return lambda: function(x)


def copy(elements: int) -> Step:
    x, y = random(elements), random(elements)
    return lambda: y.copy_(x)


def layer_norm(rows: int, cols: int) -> Step:
    x, scale, shift = random(rows, cols), random(cols), random(cols)
    return lambda: functional.layer_norm(x, (cols,), scale, shift)


def train_step(model: nn.Module, x: torch.Tensor, y: torch.Tensor, decay: float = 0.0) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=decay)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def mlp(*sizes: int) -> Step:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(DEVICE)
    return train_step(model, random(128, sizes[0]), torch.randint(0, sizes[-1], (128,), device=DEVICE))


def resnet18(train: bool, channels_last: bool) -> Step:
    import torchvision

    model, x = torchvision.models.resnet18().to(DEVICE), random(16, 3, 224, 224)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if train:
        return train_step(model, x, torch.randint(0, 1000, (16,), device=DEVICE), 1e-4)
    model.eval()

    def step() -> torch.Tensor:
        with torch.no_grad():
            return model(x)

    return step


#: By name: what makes a step, and whether it is measured with the host too. Several ways of one name have a suffix.
WORK: dict[str, tuple[Callable[[], Step], bool]] = {
    "gemm_nn": (lambda: product(4096, 4096, 4096), False),
    "gemm_nt": (lambda: product(4096, 4096, 4096, (False, True)), False),
    "gemm_tn": (lambda: product(4096, 4096, 4096, (True, False)), False),
    "gemm_plain": (lambda: product(4096, 4096, 1024), False),
    "gemm_fused": (lambda: fused(4096, 4096, 1024), False),
    "gemm_1024": (lambda: product(1024, 1024, 1024), False),
    "gemm_512": (lambda: product(512, 512, 512), False),
    "gemm_64": (lambda: product(64, 4096, 4096), False),
    "copy": (lambda: copy(1 << 28), False),
    "scale": (lambda: of(lambda x: x * 1.0001, 1 << 28), False),
    "chain_8": (lambda: chain(1 << 28), False),
    "softmax": (lambda: of(lambda x: torch.softmax(x, 1), 8192, 4096), False),
    "softmax_50k": (lambda: of(lambda x: torch.softmax(x, 1), 1024, 50_000), False),
    "layer_norm": (lambda: layer_norm(8192, 4096), False),
    "column_sum": (lambda: of(lambda x: x.sum(0), 1 << 19, 512), False),
    "full_sum": (lambda: of(lambda x: x.sum(), 1 << 19, 512), False),
    "mlp": (lambda: mlp(784, 256, 128, 10), True),
    "mlp_784": (lambda: mlp(784, 512, 512, 10), True),
    "resnet18": (lambda: resnet18(False, False), True),
    "resnet18/channels_last": (lambda: resnet18(False, True), True),
    "resnet18_step": (lambda: resnet18(True, False), True),
    "resnet18_step/channels_last": (lambda: resnet18(True, True), True),
}


def graphc(bench: str, names: list[str]) -> tuple[str, dict[str, dict[str, float]]]:
    lines = subprocess.run([bench, *names], capture_output=True, text=True, check=False)
    if lines.returncode:
        sys.exit(lines.stderr)
    documents = [json.loads(line) for line in lines.stdout.splitlines()]
    for document in documents:
        if "error" in document:
            print(f"{document['name']}: {document['error'][:300]}", file=sys.stderr)
    return documents[0]["adapter"], {d["name"]: d for d in documents[1:] if "error" not in d}


def peer(names: list[str]) -> dict[str, dict[str, float]]:
    found = {}
    for name, (make, host) in WORK.items():
        if names and not any(name.startswith(wanted) for wanted in names):
            continue
        step = make()
        found[name] = {"device_us": on_device(step)}
        if host:
            found[name]["host_us"] = with_host(step)
        del step
        torch.cuda.empty_cache()
    return found


def median(rounds: list[dict[str, dict[str, float]]], name: str, key: str) -> float | None:
    values = [found[name][key] for found in rounds if key in found.get(name, {})]
    return statistics.median(values) if values else None


def report(ours: list[dict[str, dict[str, float]]], theirs: list[dict[str, dict[str, float]]]) -> None:
    print(f"{'':28} {'graphc us':>11} {'PyTorch us':>11} {'ratio':>6}  what")
    names = list(dict.fromkeys([*WORK, *(name for found in ours for name in found)]))
    for name in names:
        for key, what in (("device_us", "device"), ("host_us", "host"), ("ahead_us", "ahead")):
            own, other = median(ours, name.split("/")[0], key), median(theirs, name, key)
            if own is None and other is None:
                continue
            extra = [f"{k} {median(ours, name, k):.1f}" for k in ("tflops", "gb_s") if median(ours, name, k)]
            ratio = f"{other / own:6.2f}" if own and other else " " * 6
            shown = [f"{value:11.1f}" if value else " " * 11 for value in (own, other)]
            print(f"{name:28} {shown[0]} {shown[1]} {ratio}  {what} {' '.join(extra) if what == 'device' else ''}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    parser.add_argument("names", nargs="*", help="what names begin with; everything if none is given")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    ours, theirs = [], []
    own_names = [name for name in options.names if name != "copy"]
    for done in range(1, options.rounds + 1):
        adapter, found = graphc(options.bench, own_names)
        ours.append(found)
        theirs.append(peer(options.names))
        # What was measured is there even if the rest is cut off.
        print(f"{adapter}; PyTorch {torch.__version__} on {torch.cuda.get_device_name()}; medians of {done} rounds")
        report(ours, theirs)
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump({"adapter": adapter, "graphc": ours, "torch": theirs}, file, indent=1)


if __name__ == "__main__":
    main()
