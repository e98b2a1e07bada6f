"""The bundled model turns images and prompts into masks, by the stated rules."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_kdsam import (
    IntensityMapping,
    Predictor,
    Prompt,
    box_of_mask,
    load_model,
    logits_of_mask,
)
from napari_kdsam.core.errors import ImageError, PromptError
from napari_kdsam.inference import predictor as predictor_module
from napari_kdsam.model import network
from napari_kdsam.model.network import PromptableModel

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get('KDSAM_SHARED') or REPOSITORY.parent / 'shared')


@pytest.fixture(scope='module')
def model() -> PromptableModel:
    """The bundled weights in single precision, on the CPU."""
    return load_model(None, 'cpu', dtype=torch.float32)


@pytest.fixture(scope='module')
def predictor(model: PromptableModel) -> Predictor:
    return Predictor(model)


@dataclasses.dataclass
class Calls:
    """Counts the calls of a model's decoder."""

    decode: int = 0


@pytest.fixture
def calls(model: PromptableModel, monkeypatch: pytest.MonkeyPatch) -> Calls:
    counted, decode = Calls(), model.decode

    def counting(*args: Any, **options: Any) -> Any:
        counted.decode += 1
        return decode(*args, **options)

    monkeypatch.setattr(model, 'decode', counting)
    return counted


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def ellipse(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    """Mask of an ellipse; centre and radii are fractions of the shape."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    height, width = shape
    return ((rows / height - centre[0]) / radii[0]) ** 2 + (
        (columns / width - centre[1]) / radii[1]
    ) ** 2 <= 1


def drawing(mask: np.ndarray, *, colour: bool = False, seed: int = 0) -> np.ndarray:
    """A noisy 8-bit picture of a mask: bright on dark, or reddish on pink."""
    noise = np.random.default_rng(seed).normal(0, 6, mask.shape)
    if not colour:
        return (np.where(mask, 190, 60) + noise).clip(0, 255).astype(np.uint8)
    inside, outside = np.array([120, 60, 50]), np.array([210, 170, 160])
    picture = np.where(mask[..., None], inside, outside) + noise[..., None]
    return picture.clip(0, 255).astype(np.uint8)


def scene(shape: tuple[int, int] = (300, 400)) -> tuple[np.ndarray, list[np.ndarray]]:
    """An image with two separate objects, and their masks."""
    masks = [
        ellipse(shape, (0.35, 0.25), (0.2, 0.15)),
        ellipse(shape, (0.6, 0.7), (0.25, 0.15)),
    ]
    return drawing(masks[0] | masks[1]), masks


def polygon(shape: tuple[int, int]) -> np.ndarray:
    """Mask of an L, which is neither round nor convex."""
    mask = np.zeros(shape, bool)
    height, width = shape
    mask[height // 5 : height * 4 // 5, width // 4 : width // 2] = True
    mask[height * 3 // 5 : height * 4 // 5, width // 4 : width * 3 // 4] = True
    return mask


# Masks


@pytest.mark.parametrize(
    ('shape', 'colour'),
    [
        ((300, 300), False),
        ((200, 600), False),
        ((600, 200), True),
        ((64, 96), False),
        ((1200, 300), True),
        ((700, 900), False),
    ],
)
def test_a_box_around_an_ellipse_gives_the_ellipse(
    predictor: Predictor, shape: tuple[int, int], colour: bool
) -> None:
    mask = ellipse(shape, (0.45, 0.55), (0.25, 0.3))
    embedding = predictor.embed(drawing(mask, colour=colour))
    found = predictor.predict(embedding, Prompt(box=box_of_mask(mask)))
    assert found.mask.shape == shape
    assert found.mask.dtype == np.bool_
    assert overlap(found.mask, mask) > 0.92


@pytest.mark.parametrize('shape', [(240, 480), (480, 240)])
def test_a_box_around_a_shape_that_is_not_convex_gives_the_shape(
    predictor: Predictor, shape: tuple[int, int]
) -> None:
    mask = polygon(shape)
    embedding = predictor.embed(drawing(mask))
    found = predictor.predict(embedding, Prompt(box=box_of_mask(mask)))
    assert overlap(found.mask, mask) > 0.9


@pytest.mark.parametrize('modality', ['dermoscopy', 'endoscopy', 'ultrasound'])
def test_a_box_around_a_phantoms_target_gives_the_target(
    predictor: Predictor, modality: str
) -> None:
    phantoms = pytest.importorskip('napari_kdsam.phantoms')
    phantom = getattr(phantoms, f'{modality}_phantom')()
    embedding = predictor.embed(phantom.image)
    found = predictor.predict(embedding, Prompt(box=phantom.box))
    assert overlap(found.mask, phantom.mask) > 0.85


@pytest.mark.parametrize('modality', ['dermoscopy', 'endoscopy', 'ultrasound'])
def test_a_click_on_a_phantoms_target_offers_a_good_mask(
    predictor: Predictor, modality: str
) -> None:
    phantoms = pytest.importorskip('napari_kdsam.phantoms')
    phantom = getattr(phantoms, f'{modality}_phantom')()
    embedding = predictor.embed(phantom.image)
    found = predictor.predict(embedding, Prompt(points=[phantom.click]))
    assert max(overlap(c.mask, phantom.mask) for c in found.candidates) > 0.7


def test_each_box_gives_its_own_object(predictor: Predictor) -> None:
    image, masks = scene()
    embedding = predictor.embed(image)
    for mask in masks:
        found = predictor.predict(embedding, Prompt(box=box_of_mask(mask)))
        assert overlap(found.mask, mask) > 0.85


def test_a_point_outside_the_object_takes_that_part_away(predictor: Predictor) -> None:
    image, masks = scene()
    embedding = predictor.embed(image)
    box = box_of_mask(masks[0] | masks[1])
    row, column = 180, 280
    assert masks[1][row, column]
    found = predictor.predict(embedding, Prompt([(row, column)], [0], box))
    assert not found.mask[row, column]


def test_stored_values_in_other_units_give_nearly_the_same_mask(
    predictor: Predictor,
) -> None:
    image, (mask, _) = scene()
    prompt = Prompt(box=box_of_mask(mask))
    stored = image.astype(np.uint16) * 11 + 300
    mapping = IntensityMapping(300, 300 + 255 * 11)
    found = predictor.predict(predictor.embed(stored, mapping), prompt).mask
    expected = predictor.predict(predictor.embed(image), prompt).mask
    assert overlap(found, expected) > 0.98


@pytest.mark.parametrize('shape', [(1, 300), (300, 1), (5000, 3)])
def test_images_of_any_size_give_masks_of_their_size(
    predictor: Predictor, shape: tuple[int, int]
) -> None:
    embedding = predictor.embed(np.full(shape, 128, np.uint8))
    assert embedding.image_shape == shape
    for prompt in (Prompt(points=[(0, 0)]), Prompt(box=(0, 0, 1, 1))):
        found = predictor.predict(embedding, prompt)
        assert found.mask.shape == shape
        assert np.isfinite(found.logits).all()


def test_one_pixel_is_an_image_with_a_one_pixel_mask(predictor: Predictor) -> None:
    embedding = predictor.embed(np.array([[200]], np.uint8))
    for prompt in (Prompt(points=[(0, 0)]), Prompt(box=(0, 0, 1, 1))):
        found = predictor.predict(embedding, prompt)
        assert found.mask.shape == (1, 1)
        assert np.isfinite(found.logits).all()


def test_an_image_that_cannot_be_used_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ImageError):
        predictor.embed(np.zeros((3, 40, 50), np.uint8))
    with pytest.raises(ImageError):
        predictor.embed(np.full((40, 50), np.nan))


# Candidates


@pytest.mark.parametrize(
    ('prompt', 'count'),
    [
        (Prompt(points=[(100, 100)]), 3),
        (Prompt(points=[(100, 100), (120, 100)]), 1),
        (Prompt(points=[(100, 100), (10, 10)], labels=[1, 0]), 1),
        (Prompt(box=(40, 40, 160, 160)), 1),
        (Prompt(points=[(100, 100)], box=(40, 40, 160, 160)), 1),
        (Prompt(points=[(100, 100)], logits=np.zeros((256, 256), np.float32)), 1),
    ],
)
def test_only_one_point_by_itself_offers_three_candidates(
    predictor: Predictor, prompt: Prompt, count: int
) -> None:
    found = predictor.predict(predictor.embed(scene()[0]), prompt)
    assert len(found.candidates) == count


def test_the_best_candidate_is_the_one_with_the_highest_score(
    predictor: Predictor,
) -> None:
    image, masks = scene()
    found = predictor.predict(predictor.embed(image), Prompt(points=[(105, 100)]))
    assert found.score == max(candidate.score for candidate in found.candidates)
    assert found.best is found.candidates[found.best_index]
    np.testing.assert_array_equal(found.mask, found.best.mask)
    np.testing.assert_array_equal(found.logits, found.best.logits)


# Several objects


def assert_same(found: Any, expected: Any) -> None:
    assert len(found.candidates) == len(expected.candidates)
    for ours, theirs in zip(found.candidates, expected.candidates, strict=True):
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=2e-3)
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)


def test_boxes_share_one_decoder_call_and_give_what_each_gives_alone(
    predictor: Predictor, calls: Calls
) -> None:
    image, masks = scene()
    embedding = predictor.embed(image)
    prompts = [Prompt(box=box_of_mask(mask)) for mask in masks]
    prompts += [Prompt(box=(10, 200, 90, 390)), Prompt(box=(0, 0, 300, 400))]
    together = predictor.predict_many(embedding, prompts)
    assert calls.decode == 1
    for found, prompt in zip(together, prompts, strict=True):
        assert_same(found, predictor.predict(embedding, prompt))


def test_mixed_prompts_come_back_in_order_with_one_call_for_each_kind(
    predictor: Predictor, calls: Calls
) -> None:
    image, (left, right) = scene()
    embedding = predictor.embed(image)
    prompts = [
        Prompt(box=box_of_mask(left)),
        Prompt(points=[(105, 100)]),
        Prompt(box=box_of_mask(right)),
        Prompt(points=[(180, 280), (20, 20)], labels=[1, 0]),
        Prompt(points=[(180, 280)]),
        Prompt(points=[(180, 280)], labels=[0], box=box_of_mask(left)),
        Prompt(logits=logits_of_mask(right)),
        Prompt(logits=logits_of_mask(left)),
    ]
    together = predictor.predict_many(embedding, prompts)
    assert calls.decode == len({prompt.signature for prompt in prompts}) == 5
    for found, prompt in zip(together, prompts, strict=True):
        assert_same(found, predictor.predict(embedding, prompt))


def test_very_many_objects_take_few_calls_of_bounded_size(
    predictor: Predictor, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor_module, 'OBJECTS_PER_CALL', 3)
    embedding = predictor.embed(scene()[0])
    prompts = [Prompt(box=(9 * n, 8 * n, 9 * n + 80, 8 * n + 100)) for n in range(7)]
    found = predictor.predict_many(embedding, prompts)
    assert len(found) == 7
    assert calls.decode == 3
    for index in (0, 2, 3, 6):
        assert_same(found[index], predictor.predict(embedding, prompts[index]))


def test_no_objects_give_no_masks(predictor: Predictor, calls: Calls) -> None:
    assert predictor.predict_many(predictor.embed(scene()[0]), []) == []
    assert calls.decode == 0


def test_one_prompt_outside_the_image_stops_all_before_any_is_predicted(
    predictor: Predictor, calls: Calls
) -> None:
    embedding = predictor.embed(scene()[0])
    prompts = [Prompt(points=[(5, 5)]), Prompt(points=[(5, 400.6)])]
    with pytest.raises(PromptError, match='outside the image'):
        predictor.predict_many(embedding, prompts)
    assert calls.decode == 0


def test_a_box_beyond_the_image_counts_as_the_part_on_it(predictor: Predictor) -> None:
    embedding = predictor.embed(scene()[0])
    beyond = predictor.predict(embedding, Prompt(box=(-50, 100, 250, 900)))
    assert_same(beyond, predictor.predict(embedding, Prompt(box=(0, 100, 250, 400))))


# Earlier masks


def test_a_masks_logits_can_be_given_back_to_refine_it(predictor: Predictor) -> None:
    image, (left, _) = scene()
    embedding = predictor.embed(image)
    first = predictor.predict(embedding, Prompt(box=box_of_mask(left)))
    again = predictor.predict(
        embedding, Prompt(points=[(105, 100)], logits=first.logits)
    )
    assert overlap(again.mask, left) > 0.85


def test_a_drawn_mask_alone_says_which_object_is_meant(predictor: Predictor) -> None:
    image, masks = scene()
    embedding = predictor.embed(image)
    for mask in masks:
        found = predictor.predict(embedding, Prompt(logits=logits_of_mask(mask)))
        assert overlap(found.mask, mask) > 0.85


# Embeddings


@pytest.fixture
def quick(model: PromptableModel, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pixels the encoder was asked to embed; it answers without computing."""
    asked: list[Any] = []

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        asked.append(pixels)
        return torch.zeros(1, 256, 64, 64)

    monkeypatch.setattr(model, 'encode', encode)
    return asked


def test_an_embedding_is_made_once_for_equal_images(
    model: PromptableModel, quick: list[Any]
) -> None:
    predictor = Predictor(model)
    image = scene()[0]
    first = predictor.embed(image)
    assert predictor.embed(image) is first
    assert predictor.embed(image.copy()) is first
    assert predictor.embed(image[::-1, ::-1][::-1, ::-1]) is first
    assert predictor.embed(image[..., None]) is first
    assert len(quick) == 1


def test_a_changed_pixel_mapping_or_size_needs_a_new_embedding(
    model: PromptableModel, quick: list[Any]
) -> None:
    predictor = Predictor(model)
    image = scene()[0]
    embeddings = [predictor.embed(image)]
    changed = image.copy()
    changed[100, 100] ^= 64
    embeddings.append(predictor.embed(changed))
    embeddings.append(predictor.embed(image, IntensityMapping(20, 200)))
    embeddings.append(predictor.embed(image.repeat(2, axis=0).repeat(2, axis=1)))
    assert len(quick) == 4
    assert len({embedding.key for embedding in embeddings}) == 4
    assert embeddings[2].mapping == IntensityMapping(20, 200)
    assert embeddings[3].image_shape == (600, 800)


def test_another_model_needs_a_new_embedding(
    model: PromptableModel, quick: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(model)
    first = predictor.embed(scene()[0])
    other = dataclasses.replace(model.identity, key='another file')
    monkeypatch.setattr(model, 'identity', other)
    second = predictor.embed(scene()[0])
    assert len(quick) == 2
    assert first.key != second.key
    with pytest.raises(PromptError, match='another model'):
        predictor.predict(first, Prompt(points=[(5, 5)]))


def test_images_that_look_alike_but_differ_in_size_keep_their_own_size(
    model: PromptableModel, quick: list[Any]
) -> None:
    predictor = Predictor(model)
    for shape in [(100, 200), (200, 400), (1, 2)]:
        assert predictor.embed(np.zeros(shape, np.uint8)).image_shape == shape


def test_embeddings_leave_the_cache_when_its_memory_is_full(
    model: PromptableModel, quick: list[Any]
) -> None:
    predictor = Predictor(model, cache_bytes=9_000_000)
    images = [np.full((40, 50), value, np.uint8) for value in (10, 20, 30)]
    for image in images:
        assert predictor.embed(image).nbytes == 4 * 256 * 64 * 64
    assert len(predictor.cache) == 2
    predictor.embed(images[2])
    assert len(quick) == 3
    predictor.embed(images[0])
    assert len(quick) == 4


# Precision and parity


@pytest.fixture(scope='module')
def half() -> Predictor:
    return Predictor(load_model(None, 'cpu', dtype=torch.bfloat16))


def test_half_and_single_precision_agree(predictor: Predictor, half: Predictor) -> None:
    image, masks = scene()
    for mask in masks:
        prompt = Prompt(box=box_of_mask(mask))
        single = predictor.predict(predictor.embed(image), prompt)
        found = half.predict(half.embed(image), prompt)
        assert overlap(found.mask, single.mask) > 0.97


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_traced_decoder_gives_the_same_answers_for_all_kinds_of_prompts(
    dtype: torch.dtype,
) -> None:
    plain = Predictor(load_model(None, 'cpu', dtype=dtype))
    traced = Predictor(load_model(None, 'cpu', dtype=dtype))
    traced.model.trace_decoder()
    image, masks = scene()
    embedding = plain.embed(image)
    box = box_of_mask(masks[0])
    row, column = 0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3])
    points = [(row, column), (row + 2, column), (2.0, 2.0)]
    first = plain.predict(embedding, Prompt(points[:1]))
    several = [
        Prompt(points[:1]),
        Prompt(points, [1, 1, 0]),
        Prompt(box=box),
        Prompt(points[:2], box=box),
        Prompt(points[:1], logits=first.logits),
        *[Prompt(box=(1.0, 1.0, 20.0 + n, 30.0)) for n in range(5)],
    ]
    for one, other in zip(
        plain.predict_many(embedding, several),
        traced.predict_many(embedding, several),
        strict=True,
    ):
        assert len(one.candidates) == len(other.candidates)
        for a, b in zip(one.candidates, other.candidates, strict=True):
            np.testing.assert_allclose(a.logits, b.logits, atol=1e-3)
            assert a.score == pytest.approx(b.score, abs=1e-4)


