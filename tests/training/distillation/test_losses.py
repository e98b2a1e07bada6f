"""Losses of stage 1: zero where equal, blind to padding, gradients only to the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.training.distillation.losses import (
    DistillationLoss,
    PerceptualLoss,
    VGG16Features,
    load_vgg16,
)
from napari_kdsam.training.embedding_distances import (
    cosine_distance,
    padding_weight,
    weighted_mse,
)
from napari_kdsam.training.teachers.projection import (
    Projection,
    ProjectionError,
    fit_projection,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embeddings(count: int = 1, size: int = 16, seed: int = 0) -> torch.Tensor:
    return noise(count, 256, size, size, seed=seed)


@pytest.fixture(scope='module')
def projection() -> Projection:
    return fit_projection(embeddings(2).numpy())


@pytest.fixture(scope='module')
def perceptual(projection: Projection) -> PerceptualLoss:
    torch.manual_seed(0)
    return PerceptualLoss(VGG16Features(), projection)


@pytest.fixture(params=['mse', 'cosine', 'perceptual', 'all'])
def loss(request: Any, perceptual: PerceptualLoss) -> Any:
    whole = DistillationLoss(perceptual, 0.5, 0.25)
    return {
        'mse': weighted_mse,
        'cosine': cosine_distance,
        'perceptual': perceptual,
        'all': lambda *arguments: whole(*arguments)['loss'],
    }[request.param]


def test_equal_embeddings_cost_nothing_and_different_ones_something(loss: Any) -> None:
    teacher = embeddings()
    assert float(loss(teacher.clone(), teacher)) == pytest.approx(0, abs=1e-5)
    near = float(loss(teacher + 0.1 * embeddings(seed=1), teacher))
    far = float(loss(teacher + embeddings(seed=1), teacher))
    assert 1e-4 < near < far


def test_gradients_are_finite_and_reach_only_the_student(loss: Any) -> None:
    student = embeddings(seed=1).requires_grad_()
    teacher = embeddings().requires_grad_()
    loss(student, teacher).backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_an_error_on_the_padding_counts_less_than_on_the_image(loss: Any) -> None:
    teacher = embeddings(size=64)
    weight = padding_weight(torch.tensor([[256, 512]]), 512)
    error = embeddings(size=64, seed=1)
    inside, outside = teacher.clone(), teacher.clone()
    inside[:, :, :32] += error[:, :, :32]
    outside[:, :, 32:] += error[:, :, 32:]
    on_image, on_padding = (loss(s, teacher, weight) for s in (inside, outside))
    assert 0 < float(on_padding) < 0.2 * float(on_image)
    unweighted = float(loss(outside, teacher))
    assert float(on_padding) < 0.5 * unweighted


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(1, 512), columns=st.integers(1, 512), outside=st.floats(0, 0.9))
def test_padding_weights_add_up_to_the_areas(
    rows: int, columns: int, outside: float
) -> None:
    weight = padding_weight(torch.tensor([[rows, columns]]), 512, 1.0, outside)
    share = rows * columns / 512**2
    assert weight.shape == (1, 1, 64, 64)
    assert float(weight.mean()) == pytest.approx(
        share + outside * (1 - share), rel=1e-4
    )
    full_rows, full_columns = rows // 8, columns // 8
    assert torch.all(weight[0, 0, :full_rows, :full_columns] == 1)
    assert weight[0, 0, -(-rows // 8) :].numel() == 0 or torch.allclose(
        weight[0, 0, -(-rows // 8) :], torch.tensor(outside)
    )


def test_weighted_mse_is_the_mean_over_the_weighted_cells() -> None:
    teacher = torch.zeros(1, 2, 1, 2)
    student = torch.tensor([[[[1.0, 3.0]], [[1.0, 3.0]]]])
    weight = torch.tensor([[[[3.0, 1.0]]]])
    assert float(weighted_mse(student, teacher, weight)) == pytest.approx(3.0)
    assert float(weighted_mse(student, teacher)) == pytest.approx(5.0)


def test_cosine_distance_ignores_length_and_is_two_for_opposites() -> None:
    teacher = embeddings()
    assert float(cosine_distance(3 * teacher, teacher)) == pytest.approx(0, abs=1e-5)
    assert float(cosine_distance(-teacher, teacher)) == pytest.approx(2, abs=1e-5)


def test_the_total_is_the_weighted_sum_of_the_parts(perceptual: PerceptualLoss) -> None:
    parts = DistillationLoss(perceptual, 0.5, 0.25)(embeddings(seed=1), embeddings())
    assert set(parts) == {'loss', 'mse', 'perceptual', 'cosine'}
    total = parts['mse'] + 0.5 * parts['perceptual'] + 0.25 * parts['cosine']
    assert float(parts['loss']) == pytest.approx(float(total))


def test_without_weights_the_loss_is_the_mean_squared_error_alone() -> None:
    parts = DistillationLoss()(embeddings(seed=1), embeddings())
    assert set(parts) == {'loss', 'mse'}
    with pytest.raises(ValueError, match='perceptual'):
        DistillationLoss(None, 1.0)
    with pytest.raises(ValueError, match='negative'):
        DistillationLoss(None, 0.0, -1.0)


def test_the_perceptual_loss_does_not_change_with_the_teachers_scale(
    perceptual: PerceptualLoss,
) -> None:
    teacher, student = embeddings(), embeddings(seed=1)
    scaled = fit_projection((10 * embeddings(2)).numpy())
    other = PerceptualLoss(perceptual.network, scaled)
    expected = float(perceptual(student, teacher))
    assert float(other(10 * student, 10 * teacher)) == pytest.approx(expected, rel=1e-3)


def test_the_projection_is_kept_in_the_state_of_the_loss(
    perceptual: PerceptualLoss, projection: Projection
) -> None:
    state = perceptual.state_dict()
    torch.manual_seed(1)
    other = PerceptualLoss(VGG16Features(), fit_projection(embeddings(2, seed=5)))
    other.load_state_dict(state)
    assert torch.equal(other.basis, projection.basis)
    pair = embeddings(seed=1), embeddings()
    assert torch.equal(other(*pair), perceptual(*pair))
    assert not any(p.requires_grad for p in perceptual.parameters())


def test_vgg_sees_zero_mean_unit_variance_channels_at_twice_the_size(
    perceptual: PerceptualLoss,
) -> None:
    perceptual_flat = PerceptualLoss(
        perceptual.network, fit_projection(embeddings(2).numpy()), upsample=1
    )
    image = perceptual_flat.image(embeddings(2))
    unit = (image * perceptual.image_std + perceptual.image_mean - 0.5) * 4
    assert unit.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (unit.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-2
    assert perceptual.image(embeddings()).shape == (1, 3, 32, 32)


def planted(seed: int, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(256, 3)))[0].T
    amplitudes = rng.normal(size=(count, 64, 3)) * (5.0, 3.0, 2.0)
    vectors = amplitudes @ directions + 100 + 0.01 * rng.normal(size=(count, 64, 256))
    return directions, vectors.transpose(0, 2, 1).reshape(count, 256, 8, 8)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_pca_recovers_a_planted_subspace_whatever_the_order(seed: int) -> None:
    directions, arrays = planted(seed)
    found = fit_projection(arrays, 'teacher-1')
    basis = found.basis.numpy().astype(float)
    assert np.allclose(basis @ basis.T, np.eye(3), atol=1e-5)
    assert np.allclose(np.linalg.norm(basis @ directions.T, axis=1), 1, atol=1e-3)
    assert float(found.explained.sum()) == pytest.approx(1, abs=0.01)
    assert np.all(np.diff(found.scale.numpy()) < 0)
    largest = np.abs(basis).argmax(axis=1)
    assert np.all(basis[np.arange(3), largest] > 0)
    vectors = np.moveaxis(arrays, 1, -1).reshape(-1, 256)
    assert np.allclose(found.mean.numpy(), vectors.mean(0), atol=1e-3)
    again = fit_projection([arrays[2:], *arrays[:2]])
    assert np.allclose(again.basis.numpy(), basis, atol=1e-4)


def test_a_projection_survives_saving(projection: Projection, tmp_path: Path) -> None:
    kept = Projection(
        projection.mean, projection.basis, projection.scale, projection.explained, 'sam'
    )
    kept.save(tmp_path / 'p.safetensors')
    read = Projection.load(tmp_path / 'p.safetensors')
    assert read.teacher_key == 'sam'
    for name in ('mean', 'basis', 'scale', 'explained'):
        assert torch.equal(getattr(read, name), getattr(kept, name))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'no projection'),
        (b'rubbish', 'not a readable'),
        ('shape', 'mean must be'),
    ],
)
def test_a_file_that_is_no_projection_is_refused(
    content: Any, message: str, projection: Projection, tmp_path: Path
) -> None:
    path = tmp_path / 'p.safetensors'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == 'shape':
        projection.save(path)
        tensors = {n: getattr(projection, n) for n in ('basis', 'scale', 'explained')}
        save_file({**tensors, 'mean': torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=message):
        Projection.load(path)


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ([], 'too few'),
        ([np.zeros((256, 4, 4))], 'fewer than three'),
        ([np.zeros((3, 4, 4))], 'shape'),
        ([np.full((256, 4, 4), np.nan)], 'finite'),
    ],
)
def test_embeddings_without_three_components_are_refused(
    arrays: list[np.ndarray], message: str
) -> None:
    with pytest.raises(ProjectionError, match=message):
        fit_projection(arrays)


def test_vgg_weights_load_under_torchvisions_names(tmp_path: Path) -> None:
    torch.manual_seed(3)
    deep = VGG16Features(['relu5_3'])
    names = {f'features.{n}.weight' for n in (0, 2, 5, 7, 10, 12, 14, 17, 28)}
    assert names <= set(deep.state_dict())
    path = tmp_path / 'vgg.safetensors'
    save_file(deep.state_dict(), path)
    network = load_vgg16(path)
    assert torch.equal(network.features[14].weight, deep.features[14].weight)
    shapes = [tuple(f.shape[1:]) for f in network(torch.zeros(1, 3, 32, 32))]
    assert shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]
    assert all(bool((f >= 0).all()) for f in network(noise(1, 3, 32, 32)))


def test_wrong_vgg_weights_and_layers_are_named(tmp_path: Path) -> None:
    path = tmp_path / 'vgg.safetensors'
    save_file({'features.0.weight': torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(CheckpointError, match=r'misses .*features'):
        load_vgg16(path)
    save_file({'conv1.weight': torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match='does not hold VGG16'):
        load_vgg16(path)
    with pytest.raises(ValueError, match='relu9_9'):
        VGG16Features(['relu9_9'])
