"""Writes ../element_types.json: casts between all element types, integers of every type, edge values, labels, lengths and indices.

    {"cases": [{"name": "cast i8 f16", "op": "cast", "attrs": {"to": "f16"}, "in": {"x": TENSOR}, "out": {"y": TENSOR},
                "cotangent": {"y": TENSOR}, "grad": {"x": TENSOR}, "units": 0}, ...]}

A tensor is {"type": "i8[3]", "data": [...]}, or {"type": "f64[2,300]", "fill": [0], "at": {"7": 1.5}}: `fill` again and
again, but for the elements listed by their row-major index. Non-finite numbers are text. `op` and `attrs` are graphc's; inputs and
outputs stand in the order of the operation's operands and results; operations without gradients have no cotangents.
`units` is how far a result may be off, in units in the last place of its type.

What numbers of one type are in another is computed with Python's integers and fractions, and compared with NumPy and
ml_dtypes where those round once. Integer functions are Python's integers, wrapped, and NumPy's where it defines them. Float
functions are NumPy's. Labels and lengths are PyTorch's in float64, which takes int64 alone: the same numbers are written as
labels of every type.

Needs torch, numpy and ml_dtypes:  python element_types.py
Written with torch 2.15.0, numpy 2.4.6, ml_dtypes 0.6.0.
"""

import collections
import itertools
import json
import math
import operator
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

OUT = Path(__file__).resolve().parent.parent / "element_types.json"

INTS = {f"{sign}{bits}": (sign == "i", bits) for bits in (8, 16, 32, 64) for sign in "iu"}
# Bits of the fraction, exponents of the smallest normal and of the largest numbers.
FLOATS = {"f64": (52, -1022, 1023), "f32": (23, -126, 127), "f16": (10, -14, 15), "bf16": (7, -126, 127)}
NUMPY = {"f64": np.float64, "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "bool": np.bool_} | {
    name: np.dtype(("int" if signed else "uint") + str(bits)).type for name, (signed, bits) in INTS.items()
}
cases = []


def limits(dtype):
    signed, bits = INTS[dtype]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def wrap(value, dtype):
    low, high = limits(dtype)
    return (value - low) % (high - low + 1) + low


def rounded(value, dtype):
    """A Python float or integer as the nearest number of a float type, which a Python float holds."""
    if isinstance(value, float) and (not math.isfinite(value) or value == 0):
        return value
    exact, (fraction, least, most) = Fraction(value), FLOATS[dtype]
    if exact == 0:
        return 0.0
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, least) - fraction)
    # round() of a fraction goes to the nearest integer, halves to even.
    result = round(magnitude / unit) * unit
    result = math.inf if result >= Fraction(2) ** (most + 1) else float(result)
    return math.copysign(result, exact)


def cast(value, source, target):
    """A number of one type in another, by the rules of graphc."""
    if target == "bool":
        return bool(value != 0)
    if target in FLOATS:
        return rounded(float(value) if source in FLOATS else int(value), target)
    low, high = limits(target)
    if source in FLOATS:
        if math.isnan(value):
            return 0
        return high if value == math.inf else low if value == -math.inf else min(max(math.trunc(value), low), high)
    return wrap(int(value), target)


def element(value):
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    value = float(value)
    if math.isnan(value):
        return '"nan"'
    return f'"{value}"' if math.isinf(value) else repr(value)


def tensor(dtype, values, shape=None):
    dims = ",".join(map(str, [len(values)] if shape is None else shape))
    return f'{{"type":"{dtype}[{dims}]","data":[{",".join(map(element, values))}]}}'


def filled(dtype, shape, fill, at):
    dims, at = ",".join(map(str, shape)), ",".join(f'"{i}":{element(v)}' for i, v in at.items())
    fill = ",".join(map(element, fill))
    return f'{{"type":"{dtype}[{dims}]","fill":[{fill}],"at":{{{at}}}}}'


