"""PATE cost of one histogram at one Renyi order, in plain Python: the specification of `PatePlan`.

Papernot et al. 2018 (arXiv 1802.08908): proposition 7 for q, theorem 6 with proposition 10's helper orders for the data
dependent bound, algorithm 1 for Confident GNMax. Papernot et al. 2017 (1610.05755), theorems 3 and 4: LNMax.
Zhu et al. 2020: the exact price of a screening bit.
Bounds are written so that nothing cancels: with mu = sigma sqrt(-ln q), theorem 6 is two positive exponentials.
"""

from __future__ import annotations

import math
from functools import cache

LEAST_LINEAR = 1e-290  # sums of probabilities above this have all their digits
LARGEST_EXPONENT = 600.0  # above, ln(1 + exp(x)) is x to the last digit
LOG_HALF = math.log(0.5)
ASYMPTOTIC_FROM = 6.0  # from here the asymptotic series of erfc reaches full precision
UNDERFLOW_NEAR = 20.0  # below, erfc is far from underflow (26.5)
ROOT_2 = math.sqrt(2.0)


def log_erfc(x: float) -> float:
    """Return ln erfc(x) for x >= 0, by the asymptotic series where erfc itself would underflow."""
    return math.log(math.erfc(x)) if x < UNDERFLOW_NEAR else -x * x + log_erfcx(x)


def log_erfcx(x: float) -> float:
    """Return ln(exp(x^2) erfc(x)) for x >= 0."""
    if x < ASYMPTOTIC_FROM:
        short = math.floor(x * 1048576.0) / 1048576.0  # its square is exact, and exp would amplify a rounding
        return math.log(math.erfc(x) * math.exp(short * short) * math.exp((x - short) * (x + short)))
    term, total, k = 1.0, 1.0, 1
    while abs(term) > 1e-17 and k < 36:
        term *= -(2 * k - 1) / (2.0 * x * x)
        total += term
        k += 1
    return math.log(total) - math.log(x * math.sqrt(math.pi))


def log_sum(logs: list[float]) -> float:
    """Return ln of the sum of exp(logs), linear where no digit is lost, else scaled by the largest."""
    total = math.fsum(math.exp(value) for value in logs)
    if total > LEAST_LINEAR:
        return math.log(total)
    largest = max(logs)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in logs))


def log_q_gnmax(votes: list[float], sigma: float) -> float:
    """Return ln q: the union bound on Pr[noisy argmax is not the first argmax], at most ln(1 - 1/C)."""
    winner = votes.index(max(votes))
    gaps = [(votes[winner] - count) / (2.0 * sigma) for index, count in enumerate(votes) if index != winner]
    total = math.fsum(0.5 * math.erfc(x) for x in gaps)
    found = math.log(total) if total > LEAST_LINEAR else log_sum([LOG_HALF + log_erfc(x) for x in gaps])
    return min(found, math.log1p(-1.0 / len(votes)))


def log_q_lnmax(votes: list[float], scale: float) -> float:
    """Return ln q for Laplace noise of that scale: sum of (2 + g/scale) / (4 exp(g/scale)), at most 1 - 1/C."""
    winner = votes.index(max(votes))
    gaps = [(votes[winner] - count) / scale for index, count in enumerate(votes) if index != winner]
    total = math.fsum((2.0 + g) / 4.0 * math.exp(-g) for g in gaps)
    found = math.log(total) if total > LEAST_LINEAR else log_sum([math.log((2.0 + g) / 4.0) - g for g in gaps])
    return min(found, math.log1p(-1.0 / len(votes)))


@cache
def least_mu(sigma: float) -> float:
    """Return mu*: theorem 6's conditions on (sigma, q) hold iff mu >= mu*, the root of 2 atanh(1/mu) = (2mu-1)/sigma^2.

    By bisection: the left side falls and the right side rises in mu > 1.
    """
    low, high = 1.0, max(2.0, 2.0 * sigma + 2.0)
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            return high
        if math.log1p(2.0 / (middle - 1.0)) <= (2.0 * middle - 1.0) / sigma**2:
            high = middle
        else:
            low = middle


def rdp_gaussian(lnq: float, sigma: float, order: float, clip: bool = True) -> float:
    """Return the cost at `order` of a step with noise `sigma` and sensitivity sqrt(2): theorem 6, or order/sigma^2.

    With clip the smaller of the two where both hold; without, theorem 6 wherever it holds.
    """
    mu, independent = sigma * math.sqrt(-lnq), order / sigma**2
    if not (mu >= least_mu(sigma) and order < mu + 1.0):
        return independent
    dependent = theorem_6(lnq, mu, sigma, order)
    return min(dependent, independent) if clip else dependent


def theorem_6(lnq: float, mu: float, sigma: float, order: float) -> float:
    """Return ln((1-q) A^(order-1) + q B^(order-1)) / (order-1); the caller knows that it holds.

    ln A = log1p(q expm1(x) / (1 - r)) with x = (2mu-1)/sigma^2 and ln r = -(mu-1)^2/sigma^2; ln B = (2mu+1)/sigma^2.
    """
    k, x = order - 1.0, (2.0 * mu - 1.0) / sigma**2
    log_r = -(((mu - 1.0) / sigma) ** 2)
    # q expm1(x) = r (1 - exp(-x)), for ln q + x = ln r.
    log_a = math.log1p(math.exp(log_r) * -math.expm1(-x) / -math.expm1(log_r))
    log_b = (2.0 * mu + 1.0) / sigma**2
    return grown(k, log_a, lnq, k * log_b)


