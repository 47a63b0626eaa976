"""Writes ../convolution.json: results and gradients of operations of convolutional networks, computed by PyTorch in float64.

    {"cases": [{"name": "conv_0_2d", "op": "conv", "attrs": {"strides": [2, 1]},
                "in": {"x": TENSOR, "w": TENSOR}, "out": {"y": TENSOR}, "cotangent": {"y": TENSOR},
                "grad": {"x": TENSOR, "w": TENSOR}}, ...]}

Tensors, `cotangent` and `grad` are as in make_ops.py. `op` and `attrs` are graphc's; inputs and outputs stand in the order
of the operation's operands and results, of which the last may be left out. Float inputs and cotangents are multiples of
1/8, so float32 and float64 hold the same numbers; what is computed is rounded to ten digits.

PyTorch has channels first. Every case runs there; in those whose attrs have the layout channels_last all images and
filters were transposed afterwards.

Needs torch and numpy:  python convolution.py
Written with torch 2.15.0, numpy 2.4.6.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

OUT = Path(__file__).resolve().parent.parent / "convolution.json"

random = np.random.default_rng(1998)


def draw(*shape, scale=1.0):
    """Normal numbers, rounded to multiples of 1/8, that take a gradient."""
    values = np.round(random.standard_normal(shape) * scale * 8) / 8
    return torch.tensor(values + 0.0, dtype=torch.float64, requires_grad=True)


def distinct(*shape):
    """Multiples of 1/8 in random order, no two alike."""
    count = int(np.prod(shape))
    values = (random.permutation(count) - count // 2) / 8
    return torch.tensor(values.reshape(shape), dtype=torch.float64, requires_grad=True)


def tied(*shape):
    """Few numbers, so that many are equal."""
    return torch.tensor(random.integers(-1, 3, shape), dtype=torch.float64, requires_grad=True)


def encode(tensor, permutation=None):
    """A tensor as JSON text."""
    if permutation:
        tensor = tensor.permute(permutation)
    dtype = {torch.float64: "f64", torch.int32: "i32"}[tensor.dtype]
    dims = ",".join(map(str, tensor.shape))
    data = ",".join(f"{value + 0:.10g}" for value in tensor.detach().reshape(-1).tolist())
    return f'{{"type":"{dtype}[{dims}]","data":[{data}]}}'


def last(name, tensor):
    """The order of the axes in channels_last; vectors of channels stay."""
    axes = list(range(tensor.ndim))
    if tensor.ndim < 3:
        return axes
    return [*axes[2:], 1, 0] if name == "w" else [0, *axes[2:], 1]


def case(name, op, attrs, inputs, outputs, still=()):
    """One case: draws a cotangent for every float output but `still`, and differentiates."""
    flowing = {
        key: draw(*out.shape).detach()
        for key, out in outputs.items()
        if out.dtype.is_floating_point and key not in still
    }
    leaves = {key: tensor for key, tensor in inputs.items() if tensor.requires_grad}
    ends = [outputs[key] for key in flowing]
    grads = torch.autograd.grad(ends, list(leaves.values()), list(flowing.values()), retain_graph=True)

    def group(tensors):
        permuted = attrs.get("layout") == "channels_last"
        one = (f'"{key}":{encode(t, last(key, t) if permuted else None)}' for key, t in tensors.items())
        return "{" + ",".join(one) + "}"

    parts = {
        "name": json.dumps(name),
        "op": json.dumps(op),
        "attrs": json.dumps(attrs, separators=(",", ":")),
        "in": group(inputs),
        "out": group(outputs),
        "cotangent": group(flowing),
        "grad": group(dict(zip(leaves, grads, strict=True))),
    }
    return "{" + ",".join(f'"{key}":{value}' for key, value in parts.items()) + "}"


def present(**attrs):
    """Attributes without those of no effect."""
    dull = {"strides": 1, "dilations": 1, "pads_lo": 0, "pads_hi": 0, "output_pads": 0}
    return {
        key: value
        for key, value in attrs.items()
        if value is not None and not (key in dull and all(v == dull[key] for v in value)) and (key, value) != ("groups", 1)
    }


def pads_of(lo, hi):
    """Padding in the order of torch.nn.functional.pad: the last dim first."""
    return [side for pair in zip(reversed(lo), reversed(hi), strict=True) for side in pair]


def convolve(x, w, strides, dilations, lo, hi, groups, bias=None):
    function = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}[x.ndim]
    return function(functional.pad(x, pads_of(lo, hi)), w, bias, strides, 0, dilations, groups)


# (spatial sizes, kernel, strides, dilations, padding before, padding after)
GEOMETRIES = [
    ([6], [3], [1], [1], [0], [0]),
    ([7], [3], [2], [1], [1], [1]),
    ([8], [3], [1], [3], [2], [1]),
    ([5], [4], [3], [1], [2], [2]),
    ([5, 5], [1, 1], [1, 1], [1, 1], [0, 0], [0, 0]),
    ([5, 4], [3, 3], [1, 1], [1, 1], [1, 1], [1, 1]),
    ([5, 5], [3, 3], [2, 2], [1, 1], [1, 1], [1, 1]),
    ([5, 6], [3, 2], [2, 1], [1, 2], [0, 1], [1, 1]),
    ([7, 5], [3, 3], [1, 1], [2, 2], [2, 2], [2, 2]),
    ([7, 7], [3, 3], [3, 2], [2, 1], [1, 0], [0, 2]),
    ([4, 5], [4, 3], [1, 2], [1, 1], [2, 1], [1, 1]),
    ([3, 3], [3, 3], [1, 1], [1, 1], [0, 0], [0, 0]),
    ([4, 4], [5, 5], [1, 1], [1, 1], [2, 2], [2, 2]),
    ([5, 1], [2, 1], [2, 2], [1, 1], [0, 0], [0, 0]),
    ([6, 6], [1, 1], [2, 2], [1, 1], [0, 0], [0, 0]),
    ([3, 4, 3], [2, 2, 2], [1, 2, 1], [1, 1, 2], [0, 1, 1], [1, 1, 0]),
    ([3, 3, 2], [3, 3, 1], [2, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 0]),
]

# (input channels, output channels, groups)
CHANNELS = [(2, 3, 1), (4, 2, 2), (3, 3, 3), (2, 4, 2), (1, 2, 1), (3, 6, 3)]


def convolutions():
    """Every geometry with three kinds of channels: dense, grouped, depthwise; every third case in channels_last."""
    channels = itertools.cycle(CHANNELS)
    number = 0
    for size, kernel, strides, dilations, lo, hi in GEOMETRIES:
        for _ in range(3):
            inputs, outputs, groups = next(channels)
            x = draw(1 + number % 2, inputs, *size)
            w = draw(outputs, inputs // groups, *kernel, scale=0.5)
            layout = "channels_last" if number % 3 == 2 else None
            attrs = present(strides=strides, dilations=dilations, pads_lo=lo, pads_hi=hi, groups=groups, layout=layout)
            name = f"{number}_{len(size)}d"
            if number % 4 == 1:
                b = draw(outputs)
                y = convolve(x, w, strides, dilations, lo, hi, groups, b)
                yield case(f"conv_bias_{name}", "conv_bias", attrs, {"x": x, "w": w, "b": b}, {"y": y})
            else:
                y = convolve(x, w, strides, dilations, lo, hi, groups)
                yield case(f"conv_{name}", "conv", attrs, {"x": x, "w": w}, {"y": y})
            number += 1
        next(channels)


# (spatial sizes, kernel, strides, dilations, padding on both sides, output padding, input channels, output channels, groups)
TRANSPOSED = [
    ([4], [3], [1], [1], [0], [0], 2, 3, 1),
    ([4], [3], [2], [1], [1], [1], 2, 2, 2),
    ([3], [2], [3], [2], [0], [2], 1, 2, 1),
    ([3, 3], [3, 3], [2, 2], [1, 1], [1, 1], [1, 1], 2, 1, 1),
    ([3, 4], [2, 2], [2, 2], [1, 1], [0, 0], [0, 0], 3, 2, 1),
    ([3, 2], [4, 3], [2, 1], [1, 2], [1, 2], [0, 0], 2, 4, 2),
    ([2, 3], [3, 3], [3, 2], [2, 1], [2, 0], [1, 0], 3, 3, 3),
    ([4, 4], [1, 1], [1, 1], [1, 1], [0, 0], [0, 0], 2, 2, 1),
    ([2, 2], [3, 1], [1, 2], [1, 1], [0, 0], [0, 1], 4, 2, 2),
    ([2, 3, 2], [2, 2, 3], [2, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 0], 2, 1, 1),
]


def transposed_convolutions():
    """Filters are [C_in, C_out / groups, k..] in both."""
    for number, (size, kernel, strides, dilations, pads, extra, inputs, outputs, groups) in enumerate(TRANSPOSED):
        for layout in (None, "channels_last"):
            x = draw(1 + number % 2, inputs, *size)
            w = draw(inputs, outputs // groups, *kernel, scale=0.5)
            b = draw(outputs) if number % 2 else None
            function = getattr(functional, f"conv_transpose{len(size)}d")
            y = function(x, w, b, strides, pads, extra, groups, dilations)
            attrs = present(
                strides=strides, dilations=dilations, pads_lo=pads, pads_hi=pads, output_pads=extra, groups=groups, layout=layout,
            )
            operands = {"x": x, "w": w} | ({} if b is None else {"b": b})
            yield case(f"conv_transpose_{number}_{layout or 'first'}", "conv_transpose", attrs, operands, {"y": y})


def winner(indices, image, kernel, strides, dilations, pads):
    """Offsets in the window from PyTorch's indices of the image."""
    at = np.unravel_index(indices.numpy(), image)
    offset = np.zeros(indices.shape, dtype=np.int64)
    for d in range(len(image)):
        position = np.arange(indices.shape[2 + d]).reshape([-1 if a == 2 + d else 1 for a in range(indices.ndim)])
        tap = (at[d] + pads[d] - position * strides[d]) // dilations[d]
        offset = offset * kernel[d] + tap
    return torch.tensor(offset, dtype=torch.int32)


