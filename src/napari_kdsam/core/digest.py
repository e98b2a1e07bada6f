"""Checksums of arrays, the same on every computer."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digest_of_values(values: NDArray[Any]) -> str:
    """BLAKE2b of an array's values in C order, least significant byte first.

    Parameters
    ----------
    values : numpy.ndarray
        Of any shape, which does not count, and of any layout and byte order.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    little = np.ascontiguousarray(values, values.dtype.newbyteorder('<'))
    return hashlib.blake2b(little.tobytes(), digest_size=16).hexdigest()
