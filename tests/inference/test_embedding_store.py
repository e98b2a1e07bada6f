"""Embeddings on disk: found again, never mistaken, made again when damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam import Predictor, Prompt
from napari_kdsam.core.errors import ImageError, NotWrittenError
from napari_kdsam.core.sizes import EMBEDDING_SHAPE
from napari_kdsam.inference.embedding_store import EmbeddingStore

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)


def values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=EMBEDDING_SHAPE).astype(np.float16)


def test_an_embedding_comes_back_bit_by_bit_and_is_a_mapped_file(
    tmp_path: Path,
) -> None:
    store = EmbeddingStore(tmp_path / 'store.zarr')
    store.put('one', values(1))
    found = EmbeddingStore(tmp_path / 'store.zarr').get('one')
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, values(1))
    assert store.get('two') is None
    assert 'one' in store
    assert len(store) == 1


def test_zarr_itself_reads_a_store(tmp_path: Path) -> None:
    EmbeddingStore(tmp_path / 'store.zarr').put('one', values(1))
    group = zarr.open_group(str(tmp_path / 'store.zarr'), mode='r')
    np.testing.assert_array_equal(group['one'][:], values(1))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_change_of_a_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp('store')
    store = EmbeddingStore(folder)
    store.put('one', values(1))
    chunk = folder / 'one' / 'c' / '0' / '0' / '0'
    content = bytearray(chunk.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    chunk.write_bytes(content)
    assert store.get('one') is None
    assert store.damaged == 1
    assert 'one' not in store


@pytest.mark.parametrize('cut', [0, 100])
def test_a_cut_file_and_a_damaged_description_are_as_good_as_absent(
    tmp_path: Path, cut: int
) -> None:
    store = EmbeddingStore(tmp_path)
    for key in ('one', 'two', 'three'):
        store.put(key, values(1))
    chunk = tmp_path / 'one' / 'c' / '0' / '0' / '0'
    chunk.write_bytes(chunk.read_bytes()[:cut])
    (tmp_path / 'two' / 'zarr.json').write_text('{')
    (tmp_path / 'three' / 'zarr.json').write_text('[' * 100_000)
    assert store.get('one') is None
    assert store.get('two') is None
    assert store.get('three') is None
    assert store.damaged == 3


def test_a_predictor_embeds_an_image_once_for_all_runs(
    tmp_path: Path, fake_model: Any
) -> None:
    for _ in range(3):
        predictor = Predictor(fake_model, store=EmbeddingStore(tmp_path / 's'))
        embedding = predictor.embed(IMAGE)
        assert predictor.predict(embedding, Prompt([(20, 30)])).mask.any()
    assert fake_model.encoded == 1
    Predictor(fake_model, store=EmbeddingStore(tmp_path / 's')).embed(IMAGE[:, ::-1])
    assert fake_model.encoded == 2


def test_another_model_does_not_find_the_embedding(
    tmp_path: Path, fake_model: Any
) -> None:
    from fakes import FakeModel

    store = EmbeddingStore(tmp_path / 's')
    Predictor(fake_model, store=store).embed(IMAGE)
    other = FakeModel(key='other')
    Predictor(other, store=store).embed(IMAGE)
    assert other.encoded == 1


def test_a_store_that_cannot_be_written_stops_nobody(
    tmp_path: Path,
    fake_model: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = EmbeddingStore(tmp_path / 's')

    def full(*_: Any) -> None:
        raise NotWrittenError(
            'The embedding store s cannot be written (No space left).'
        )

    monkeypatch.setattr(store, 'put', full)
    predictor = Predictor(fake_model, store=store)
    with caplog.at_level('WARNING'):
        embedding = predictor.embed(IMAGE)
        predictor.embed(IMAGE[:, ::-1])
    assert embedding.features.shape == (1, *EMBEDDING_SHAPE)
    assert 'No space left' in predictor.store_problem
    assert caplog.text.count('No space left') == 1


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(ImageError, match='no embedding store'):
        EmbeddingStore(tmp_path)
    later = tmp_path / 'later'
    later.mkdir()
    described = {'attributes': {'napari-kdsam-embeddings': 2}}
    (later / 'zarr.json').write_text(json.dumps(described))
    with pytest.raises(ImageError, match='of this version'):
        EmbeddingStore(later)


def test_the_annotators_predictor_uses_the_store_of_the_preferences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_model: Any
) -> None:
    from napari_kdsam.model import loading
    from napari_kdsam.widgets.shared.inference_thread import make_predictor

    fake_model.trace_decoder = lambda: None
    monkeypatch.setattr(loading, 'load_model', lambda *_: fake_model)
    predictor = make_predictor('kdsam', 'cpu', str(tmp_path / 's'))
    predictor.embed(IMAGE)
    assert len(EmbeddingStore(tmp_path / 's')) == 1
    assert make_predictor('kdsam', 'cpu').store is None
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'notes.txt').write_text('mine')
    without = make_predictor('kdsam', 'cpu', str(tmp_path / 'other'))
    assert without.store is None
    assert 'no embedding store' in without.store_problem


def test_embeddings_named_by_the_date_of_the_weights_are_left_alone_with_one_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fake_model: Any
) -> None:
    place = tmp_path / 's'
    EmbeddingStore(place).put('one', values(1))
    described = json.loads((place / 'zarr.json').read_text())
    described['attributes'] = {'napari-kdsam-embeddings': 1}
    (place / 'zarr.json').write_text(json.dumps(described))
    with caplog.at_level('WARNING'):
        store = EmbeddingStore(place)
        assert '1 embeddings that are in s already are of an earlier' in caplog.text
        caplog.clear()
        Predictor(fake_model, store=store).embed(IMAGE)
        assert len(EmbeddingStore(place)) == 2
        assert not caplog.text


def test_nothing_in_a_store_tells_where_images_and_weights_are(
    tmp_path: Path, fake_model: Any
) -> None:
    store = EmbeddingStore(tmp_path / 's')
    Predictor(fake_model, store=store).embed(IMAGE)
    (array,) = [item for item in store.folder.iterdir() if item.is_dir()]
    assert re.fullmatch('[0-9a-f]{32}', array.name)
    described = json.loads((array / 'zarr.json').read_text())
    assert list(described['attributes']) == ['blake2b']
    group = json.loads((store.folder / 'zarr.json').read_text())
    assert set(group['attributes']) == {'napari-kdsam-embeddings', 'models'}