def test_a_decoder_that_cannot_be_traced_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = Predictor(load_model(None, 'cpu', dtype=torch.float32))
    image, masks = scene()
    prompt = Prompt(box=box_of_mask(masks[0]))
    before = predictor.predict(predictor.embed(image), prompt)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError('tracing was removed')

    monkeypatch.setattr(torch.jit, 'trace', refuse)
    predictor.model.trace_decoder()
    after = predictor.predict(predictor.embed(image), prompt)
    np.testing.assert_array_equal(before.logits, after.logits)


def test_embeddings_of_another_precision_are_refused(
    predictor: Predictor, half: Predictor
) -> None:
    with pytest.raises(PromptError, match='another model'):
        half.predict(predictor.embed(scene()[0]), Prompt(points=[(5, 5)]))


@pytest.fixture
def reference() -> Iterator[Any]:
    path = SHARED / 'weights' / 'parity.npz'
    if not path.is_file():
        pytest.skip('parity.npz is not in the folder that KDSAM_SHARED names')
    with np.load(path) as stored:
        yield stored


def test_the_network_is_the_one_that_was_trained(reference: Any) -> None:
    # The reference was made with the first weights, not with those now bundled.
    weights = SHARED / 'weights' / 'kdsam-bootstrap.safetensors'
    if not weights.is_file():
        pytest.skip('kdsam-bootstrap is not in the folder that KDSAM_SHARED names')
    predictor = Predictor(load_model(weights, 'cpu', dtype=torch.float32))
    data_set, stem = str(reference['dataset']), str(reference['stem'])
    shard = SHARED / 'data' / f'{data_set}-val-00.tar'
    if not shard.is_file():
        pytest.skip(f'{shard.name} is not in the folder that KDSAM_SHARED names')
    with tarfile.open(shard) as tar:
        member = tar.extractfile(f'{stem}.jpg')
        assert member is not None
        image = np.asarray(Image.open(io.BytesIO(member.read())).convert('RGB'))
    embedding = predictor.embed(image)
    np.testing.assert_allclose(
        embedding.features.numpy(), reference['embedding'], atol=1e-3
    )
    box = tuple(float(value) for value in reference['box_row0_col0_row1_col1'])
    found = predictor.predict(embedding, Prompt(box=box))  # type: ignore[arg-type]
    np.testing.assert_allclose(found.logits, reference['logits'][0, 0], atol=0.05)