# (spatial sizes, kernel, strides, dilations, padding on both sides, ceil)
MAX_POOLS = [
    ([6], [2], [2], [1], [0], False),
    ([7], [3], [2], [1], [1], False),
    ([7], [2], [3], [2], [1], True),
    ([4, 4], [2, 2], [2, 2], [1, 1], [0, 0], False),
    ([5, 5], [2, 2], [2, 2], [1, 1], [0, 0], False),
    ([5, 5], [2, 2], [2, 2], [1, 1], [0, 0], True),
    ([6, 7], [3, 3], [2, 2], [1, 1], [1, 1], False),
    ([6, 7], [3, 3], [2, 2], [1, 1], [1, 1], True),
    ([5, 6], [3, 2], [1, 3], [2, 1], [1, 1], False),
    ([5, 6], [2, 3], [3, 1], [2, 2], [1, 1], True),
    ([4, 5], [3, 3], [1, 1], [1, 1], [0, 0], False),
    ([3, 5], [3, 1], [3, 4], [1, 1], [0, 0], True),
    ([3, 4, 5], [2, 2, 3], [1, 2, 2], [1, 1, 1], [1, 0, 1], False),
    ([3, 4, 3], [2, 3, 2], [2, 2, 2], [1, 1, 1], [0, 1, 0], True),
]


