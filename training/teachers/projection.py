"""The fixed projection of embeddings to three channels, for a network that sees RGB."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_kdsam.core.errors import CheckpointError, KDSAMError
from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.sizes import EMBEDDING_CHANNELS

COMPONENTS = 3
_TEACHER = 'teacher_key'
_SHAPES = {
    'mean': (EMBEDDING_CHANNELS,),
    'basis': (COMPONENTS, EMBEDDING_CHANNELS),
    'scale': (COMPONENTS,),
    'explained': (COMPONENTS,),
}


class ProjectionError(KDSAMError, ValueError):
    """Embeddings that no projection can be fitted to."""


@dataclass(frozen=True, eq=False)
class Projection:
    """The first three principal components of a teacher's embeddings.

    Attributes
    ----------
    mean : torch.Tensor
        (256,) float32, mean embedding.
    basis : torch.Tensor
        (3, 256) float32, orthonormal rows, most variance first; in each row the
        entry of largest magnitude is positive.
    scale : torch.Tensor
        (3,) float32, standard deviation along each row.
    explained : torch.Tensor
        (3,) float32, share of the total variance along each row.
    teacher_key : str
        `Teacher.key` of the embeddings; empty where unknown.
    """

    mean: torch.Tensor
    basis: torch.Tensor
    scale: torch.Tensor
    explained: torch.Tensor
    teacher_key: str = ''

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, complete or not at all.

        Raises
        ------
        ImageError
            If the file cannot be written.
        """
        tensors = {name: getattr(self, name).contiguous() for name in _SHAPES}
        with atomic_path(path) as part:
            save_file(tensors, part, {_TEACHER: self.teacher_key})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Projection:
        """Read what `save` wrote.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged or something else.
        """
        path = Path(path)
        try:
            with safe_open(path, framework='pt') as file:
                key = (file.metadata() or {}).get(_TEACHER, '')
                tensors = {name: file.get_tensor(name).float() for name in _SHAPES}
        except FileNotFoundError as error:
            raise CheckpointError(f'There is no projection at {path}.') from error
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f'{path.name} is not a readable projection ({error}); fit it again.'
            ) from error
        for name, tensor in tensors.items():
            if tensor.shape != _SHAPES[name] or not bool(torch.isfinite(tensor).all()):
                raise CheckpointError(
                    f'{path.name} is not a projection: {name} must be finite of shape '
                    f'{_SHAPES[name]}, not {tuple(tensor.shape)}.'
                )
        return cls(**tensors, teacher_key=key)


def fit_projection(embeddings: Iterable[Any], teacher_key: str = '') -> Projection:
    """Find the three principal components, holding one embedding at a time.

    Parameters
    ----------
    embeddings : iterable of array-like
        (256, H, W) or (B, 256, H, W) each; every position counts as one vector, so
        cut the padding off where it should not count.
    teacher_key : str
        Stored with the result.

    Raises
    ------
    ProjectionError
        If there are fewer than four vectors, a value is not finite, or the vectors
        vary in fewer than three directions.
    """
    count = 0
    mean = np.zeros(EMBEDDING_CHANNELS)
    scatter = np.zeros((EMBEDDING_CHANNELS, EMBEDDING_CHANNELS))
    for embedding in embeddings:
        vectors = _vectors(embedding)
        if not vectors.size:
            continue
        own_mean = vectors.mean(axis=0)
        centred = vectors - own_mean
        shift = own_mean - mean
        new_count = count + len(vectors)
        # Merging centred sums (Chan et al. 1983) loses no digits, as sums of squares do.
        scatter += centred.T @ centred
        scatter += np.outer(shift, shift) * (count * len(vectors) / new_count)
        mean += shift * (len(vectors) / new_count)
        count = new_count
    if count <= COMPONENTS:
        raise ProjectionError(
            f'{count} embedding vectors are too few for a projection; give at least '
            'one whole embedding.'
        )
    variances, directions = np.linalg.eigh(scatter / (count - 1))
    variances = variances[::-1][:COMPONENTS]
    basis = directions[:, ::-1][:, :COMPONENTS].T
    total = np.trace(scatter) / (count - 1)
    if not variances[-1] > total * 1e-12:
        raise ProjectionError(
            'The embeddings vary in fewer than three directions; give embeddings of '
            'different images.'
        )
    largest = np.abs(basis).argmax(axis=1)
    basis = basis * np.sign(basis[np.arange(COMPONENTS), largest])[:, None]
    return Projection(
        _tensor(mean),
        _tensor(basis),
        _tensor(np.sqrt(variances)),
        _tensor(variances / total),
        teacher_key,
    )


def _vectors(embedding: Any) -> NDArray[np.float64]:
    array = np.asarray(embedding, np.float64)
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[1] != EMBEDDING_CHANNELS:
        raise ProjectionError(
            f'An embedding must have the shape (256, H, W) or (B, 256, H, W), not '
            f'{np.shape(embedding)}.'
        )
    if not np.isfinite(array).all():
        raise ProjectionError(
            'An embedding has values that are not finite; fill the cache again.'
        )
    return np.moveaxis(array, 1, -1).reshape(-1, EMBEDDING_CHANNELS)


def _tensor(array: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