# Memory

LARGE_IMAGE = """
import resource, sys
import numpy as np
from napari_kdsam import Predictor, Prompt, load_model

def peak():
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == 'darwin' else used * 1024

predictor = Predictor(load_model())
before = peak()
side, centre, radius = 20_000, (9_000, 12_000), 3_000
image = np.full((side, side), 40, np.uint8)
r, c = np.ogrid[-radius : radius + 1, -radius : radius + 1]
disc = r * r + c * c <= radius * radius
corner = (centre[0] - radius, centre[1] - radius)
box = (*corner, corner[0] + 2 * radius + 1, corner[1] + 2 * radius + 1)
image[box[0] : box[2], box[1] : box[3]][disc] = 200
mask = predictor.predict(predictor.embed(image), Prompt(box=box)).mask
assert mask.shape == image.shape
inside = mask[box[0] : box[2], box[1] : box[3]]
union = mask.sum() + disc.sum() - (inside & disc).sum()
print(peak() - before, (inside & disc).sum() / union)
"""


def test_a_400_megapixel_image_takes_bounded_memory() -> None:
    pytest.importorskip('resource')
    finished = subprocess.run(
        [sys.executable, '-c', LARGE_IMAGE],
        env={**os.environ, 'PYTHONPATH': str(REPOSITORY / 'src')},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    growth, found = (float(word) for word in finished.stdout.split())
    # 0.4 GB each for the image and its mask, the rest to work with.
    assert growth < 1.6e9
    assert found > 0.85


def test_objects_decoded_in_parts_get_the_masks_of_one_call(
    untrained: PromptableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = 1024 * torch.rand(5, 2, 2, generator=torch.Generator().manual_seed(1))
    asked = (points, torch.ones(5, 2))
    embedding = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        parts = untrained.decode(embedding, asked, multimask_output=True)
        monkeypatch.setattr(network, '_OBJECTS_IN_CACHE', 5)
        whole = untrained.decode(embedding, asked, multimask_output=True)
    assert parts[0].shape == (5, 3, 256, 256)
    for some, every in zip(parts, whole, strict=True):
        torch.testing.assert_close(some, every, atol=1e-4, rtol=1e-4)