def max_pools():
    """Values and winners, of elements without ties and with many: the gradient goes to the first winner."""
    for number, (size, kernel, strides, dilations, pads, ceil) in enumerate(MAX_POOLS):
        for make in (distinct, tied):
            x = make(1 + number % 2, 2, *size)
            function = getattr(functional, f"max_pool{len(size)}d")
            y, indices = function(x, kernel, strides, pads, dilations, ceil, return_indices=True)
            layout = "channels_last" if number % 3 == 2 else None
            attrs = present(
                kernel=kernel, strides=strides, dilations=dilations, pads_lo=pads, pads_hi=pads, ceil=ceil or None, layout=layout,
            )
            outputs = {"y": y, "winner": winner(indices, size, kernel, strides, dilations, pads)}
            yield case(f"max_pool_{number}_{make.__name__}", "max_pool", attrs, {"x": x}, outputs)


def max_unpools():
    """The values of a pool back at its winners; windows do not overlap."""
    pools = (
        ([6], [2], [0], None),
        ([7], [3], [1], [8]),
        ([4, 6], [2, 3], [0, 0], None),
        ([5, 5], [2, 2], [0, 0], [5, 5]),
        ([4, 2, 4], [2, 1, 2], [0, 0, 0], None),
    )
    for number, (size, kernel, pads, full) in enumerate(pools):
        x = distinct(2, 2, *size)
        pool = getattr(functional, f"max_pool{len(size)}d")
        y, indices = pool(x, kernel, kernel, pads, return_indices=True)
        layout = "channels_last" if number % 2 else None
        back = draw(*y.shape)
        unpool = getattr(functional, f"max_unpool{len(size)}d")
        ones = [1] * len(size)
        if full and full != size:
            # Indices count over the image that was pooled.
            indices = torch.tensor(np.ravel_multi_index(np.unravel_index(indices.numpy(), size), full))
        image = unpool(back, indices, kernel, kernel, pads, full or size)
        attrs = present(kernel=kernel, strides=kernel, pads_lo=pads, pads_hi=pads, size=full, layout=layout)
        places = winner(indices, full or size, kernel, kernel, ones, pads)
        yield case(f"max_unpool_{number}", "max_unpool", attrs, {"x": back, "winner": places}, {"y": image})


