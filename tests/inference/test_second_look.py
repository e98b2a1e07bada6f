"""A second look sees small objects of large images whole, and puts them back exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import SeeingModel
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam import (
    IntensityMapping,
    Prediction,
    Predictor,
    Prompt,
    box_of_mask,
    logits_of_mask,
    look_again,
)
from napari_kdsam.inference.masks import mask_of_logits
from napari_kdsam.inference.second_look import (
    masks_of_prompts,
    second_window,
    worth_a_second_look,
)
from napari_kdsam.inference.windows import (
    CloseUp,
    logits_in_window,
    prompt_in_window,
    shape_of,
    window_around,
)

SHAPE = (1001, 1203)
OBJECT = (403, 517, 464, 568)


def drawn(
    shape: tuple[int, int], box: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """An image with one bright rectangle, and its mask."""
    mask = np.zeros(shape, bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    return np.where(mask, 255, 0).astype(np.uint8), mask


def looked(
    image: np.ndarray, prompt: Prompt, mapping: IntensityMapping | None = None
) -> tuple[Prediction, Prediction | None, SeeingModel]:
    model = SeeingModel()
    predictor = Predictor(model)  # type: ignore[arg-type]
    embedding = predictor.embed(image, mapping)
    first = predictor.predict(embedding, prompt)
    return first, look_again(predictor, image, embedding, prompt, first), model


def box_prompt(box: tuple[int, ...]) -> Prompt:
    row0, col0, row1, col1 = box
    return Prompt(box=(row0, col0, row1, col1))


@pytest.mark.parametrize(
    ('shape', 'box'),
    [
        (SHAPE, OBJECT),
        (SHAPE, (0, 0, 43, 61)),
        (SHAPE, (1001 - 37, 1203 - 51, 1001, 1203)),
        (SHAPE, (0, 1100, 60, 1177)),
        ((1600, 41), (800, 3, 861, 33)),
        ((41, 1601), (3, 800, 33, 861)),
        ((2011, 1999), (1907, 11, 1937, 42)),
    ],
)
def test_what_the_second_look_finds_is_in_its_place_to_the_pixel(shape, box) -> None:
    image, mask = drawn(shape, box)
    first, second, model = looked(image, box_prompt(box))
    assert second is not None
    np.testing.assert_array_equal(second.mask, mask)
    assert (first.mask != mask).any(), 'else the first look would do'
    assert model.encoded == 2


@pytest.mark.parametrize('kind', ['rgb', 'rgba', 'uint16', 'float', 'bool', 'one row'])
def test_a_window_is_the_same_picture_whatever_the_pixels_are(kind) -> None:
    image, mask = drawn(SHAPE, OBJECT)
    pixels: Any = {
        'rgb': np.repeat(image[..., None], 3, axis=-1),
        'rgba': np.dstack([image, image, image, np.full_like(image, 255)]),
        'uint16': image.astype(np.uint16) * 40 + 900,
        'float': image / 255.0 - 3,
        'bool': image > 0,
        'one row': image[None],
    }[kind]
    _, second, _ = looked(pixels, box_prompt(OBJECT))
    assert second is not None
    np.testing.assert_array_equal(second.mask, mask)


def test_intensities_are_mapped_as_on_the_whole_image() -> None:
    image, mask = drawn(SHAPE, OBJECT)
    dim = np.where(mask, 600, 0).astype(np.uint16)
    # Beyond the window, but it sets the upper end for the whole image.
    dim[:200, :200] = 1000
    _, second, model = looked(dim, box_prompt(OBJECT))
    assert second is not None
    assert model.shown[1].max() == pytest.approx(0.6 * 255, abs=1)
    displayed = IntensityMapping(0, 1200)
    _, second, model = looked(dim, box_prompt(OBJECT), displayed)
    assert model.shown[1].max() == pytest.approx(0.5 * 255, abs=1)


@pytest.mark.parametrize('shape', [(1, 1), (1, 300), (512, 512), (300, 512)])
def test_an_image_that_the_network_saw_whole_is_never_looked_at_again(shape) -> None:
    image = np.full(shape, 255, np.uint8)
    _, second, model = looked(image, Prompt([(0, 0)]))
    assert second is None
    assert model.encoded == 1


def test_a_large_object_is_not_looked_at_again() -> None:
    box = (100, 100, 900, 1000)
    image, _ = drawn(SHAPE, box)
    for prompt in (box_prompt(box), Prompt([(500, 500)])):
        _, second, model = looked(image, prompt)
        assert second is None
        assert model.encoded == 1


def test_the_rule_wants_a_reduced_image_and_a_small_object() -> None:
    small, large = (0, 0, 60, 90), (0, 0, 60, 900)
    assert worth_a_second_look((1000, 1500), small, 512)
    assert not worth_a_second_look((1000, 1500), large, 512)
    assert not worth_a_second_look((400, 500), small, 512)
    assert not worth_a_second_look((1000, 1500), small, 2048)


def test_an_object_that_reaches_out_of_the_window_keeps_its_first_mask() -> None:
    image, _ = drawn(SHAPE, (480, 100, 520, 1100))
    _, second, model = looked(image, Prompt(box=(470.0, 500.0, 530.0, 560.0)))
    assert second is None
    assert model.encoded == 2


def test_an_object_at_the_edge_of_the_image_does_not_reach_out_of_the_window() -> None:
    box = (960, 0, 1001, 50)
    image, mask = drawn(SHAPE, box)
    _, second, _ = looked(image, Prompt([(980, 20)]))
    assert second is not None
    np.testing.assert_array_equal(second.mask, mask)


def test_a_second_look_that_finds_nothing_keeps_the_first_mask() -> None:
    image = np.zeros(SHAPE, np.uint8)
    first, second, _ = looked(image, Prompt(box=(470.0, 500.0, 530.0, 560.0)))
    assert not first.mask.any()
    assert second is None


def test_an_answer_of_lower_predicted_overlap_keeps_the_first_mask() -> None:
    image, _ = drawn(SHAPE, OBJECT)
    model = SeeingModel(score=0.8)
    predictor = Predictor(model)  # type: ignore[arg-type]
    embedding, prompt = predictor.embed(image), Prompt([(430, 540)])
    first = predictor.predict(embedding, prompt)
    assert look_again(predictor, image, embedding, prompt, first) is None
    assert look_again(predictor, image, embedding, prompt, first, 0) is not None


def test_a_click_without_a_mask_has_nowhere_to_look_again() -> None:
    _, second, model = looked(np.zeros(SHAPE, np.uint8), Prompt([(500, 500)]))
    assert second is None
    assert model.encoded == 1


def test_the_prompt_and_the_first_answer_are_asked_again_in_the_window() -> None:
    image, _ = drawn(SHAPE, OBJECT)
    inside, near, far = (430.0, 540.0), (400.0, 500.0), (10.0, 10.0)
    prompt = Prompt([inside, near, far], [1, 0, 0], box=OBJECT)
    first, _, model = looked(image, prompt)
    predictor = Predictor(model)  # type: ignore[arg-type]
    window = second_window(predictor, prompt, first.best)
    assert window is not None
    asked = model.asked[-1]
    scale = 1024 / shape_of(window)[0]
    places, labels = asked['points']
    assert labels.tolist() == [[1, 0]], 'the one far away says nothing here'
    moved = (places[0, 0].numpy() + 0.5) / scale - 0.5
    np.testing.assert_allclose(moved, (540 - window[1], 430 - window[0]), atol=1e-3)
    np.testing.assert_allclose(
        asked['boxes'][0].numpy() / scale,
        np.array([517, 403, 568, 464]) - [window[1], window[0]] * 2,
        atol=1e-3,
    )
    part = mask_of_logits(asked['logits'][0, 0].numpy(), shape_of(window))
    row0, col0, row1, col1 = window
    there = first.mask[row0:row1, col0:col1]
    assert (part & there).sum() > 0.97 * (part | there).sum()


def test_a_click_inside_beyond_the_first_mask_widens_the_window() -> None:
    image, _ = drawn(SHAPE, OBJECT)
    beyond = (430.0, 700.0)
    prompt = Prompt([(430.0, 540.0), beyond])
    first, _, model = looked(image, prompt)
    window = second_window(Predictor(model), prompt, first.best)  # type: ignore[arg-type]
    assert window is not None
    assert window[3] > 700
    assert model.asked[-1]['points'][1].tolist() == [[1, 1]]


def test_the_chosen_candidate_is_improved_in_its_place_and_the_others_stay() -> None:
    image, mask = drawn(SHAPE, OBJECT)
    predictor = Predictor(SeeingModel())  # type: ignore[arg-type]
    embedding, prompt = predictor.embed(image), Prompt([(430, 540)])
    first = predictor.predict(embedding, prompt)
    best = look_again(predictor, image, embedding, prompt, first)
    other = look_again(predictor, image, embedding, prompt, first, 2)
    assert best is not None
    assert other is not None
    assert best.best_index == other.best_index == first.best_index == 1
    assert best.score == pytest.approx(0.95)
    assert other.score == pytest.approx(0.9), 'though the improved one scores higher'
    np.testing.assert_array_equal(best.mask, mask)
    np.testing.assert_array_equal(other.candidates[2].mask, mask)
    assert best.candidates[::2] == first.candidates[::2]
    assert other.candidates[:2] == first.candidates[:2]
    np.testing.assert_array_equal(best.logits, first.logits)


def test_a_mask_that_was_looked_at_again_is_not_looked_at_a_third_time() -> None:
    image, _ = drawn(SHAPE, OBJECT)
    predictor = Predictor(SeeingModel())  # type: ignore[arg-type]
    embedding, prompt = predictor.embed(image), box_prompt(OBJECT)
    first = predictor.predict(embedding, prompt)
    second = look_again(predictor, image, embedding, prompt, first)
    assert second is not None
    assert look_again(predictor, image, embedding, prompt, second) is None


def test_the_same_window_is_encoded_once_and_never_stored() -> None:
    class Store:
        """Notes the keys it is asked for."""

        def __init__(self) -> None:
            self.keys: list[str] = []

        def get(self, key: str) -> None:
            self.keys.append(key)

        def put(self, key: str, values: np.ndarray) -> np.ndarray:
            return values

    image, _ = drawn(SHAPE, OBJECT)
    model, store = SeeingModel(), Store()
    predictor = Predictor(model, store=store)  # type: ignore[arg-type]
    embedding, prompt = predictor.embed(image), box_prompt(OBJECT)
    first = predictor.predict(embedding, prompt)
    for _ in range(2):
        assert look_again(predictor, image, embedding, prompt, first) is not None
    assert model.encoded == 2
    assert store.keys == [embedding.key]


def test_several_objects_are_each_looked_at_again_or_none_is() -> None:
    image, mask = drawn(SHAPE, OBJECT)
    far, far_mask = drawn(SHAPE, (900, 1100, 950, 1160))
    image |= far
    model = SeeingModel()
    predictor = Predictor(model)  # type: ignore[arg-type]
    embedding = predictor.embed(image)
    prompts = [box_prompt(OBJECT), box_prompt((900, 1100, 950, 1160))]
    found = list(masks_of_prompts(predictor, image, embedding, prompts))
    np.testing.assert_array_equal(found[0][0], mask)
    np.testing.assert_array_equal(found[1][0], far_mask)
    assert [score for _, score in found] == pytest.approx([0.95, 0.95])
    once = list(
        masks_of_prompts(predictor, image, embedding, prompts, second_look=False)
    )
    for (mask, score), prediction in zip(
        once, predictor.predict_many(embedding, prompts), strict=True
    ):
        np.testing.assert_array_equal(mask, prediction.mask)
        assert score == prediction.score
    assert model.encoded == 3


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_window_holds_the_box_and_lies_within_the_image(data) -> None:
    shape = (data.draw(st.integers(1, 3000)), data.draw(st.integers(1, 3000)))
    sides = []
    for size in shape:
        low = data.draw(st.floats(0, size - 0.01))
        sides.append((low, data.draw(st.floats(low + 0.005, size))))
    (row0, row1), (col0, col1) = sides
    factor = data.draw(st.floats(1, 4))
    least = data.draw(st.integers(1, 100))
    window = window_around((row0, col0, row1, col1), shape, factor, least)
    assert 0 <= window[0] <= row0 < row1 <= window[2] <= shape[0]
    assert 0 <= window[1] <= col0 < col1 <= window[3] <= shape[1]
    side = max(factor * max(row1 - row0, col1 - col0), least)
    for length, size in zip(shape_of(window), shape, strict=True):
        assert min(side, size) <= length <= side + 3


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_logits_are_cut_to_a_window_where_they_lie(data) -> None:
    shape = (data.draw(st.integers(200, 900)), data.draw(st.integers(200, 900)))
    centre = [data.draw(st.floats(0.3, 0.7)) * size for size in shape]
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= 50**2
    around = box_of_mask(mask)
    assert around is not None
    window = window_around(around, shape, data.draw(st.floats(1.5, 2.5)))
    cut = logits_in_window(logits_of_mask(mask), shape, window)
    found = CloseUp(window, cut).mask(shape)
    assert (found & mask).sum() > 0.95 * (found | mask).sum()


def test_a_prompt_is_translated_and_its_logits_left_to_the_caller() -> None:
    logits = np.zeros((256, 256), np.float32)
    prompt = Prompt([(5, 6), (50, 60)], [0, 1], (40.0, 50.0, 70.0, 80.0), logits)
    moved = prompt_in_window(prompt, (30, 40, 90, 100))
    assert moved.points == ((20, 20),)
    assert moved.labels == (1,)
    assert moved.box == (10, 10, 40, 40)
    assert moved.logits is None


def test_the_bundled_model_does_no_worse_on_a_small_object_of_a_large_frame() -> None:
    from PIL import Image

    from napari_kdsam import load_model
    from napari_kdsam.phantoms import dermoscopy_phantom

    def dice(some: np.ndarray, other: np.ndarray) -> float:
        return float(2 * (some & other).sum() / (some.sum() + other.sum()))

    phantom = dermoscopy_phantom(3, (450, 600))
    skin = Image.fromarray(phantom.image).resize((1600, 1200))
    image = np.asarray(skin).copy()
    # The whole phantom, small, in skin: its own edges enlarged.
    image[:] = image[:40, :40].mean(axis=(0, 1))
    image[500:950, 700:1300] = phantom.image
    truth = np.zeros(image.shape[:2], bool)
    truth[500:950, 700:1300] = phantom.mask
    predictor = Predictor(load_model(None, 'cpu'))
    embedding = predictor.embed(image)
    around = box_of_mask(truth)
    assert around is not None
    prompt = box_prompt(around)
    first = predictor.predict(embedding, prompt)
    second = look_again(predictor, image, embedding, prompt, first)
    assert second is not None
    assert dice(second.mask, truth) >= dice(first.mask, truth)
