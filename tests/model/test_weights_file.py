"""Weights files told from others by their content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.model.network import ModelIdentity
from napari_kdsam.model.weights_file import earlier_weights_key, weights_key


def test_a_model_is_the_same_wherever_and_whenever_its_files_were_put(
    tmp_path: Path,
) -> None:
    files = [tmp_path / name for name in ('a', 'b', 'c')]
    for path, content in zip(files, (b'one', b'two', b'one'), strict=True):
        path.write_bytes(content)
    a, b, c = files
    os.utime(c, (1, 1))
    assert weights_key(a) == weights_key(c)
    assert weights_key(a, b) == weights_key(c, b)
    others = {weights_key(*p) for p in ([a], [b], [a, b], [b, a], [a, c])}
    assert len(others) == 5


def test_a_weights_file_that_went_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='lost cannot be read'):
        weights_key(tmp_path / 'lost')


def test_a_batch_of_an_earlier_version_is_known_by_place_and_date_of_the_weights(
    tmp_path: Path,
) -> None:
    a, b = tmp_path / 'a', tmp_path / 'b'
    a.write_bytes(b'one')
    b.write_bytes(b'two!')
    os.utime(a, ns=(7, 7))
    os.utime(b, ns=(8, 8))
    both = ModelIdentity('m', 'a', 'key', str(a), parts=(str(b),))
    assert earlier_weights_key(both) == f'{a.resolve()}:3:7+{b.resolve()}:4:8'
    assert earlier_weights_key(ModelIdentity('m', 'a', 'key')) == 'key'