# (spatial sizes, kernel, strides, padding on both sides, ceil)
AVG_POOLS = [
    ([6], [2], [2], [0], False),
    ([7], [3], [2], [1], True),
    ([4, 4], [2, 2], [2, 2], [0, 0], False),
    ([5, 5], [2, 2], [2, 2], [0, 0], True),
    ([5, 4], [3, 3], [1, 1], [1, 1], False),
    ([6, 5], [3, 2], [2, 2], [1, 1], False),
    ([6, 5], [3, 2], [2, 2], [1, 1], True),
    ([5, 6], [4, 3], [3, 2], [2, 1], True),
    ([3, 3], [3, 3], [1, 1], [0, 0], False),
    ([3, 4, 3], [2, 3, 2], [2, 2, 2], [1, 1, 0], True),
]


def avg_pools():
    """Divided by elements with padding or without."""
    for number, (size, kernel, strides, pads, ceil) in enumerate(AVG_POOLS):
        for count_pad in (True, False):
            x = draw(1 + number % 2, 2, *size)
            function = getattr(functional, f"avg_pool{len(size)}d")
            y = function(x, kernel, strides, pads, ceil, count_pad)
            layout = "channels_last" if number % 3 == 1 else None
            attrs = present(
                kernel=kernel, strides=strides, pads_lo=pads, pads_hi=pads, ceil=ceil or None, layout=layout,
                count_pad=None if count_pad else False,
            )
            yield case(f"avg_pool_{number}_{'all' if count_pad else 'inside'}", "avg_pool", attrs, {"x": x}, {"y": y})


