"""Writes ../logistic.json: the least loss of logistic regression over the digits, found by SciPy in float64.

    {"l2": 1e-4, "loss": L, "first_loss": ln 10, "gradient_norm": N, "weights_norm": W}

The rows are all of models/data/digits.csv.gz, pixels divided by 16. The loss is the mean cross-entropy of x w + b, w [64, 10]
and b [10], plus l2 / 2 times the sum of the squares of both. `trust-exact` with the exact gradient and Hessian stops where the
gradient's norm is below 1e-11; `L-BFGS-B` has to agree with its loss to 1e-10.

Needs numpy and scipy:  python logistic.py
Written with scipy 1.17.1, numpy 2.4.6.
"""

import gzip
import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "logistic.json"
DIGITS = HERE.parents[2] / "models" / "data" / "digits.csv.gz"
L2 = 1e-4


def main():
    rows = np.loadtxt(gzip.open(DIGITS, "rt"), delimiter=",")
    x = np.hstack([rows[:, :64] / 16, np.ones((len(rows), 1))])
    target = np.eye(10)[rows[:, 64].astype(int)]
    n = len(rows)

    def parts(v):
        z = x @ v.reshape(65, 10)
        log_p = z - logsumexp(z, axis=1, keepdims=True)
        return log_p, np.exp(log_p)

    def loss(v):
        return -(target * parts(v)[0]).sum() / n + L2 / 2 * (v @ v)

    def gradient(v):
        return (x.T @ (parts(v)[1] - target) / n).ravel() + L2 * v

    def hessian(v):
        p = parts(v)[1]
        weights = np.einsum("ni,ij->nij", p, np.eye(10)) - np.einsum("ni,nj->nij", p, p)
        h = np.zeros((65, 10, 65, 10))
        for i in range(10):
            for j in range(10):
                h[:, i, :, j] = x.T @ (x * weights[:, i, j : j + 1]) / n
        return h.reshape(650, 650) + L2 * np.eye(650)

    start = np.zeros(650)
    best = minimize(loss, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-11})
    other = minimize(loss, start, jac=gradient, method="L-BFGS-B",
                     options={"gtol": 1e-10, "ftol": 0, "maxiter": 20000, "maxfun": 40000})
    norm = np.linalg.norm(gradient(best.x))
    print(best.fun, norm, other.fun - best.fun, best.nit, other.nit)
    assert norm < 1e-10 and abs(other.fun - best.fun) < 1e-10
    numbers = {"l2": L2, "first_loss": loss(start), "loss": best.fun, "gradient_norm": norm,
               "weights_norm": np.linalg.norm(best.x)}
    OUT.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
