"""Images in squares on the device, and the memory of their teacher's embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoder import TinyEncoder
from torch import nn

pytest.importorskip('monai', reason='needs the extra "training"')

from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.squares import extend_edges, mirror_squares
from napari_kdsam.training.teachers.memory import (
    TeacherMemory,
    TeacherMemoryError,
    allocate,
    fill_memory,
)
from napari_kdsam.training.teachers.teacher import Teacher

SIDE = 32
SHAPES = ((32, 20), (11, 32), (32, 32), (32, 1), (25, 32))
CPU = torch.device('cpu')


@pytest.fixture
def teacher() -> Teacher:
    model = PromptableModel(TinyEncoder(), nn.Identity(), nn.Linear(1, 1), 64)
    return Teacher(model.prepare(CPU, torch.float32), 'pixels', 'pixels-1')


class Store:
    """Random images at the top left of squares whose padding is filled with noise."""

    def __init__(self, shapes: tuple[tuple[int, int], ...] = SHAPES) -> None:
        rng = np.random.default_rng(0)
        self.images = [rng.integers(0, 256, (*s, 3), np.uint8) for s in shapes]
        self.pixels = torch.from_numpy(
            rng.integers(0, 256, (len(shapes), 3, SIDE, SIDE), np.uint8)
        )
        self.sizes = torch.tensor(shapes)
        for square, image in zip(self.pixels, self.images, strict=True):
            rows, columns = image.shape[:2]
            square[:, :rows, :columns] = torch.from_numpy(image.transpose(2, 0, 1))

    def __len__(self) -> int:
        return len(self.images)

    def squares(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pixels[indices], self.sizes[indices]


@pytest.fixture
def store() -> Store:
    return Store()


# Squares


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_images_are_extended_and_mirrored_within_their_squares(
    rows: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    square = rng.integers(0, 256, (2, 3, 6, 6), np.uint8)
    image = square[1, :, :rows, :columns]
    pixels, sizes = torch.from_numpy(square), torch.tensor([[6, 6], [rows, columns]])
    extended = extend_edges(pixels, sizes)
    assert torch.equal(extended[0], pixels[0])
    margins = ((0, 0), (0, 6 - rows), (0, 6 - columns))
    assert np.array_equal(extended[1].numpy(), np.pad(image, margins, 'edge'))
    mirrored = mirror_squares(pixels, sizes, torch.tensor([True, True])).numpy()
    assert np.array_equal(mirrored[0], square[0, :, :, ::-1])
    assert np.array_equal(mirrored[1, :, :rows, :columns], image[:, :, ::-1])


def test_squares_are_embedded_as_the_images_in_them(
    teacher: Teacher, store: Store
) -> None:
    found = teacher.embed_squares(store.pixels, store.sizes)
    assert found.shape == (5, 256, 64, 64) and found.dtype == torch.float32
    expected = teacher.embed(store.images)
    # Pillow rounds after each axis: up to 1/57 in each of the three channels mixed.
    assert (found - expected).abs().max() < 0.2 < expected.std()
    assert torch.equal(found == 0, expected == 0), 'the same padding'


@pytest.mark.parametrize('side', [64, 128])
def test_squares_of_the_teachers_own_size_or_a_larger_one_will_do(
    teacher: Teacher, side: int
) -> None:
    ramp = torch.linspace(0, 255, side).expand(1, 3, side, side)
    found = teacher.embed_squares(ramp, torch.tensor([[side // 2, side]]))
    image = np.round(ramp[0, :, : side // 2].numpy()).astype(np.uint8)
    expected = teacher.embed([image.transpose(1, 2, 0)])
    assert (found - expected).abs().max() < 0.1
    assert not found[:, :, 32:].any() and found[:, :, :32].any()


def test_embedded_squares_can_be_targets_of_a_loss(
    teacher: Teacher, store: Store
) -> None:
    student = torch.zeros(5, 256, 64, 64, requires_grad=True)
    (student * teacher.embed_squares(store.pixels, store.sizes)).sum().backward()
    assert student.grad is not None


@pytest.mark.parametrize('on_device', [True, False])
def test_the_memory_gives_each_images_and_its_mirror_images_embedding(
    teacher: Teacher, store: Store, monkeypatch: pytest.MonkeyPatch, on_device: bool
) -> None:
    seen = []
    memory = fill_memory(
        teacher, store, batch_size=2, progress=lambda *counts: seen.append(counts)
    )
    assert len(memory) == 5 and memory.views == ('identity', 'flip_columns')
    assert memory.teacher_key == 'pixels-1'
    assert teacher.model.encoder.batches == [2, 2, 2, 2, 1, 1]
    assert seen == [(4, 10), (8, 10), (10, 10)]
    monkeypatch.setattr(TeacherMemory, 'on_device', on_device)
    found = memory.get(torch.tensor([3, 0, 1]), torch.tensor([0, 1, 1]))
    images = [store.images[3], store.images[0][:, ::-1], store.images[1][:, ::-1]]
    expected = teacher.embed([np.ascontiguousarray(image) for image in images])
    assert found.dtype == torch.bfloat16 and found.shape == expected.shape
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.01)


def test_views_may_be_left_out_but_not_made_up(teacher: Teacher, store: Store) -> None:
    memory = fill_memory(teacher, store, ('identity',))
    assert memory.embeddings.shape == (5, 1, 256, 64, 64)
    for views in (('rotate_90',), ()):
        with pytest.raises(ValueError, match='identity, flip_columns'):
            fill_memory(teacher, store, views)


def test_an_embedding_that_is_not_finite_is_an_error_that_names_the_image(
    teacher: Teacher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = teacher.embed_squares

    def poisoned(pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        found = embed(pixels, sizes)
        found[torch.all(sizes == store.sizes[3], dim=1), 0, 0, 0] = torch.inf
        return found

    monkeypatch.setattr(teacher, 'embed_squares', poisoned)
    with pytest.raises(TeacherMemoryError, match='of image 3 is not finite'):
        fill_memory(teacher, store, batch_size=2)
    names = 'abcde'
    with pytest.raises(TeacherMemoryError, match=r'of busi/d\.jpg is not finite'):
        fill_memory(teacher, store, describe=lambda n: f'busi/{names[n]}.jpg')


def test_embeddings_lie_on_the_device_only_where_they_leave_enough_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device, size = torch.device('cuda', 0), 2 * 2 * 256 * 64 * 64
    places = []
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (size + 10, 10**12))
    monkeypatch.setattr(
        torch, 'empty', lambda *args, **options: places.append(options['device'])
    )
    allocate(2, 1, device, reserve=0)
    allocate(1, 2, device, reserve=10)
    allocate(1, 2, device, reserve=11)
    allocate(1, 3, device, reserve=0)
    assert places == [device, device, CPU, CPU]


def test_too_little_memory_is_said_in_one_sentence(
    teacher: Teacher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TeacherMemoryError, match=r'GiB, more memory than there is'):
        allocate(10**9, 2, CPU)

    def full(pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(teacher, 'embed_squares', full)
    with pytest.raises(TeacherMemoryError, match='with 3 images at once.*smaller'):
        fill_memory(teacher, store, batch_size=3)