def compact(dtype, values, shape):
    """The shorter of the two forms."""
    values = list(values)
    width = shape[-1] if shape and shape[-1] <= 3 else 1
    fill = [collections.Counter(values[i::width]).most_common(1)[0][0] if values else 0 for i in range(width)]
    at = {i: v for i, v in enumerate(values) if element(v) != element(fill[i % width])}
    return filled(dtype, shape, fill, at) if len(at) * 2 < len(values) else tensor(dtype, values, shape)


def case(name, op, attrs, inputs, outputs, cotangent=None, grad=None, units=0):
    def group(tensors):
        return "{" + ",".join(f'"{key}":{text}' for key, text in (tensors or {}).items()) + "}"

    parts = {"name": json.dumps(name), "op": json.dumps(op), "attrs": json.dumps(attrs, separators=(",", ":"))}
    parts |= {"in": group(inputs), "out": group(outputs), "cotangent": group(cotangent), "grad": group(grad)}
    cases.append("{" + ",".join(f'"{key}":{value}' for key, value in parts.items()) + f',"units":{units}' + "}")


def edges(dtype):
    """Numbers of a type where conversions go wrong. Subnormal ones are left out: devices may flush them."""
    if dtype == "bool":
        return [False, True]
    if dtype in INTS:
        low, high = limits(dtype)
        powers = [1 << b for b in (7, 8, 11, 15, 16, 24, 31, 32, 53, 62, 63)]
        near = [p + d for p in powers for d in (-1, 0, 1)] + [-p + d for p in powers for d in (-1, 0, 1)]
        # Beside the middle of two numbers of bf16, f16, f32 and f64.
        near += [(1 << top) + (1 << middle) + d for top, middle in ((8, 0), (11, 0), (30, 22), (62, 54), (62, 38), (62, 9)) for d in (-1, 0, 1)]
        return [low, low + 1, high - 1, high, 0, 1] + sorted({v for v in near if low < v < high and v not in (0, 1)})
    fraction, least, most = FLOATS[dtype]
    largest = float((2 - Fraction(2) ** -fraction) * Fraction(2) ** most)
    values = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.1, -3.7, math.inf, -math.inf, math.nan, largest, -largest]
    values += [2.0**least, 127.5, 128.0, 255.5, 256.0, -128.5, -129.0, 32767.5, 65535.5, 65519.0, 65520.0, -65520.0]
    values += [s * 2.0**b for b in (31, 32, 63, 64) for s in (1, -1)] + [2.0**31 - 1, 2.0**24 + 1, 2.0**53 - 1]
    for bits in (7, 10, 23):
        middle = 1 + 2.0 ** -(bits + 1)
        values += [middle, math.nextafter(middle, 2), math.nextafter(middle, 0), middle + 2.0**-25, middle - 2.0**-25]
        values += [-middle, math.nextafter(middle + 2.0**-bits, 2), middle + 2.0**-bits]
    values += [2.0**128 - 2.0**119, math.nextafter(2.0**128 - 2.0**119, 0), 2.0**128 - 2.0**103]
    held = [v for v in values if not math.isfinite(v) or rounded(v, dtype) == v]
    return list({element(v): v for v in held}.values())


def casts():
    for source, target in itertools.product(NUMPY, NUMPY):
        values = edges(source)
        results = [cast(v, source, target) for v in values]
        # Conversions that NumPy and ml_dtypes define and round once.
        sure = source == "bool" or target in ("bool", "f64", "f32") or (source, target) in {("f64", "f16"), ("f32", "f16"), ("f32", "bf16")}
        sure = sure or source in INTS and target in INTS
        if sure:
            with np.errstate(all="ignore"):
                theirs = np.array(values, dtype=NUMPY[source]).astype(NUMPY[target])
            for value, ours, other in zip(values, results, theirs.tolist(), strict=True):
                assert ours == other or ours != ours and other != other, (source, target, value, ours, other)
        case(f"cast {source} {target}", "cast", {"to": target}, {"x": tensor(source, values)}, {"y": tensor(target, results)})