def adaptive_pools():
    """Parts that divide the image, parts that do not, more parts than elements, and one part."""
    sizes = (
        ([6], [3]), ([7], [3]), ([4, 6], [2, 3]), ([5, 7], [3, 2]), ([5, 4], [1, 1]), ([3, 4], [5, 2]), ([4, 5], [4, 1]),
        ([3, 5, 2], [2, 3, 2]),
    )
    for number, (size, parts) in enumerate(sizes):
        layout = "channels_last" if number % 2 else None
        for kind in ("avg", "max"):
            x = draw(1 + number % 2, 2, *size) if kind == "avg" else tied(1 + number % 2, 2, *size)
            y = getattr(functional, f"adaptive_{kind}_pool{len(size)}d")(x, parts)
            attrs = present(size=parts, layout=layout)
            yield case(f"adaptive_{kind}_pool_{number}", f"adaptive_{kind}_pool", attrs, {"x": x}, {"y": y})
            if all(part == 1 for part in parts):
                attrs = present(layout=layout)
                yield case(f"global_{kind}_pool", f"global_{kind}_pool", attrs, {"x": x}, {"y": y})


def normalizations():
    """local_response_norm over odd, even and large neighbourhoods; batch_norm over 1 to 3 spatial dims."""
    neighbourhoods = (
        ((2, 5, 3), 3, 1e-4, 0.75, 1.0),
        ((1, 6, 3, 2), 5, 1.0, 0.75, 2.0),
        ((2, 4, 2, 2), 4, 0.5, 0.5, 1.0),
        ((1, 3, 2, 3), 7, 2.0, 1.0, 0.5),
        ((1, 4, 2, 1, 2), 2, 1.0, 0.75, 1.0),
    )
    for number, (shape, size, alpha, beta, k) in enumerate(neighbourhoods):
        x = draw(*shape, scale=2.0)
        y = functional.local_response_norm(x, size, alpha, beta, k)
        attrs = present(size=size, alpha=alpha, beta=beta, k=k, layout="channels_last" if number % 2 else None)
        yield case(f"local_response_norm_{number}", "local_response_norm", attrs, {"x": x}, {"y": y})
    for shape in ((3, 2, 5), (2, 3, 3, 4), (2, 2, 2, 3, 2), (1, 2, 3, 3)):
        for epsilon in (1e-5, 0.125):
            x, gamma, beta = draw(*shape, scale=2.0), draw(shape[1]), draw(shape[1])
            mean, variance = draw(shape[1]), draw(shape[1]).detach().abs() + 0.5
            variance.requires_grad_()
            name = f"{len(shape) - 2}d_{shape[0]}_{epsilon}"
            y = functional.batch_norm(x, None, None, gamma, beta, True, 0.0, epsilon)
            axes = [axis for axis in range(x.ndim) if axis != 1]
            batch_variance, batch_mean = torch.var_mean(x, axes, correction=0)
            operands = {"x": x, "gamma": gamma, "beta": beta}
            outputs = {"y": y, "mean": batch_mean, "variance": batch_variance}
            yield case(f"batch_norm_{name}", "batch_norm", {"axis": 1, "eps": epsilon}, operands, outputs)
            y = functional.batch_norm(x, mean.detach(), variance.detach(), gamma, beta, False, 0.0, epsilon)
            operands |= {"mean": mean.detach(), "variance": variance.detach()}
            attrs = {"axis": 1, "eps": epsilon}
            yield case(f"batch_norm_inference_{name}", "batch_norm_inference", attrs, operands, {"y": y})


def upsamplings():
    """torch.nn.functional.interpolate by integer factors."""
    factors = (([4], [2]), ([3], [3]), ([3, 4], [2, 2]), ([2, 3], [3, 1]), ([1, 3], [2, 4]), ([2, 1, 3], [2, 2, 2]))
    for number, (size, scale) in enumerate(factors):
        linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
        for mode, corners in (("nearest", None), ("linear", False), ("linear", True)):
            x = draw(1 + number % 2, 2, *size)
            # Sizes and not factors, so that PyTorch takes the ratio of the sizes in both.
            full = [n * s for n, s in zip(size, scale, strict=True)]
            y = functional.interpolate(x, full, mode=mode if mode == "nearest" else linear, align_corners=corners)
            layout = "channels_last" if number % 2 else None
            attrs = present(scale=scale, mode=mode, align_corners=corners or None, layout=layout)
            yield case(f"upsample_{number}_{mode}{'_corners' if corners else ''}", "upsample", attrs, {"x": x}, {"y": y})


