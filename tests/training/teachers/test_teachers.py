"""Teachers, exact views and the cache of embeddings, which survives being killed."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_encoder import TinyEncoder
from torch import nn

from napari_kdsam import Predictor
from napari_kdsam.core.errors import CheckpointError, ImageError, ModelNotFoundError
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.teachers import cache as cache_module
from napari_kdsam.training.teachers.cache import (
    CorruptEmbeddingError,
    DiskFullError,
    EmbeddingCache,
    EmbeddingCacheError,
)
from napari_kdsam.training.teachers.fill import fill_cache
from napari_kdsam.training.teachers.teacher import (
    Teacher,
    open_teacher,
    weights_digest,
)
from napari_kdsam.training.teachers.views import (
    INVERSE_VIEW,
    VIEWS,
    apply_view,
)

SHARD = 3
forks = pytest.mark.skipif(sys.platform != 'linux', reason='forks its writer')


def tiny_teacher(key: str = 'tiny-1') -> Teacher:
    model = PromptableModel(TinyEncoder(), nn.Identity(), nn.Linear(1, 1), 64)
    model.prepare(torch.device('cpu'), torch.float32)
    return Teacher(model, 'tiny', key)


@pytest.fixture
def teacher() -> Teacher:
    return tiny_teacher()


def picture(seed: int, shape: tuple[int, int] = (20, 30)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def sample(seed: int, shape: tuple[int, int] = (20, 30)) -> Sample:
    mask = np.ones(shape, bool)
    return Sample('busi', 'train', f'{seed}', read=lambda: (picture(seed, shape), mask))


def embedding(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(256, 64, 64)).astype(np.float16)


def shard_files(folder: Path) -> list[Path]:
    return sorted(
        p for p in (folder / 'embeddings.zarr' / 'c').rglob('*') if p.is_file()
    )


def damage(path: Path) -> None:
    with path.open('r+b') as file:
        file.seek(1000)
        file.write(b'\xff\x13\xff\x13')


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, 'SHARD_IMAGES', SHARD)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / 'cache'


@pytest.fixture
def opened(folder: Path) -> Callable[..., EmbeddingCache]:
    def make(key: str = 'tiny-1', **options: Any) -> EmbeddingCache:
        return EmbeddingCache(folder, key, 'tiny', **options)

    return make


# Views


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))),
    st.sampled_from(VIEWS),
)
def test_each_view_is_undone_by_its_inverse(array: Any, view: str) -> None:
    seen = apply_view(array, view)
    assert seen.flags.c_contiguous and seen.dtype == array.dtype
    assert np.array_equal(apply_view(seen, INVERSE_VIEW[view]), array)
    assert sorted(seen.ravel()) == sorted(array.ravel())
    assert np.array_equal(apply_view(array[..., 0], view), seen[..., 0])


def test_views_do_what_their_names_say() -> None:
    array = np.array([[1, 2, 3], [4, 5, 6]])
    assert apply_view(array, 'flip_columns').tolist() == [[3, 2, 1], [6, 5, 4]]
    assert apply_view(array, 'flip_rows').tolist() == [[4, 5, 6], [1, 2, 3]]
    assert apply_view(array, 'rotate_90').tolist() == [[3, 6], [2, 5], [1, 4]]
    with pytest.raises(ValueError, match='sideways'):
        apply_view(array, 'sideways')


# Teachers


def test_a_teacher_embeds_as_the_predictor_does_in_batches_by_shape(
    teacher: Teacher,
) -> None:
    images = [picture(0), picture(1, (30, 20)), picture(2), picture(3, (40, 60))]
    found = teacher.embed(images)
    assert found.shape == (4, 256, 64, 64) and found.dtype == torch.float32
    assert sorted(teacher.model.encoder.batches) == [1, 3]
    for image, own in zip(images, found, strict=True):
        expected = Predictor(teacher.model).embed(image).features[0]
        assert torch.allclose(own, expected, atol=1e-5)


def test_embeddings_can_be_targets_of_a_loss(teacher: Teacher) -> None:
    student = torch.zeros(1, 256, 64, 64, requires_grad=True)
    (student * teacher.embed([picture(0)])).sum().backward()
    assert student.grad is not None


def test_a_teachers_decoder_is_frozen_but_lets_gradients_through(saved: Path) -> None:
    teacher = open_teacher(saved, 'cpu', torch.bfloat16)
    assert teacher.key == f'resnet50-v1-fpn-p3-{weights_digest(saved)}-bfloat16'
    prompt_encoder, mask_decoder = teacher.decoder()
    parameters = [*prompt_encoder.parameters(), *mask_decoder.parameters()]
    assert parameters and not any(p.requires_grad for p in parameters)
    features = torch.zeros(1, 256, 64, 64, requires_grad=True)
    sparse, dense = prompt_encoder(
        points=(torch.ones(1, 1, 2), torch.ones(1, 1)), boxes=None, masks=None
    )
    logits, _ = mask_decoder(
        image_embeddings=features,
        image_pe=prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    logits.sum().backward()
    assert features.grad is not None and features.grad.abs().sum() > 0


def write_onnx_encoder(path: Path, seed: int = 0) -> None:
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(256, 3, 16, 16)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node('Conv', ['x', 'w'], ['y'], strides=[16, 16])],
        'encoder',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 3, 1024, 1024])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, 256, 64, 64])],
        [numpy_helper.from_array(weight, 'w')],
    )
    opset = helper.make_opsetid('', 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def test_a_teachers_key_follows_its_bytes_and_not_its_place(tmp_path: Path) -> None:
    path, copy = tmp_path / 'encoder.onnx', tmp_path / 'copied.onnx'
    write_onnx_encoder(path)
    copy.write_bytes(path.read_bytes())
    key = open_teacher(path, 'cpu').key
    assert open_teacher(copy, 'cpu').key == key and str(tmp_path) not in key
    write_onnx_encoder(copy, seed=1)
    assert open_teacher(copy, 'cpu').key != key


def test_an_onnx_encoder_teaches_without_a_decoder(tmp_path: Path) -> None:
    path = tmp_path / 'encoder.onnx'
    write_onnx_encoder(path)
    teacher = open_teacher(path, 'cpu')
    assert teacher.name == 'encoder' and teacher.input_size == 1024
    assert teacher.key.startswith('onnx-')
    found = teacher.embed([picture(0), picture(1)])
    assert found.shape == (2, 256, 64, 64) and found.std() > 0
    assert torch.allclose(found[1], teacher.embed([picture(1)])[0])
    assert not teacher.has_decoder
    with pytest.raises(CheckpointError, match='sam_prompt_mask_decoder'):
        teacher.decoder()


def test_unknown_teachers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match='no weights file'):
        open_teacher(tmp_path / 'missing.onnx', 'cpu')
    with pytest.raises(ModelNotFoundError):
        open_teacher('nobody', 'cpu')


# The cache


def test_embeddings_come_back_as_they_were_put(opened: Any, folder: Path) -> None:
    keys = [f'k{n}' for n in range(5)]
    with opened(writable=True) as cache:
        cache.put(keys, np.stack([embedding(n) for n in range(5)]).astype(np.float32))
        assert np.array_equal(cache.get('k4'), embedding(4)), 'not flushed yet'
    reader = opened()
    assert len(reader) == 5 and reader.missing([*keys, 'k9', 'k9']) == ['k9']
    for number, key in enumerate(keys):
        found = reader.get(key)
        assert found.dtype == np.float16
        assert np.array_equal(found, embedding(number))
    array = zarr.open_array(folder / 'embeddings.zarr', mode='r')
    assert array.metadata.zarr_format == 3
    assert array.chunks == (1, 256, 64, 64) and array.shards == (SHARD, 256, 64, 64)
    with pytest.raises(KeyError):
        reader.get('k9')


@settings(deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3)))
)
def test_a_key_names_the_pixels_their_shape_and_the_view(image: Any) -> None:
    keys = {EmbeddingCache.content_key(image, view) for view in VIEWS}
    assert len(keys) == len(VIEWS)
    assert EmbeddingCache.content_key(image.copy()) in keys
    other = image.copy()
    other[0, 0, 0] ^= 1
    assert EmbeddingCache.content_key(other) not in keys
    flat = image.reshape(1, -1, 3)
    same_shape = flat.shape == image.shape
    assert (EmbeddingCache.content_key(flat) in keys) == same_shape


def test_a_flushed_shard_is_never_written_again(opened: Any, folder: Path) -> None:
    with opened(writable=True) as cache:
        cache.put(['a'], embedding(0)[None])
        cache.flush()
        (first,) = shard_files(folder)
        before = (first.read_bytes(), first.stat().st_mtime_ns)
        cache.put(['b', 'a'], np.stack([embedding(1), embedding(2)]))
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before
    assert len(shard_files(folder)) == 2
    assert np.array_equal(opened().get('a'), embedding(2)), 'the last one counts'


def test_another_teachers_cache_is_refused_by_both_names(opened: Any) -> None:
    opened(writable=True).close()
    for writable in (True, False):
        with pytest.raises(EmbeddingCacheError, match=r'tiny \(tiny-1\).*tiny-2'):
            opened('tiny-2', writable=writable)
    opened(writable=True).close()


def test_values_that_16_bits_cannot_hold_are_refused_whole(opened: Any) -> None:
    with opened(writable=True) as cache:
        for bad in (np.nan, np.inf, 1e6):
            values = np.zeros((2, 256, 64, 64), np.float32)
            values[1, 3, 2, 1] = bad
            with pytest.raises(EmbeddingCacheError, match=r'embedding of b .*finite'):
                cache.put(['a', 'b'], values)
        assert 'a' not in cache
        with pytest.raises(EmbeddingCacheError, match='shape'):
            cache.put(['a'], np.zeros((256, 64, 64)))


def test_a_damaged_embedding_is_noticed_and_can_be_replaced(
    opened: Any, folder: Path
) -> None:
    with opened(writable=True) as cache:
        cache.put(['a', 'b'], np.stack([embedding(0), embedding(1)]))
    damage(shard_files(folder)[0])
    with opened(writable=True) as cache:
        with pytest.raises(CorruptEmbeddingError, match='embedding a '):
            cache.get('a')
        assert cache.missing(['a', 'b']) == ['a']
        assert np.array_equal(cache.get('b'), embedding(1))
        cache.put(['a'], embedding(0)[None])
    assert np.array_equal(opened().get('a'), embedding(0))


@pytest.mark.parametrize('how', ['gone', 'cut'])
def test_a_lost_or_cut_shard_is_never_read_as_zeros(
    opened: Any, folder: Path, how: str
) -> None:
    with opened(writable=True) as cache:
        cache.put(['a'], embedding(0)[None])
    (shard,) = shard_files(folder)
    if how == 'gone':
        shard.unlink()
    else:
        os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(CorruptEmbeddingError):
        opened().get('a')


def test_a_torn_line_of_the_index_does_not_count(opened: Any, folder: Path) -> None:
    with opened(writable=True) as cache:
        cache.put(['a', 'b'], np.stack([embedding(0), embedding(1)]))
    index = folder / 'index.jsonl'
    index.write_bytes(index.read_bytes()[:-5])
    reader = opened()
    assert 'a' in reader and 'b' not in reader
    with opened(writable=True) as cache:
        cache.put(['c'], embedding(2)[None])
    assert [json.loads(line)['key'] for line in index.open()] == ['a', 'c']
    assert np.array_equal(opened().get('c'), embedding(2))


def _write_and_hang(folder: Path, place: str, ready: Any) -> None:
    cache = EmbeddingCache(folder, 'tiny-1', 'tiny', writable=True)
    cache.put(['a', 'b', 'c'], np.stack([embedding(n) for n in range(3)]))
    cache.put(['d', 'e'], np.stack([embedding(3), embedding(4)]))

    def hang(*arguments: Any) -> None:
        ready.set()
        time.sleep(60)

    if place == 'before the index':
        cache._index.append = hang  # type: ignore[method-assign]
        cache.flush()
    hang()


@forks
@pytest.mark.parametrize('place', ['before the index', 'before the shard'])
def test_what_was_finished_survives_a_killed_writer(
    opened: Any, folder: Path, place: str
) -> None:
    context = multiprocessing.get_context('fork')
    ready = context.Event()
    writer = context.Process(target=_write_and_hang, args=(folder, place, ready))
    writer.start()
    assert ready.wait(20)
    try:
        with pytest.raises(EmbeddingCacheError, match=f'process {writer.pid} on '):
            opened(writable=True)
        assert np.array_equal(opened().get('b'), embedding(1)), 'readers may look on'
    finally:
        writer.kill()
        writer.join()
    leftover = folder / 'embeddings.zarr' / 'c' / '1' / '0' / '0' / '0.x.partial'
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(b'torn')
    with opened(writable=True) as cache:
        assert cache.missing('abcde') == ['d', 'e']
        cache.put(['d'], embedding(7)[None])
    assert not leftover.exists()
    reader = opened()
    assert all(np.array_equal(reader.get(k), embedding(n)) for n, k in enumerate('abc'))
    assert np.array_equal(reader.get('d'), embedding(7))


@pytest.mark.parametrize('where', ['shard', 'index'])
def test_a_full_disk_is_said_and_costs_nothing_finished(
    opened: Any, folder: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    async def full_store(*arguments: Any, **options: Any) -> None:
        full()

    cache = opened(writable=True)
    cache.put(['a', 'b', 'c'], np.stack([embedding(n) for n in range(3)]))
    cache.put(['d'], embedding(3)[None])
    index = (folder / 'index.jsonl').read_bytes()
    with monkeypatch.context() as patch:
        if where == 'shard':
            patch.setattr(zarr.storage.LocalStore, 'set', full_store)
        else:
            patch.setattr(os, 'fsync', full)
        with pytest.raises(DiskFullError, match=r'full: 3 embeddings .* free some'):
            cache.flush()
    assert (folder / 'index.jsonl').read_bytes() == index
    cache.close()
    with opened(writable=True) as again:
        assert again.missing('abcd') == ['d']
        again.put(['d'], embedding(3)[None])
    assert np.array_equal(opened().get('d'), embedding(3))


def test_two_writers_are_not_let_in_even_from_one_process(opened: Any) -> None:
    with (
        opened(writable=True),
        pytest.raises(EmbeddingCacheError, match=f'process {os.getpid()} '),
    ):
        opened(writable=True)
    opened(writable=True).close()


def test_a_reader_cannot_write_and_needs_a_cache(opened: Any, tmp_path: Path) -> None:
    with pytest.raises(EmbeddingCacheError, match='no embedding cache'):
        opened()
    opened(writable=True).close()
    with pytest.raises(EmbeddingCacheError, match='reading only'):
        opened().put(['a'], embedding(0)[None])


def test_a_folder_with_other_files_is_not_made_a_cache(
    opened: Any, folder: Path
) -> None:
    folder.mkdir()
    (folder / 'thesis.docx').write_text('mine')
    with pytest.raises(EmbeddingCacheError, match='other files'):
        opened(writable=True)
    assert (folder / 'thesis.docx').read_text() == 'mine'


def test_a_copy_for_a_data_loader_worker_reads(opened: Any) -> None:
    with opened(writable=True) as cache:
        cache.put(['a'], embedding(0)[None])
        cache.flush()
        copy = pickle.loads(pickle.dumps(cache))
        assert not copy.writable
        assert np.array_equal(copy.get('a'), embedding(0))


# Filling


def test_filling_embeds_each_view_once_and_goes_on_where_it_stopped(
    opened: Any, teacher: Teacher
) -> None:
    samples = [sample(0), sample(1, (30, 20)), sample(2), sample(0)]
    views = ('identity', 'rotate_90')
    seen: list[tuple[int, int]] = []
    with opened(writable=True) as cache:
        first = fill_cache(cache, teacher, samples[:1], views)
        rest = fill_cache(
            cache, teacher, samples, views, 2, lambda *at: seen.append(at)
        )
    assert (first.done, first.already, first.failed) == (2, 0, {})
    assert (rest.done, rest.already, rest.failed) == (4, 4, {})
    assert seen[-1] == (8, 8) and seen == sorted(seen)
    reader = opened()
    for item in samples:
        image, _ = item.load()
        for view in views:
            found = reader.get(reader.content_key(image, view))
            expected = teacher.embed([apply_view(image, view)])[0].half().numpy()
            assert np.allclose(found, expected, atol=2e-2)


def test_an_unreadable_image_is_named_and_the_others_are_done(
    opened: Any, teacher: Teacher
) -> None:
    def broken() -> Any:
        raise ImageError('busi/broken cannot be read (torn).')

    samples = [sample(0), Sample('busi', 'train', 'broken', read=broken), sample(1)]
    with opened(writable=True) as cache:
        report = fill_cache(cache, teacher, samples, batch_size=2)
    assert report.done == 2
    assert report.failed == {'busi/broken': 'busi/broken cannot be read (torn).'}
    assert '1 images failed' in report.describe()


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e6])
def test_an_embedding_that_is_not_finite_is_refused_by_name(
    opened: Any, teacher: Teacher, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = teacher.embed

    def spoilt(images: Any) -> torch.Tensor:
        found = embed(images)
        for own, image in zip(found, images, strict=True):
            if np.array_equal(image, picture(1)):
                own[5, 6, 7] = value
        return found

    monkeypatch.setattr(teacher, 'embed', spoilt)
    with opened(writable=True) as cache:
        report = fill_cache(cache, teacher, [sample(0), sample(1)], batch_size=2)
        assert report.done == 1 and list(report.failed) == ['busi/1']
        assert 'not finite' in report.failed['busi/1']
        assert cache.content_key(picture(1)) not in cache


def test_filling_again_replaces_what_was_damaged(
    opened: Any, folder: Path, teacher: Teacher
) -> None:
    samples = [sample(n) for n in range(4)]
    with opened(writable=True) as cache:
        fill_cache(cache, teacher, samples)
    damage(shard_files(folder)[0])
    with opened(writable=True) as cache:
        report = fill_cache(cache, teacher, samples)
    assert (report.done, report.repaired, report.already) == (1, 1, 3)
    reader = opened()
    assert all(reader.get(reader.content_key(picture(n))).any() for n in range(4))


def test_another_teacher_cannot_fill_the_cache(opened: Any) -> None:
    with (
        opened(writable=True) as cache,
        pytest.raises(EmbeddingCacheError, match=r'tiny-1.*tiny-2'),
    ):
        fill_cache(cache, tiny_teacher('tiny-2'), [sample(0)])