def quotient(a, b):
    if b == 0:
        return 0
    return int(math.copysign(1, a) * math.copysign(1, b)) * (abs(a) // abs(b))


INTEGER = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": quotient,
    "rem": lambda a, b: 0 if b == 0 else a - b * quotient(a, b),
    "max": max,
    "min": min,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "neg": operator.neg,
    "abs": abs,
    "sign": lambda a: (a > 0) - (a < 0),
    "relu": lambda a: max(a, 0),
    "not": operator.invert,
}
SAME_IN_NUMPY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "neg": np.negative}
SAME_IN_NUMPY |= {"and": np.bitwise_and, "xor": np.bitwise_xor, "not": np.invert, "sign": np.sign, "abs": np.abs, "lt": np.less}


def integers():
    for dtype, (_, bits) in INTS.items():
        low, high = limits(dtype)
        few = sorted({low, low + 1, -3 if low else 3, -1 if low else 5, 0, 1, 2, 7, high // 2 + 1, high - 1, high})
        for name, function in INTEGER.items():
            unary = name in ("neg", "abs", "sign", "relu", "not")
            points = [(v,) for v in edges(dtype)] if unary else list(itertools.product(few, few))
            results = [function(*p) for p in points]
            compares = name in ("eq", "ne", "lt", "le", "gt", "ge")
            results = [bool(r) if compares else wrap(r, dtype) for r in results]
            operands = [list(column) for column in zip(*points, strict=True)]
            if name in SAME_IN_NUMPY:
                with np.errstate(all="ignore"):
                    theirs = SAME_IN_NUMPY[name](*(np.array(c, dtype=NUMPY[dtype]) for c in operands))
                assert theirs.tolist() == results, (name, dtype)
            inputs = {key: tensor(dtype, column) for key, column in zip("xy", operands)}
            case(f"{name} {dtype}", name, {}, inputs, {"z": tensor("bool" if compares else dtype, results)})
        shifts = [s for s in (-1, 0, 1, 3, bits - 1, bits, bits + 1, high) if low <= s]
        points = list(itertools.product(few, shifts))
        for name, shift in (("shl", operator.lshift), ("shr", operator.rshift)):
            results = [wrap(shift(a, s), dtype) if 0 <= s < bits else 0 for a, s in points]
            inputs = {"x": tensor(dtype, [p[0] for p in points]), "y": tensor(dtype, [p[1] for p in points])}
            case(f"{name} {dtype}", name, {}, inputs, {"z": tensor(dtype, results)})
        many = [int(v) for v in np.random.default_rng(bits).integers(low, high, 300, dtype=NUMPY[dtype], endpoint=True)]
        for kind, start, join in (("sum", 0, operator.add), ("prod", 1, operator.mul), ("max", low, max), ("min", high, min)):
            for values in (many, [], [high] * 5, [low] * 3):
                result = start
                for v in values:
                    result = wrap(join(result, v), dtype)
                attrs = {"kind": kind, "axes": [0]}
                case(f"reduce {kind} {len(values)} {dtype}", "reduce", attrs, {"x": tensor(dtype, values)}, {"y": tensor(dtype, [result], [])})
        for kind, best in (("max", max), ("min", min)):
            values = [many[0], high, low, high, low, many[1]]
            attrs = {"kind": kind, "axis": 0}
            case(f"arg {kind} {dtype}", "arg_reduce", attrs, {"x": tensor(dtype, values)}, {"i": tensor("i64", [values.index(best(values))], [])})
        for index in ("i32", "i64"):
            at = [2, 0, 2, 2, 4, 0]
            base, updates = many[:5], many[5:11]
            inputs = {"x": tensor(dtype, base), "i": tensor(index, at)}
            case(f"gather {dtype} by {index}", "gather", {"axis": 0}, inputs, {"y": tensor(dtype, [base[i] for i in at])})
            added = list(base)
            for i, u in zip(at, updates, strict=True):
                added[i] = wrap(added[i] + u, dtype)
            theirs = np.array(base, dtype=NUMPY[dtype])
            np.add.at(theirs, at, np.array(updates, dtype=NUMPY[dtype]))
            assert theirs.tolist() == added
            case(f"scatter {dtype} by {index}", "scatter_add", {"axis": 0}, inputs | {"u": tensor(dtype, updates)}, {"y": tensor(dtype, added)})
        case(f"iota {dtype}", "iota", {"dtype": dtype, "dims": [128], "axis": 0}, {}, {"y": tensor(dtype, list(range(128)))})


def extreme(function, sign):
    """IEEE 754-2019's maximum and minimum: +0 is above -0, which NumPy leaves open."""

    def of(x, y):
        both = (x == 0) & (y == 0)
        positive = np.signbit(x) & np.signbit(y) if sign > 0 else np.signbit(x) | np.signbit(y)
        zero = np.where(positive, np.asarray(-0.0, x.dtype), np.asarray(0.0, x.dtype))
        return np.where(both, zero, function(x, y))

    return of


FLOAT = {
    "add": (np.add, 0), "sub": (np.subtract, 0), "mul": (np.multiply, 0), "div": (np.divide, 2.5), "rem": (np.fmod, 1),
    "max": (extreme(np.maximum, 1), 0), "min": (extreme(np.minimum, -1), 0), "eq": (np.equal, 0), "ne": (np.not_equal, 0), "lt": (np.less, 0),
    "le": (np.less_equal, 0), "gt": (np.greater, 0), "ge": (np.greater_equal, 0), "neg": (np.negative, 0), "abs": (np.abs, 0),
    "floor": (np.floor, 0), "ceil": (np.ceil, 0), "round": (np.rint, 0), "sqrt": (np.sqrt, 1), "exp": (np.exp, 2),
    "expm1": (np.expm1, 4), "log": (np.log, 2), "log1p": (np.log1p, 4), "tanh": (np.tanh, 4), "recip": (np.reciprocal, 2.5),
}
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")


def floats():
    for dtype in FLOATS:
        largest = max(v for v in edges(dtype) if math.isfinite(v))
        few = [0.0, -0.0, 1.0, -1.0, 1.5, -2.5, math.inf, -math.inf, math.nan, largest, -largest, 2.0 ** (FLOATS[dtype][1] + 3)]
        for name, (function, units) in FLOAT.items():
            binary = name in ("max", "min") or function.nin == 2
            if binary:
                points = list(itertools.product(few, few))
            else:
                points = [(v,) for v in edges(dtype) + [0.25, 3.0, -7.25, 88.0, -88.0]]
            # Halves are computed in f32, here as there.
            wide = np.float64 if dtype == "f64" else np.float32
            operands = [np.array(column, dtype=np.float64) for column in zip(*points, strict=True)]
            with np.errstate(all="ignore"):
                found = function(*operands)
                if name not in COMPARE:
                    exact = function(*(c.astype(wide) for c in operands)) if units == 0 else found
                    found = np.array([cast(float(v), "f64", dtype) for v in np.asarray(exact, dtype=np.float64).astype(wide)])
            keep = [i for i, v in enumerate(found) if name in COMPARE or v == 0 or not abs(v) < 2.0 ** FLOATS[dtype][1]]
            # A quotient of huge numbers has more bits than a remainder can be taken of at once.
            inputs = {key: tensor(dtype, [float(column[i]) for i in keep]) for key, column in zip("xy", operands)}
            result = [found[i] if name in COMPARE else float(found[i]) for i in keep]
            narrow = dtype in ("f16", "bf16")
            case(f"{name} {dtype}", name, {}, inputs, {"z": tensor("bool" if name in COMPARE else dtype, result)}, units=min(units, 1) if narrow else units)
        rows = [[1.0, math.nan, 3.0], [3.0, 1.0, 3.0], [-math.inf, -math.inf, math.inf], [math.nan, math.nan, 1.0], [-1.0, -1.0, -2.0]]
        flat = [v for row in rows for v in row]
        for kind, function in (("max", np.argmax), ("min", np.argmin)):
            attrs = {"kind": kind, "axis": 1}
            result = [int(function(row)) for row in rows]
            case(f"arg {kind} {dtype}", "arg_reduce", attrs, {"x": tensor(dtype, flat, [5, 3])}, {"i": tensor("i64", result)})
        for kind, function in (("sum", np.sum), ("prod", np.prod), ("max", np.max), ("min", np.min)):
            with np.errstate(all="ignore"):
                result = [rounded(float(function(row)), dtype) for row in rows]
            case(f"reduce {kind} {dtype}", "reduce", {"kind": kind, "axes": [1]}, {"x": tensor(dtype, flat, [5, 3])}, {"y": tensor(dtype, result)})


def labels():
    """Cross entropy where the classes or the rows are more than the labels' type counts."""
    generator = np.random.default_rng(8)
    for dtype, (_, bits) in INTS.items():
        sizes = {8: [(2, 300), (127, 2), (128, 2), (200, 3), (256, 2), (300, 2)], 16: [(1, 66000), (33000, 2)]}.get(bits, [(3, 300), (300, 2)])
        for rows, classes in sizes:
            top = min(classes - 1, limits(dtype)[1])
            # Most labels are alike, so that most losses and gradients are.
            at = [min(1, top)] * rows
            for i, v in zip(generator.integers(0, rows, 4), generator.integers(0, top, 4, endpoint=True)):
                at[i] = int(v)
            at[-1], at[0] = 0, top
            raised = {int(i): float(v) for i, v in zip(generator.integers(0, rows * classes, 5), (0.5, -1.25, 2.0, 3.0, -0.75))}
            logits = np.zeros(rows * classes)
            for i, v in raised.items():
                logits[i] = v
            x = torch.tensor(logits.reshape(rows, classes), requires_grad=True)
            for reduction in ("mean", "sum", "none"):
                loss = functional.cross_entropy(x, torch.tensor(at, dtype=torch.int64), reduction=reduction)
                seed = torch.ones_like(loss)
                (gradient,) = torch.autograd.grad(loss, x, seed)
                if reduction == "none" and rows > 1000 or reduction == "sum" and classes > 1000:
                    continue
                inputs = {"logits": filled("f64", [rows, classes], [0.0], raised), "labels": compact(dtype, at, [rows])}
                shape = list(loss.shape)
                values = [float(f"{v:.12g}") for v in gradient.reshape(-1).tolist()]
                out = {"loss": compact("f64", [float(f"{v:.12g}") for v in loss.detach().reshape(-1).tolist()], shape)}
                flow = {"loss": filled("f64", shape, [1.0], {})}
                name = f"cross_entropy {reduction} {rows}x{classes} {dtype}"
                case(name, "cross_entropy", {"reduction": reduction}, inputs, out, flow, {"logits": compact("f64", values, [rows, classes])}, 1e5)


def lengths():
    """A network over sequences of some lengths."""
    generator = np.random.default_rng(9)
    weights = [np.round(generator.standard_normal(2) * 16) / 16 for _ in range(2)]
    for dtype in ("i32", "i64"):
        steps, given = 5, [5, 3]
        cell = torch.nn.RNN(1, 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            cell.weight_ih_l0.fill_(weights[0][0])
            cell.weight_hh_l0.fill_(weights[1][0])
        x = np.round(generator.standard_normal((steps, 2, 1)) * 16) / 16
        packed = pack_padded_sequence(torch.tensor(x), torch.tensor(given), enforce_sorted=False)
        y, h = cell(packed)
        y, _ = pad_packed_sequence(y, total_length=steps)
        number = lambda t: [float(f"{v:.12g}") for v in t.detach().reshape(-1).tolist()]
        inputs = {"x": tensor("f64", [float(v) for v in x.reshape(-1)], [steps, 2, 1])}
        inputs |= {"w_ih": tensor("f64", [weights[0][0]], [1, 1]), "w_hh": tensor("f64", [weights[1][0]], [1, 1]), "lengths": tensor(dtype, given)}
        out = {"y": compact("f64", number(y), [steps, 2, 1]), "h": tensor("f64", number(h), [1, 2, 1])}
        case(f"rnn over {steps} steps, lengths {dtype}", "rnn", {"bias": False}, inputs, out, units=1e5)


casts()
integers()
floats()
labels()
lengths()
OUT.write_text('{"cases": [\n' + ",\n".join(cases) + "\n]}\n")
print(len(cases), "cases,", OUT.stat().st_size, "bytes")
