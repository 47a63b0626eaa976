"""Writes ../scalar.json: values and first derivatives of elementwise functions, computed outside graphc.

    {"functions": [{"name": "pow", "dtype": "f64", "in": [[x...], [y...]], "out": [...], "grad": [[...], [...]]}, ...]}

`in` holds one list for each operand, all of one length; element i of `out` is the function of elements i of the
operands. `grad` has the partial derivative by each operand; null where there is none to compare with: at a kink, a
jump or a tie, at a non-finite operand, or outside the domain. It is absent for integers and comparisons. Floats are f64
and print to the shortest text that reads back; "nan", "inf" and "-inf" are strings, -0.0 keeps its sign. A comparison
gives true or false. Names are graphc's; `gelu` is x Phi(x), `gelu_tanh` its tanh form, `elu` has alpha 1, `leaky_relu`
slope 0.01. The dtype of integer rows is i32: sums and products wrap, division truncates.

Where the values come from. Finite operands: SymPy's derivative of the formula, both evaluated by mpmath with 700
digits and rounded once, so that a tolerance in ulps makes sense. Each value and derivative is also compared with
PyTorch's float64 (autograd), within 1e-12 relative or 1e-15 absolute: the script fails if they differ. Zeros, infinities,
NaN, rounding functions, comparisons and integers: PyTorch, compared with NumPy. Most operands are numbers of float32 too,
so that a float32 implementation can be checked: leave out there the operands that float32 cannot hold.

Needs torch, numpy, sympy (which brings mpmath):  python make_scalar.py
Written with torch 2.9.1, numpy 2.4.6, sympy 1.14.0.
"""

import json
import math
from pathlib import Path

import mpmath
import numpy as np
import sympy
import torch

OUT = Path(__file__).resolve().parent.parent / "scalar.json"
X, Y = sympy.symbols("x y", real=True)
NAN, INF = math.nan, math.inf
mpmath.mp.dps = 700  # enough for 1 - 5e-324 not to be 1


def f32(values):
    """The values rounded to float32, as Python floats."""
    return [float(np.float32(v)) for v in values]


ORDINARY = f32([
    0.1, -0.1, 0.3, -0.7, 0.9, 1.1, -1.3, 1.7, -2.2, 2.9, -3.3, 4.6, -5.4, 7.7, -9.8, 14.1, -17.2, 25.3, -31.9, 47.5,
    -83.4, 88.6, -88.1, 103.5, 1e-3, -1e-5, 1e-8, -1e-20,
])
SPECIAL = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.5, INF, -INF, NAN]
EXTREME32 = f32([1.1754944e-38, -1.1754944e-38, 1e-40, -1e-45, 3.4028235e38, -3.4028235e38])
EXTREME64 = [5e-324, -5e-324, 1e-310, 1.7976931348623157e308, -1.7976931348623157e308, 709.7, -744.9]
ALL = ORDINARY + SPECIAL + EXTREME32 + EXTREME64
TIES = [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 8388607.5, -8388607.5, 0.49999997, 4.0, -7.0]
# At -inf x Phi(x) is 0 * inf for most libraries and its limit for others.
GATED = [v for v in ALL if v != -INF]
POSITIVE = sorted({abs(v) for v in ALL if not math.isnan(v)}) + [-0.0, -1.0, -INF, NAN]
# Beyond this the reduction of the argument is a library's choice; graphc takes that of its platform.
ANGLES = [v for v in ALL if not math.isfinite(v) or abs(v) < 1e6] + f32([math.pi, math.pi / 2, -1e5])

