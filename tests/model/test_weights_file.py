"""Weights files told from others by their content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.model.network import ModelIdentity
from napari_kdsam.model.weights_file import weights_key


def identity(*paths: Path) -> ModelIdentity:
    first, *others = map(str, paths)
    return ModelIdentity('m', 'a', 'key', first, parts=tuple(others))


def test_a_model_is_the_same_wherever_and_whenever_its_files_were_put(
    tmp_path: Path,
) -> None:
    files = [tmp_path / name for name in ('a', 'b', 'c')]
    for path, content in zip(files, (b'one', b'two', b'one'), strict=True):
        path.write_bytes(content)
    a, b, c = files
    os.utime(c, (1, 1))
    assert weights_key(identity(a)) == weights_key(identity(c))
    assert weights_key(identity(a, b)) == weights_key(identity(c, b))
    others = {weights_key(identity(*p)) for p in ([a], [b], [a, b], [b, a], [a, c])}
    assert len(others) == 5
    assert weights_key(ModelIdentity('m', 'a', 'key')) == 'key'


def test_a_weights_file_that_went_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='lost cannot be read'):
        weights_key(identity(tmp_path / 'lost'))
