"""Prompts say where an object is, or are refused with a sentence that says why."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam import Prompt
from napari_kdsam.core.errors import KDSAMError, PromptError
from napari_kdsam.core.geometry import PaddedSquare

unhurried = settings(deadline=None)
coordinates = st.floats(-1e5, 1e5)
points_with_labels = st.lists(
    st.tuples(st.tuples(coordinates, coordinates), st.integers(0, 1)), max_size=8
)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """Boxes with an area, corners in order."""
    row, column = draw(coordinates), draw(coordinates)
    return row, column, row + draw(st.floats(1, 1e4)), column + draw(st.floats(1, 1e4))


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """Valid prompts without logits."""
    marked, box = draw(points_with_labels), draw(st.none() | boxes())
    if box is None and all(label == 0 for _, label in marked):
        marked.append(((draw(coordinates), draw(coordinates)), 1))
    return Prompt([point for point, _ in marked], [label for _, label in marked], box)


def flat(value: float = 1.0) -> np.ndarray:
    return np.full((256, 256), value, np.float32)


def test_points_without_labels_are_inside_the_object() -> None:
    prompt = Prompt(points=[(1, 2), (3, 4)])
    assert prompt.points == ((1.0, 2.0), (3.0, 4.0))
    assert prompt.labels == (1, 1)


def test_arrays_are_as_good_as_lists() -> None:
    prompt = Prompt(
        points=np.array([[1, 2], [3, 4]]),  # type: ignore[arg-type]
        labels=np.array([1, 0]),  # type: ignore[arg-type]
        box=np.array([0, 0, 9, 9]),  # type: ignore[arg-type]
    )
    assert prompt.points == ((1.0, 2.0), (3.0, 4.0))
    assert prompt.labels == (1, 0)
    assert prompt.box == (0.0, 0.0, 9.0, 9.0)
    assert json.loads(json.dumps(prompt.to_dict())) == prompt.to_dict()


@pytest.mark.parametrize(
    'arguments',
    [
        {},
        {'points': []},
        {'points': [(1, 2)], 'labels': [0]},
        {'points': [(1, 2), (3, 4)], 'labels': [0, 0]},
    ],
)
def test_a_prompt_that_does_not_say_where_the_object_is_is_refused(
    arguments: dict[str, Any],
) -> None:
    with pytest.raises(PromptError, match='Say where the object is'):
        Prompt(**arguments)


@pytest.mark.parametrize('helper', [{'box': (0, 0, 9, 9)}, {'logits': flat()}])
def test_points_outside_the_object_may_trim_a_box_or_an_earlier_mask(
    helper: dict[str, Any],
) -> None:
    assert Prompt(points=[(1, 2)], labels=[0], **helper).labels == (0,)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'points': [(1, 2)], 'labels': [1, 0]}, '1 points but 2 labels'),
        ({'points': [(1, 2)], 'labels': []}, '1 points but 0 labels'),
        ({'box': (0, 0, 5, 5), 'labels': [1]}, '0 points but 1 labels'),
        ({'points': [(1, 2)], 'labels': [2]}, 'must be 1 .* or 0'),
        ({'points': [(1, 2)], 'labels': [-1]}, 'must be 1 .* or 0'),
        ({'points': [(1, 2)], 'labels': ['1']}, 'must be 1 .* or 0'),
        ({'points': [(1, 2)], 'labels': [0.5]}, 'must be 1 .* or 0'),
        ({'points': [(1, 2, 3)]}, 'A point must be 2 numbers'),
        ({'points': [(1,)]}, 'A point must be 2 numbers'),
        ({'points': [5]}, 'A point must be 2 numbers'),
        ({'points': [(np.nan, 2)]}, 'A point must be 2 numbers'),
        ({'points': [(np.inf, 2)]}, 'A point must be 2 numbers'),
        ({'points': ['ab']}, 'A point must be 2 numbers'),
        ({'points': [(1, None)]}, 'A point must be 2 numbers'),
        ({'box': (0, 0, 5)}, 'A box must be 4 numbers'),
        ({'box': (0, 0, 5, np.nan)}, 'A box must be 4 numbers'),
        ({'box': 7}, 'A box must be 4 numbers'),
        ({'box': (3, 0, 3, 9)}, 'no area'),
        ({'box': (0, 4, 9, 4)}, 'no area'),
        ({'logits': np.zeros((64, 64))}, r'\(256, 256\)'),
        ({'logits': np.zeros((1, 256, 256))}, r'\(256, 256\)'),
        ({'logits': flat(np.nan)}, 'finite'),
        ({'logits': flat(np.inf)}, 'finite'),
    ],
)
def test_values_of_the_wrong_form_are_refused_by_name(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        Prompt(**arguments)


def test_every_refusal_is_one_of_the_packages_errors_and_a_value_error() -> None:
    with pytest.raises(KDSAMError) as refusal:
        Prompt()
    assert isinstance(refusal.value, ValueError)


@unhurried
@given(boxes())
def test_a_box_drawn_in_any_direction_is_the_same_box(
    box: tuple[float, float, float, float],
) -> None:
    row0, col0, row1, col1 = box
    for rows, columns in itertools.product(
        [(row0, row1), (row1, row0)], [(col0, col1), (col1, col0)]
    ):
        drawn = (rows[0], columns[0], rows[1], columns[1])
        assert Prompt(box=drawn).box == box


def test_logits_are_kept_as_single_precision() -> None:
    prompt = Prompt(logits=np.full((256, 256), 0.5))
    assert prompt.logits is not None
    assert prompt.logits.dtype == np.float32
    assert (prompt.logits == 0.5).all()


@pytest.mark.parametrize(
    ('prompt', 'ambiguous'),
    [
        (Prompt(points=[(1, 1)]), True),
        (Prompt(points=[(1, 1), (2, 2)]), False),
        (Prompt(points=[(1, 1)], box=(0, 0, 5, 5)), False),
        (Prompt(points=[(1, 1)], logits=flat()), False),
        (Prompt(box=(0, 0, 5, 5)), False),
        (Prompt(logits=flat()), False),
    ],
)
def test_only_a_single_point_by_itself_is_ambiguous(
    prompt: Prompt, ambiguous: bool
) -> None:
    assert prompt.ambiguous is ambiguous


def test_prompts_of_the_same_make_up_have_the_same_signature() -> None:
    one = Prompt(points=[(1, 1), (2, 2)], labels=[1, 0])
    assert one.signature == Prompt(points=[(9, 9), (3, 5)]).signature
    others = [
        Prompt(points=[(1, 1)]),
        Prompt(points=[(1, 1), (2, 2)], box=(0, 0, 5, 5)),
        Prompt(points=[(1, 1), (2, 2)], logits=flat()),
        Prompt(box=(0, 0, 5, 5)),
    ]
    assert len({one.signature, *(other.signature for other in others)}) == 5


@pytest.mark.parametrize('point', [(-0.6, 3), (3, -1), (10, 3), (3, 19.6), (1e9, 1e9)])
def test_a_point_outside_the_image_is_refused(point: tuple[float, float]) -> None:
    with pytest.raises(PromptError, match=r'outside the image \(10 rows, 20 columns\)'):
        Prompt(points=[(1, 1), point]).within(PaddedSquare((10, 20), 1024))


def test_a_point_anywhere_on_a_border_pixel_is_on_the_image() -> None:
    square = PaddedSquare((10, 20), 1024)
    corners = [(-0.5, -0.5), (9.5, 19.5), (0, 19), (9, 0)]
    assert len(Prompt(points=corners).within(square).points) == 4


@pytest.mark.parametrize(
    'box', [(-9, 0, -1, 5), (0, -9, 5, 0), (10, 0, 15, 5), (0, 20, 5, 25)]
)
def test_a_box_outside_the_image_is_refused(box: Any) -> None:
    with pytest.raises(PromptError, match='The box .* is outside the image'):
        Prompt(box=box).within(PaddedSquare((10, 20), 1024))


def test_a_box_partly_outside_the_image_is_cut_to_it() -> None:
    prompt = Prompt(points=[(1, 2)], labels=[0], box=(-5, 4, 7, 99), logits=flat(2))
    cut = prompt.within(PaddedSquare((10, 20), 1024))
    assert (cut.points, cut.labels) == (prompt.points, prompt.labels)
    assert cut.box == (0.0, 4.0, 7.0, 20.0)
    assert cut.logits is not None
    assert (cut.logits == 2).all()


@unhurried
@given(prompts())
def test_a_prompt_survives_being_written_as_json_and_read(prompt: Prompt) -> None:
    read = Prompt.from_dict(json.loads(json.dumps(prompt.to_dict())))
    assert read.points == prompt.points
    assert read.labels == prompt.labels
    assert read.box == prompt.box


def test_what_is_not_there_is_not_written() -> None:
    assert Prompt(box=(0, 0, 5, 5)).to_dict() == {'box': [0, 0, 5, 5]}
    assert set(Prompt(points=[(1, 2)]).to_dict()) == {'points', 'labels'}
    assert 'logits' not in Prompt(points=[(1, 2)], logits=flat()).to_dict()


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ({'points': [[1, 2]], 'colour': 'red'}, "Unknown key 'colour'"),
        ({'point': [[1, 2]]}, "Unknown key 'point'"),
        ([[1, 2]], 'An object must be written as'),
        (None, 'An object must be written as'),
        ('points', 'An object must be written as'),
        ({}, 'Say where the object is'),
        ({'points': 5}, 'must be lists'),
        ({'points': {'a': 1}}, 'must be lists'),
        ({'points': [[1, 2]], 'labels': 1}, 'must be lists'),
        ({'points': [[1, 'x']]}, 'A point must be 2 numbers'),
        ({'points': [[1, 2]], 'labels': [None]}, 'must be 1 .* or 0'),
        ({'box': [1, 2, 3]}, 'A box must be 4 numbers'),
        ({'box': 'none'}, 'A box must be 4 numbers'),
    ],
)
def test_anything_else_read_from_a_file_is_refused(value: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompt.from_dict(value)


@unhurried
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(['points', 'labels', 'box', 'other']), inner
            )
        ),
        max_leaves=10,
    )
)
def test_no_json_value_breaks_reading_in_any_other_way(value: Any) -> None:
    try:
        assert isinstance(Prompt.from_dict(value), Prompt)
    except PromptError as refusal:
        assert len(str(refusal)) > 20


def test_ragged_logits_are_refused_in_one_sentence() -> None:
    with pytest.raises(PromptError, match='256'):
        Prompt(logits=[[1, 2], [3]])