# name: (formula, PyTorch's function, operands, kinks)
SMOOTH = {
    "neg": (-X, torch.neg, ALL, ()),
    "abs": (sympy.Piecewise((X, X > 0), (-X, True)), torch.abs, ALL, (0,)),
    "exp": (sympy.exp(X), torch.exp, ALL, ()),
    "expm1": (sympy.exp(X) - 1, torch.expm1, ALL, ()),
    "log": (sympy.log(X), torch.log, POSITIVE, ()),
    "log1p": (sympy.log(1 + X), torch.log1p, POSITIVE + f32([-0.999, -0.5, -1e-6]), ()),
    "sqrt": (sympy.sqrt(X), torch.sqrt, POSITIVE, ()),
    "rsqrt": (1 / sympy.sqrt(X), torch.rsqrt, POSITIVE, ()),
    "recip": (1 / X, torch.reciprocal, ALL, ()),
    "tanh": (sympy.tanh(X), torch.tanh, ALL, ()),
    "sigmoid": (1 / (1 + sympy.exp(-X)), torch.sigmoid, ALL, ()),
    "relu": (sympy.Piecewise((X, X > 0), (0, True)), torch.relu, ALL, (0,)),
    "sin": (sympy.sin(X), torch.sin, ANGLES, ()),
    "cos": (sympy.cos(X), torch.cos, ANGLES, ()),
    "erf": (sympy.erf(X), torch.erf, ALL, ()),
    "softplus": (sympy.log(1 + sympy.exp(X)), lambda x: torch.nn.functional.softplus(x, threshold=1e300), ALL, ()),
    "gelu": (X * (1 + sympy.erf(X / sympy.sqrt(2))) / 2, torch.nn.functional.gelu, GATED, ()),
    "gelu_tanh": (
        X * (1 + sympy.tanh(sympy.sqrt(2 / sympy.pi) * (X + sympy.Rational(44715, 10**6) * X**3))) / 2,
        lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        GATED,
        (),
    ),
    "silu": (X / (1 + sympy.exp(-X)), torch.nn.functional.silu, GATED, ()),
    "elu": (sympy.Piecewise((X, X > 0), (sympy.exp(X) - 1, True)), torch.nn.functional.elu, ALL, ()),
    "leaky_relu": (
        sympy.Piecewise((X, X > 0), (X / 100, True)),
        lambda x: torch.nn.functional.leaky_relu(x, 0.01),
        ALL,
        (0,),
    ),
}

PAIRS = list(zip(ORDINARY, ORDINARY[7:] + ORDINARY[:7], strict=True)) + [
    (2.0, 3.0), (-2.0, 3.0), (-2.0, 2.0), (4.0, 0.5), (0.0, 3.0), (3.0, 0.0), (-0.0, 2.0), (1.0, INF), (-1.0, -INF), (INF, INF),
    (INF, -INF), (INF, 2.0), (-INF, 3.0), (NAN, 1.0), (1.0, NAN), (NAN, NAN), (1.5, 1.5), (-2.25, -2.25),
    (1e308, 10.0), (1e-300, 1e-300), (5e-324, 0.5), (1.7976931348623157e308, 1.7976931348623157e308),
]
REMAINDERS = [(7.5, 2.0), (-7.5, 2.0), (7.5, -2.0), (-7.5, -2.0), (5.0, 2.5), (-6.0, 3.0), (0.3, 7.0)]
POWERS = [(abs(a), b) for a, b in PAIRS[:14]] + [
    (0.0, 0.0), (NAN, 0.0), (1.0, NAN), (0.0, -1.0), (-1.5, 2.0), (-1.5, 3.0), (-1.5, -2.0), (-1.5, 0.5),
    (2.0, -1074.0), (9.0, 0.5),
] + PAIRS[len(ORDINARY):]

BINARY = {
    "add": (X + Y, torch.add, PAIRS),
    "sub": (X - Y, torch.sub, PAIRS),
    "mul": (X * Y, torch.mul, PAIRS),
    "div": (X / Y, torch.div, PAIRS),
    "pow": (X**Y, torch.pow, POWERS),
}


def encode(value):
    """A float as JSON: a number, or a string if it is not finite; None stays."""
    if value is None or isinstance(value, (bool, int)) or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")