def paddings():
    """Padding modes, over the spatial axes."""
    for size, lo, hi in (([5], [2], [4]), ([4, 3], [1, 2], [3, 0]), ([3, 2, 3], [1, 0, 2], [2, 1, 1])):
        for mode in ("reflect", "replicate", "circular"):
            x = draw(2, 1, *size)
            y = functional.pad(x, pads_of(lo, hi), mode=mode)
            attrs = {"lo": [0, 0, *lo], "hi": [0, 0, *hi], "mode": mode}
            yield case(f"pad_{len(size)}d_{mode}", "pad_mode", attrs, {"x": x}, {"y": y})


def facts():
    """What the backward passes of the classic layers do: relu lets pass where the input was positive, 0 not included;
    a max pool sends to the winner, the first of equal ones."""
    x = torch.tensor([[-2.0, -0.125, 0.0, 0.125, 3.0]], dtype=torch.float64, requires_grad=True)
    yield case("relu_passes_where_positive", "relu", {}, {"x": x}, {"y": torch.relu(x)})
    x = torch.tensor([[[[1.0, 2.0, 5.0, 5.0], [4.0, 3.0, 5.0, 5.0]]]], dtype=torch.float64, requires_grad=True)
    y, indices = functional.max_pool2d(x, 2, return_indices=True)
    outputs = {"y": y, "winner": winner(indices, [2, 4], [2, 2], [2, 2], [1, 1], [0, 0])}
    yield case("max_pool_sends_to_the_winner", "max_pool", {"kernel": [2, 2], "strides": [2, 2]}, {"x": x}, outputs)


def uneven_pools():
    """Padding that differs between the sides, put there before the pool."""
    pools = (
        ([5], [3], [2], [2], [0]),
        ([4, 5], [3, 2], [2, 2], [0, 1], [2, 0]),
        ([3, 2, 3], [2, 2, 3], [1, 1, 2], [1, 0, 2], [0, 1, 0]),
    )
    for number, (size, kernel, strides, lo, hi) in enumerate(pools):
        layout = "channels_last" if number % 2 else None
        attrs = present(kernel=kernel, strides=strides, pads_lo=lo, pads_hi=hi, layout=layout)
        x = draw(2, 2, *size)
        y = getattr(functional, f"avg_pool{len(size)}d")(functional.pad(x, pads_of(lo, hi)), kernel, strides)
        yield case(f"avg_pool_uneven_{number}", "avg_pool", attrs, {"x": x}, {"y": y})
        x = tied(2, 2, *size)
        padded = functional.pad(x, pads_of(lo, hi), value=-torch.inf)
        y, indices = getattr(functional, f"max_pool{len(size)}d")(padded, kernel, strides, return_indices=True)
        ones, none = [1] * len(size), [0] * len(size)
        outputs = {"y": y, "winner": winner(indices, list(padded.shape[2:]), kernel, strides, ones, none)}
        yield case(f"max_pool_uneven_{number}", "max_pool", attrs, {"x": x}, outputs)


def main():
    groups = (
        convolutions, transposed_convolutions, max_pools, max_unpools, avg_pools, adaptive_pools, normalizations,
        upsamplings, paddings, facts, uneven_pools,
    )
    lines = [c for group in groups for c in group()]
    OUT.write_text('{"cases": [\n' + ",\n".join(lines) + "\n]}\n", encoding="ascii")
    print(len(lines), "cases,", OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
