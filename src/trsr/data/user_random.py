"""Random numbers that belong to a user: they depend on the user's id and the seed, and on no other row."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)


def user_keys(users: Iterable[str], seed: int, purpose: str) -> Keys:
    """Hash every user id with the seed and what the number is for.

    The hash is BLAKE2b, so that keys are the same on every machine and in every version.

    Parameters
    ----------
    users
        User ids.
    seed
        The run's seed.
    purpose
        A word; keys of different purposes are independent.

    Returns
    -------
    numpy.ndarray
        64 random bits per user, ``(n_users,)``.

    Examples
    --------
    >>> bool(user_keys(["ann", "bob"], 0, "split")[1] == user_keys(["bob"], 0, "split")[0])
    True
    """
    start = blake2b(f"{purpose}\x1f{seed}\x1f".encode(), digest_size=8)
    digests = bytearray()
    for user in users:
        digest = start.copy()
        digest.update(user.encode())
        digests += digest.digest()
    return np.frombuffer(bytes(digests), dtype="<u8").astype(np.uint64)


def uniforms(keys: Keys, count: int) -> Floats:
    """Draw `count` numbers of [0, 1) per key: the SplitMix64 generator, started at each key.

    Source of the generator: Steele, Lea and Flood, Fast splittable pseudorandom
    number generators, OOPSLA 2014.

    Returns
    -------
    numpy.ndarray
        ``(n_users, count)``.
    """
    bits = keys[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STEP
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    bits = bits ^ (bits >> np.uint64(31))
    fractions: Floats = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return fractions