def exact(expression, point):
    """The expression at a point, rounded once to f64; None if it is undefined, complex or infinite."""
    function = sympy.lambdify((X, Y), expression, "mpmath")
    try:
        value = mpmath.mpmathify(function(*(mpmath.mpf(v) for v in point)))
    except (ZeroDivisionError, ValueError):
        return None
    if isinstance(value, mpmath.mpc) and value.imag == 0:
        value = value.real
    return float(value) if isinstance(value, mpmath.mpf) and mpmath.isfinite(value) else None


def autograd(function, point):
    """Value and partial derivatives by PyTorch."""
    operands = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in point]
    out = function(*operands)
    if not out.requires_grad:
        return out.item(), [0.0] * len(point)
    return out.item(), [g.item() for g in torch.autograd.grad(out, operands)]


def agree(a, b):
    """Whether PyTorch's value is that of the formula but for rounding; it may overflow where the formula does not."""
    return abs(a - b) <= 1e-12 * abs(b) + 1e-15 or not math.isfinite(a)


def differentiable(name, formula, function, points, kinks=()):
    """The entry of a function with a formula."""
    symbols = (X, Y)[: len(points[0])]
    slopes = [sympy.diff(formula, s) for s in symbols]
    out, grad = [], [[] for _ in symbols]
    for point in points:
        padded = (*point, 0.0)[:2]
        finite = all(map(math.isfinite, point))
        reference, partials = autograd(function, point)
        value = exact(formula, padded) if finite else None
        # Signs of zeros and IEEE 754's special cases are PyTorch's; a 0 of the formula has no sign.
        if value is None or value == 0.0 and reference == 0.0:
            value = reference
        if not (math.isnan(value) and math.isnan(reference)):
            assert value == reference or agree(reference, value), (name, point, value, reference)
        out.append(value)
        for slope, partial, column in zip(slopes, partials, grad, strict=True):
            known = finite and math.isfinite(value) and not any(v in kinks for v in point)
            derivative = exact(slope, padded) if known else None
            if derivative is not None:
                assert agree(partial, derivative), (name, point, "derivative", derivative, partial)
            column.append(derivative)
    return entry(name, "f64", points, out, grad)


def entry(name, dtype, points, out, grad=None):
    """One function of the file."""
    row = {"name": name, "dtype": dtype, "in": [[encode(v) for v in column] for column in zip(*points, strict=True)]}
    row["out"] = [encode(v) for v in out]
    if grad is not None:
        row["grad"] = [[encode(v) for v in column] for column in grad]
    return row


def checked(name, dtype, points, by_torch, by_numpy, grad=None, tensor_type=torch.float64, array_type=np.float64):
    """The entry of a function without a formula: PyTorch's values, NumPy agreeing on every one."""
    columns = list(zip(*points, strict=True))
    out = by_torch(*(torch.tensor(c, dtype=tensor_type) for c in columns))
    with np.errstate(all="ignore"):
        again = by_numpy(*(np.array(c, dtype=array_type) for c in columns))
    np.testing.assert_array_equal(out.numpy(), again, err_msg=name)
    return entry(name, dtype, points, out.tolist(), grad)


def steps(name, by_torch, by_numpy, jumps):
    """A piecewise constant function: its derivative is 0 but at a jump."""
    values = ALL + f32(TIES)
    slope = [None if not math.isfinite(v) or jumps(v) else 0.0 for v in values]
    return checked(name, "f64", [(v,) for v in values], by_torch, by_numpy, [slope])


def choices(name, by_torch, by_numpy):
    """max or min: the derivative by the operand that is chosen is 1; none at a tie."""
    points = PAIRS + [(INF, 1.0), (1.0, -INF), (0.0, 1.0), (0.0, 0.0)]

    def slope(a, b, operand):
        if a == b or not (math.isfinite(a) and math.isfinite(b)):
            return None
        return float(((a, b)[operand]) == by_numpy(a, b))

    return checked(name, "f64", points, by_torch, by_numpy, [[slope(a, b, k) for a, b in points] for k in (0, 1)])


