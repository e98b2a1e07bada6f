"""Checksums that depend on values alone."""

from __future__ import annotations

import hashlib

import numpy as np

from napari_kdsam.core.digest import digest_of_values


def test_a_digest_is_of_the_values_and_not_of_how_they_lie_in_memory() -> None:
    values = np.arange(6, dtype='<u2').reshape(2, 3)
    expected = hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest()
    assert digest_of_values(values) == expected
    assert digest_of_values(values.astype('>u2')) == expected
    assert digest_of_values(np.asfortranarray(values)) == expected
    assert digest_of_values(np.repeat(values, 2, axis=1)[:, ::2]) == expected
    assert digest_of_values(values.T) != expected
    assert digest_of_values(values + np.uint16(1)) != expected
