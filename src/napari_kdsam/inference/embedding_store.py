"""Embeddings on disk, shared between runs, users and the viewer."""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.digest import digest_of_values
from napari_kdsam.core.errors import ImageError, MissingExtraError, NotWrittenError
from napari_kdsam.core.files import part_path, write_json
from napari_kdsam.core.sizes import EMBEDDING_SHAPE

_logger = logging.getLogger(__name__)
_FORMAT, _FORMAT_KEY = 1, 'napari-kdsam-embeddings'
# That names depend on what is in a weights file, not on where and since when it is.
_MODELS_KEY, _BY_CONTENT = 'models', 'content'
_DIGEST = 'blake2b'
_DESCRIPTION = 'zarr.json'


class EmbeddingStore:
    """A zarr group with one half-precision array for each embedding.

    An array is named by the hash that `Predictor.embed` makes of the pixels the network
    sees, their mapping and the model, so that it is found again wherever the same image
    comes from, and never taken for another one. Embeddings of versions that told models
    by the place and date of their files are not used, which is logged once. Its
    attributes hold a checksum; one that does not fit is as good as absent, is computed
    again and is logged. Arrays are one uncompressed chunk, so reading is mapping a file
    into memory. Several processes may read and write at once: an array is written
    beside and renamed.

    Parameters
    ----------
    folder : path-like
        The group; made if needed.

    Raises
    ------
    ImageError
        If the folder is something else, of a later format, or cannot be read.
    NotWrittenError
        If it cannot be made.
    MissingExtraError
        If zarr is not installed.

    Attributes
    ----------
    damaged, written : int
        Embeddings found damaged, and written, by this object.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            import zarr
        except ImportError as error:
            raise MissingExtraError('An embedding store', 'batch') from error
        self.folder = Path(folder)
        self.damaged = self.written = 0
        if self._holds_something():
            self._check()
            return
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.open_group(str(self.folder), mode='a', zarr_format=3)
            group.attrs[_MODELS_KEY] = _BY_CONTENT
            group.attrs[_FORMAT_KEY] = _FORMAT
        except OSError as error:
            raise NotWrittenError(
                f'The embedding store {self.folder.name} cannot be made '
                f'({error.strerror or error}); choose another folder.'
            ) from error

    def _holds_something(self) -> bool:
        try:
            return self.folder.exists() and any(self.folder.iterdir())
        except OSError as error:
            raise ImageError(
                f'The embedding store {self.folder.name} cannot be read '
                f'({error.strerror or error}); choose another folder.'
            ) from error

    def _check(self) -> None:
        if _format_of(self.folder) != _FORMAT:
            raise ImageError(
                f'{self.folder.name} is no embedding store of this version; choose '
                'an empty folder.'
            )
        described = _described(self.folder)
        attributes = described['attributes']
        if attributes.get(_MODELS_KEY) == _BY_CONTENT:
            return
        if count := len(self):
            _logger.warning(
                'The %d embeddings that are in %s already are of an earlier version, '
                'which told models by the date of their file; they are made again. '
                'Delete the folder to free their room.',
                count,
                self.folder.name,
            )
        attributes[_MODELS_KEY] = _BY_CONTENT
        with suppress(NotWrittenError):
            write_json(self.folder / _DESCRIPTION, described)

    def __contains__(self, key: str) -> bool:
        return self._array(key).is_dir()

    def __len__(self) -> int:
        return sum(
            1 for item in self.folder.iterdir() if item.is_dir() and _is_key(item)
        )

    def get(self, key: str) -> NDArray[np.float16] | None:
        """Find an embedding.

        Parameters
        ----------
        key : str
            `ImageEmbedding.key`.

        Returns
        -------
        numpy.ndarray or None
            (256, 64, 64) float16, mapped from the file; None if it is not there or
            damaged.
        """
        array = self._array(key)
        if not array.is_dir():
            return None
        try:
            described = _described(array)
            values = np.memmap(_chunk(array), np.float16, 'r', shape=EMBEDDING_SHAPE)
            if described['attributes'][_DIGEST] == digest_of_values(values):
                return values
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        self.damaged += 1
        _logger.warning('The stored embedding %s is damaged; it is made again.', key)
        shutil.rmtree(array, ignore_errors=True)
        return None

    def put(self, key: str, values: NDArray[Any]) -> NDArray[np.float16]:
        """Keep an embedding.

        Parameters
        ----------
        key : str
            `ImageEmbedding.key`.
        values : numpy.ndarray
            (256, 64, 64).

        Returns
        -------
        numpy.ndarray
            The same in half precision, as `get` gives it.

        Raises
        ------
        NotWrittenError
            If it cannot be written.
        """
        import zarr

        rounded = np.ascontiguousarray(values, np.float16).reshape(EMBEDDING_SHAPE)
        part = part_path(self._array(key))
        try:
            written = zarr.create_array(
                str(part),
                shape=EMBEDDING_SHAPE,
                chunks=EMBEDDING_SHAPE,
                dtype=np.float16,
                compressors=None,
                config={'write_empty_chunks': True},
                zarr_format=3,
                attributes={_DIGEST: digest_of_values(rounded)},
            )
            written[:] = rounded
            self._place(part, self._array(key))
        except OSError as error:
            raise NotWrittenError(
                f'The embedding store {self.folder.name} cannot be written '
                f'({error.strerror or error}); free some space or leave it out.'
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self.written += 1
        return rounded

    @staticmethod
    def _place(part: Path, array: Path) -> None:
        try:
            os.replace(part, array)
        except OSError:
            # Another process has written the same embedding in the meantime.
            if not array.is_dir():
                raise

    def _array(self, key: str) -> Path:
        return self.folder / key


def holds_embeddings(folder: Path) -> bool:
    """Whether a folder is an `EmbeddingStore`, of whatever version."""
    return _format_of(folder) is not None


def _format_of(folder: Path) -> object:
    try:
        found: object = _described(folder)['attributes'][_FORMAT_KEY]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found


def _described(folder: Path) -> Any:
    return json.loads((folder / _DESCRIPTION).read_text(encoding='utf-8'))


def _chunk(array: Path) -> Path:
    return array / 'c' / '0' / '0' / '0'


def _is_key(item: Path) -> bool:
    return not item.name.startswith('.')