def remainder():
    """The remainder with the sign of the dividend; its derivative by the divisor is -trunc(x / y)."""
    points = REMAINDERS + [p for p in PAIRS if abs(p[0]) < 1e300]

    def slopes(a, b):
        smooth = math.isfinite(a) and math.isfinite(b) and b != 0 and math.fmod(a, b) != 0
        return (1.0, -float(math.trunc(a / b))) if smooth and abs(a / b) < 2**52 else (None, None)

    grad = [list(column) for column in zip(*(slopes(a, b) for a, b in points), strict=True)]
    return checked("rem", "f64", points, torch.fmod, np.fmod, grad)


def comparisons():
    """Six of them, on the pairs and both orders of zeros."""
    points = PAIRS + [(0.0, -0.0), (-0.0, 0.0), (1.0, 2.0), (2.0, 1.0)]
    functions = {
        "eq": (torch.eq, np.equal), "ne": (torch.ne, np.not_equal), "lt": (torch.lt, np.less),
        "le": (torch.le, np.less_equal), "gt": (torch.gt, np.greater), "ge": (torch.ge, np.greater_equal),
    }
    return [checked(name, "f64", points, *pair) for name, pair in functions.items()]


def integers():
    """Functions of i32."""
    values = [0, 1, -1, 2, -2, 3, -3, 5, 7, -7, 9, -10, 46341, -46341, 65536, 123456789, -987654321, 2**31 - 1, -(2**31)]
    points = list(zip(values, values[5:] + values[:5], strict=True)) + list(zip(values, values[12:] + values[:12], strict=True))
    points += [(7, 2), (-7, 2), (7, -2), (-7, -2), (4, 4), (2**31 - 1, 1), (-(2**31), -(2**31)), (2**31 - 1, -1)]
    divisions = [(a, b) for a, b in points if b != 0 and (a, b) != (-(2**31), -1)]
    functions = [
        ("add", points, torch.add, np.add),
        ("sub", points, torch.sub, np.subtract),
        ("mul", points, torch.mul, np.multiply),
        ("div", divisions, lambda a, b: torch.div(a, b, rounding_mode="trunc"), lambda a, b: np.fix(a / b).astype(np.int32)),
        ("rem", divisions, torch.fmod, np.fmod),
        ("max", points, torch.maximum, np.maximum),
        ("min", points, torch.minimum, np.minimum),
        ("lt", points, torch.lt, np.less),
        ("eq", points, torch.eq, np.equal),
        ("neg", [(v,) for v in values], torch.neg, np.negative),
        ("abs", [(v,) for v in values], torch.abs, np.abs),
        ("sign", [(v,) for v in values], torch.sign, np.sign),
        ("relu", [(v,) for v in values], torch.relu, lambda a: np.maximum(a, 0)),
    ]
    return [checked(n, "i32", p, t, f, tensor_type=torch.int32, array_type=np.int32) for n, p, t, f in functions]


def main():
    functions = [differentiable(n, e, f, [(v,) for v in values], kinks) for n, (e, f, values, kinks) in SMOOTH.items()]
    functions += [differentiable(n, e, f, points) for n, (e, f, points) in BINARY.items()]
    # PyTorch gives 0 for the sign of NaN where NumPy, JAX and graphc give NaN.
    functions.append(steps("sign", lambda x: torch.where(x.isnan(), x, torch.sign(x)), np.sign, lambda v: v == 0))
    functions.append(steps("floor", torch.floor, np.floor, lambda v: v == math.floor(v)))
    functions.append(steps("ceil", torch.ceil, np.ceil, lambda v: v == math.floor(v)))
    functions.append(steps("round", torch.round, np.round, lambda v: abs(v) % 1 == 0.5))
    functions += [choices("max", torch.maximum, np.maximum), choices("min", torch.minimum, np.minimum), remainder()]
    functions += comparisons() + integers()
    lines = ",\n".join(json.dumps(f, allow_nan=False, separators=(",", ":")) for f in functions)
    OUT.write_text(f'{{"functions": [\n{lines}\n]}}\n', encoding="ascii")


if __name__ == "__main__":
    main()
