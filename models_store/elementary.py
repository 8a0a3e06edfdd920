"""Elementary functions in float32 that a loop compiled by numba does several cells wide at once.

The C library's own are called one number at a time. All are within 3e-7 of the true value, relative
to it, apart from the rounding of their argument.
"""

import numba
import numpy as np

LOG2_E = np.float32(1 / np.log(2))
LN_2 = np.float32(np.log(2))
_ONE = np.float32(1)
_HALF = np.float32(0.5)
_LOWEST = np.float32(-126)
_HIGHEST = np.float32(126)
_BIAS = np.int32(127)
_MANTISSA_BITS = np.int32(23)
_ROOT_HALF = np.int32(0x3F3504F3)
_NOT_SIGN = np.int32(0x7FFFFFFF)
_SIGN = np.int32(31)
_APART = 128

# 2^f on [-½, ½], a Chebyshev fit that is 1 at 0; and the logarithm of Cephes' logf (Moshier 1992).
_P = tuple(
    np.float32(p)
    for p in (
        1.0,
        0.693147188029343,
        0.2402234894094699,
        0.05550357104252581,
        0.009666373693207851,
        0.0013390867351534747,
    )
)
_L = tuple(
    np.float32(p)
    for p in (
        3.3333331174e-1,
        -2.4999993993e-1,
        2.0000714765e-1,
        -1.6668057665e-1,
        1.4249322787e-1,
        -1.2420140846e-1,
        1.1676998740e-1,
        -1.1514610310e-1,
        7.0376836292e-2,
    )
)

# Sums may not be reordered here: the small differences below are meant as they stand.
# What a kernel calls is always made part of it. Called as a function of its own it would be one
# that is compiled by itself when the kernel is compiled, and the kernel's own when that is loaded
# from the cache: not the same bytes.
_exact = numba.njit(fastmath={"contract"}, error_model="numpy", forceinline=True)
part_of_kernel = numba.njit(fastmath=True, error_model="numpy", forceinline=True)


@_exact
def exp2(t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """2^t, for t within ±126; beyond, the power at that end."""
    t = min(max(t, _LOWEST), _HIGHEST)
    k = np.int32(t + np.float32(127.5))
    f = t - np.float32(np.int32(k - _BIAS))
    p = _P[3] + f * (_P[4] + f * _P[5])
    p = _P[0] + f * (_P[1] + f * (_P[2] + f * p))
    return p * np.int32(k << _MANTISSA_BITS).view(np.float32)


@_exact
def log1p(t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """log(1 + t) for t >= 0; of a small t too, whose sum with 1 loses its digits."""
    u = _ONE + t
    lost = t - (u - _ONE)
    bits = np.float32(u).view(np.int32)
    k = np.int32(np.int32(bits - _ROOT_HALF) >> _MANTISSA_BITS)
    f = np.int32(bits - np.int32(k << _MANTISSA_BITS)).view(np.float32) - _ONE
    p = _L[5] + f * (_L[6] + f * (_L[7] + f * _L[8]))
    p = _L[0] + f * (_L[1] + f * (_L[2] + f * (_L[3] + f * (_L[4] + f * p))))
    log_f = f + f * f * (f * p - _HALF)
    return log_f + (np.float32(k) * LN_2 + lost / u)


@_exact
def rank(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """An integer that orders floats as they are ordered: the largest of integers is found fast."""
    bits = np.float32(x).view(np.int32)
    return np.int32(bits ^ np.int32(np.int32(bits >> _SIGN) & _NOT_SIGN))


@_exact
def ranked(order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The float of a rank."""
    bits = np.int32(order ^ np.int32(np.int32(order >> _SIGN) & _NOT_SIGN))
    return bits.view(np.float32)


@part_of_kernel
def scratch(n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Room for n numbers of a kernel's own, far from every other array.

    A loop is compiled twice, several numbers wide and one at a time. The second serves where what
    is written lies less than the width of some vectors behind what is read, and gives other last
    bits. Of rows as narrow as that, it would depend on where the allocator puts them.
    """
    return np.empty(n + 2 * _APART, np.float32)[_APART : _APART + n]
