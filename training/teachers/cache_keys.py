"""Names of cached embeddings, and checksums of their bytes."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def content_hash(image: NDArray[np.uint8]) -> str:
    """16-byte BLAKE2b of an image's pixels and shape, in hexadecimal."""
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
    digest.update(f'{image.dtype}{image.shape}'.encode())
    return digest.hexdigest()


def with_view(content: str, view: str) -> str:
    """Key of a view from the content's hash."""
    return f'{content}-{view}'


def checksum(embedding: NDArray[np.float16]) -> str:
    """8-byte BLAKE2b of an embedding's bytes, in hexadecimal."""
    contiguous = np.ascontiguousarray(embedding)
    return hashlib.blake2b(contiguous.data, digest_size=8).hexdigest()
