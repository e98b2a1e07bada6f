"""The parts of training: order, prompts, decoding, settings."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_kdsam.core.errors import CheckpointError, ImageError
from napari_kdsam.core.geometry import Mask
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.config import ConfigError
from napari_kdsam.training.config_file import CONFIG_FOLDER, read_config, with_overrides
from napari_kdsam.training.data.order import StepSampler, whole_batches
from napari_kdsam.training.data.samples import Pixels, Sample
from napari_kdsam.training.data.store import ImageStore, Squares
from napari_kdsam.training.finetuning.batch_decoder import BatchPrompts, decode_batch
from napari_kdsam.training.finetuning.distance import depth_of
from napari_kdsam.training.finetuning.mask_targets import extents_of, mask_targets
from napari_kdsam.training.finetuning.simulated_prompts import (
    central_clicks,
    inner_clicks,
    simulated_boxes,
    simulated_corrections,
    simulated_first_clicks,
)
from napari_kdsam.training.initial_weights import starting_model
from napari_kdsam.training.parameter_groups import learning_groups
from napari_kdsam.training.randomness import Draws
from napari_kdsam.training.schedule import warmup_cosine
from napari_kdsam.training.squares import normalise

SQUARE = 256


def ready_configs() -> list[str]:
    names = {path.name for path in CONFIG_FOLDER.glob('*.yaml')}
    return sorted(names - {'things.yaml'})  # has its own form and tests


def discs(seed: int, count: int = 3) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    rows, columns = np.indices((SQUARE, SQUARE))
    masks = []
    for _ in range(count):
        row, column = generator.uniform(60, 190, 2)
        radius = generator.uniform(2, 55)
        masks.append((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)
    return torch.from_numpy(np.array(masks))


def draws(count: int, seed: int = 0) -> Draws:
    return Draws.of_names(seed, 0, [f'image {index}' for index in range(count)])


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    batch=st.integers(1, 7),
    world=st.integers(1, 3),
    balance=st.sampled_from([0.0, 0.5, 1.0]),
    start=st.integers(0, 30),
)
def test_processes_share_the_batches_of_one_and_a_resumed_order_goes_on(
    sizes: list[int], batch: int, world: int, balance: float, start: int
) -> None:
    groups = [f'set{i}' for i, size in enumerate(sizes) for _ in range(size)]
    whole = StepSampler(groups, batch * world, 7, balance)
    expected = list(islice(whole, start + 3))[start:]
    shares = [
        list(islice(StepSampler(groups, batch, 7, balance, rank, world, start), 3))
        for rank in range(world)
    ]
    for step, wanted in enumerate(expected):
        together = [item for share in shares for item in share[step]]
        assert sorted(together) == sorted(wanted)


def test_without_balance_each_pass_draws_every_sample_once() -> None:
    sampler = StepSampler(['a'] * 10 + ['b'] * 2, 4, seed=1)
    drawn = [index for batch in islice(sampler, 3) for index, _ in batch]
    assert sorted(drawn) == list(range(12))


def test_with_balance_small_data_sets_are_drawn_as_often_as_large_ones() -> None:
    sampler = StepSampler(['a'] * 90 + ['b'] * 10, 10, seed=1, balance=1.0)
    drawn = [index for batch in islice(sampler, 180) for index, _ in batch]
    assert 0.4 < np.mean(np.array(drawn) >= 90) < 0.6


class Readable:
    def __call__(self) -> tuple[Pixels, Mask]:
        mask = np.zeros((40, 80), bool)
        mask[10:20, 20:60] = True
        return np.full((40, 80, 3), 77, np.uint8), mask


class TwoOfThree:
    def __call__(self) -> tuple[Pixels, np.ndarray]:
        mask = np.zeros((512, 512), np.uint8)
        mask[50:150, 200:300] = 1
        mask[350:450, 200:300] = 3
        return np.zeros((512, 512, 3), np.uint8), mask


class Broken:
    def __call__(self) -> tuple[Pixels, Mask]:
        raise OSError('the disk is gone')


def test_an_unreadable_image_is_named_and_left_out() -> None:
    samples = [
        Sample('set', 'train', 'bad', read=Broken()),
        Sample('set', 'train', 'good', read=Readable()),
    ]
    store = ImageStore(samples, 512)
    assert [sample.name for sample in store.samples] == ['set/good']
    ((name, reason),) = store.failures.items()
    assert name == 'set/bad'
    assert 'the disk is gone' in reason
    assert (store.pixels[0, :, :256] == 77).all()
    assert len(ImageStore(samples[:1], 512)) == 0


def test_an_image_is_at_the_top_left_and_zeros_elsewhere() -> None:
    store = ImageStore([Sample('s', 'train', 'x', read=Readable())], 512)
    squares = store.batch([0], None, 0, 0, torch.device('cpu'))
    assert squares.sizes.tolist() == [[256, 512]]
    assert (squares.pixels[0, :, :256] == 77).all()
    assert not squares.pixels[0, :, 256:].any()
    assert not squares.masks[0, :, 256:].any()
    assert squares.masks[0, 0, 96, 256] == 1


def test_each_structure_of_an_image_is_drawn_by_itself() -> None:
    store = ImageStore([Sample('s', 'train', 'x', objects=3, read=TwoOfThree())], 512)
    assert store.numbers == [(1, 3)]
    seen = set()
    for step in range(20):
        squares = store.batch([0], None, 0, step, torch.device('cpu'))
        seen.add(tuple(squares.masks[0, 0, [100, 400], 256].tolist()))
    assert seen == {(1.0, 0.0), (0.0, 1.0)}
    chosen = store.batch([0, 0], [3, 1], 0, 0, torch.device('cpu'))
    assert chosen.masks[:, 0, 100, 256].tolist() == [0, 1]


def test_validation_looks_at_every_structure_once_in_batches() -> None:
    batches = whole_batches([(1,), (1, 3), (2,)], 3)
    pairs = [
        pair for b in batches for pair in zip(b['places'], b['numbers'], strict=True)
    ]
    assert pairs == [(0, 1), (1, 1), (1, 3), (2, 2)]
    assert [len(b['places']) for b in batches] == [3, 1]


def test_the_padding_is_zero_after_normalisation() -> None:
    pixels = torch.full((1, 3, 8, 8), 100.0)
    normal = normalise(pixels, torch.tensor([[8, 3]]))
    assert not normal[..., 3:].any()
    assert normal[..., :3].all()


@given(seed=st.integers(0, 99), jitter=st.sampled_from([0.0, 0.1, 0.4]))
def test_simulated_boxes_stay_in_the_image_and_are_never_much_too_small(
    seed: int, jitter: float
) -> None:
    extents = extents_of(discs(seed))
    sizes = torch.full((3, 2), SQUARE)
    boxes = simulated_boxes(extents, sizes, draws(3, seed), jitter).numpy()
    for exact, box in zip(4 * extents.numpy(), boxes, strict=True):
        inwards = (box - exact) * (1, 1, -1, -1)
        extent = np.tile(exact[2:] - exact[:2], 2)
        assert (inwards <= jitter * extent + 1e-3).all()
        assert jitter or (np.abs(box - exact) <= 1e-3).all()
        assert (box[2:] > box[:2]).all()
        assert box.min() >= 0 and box.max() <= 1024


def test_most_simulated_boxes_are_tight_and_a_few_loose() -> None:
    count = 600
    extents = torch.tensor([[100.0, 100.0, 140.0, 130.0]]).repeat(count, 1)
    sizes = torch.full((count, 2), SQUARE)
    boxes = simulated_boxes(extents, sizes, draws(count), 0.1).numpy() / 4
    off = np.abs(boxes - extents.numpy()) / np.array([40, 30, 40, 30])
    tight = (off <= 0.1 + 1e-6).all(1)
    assert 0.85 < tight.mean() < 0.97
    assert (off.max(0) > 0.15).all()


def test_a_speck_too_small_for_the_grid_widens_the_box_as_it_does_for_users() -> None:
    masks = torch.zeros(1, 1, 512, 512)
    masks[0, 0, 200:300, 240:320] = 1
    masks[0, 0, 0, 0] = 0.6
    squares = Squares(
        ['speck'],
        ['other'],
        torch.zeros(1, 3, 512, 512),
        masks,
        torch.tensor([[512, 512]]),
        draws(1),
        [0],
    )
    targets = mask_targets(squares)
    assert targets.there.tolist() == [1]
    assert not targets.truth[0, 0, 0]
    assert targets.extents.tolist() == [[0, 0, 160, 150]]


def test_an_object_too_small_for_the_grid_counts_for_nothing() -> None:
    masks = torch.zeros(2, 1, 512, 512)
    masks[0, 0, 0, 0] = 0.2
    masks[1, 0, 100:200, 100:200] = 1
    squares = Squares(
        ['speck', 'square'],
        ['other', 'other'],
        torch.zeros(2, 3, 512, 512),
        masks,
        torch.tensor([[512, 512]] * 2),
        draws(2),
        [0, 1],
    )
    targets = mask_targets(squares)
    assert targets.there.tolist() == [0, 1]
    assert targets.mean(torch.tensor([99.0, 0.5])) == 0.5


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 99))
def test_clicks_are_on_the_object_and_corrections_on_the_error(seed: int) -> None:
    truth, found = discs(seed), discs(seed + 1000)

    def values(points: torch.Tensor, masks: torch.Tensor) -> list[bool]:
        places = ((points.numpy() + 0.5) / 4 - 0.5).round().astype(int)
        return [bool(m[y, x]) for m, (x, y) in zip(masks, places, strict=True)]

    assert all(values(simulated_first_clicks(truth, draws(3, seed)), truth))
    assert all(values(central_clicks(truth), truth))
    assert all(values(inner_clicks(truth, draws(3, seed)), truth))
    points, labels = simulated_corrections(found, truth, draws(3, seed), 0)
    assert values(points, truth) == (labels > 0).tolist()
    assert values(points, found) == (labels == 0).tolist()


def test_first_clicks_are_half_at_the_middle_and_half_elsewhere() -> None:
    truth = discs(3, 1).expand(150, -1, -1)
    middle = central_clicks(truth)
    clicks = simulated_first_clicks(truth, draws(150))
    central = (clicks == middle).all(1).float().mean()
    assert 0.4 < central < 0.6
    assert len({tuple(click) for click in clicks.tolist()}) > 50


def test_a_perfect_answer_is_confirmed_inside() -> None:
    truth = discs(1)
    points, labels = simulated_corrections(truth, truth, draws(3), 0)
    assert labels.tolist() == [1, 1, 1]
    places = ((points + 0.5) / 4 - 0.5).round().long()
    assert all(bool(m[y, x]) for m, (x, y) in zip(truth, places, strict=True))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), height=st.integers(1, 40), width=st.integers(1, 40))
def test_depths_are_those_of_an_exact_distance_transform(
    seed: int, height: int, width: int
) -> None:
    generator = np.random.default_rng(seed)
    masks = generator.random((2, height, width)) < generator.uniform(0.3, 1)
    expected = [
        ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] for mask in masks
    ]
    depth = depth_of(torch.from_numpy(masks)).numpy()
    assert np.allclose(depth, expected, atol=1e-4)


@pytest.mark.parametrize('kind', ['box', 'points', 'both', 'logits'])
def test_batches_decode_as_each_image_does_alone(
    untrained: PromptableModel, kind: str
) -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(2, 256, 64, 64) * 0.1
    points = torch.rand(2, 3, 2) * 1000
    labels = torch.tensor([[1.0, 0, 1], [1, 1, 0]])
    boxes = torch.tensor([[10.0, 20, 300, 400], [50, 60, 800, 900]])
    logits = torch.randn(2, 1, 256, 256)
    prompts = BatchPrompts(
        points if kind != 'box' else None,
        labels if kind != 'box' else None,
        boxes if kind in ('box', 'both') else None,
        logits if kind == 'logits' else None,
    )
    with torch.no_grad():
        masks, scores = decode_batch(untrained, embeddings, prompts)
        for index in range(2):
            chosen = slice(index, index + 1)
            pair = (points[chosen], labels[chosen]) if kind != 'box' else None
            box = boxes[chosen] if kind in ('box', 'both') else None
            mask = logits[chosen] if kind == 'logits' else None
            for several, channels in ((False, slice(0, 1)), (True, slice(1, 4))):
                alone, score = untrained.decode(
                    embeddings[chosen], pair, box, mask, multimask_output=several
                )
                assert torch.allclose(masks[chosen, channels], alone, atol=1e-4)
                assert torch.allclose(scores[chosen, channels], score, atol=1e-4)


def test_only_what_has_a_rate_learns(untrained: PromptableModel) -> None:
    wanted = {name: p.requires_grad for name, p in untrained.named_parameters()}
    try:
        learning_groups(
            untrained,
            decoder_rate=1e-4,
            neck_rate=0.0,
            trunk_rate=1e-5,
            frozen=['stem', 'layer1', 'layer2', 'layer3'],
            weight_decay=0.1,
        )
        learning = {n for n, p in untrained.named_parameters() if p.requires_grad}
    finally:
        for name, parameter in untrained.named_parameters():
            parameter.requires_grad_(wanted[name])
    parts = {'.'.join(name.split('.')[:3]) for name in learning}
    assert 'encoder.trunk.layer4' in parts
    assert not any(part.startswith('encoder.neck') for part in parts)
    assert not any(part.startswith('prompt_encoder') for part in parts)
    assert {p for p in parts if p.startswith('encoder.trunk')} == {
        'encoder.trunk.layer4'
    }


@given(warmup=st.integers(0, 50), steps=st.integers(60, 500))
def test_the_rate_rises_then_falls(warmup: int, steps: int) -> None:
    rates = [warmup_cosine(step, warmup, steps) for step in range(steps + 1)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert rates[-1] < 0.02


@pytest.mark.parametrize('name', ready_configs())
def test_every_ready_configuration_is_valid(name: str) -> None:
    config = read_config(Path(name))
    assert config.name == Path(name).stem
    if config.encoder is not None and config.encoder.perceptual_weight > 0:
        assert config.teacher is not None
        assert config.teacher.perceptual_weights is not None


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('name: x\nspeed: 9\n', 'speed'),
        ('name: x\ndata: {sources: []}\n', 'data.sources'),
        ('name: x\ndata: {sources: [{folder: a, layout: dicom}]}\n', 'layout'),
        (
            'name: x\ndata: {sources: [{folder: a}]}\ndecoder: {steps: none}\n',
            r'decoder\.steps',
        ),
        ('name: [', 'not readable YAML'),
        ('name: ../x\ndata: {sources: [{folder: a}]}\n', 'name'),
    ],
)
def test_a_wrong_configuration_is_refused_by_the_name_of_the_field(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / 'mine.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_config(path)


def test_a_missing_configuration_lists_the_ready_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'smoke\.yaml'):
        read_config(tmp_path / 'nowhere.yaml')


def test_the_command_line_overrides_the_file_and_is_checked(tmp_path: Path) -> None:
    config = read_config(Path('smoke.yaml'))
    changed = with_overrides(config, tmp_path, {'devices': 2, 'strategy': None})
    assert (changed.loop.devices, changed.out) == (2, tmp_path)
    assert changed.loop.strategy == config.loop.strategy
    with pytest.raises(ConfigError, match='--strategy'):
        with_overrides(config, None, {'strategy': 'magic'})


def test_imagenet_weights_without_a_decoder_say_what_is_missing(
    tmp_path: Path,
) -> None:
    from safetensors.torch import save_file

    path = tmp_path / 'resnet.safetensors'
    save_file({'conv1.weight': torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(CheckpointError, match='initial_decoder'):
        starting_model(path, None, 512)


def test_a_512_checkpoint_can_start_a_1024_student(saved: Path) -> None:
    model = starting_model(saved, None, 1024)
    assert model.input_size == 1024


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 9))
def test_a_sample_without_its_file_is_an_image_error(seed: int) -> None:
    sample = Sample('set', 'train', f'x{seed}', read=Broken())
    with pytest.raises(ImageError, match=f'set/x{seed}'):
        sample.load()


def test_every_part_of_training_imports_where_torchvision_needs_help() -> None:
    command = """
import importlib, pkgutil
import napari_kdsam.training.lightning_loop
from napari_kdsam import training
for part in pkgutil.walk_packages(training.__path__, training.__name__ + '.'):
    importlib.import_module(part.name)
"""
    subprocess.run([sys.executable, '-c', command], check=True)