def grown(k: float, log_a: float, lnq: float, rise: float) -> float:
    """Return ln(1 + (1-q) expm1(k log_a) + q expm1(rise)) / k, whatever underflows or overflows on the way."""
    exponent, other = lnq + rise, k * log_a + math.log(-math.expm1(lnq))
    steepest = max(exponent, other)
    if steepest > LARGEST_EXPONENT:
        return (steepest + math.log1p(math.exp(min(exponent, other) - steepest))) / k
    first = -math.expm1(lnq) * math.expm1(k * log_a)
    return math.log1p(first + math.exp(exponent) * -math.expm1(-rise)) / k  # q alone may underflow


def log_phi(x: float) -> float:
    """Return ln Phi(x), the normal distribution's logarithm, from whichever tail is short."""
    if x <= 0.0:
        return LOG_HALF + log_erfc(-x / ROOT_2)
    return math.log1p(-0.5 * math.erfc(x / ROOT_2))


def rdp_threshold(top: float, threshold: float, sigma1: float, order: float, clip: bool = True) -> float:
    """Return the cost of telling whether `top` votes plus noise pass: theorem 6 with q = Phi(-|x|)."""
    return rdp_gaussian(log_phi(-abs((threshold - top) / sigma1)), ROOT_2 * sigma1, order, clip)


def rdp_lnmax(lnq: float, scale: float, order: float) -> float:
    """Return LNMax's cost: the least of e0^2 order / 2, e0 and theorem 3 of 2017, e0 = 2 / scale."""
    e0, k = 2.0 / scale, order - 1.0
    least = min(e0 * e0 * order / 2.0, e0)
    if lnq > -math.log1p(math.exp(min(e0, 700.0))):
        return least
    log_a = math.log1p(math.exp(lnq + e0) * -math.expm1(-e0) / -math.expm1(lnq + e0))
    return min(least, grown(k, log_a, lnq, k * e0))


def rdp_screening(top: float, threshold: float, sigma1: float, order: float) -> float:
    """Return the exact cost of the pass/fail bit: the Renyi divergence to `top` -1 or +1, whichever is larger."""
    x = abs((threshold - top) / sigma1)  # the bit and its complement cost the same
    return max(bit_divergence(x, 1.0 / sigma1, order), bit_divergence(x, -1.0 / sigma1, order))


NODES = (
    (0.09501250983763744, 0.1894506104550685),
    (0.2816035507792589, 0.18260341504492358),
    (0.45801677765722737, 0.16915651939500254),
    (0.6178762444026438, 0.14959598881657674),
    (0.755404408355003, 0.12462897125553388),
    (0.8656312023878318, 0.09515851168249279),
    (0.9445750230732326, 0.062253523938647894),
    (0.9894009349916499, 0.027152459411754096),
)
"""Gauss-Legendre's 16 nodes and weights, one of each pair (Abramowitz and Stegun, table 25.4)."""


def bit_divergence(x: float, step: float, order: float) -> float:
    """Return the Renyi divergence between bits with chances Q(x) and Q(x + step), x >= 0, Q = 1 - Phi.

    With t = Q(x), c = 1 - t, d = Q(x + step) - t, b = d/t, a = d/c and k = order - 1, the divergence's sum is one plus
    t ((1+b)^-k - 1 + kb) + c ((1-a)^-k - 1 - ka): both are positive, the linear parts t b and c a being equal.
    """
    k, other = order - 1.0, x + step
    log_t, log_c = log_phi(-x), log_phi(x)
    b = share_between(x, step) if abs(step) < 1.0 and max(x, other) * abs(step) < 8.0 else math.inf
    if abs(b) < 0.5:
        v, d = -math.log1p(b), math.exp(log_t) * b
    else:
        if other >= 0.0:  # squares would cancel in ln Q(x) - ln Q(other): their difference is a product
            v = step * (x + other) / 2.0 + log_erfcx(x / ROOT_2) - log_erfcx(other / ROOT_2)
        else:
            v = log_t - log_phi(-other)
        b = math.expm1(min(-v, 700.0))
        d = math.exp(log_t - v) - math.exp(log_t)
    a = d / math.exp(log_c)
    u = -math.log1p(-a) if abs(a) < 0.5 else log_c - log_phi(other)
    steepest = max(log_t + k * v, log_c + k * u)
    if steepest > LARGEST_EXPONENT:
        return steepest / k
    first = remainder(k, b, log_t, k * v, d)
    return math.log1p(first + remainder(k, -a, log_c, k * u, -d)) / k


def share_between(x: float, step: float) -> float:
    """Return Q(x + step) / Q(x) - 1 by quadrature: a difference would cancel for short steps."""
    half, total = 0.5 * step, 0.0
    for node, weight in NODES:
        for at in (half * (1.0 - node), half * (1.0 + node)):
            total += weight * math.exp(-at * (x + 0.5 * at))
    return -half * total / (0.5 * math.sqrt(2.0 * math.pi) * math.exp(log_erfcx(x / ROOT_2)))


def remainder(k: float, b: float, log_t: float, exponent: float, d: float) -> float:
    """Return t ((1+b)^-k - 1 + kb), d = t b, exponent = -k ln(1+b): the binomial series where it is short."""
    if abs(b) >= 0.5 or abs(k * b) >= 2.0:
        return (math.exp(log_t) * math.expm1(exponent) if exponent < 30.0 else math.exp(log_t + exponent)) + k * d
    term, total, n = -k * b, 0.0, 1
    while abs(term) > 1e-18 * abs(total):
        term *= -(k + n) * b / (n + 1)
        total += term
        n += 1
    return math.exp(log_t) * total
