"""Prompts as JSON and tables: what is read back, and how mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.prompts import ObjectPrompt, Prompt, PromptSet
from napari_kdsam.io.prompts import read_prompts, write_prompts

BOX = {'box': [1, 2, 30, 40]}

coordinates = st.floats(-10, 1e4, allow_nan=False)
points = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=4)
boxes = st.tuples(
    st.floats(0, 10), st.floats(0, 10), st.floats(11, 99), st.floats(11, 99)
)


@st.composite
def objects(draw: st.DrawFn) -> ObjectPrompt:
    chosen = draw(points)
    box = draw(st.none() | boxes)
    labels = [1, *draw(st.lists(st.integers(0, 1), min_size=3, max_size=3))]
    prompt = Prompt(chosen, labels[: len(chosen)], box)
    return ObjectPrompt(prompt, draw(st.none() | st.integers(0, 99)))


def plain(items: tuple[ObjectPrompt, ...]) -> list[dict[str, Any]]:
    return [item.to_dict() for item in items]


def problem_with(tmp_path: Path, content: object) -> str:
    path = tmp_path / 'clicks.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(PromptError) as caught:
        read_prompts(path)
    message = str(caught.value)
    assert 'clicks.json' in message
    assert str(tmp_path) not in message
    return message


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(items=st.lists(objects(), min_size=1, max_size=4), by_image=st.booleans())
def test_prompts_are_read_back_as_written(
    tmp_path: Path, items: list[ObjectPrompt], by_image: bool
) -> None:
    written = (
        PromptSet(images={'a ü.png': tuple(items), 'b.png': tuple(items[:1])})
        if by_image
        else PromptSet(shared=tuple(items))
    )
    write_prompts(tmp_path / 'p.json', written)
    read = read_prompts(tmp_path / 'p.json')
    assert plain(read.for_image('a ü.png')) == plain(tuple(items))
    if by_image:
        assert plain(read.for_image('b.png')) == plain(tuple(items[:1]))


def test_labels_left_out_mean_inside_and_frames_left_out_mean_every_frame(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'p.json'
    path.write_text('{"format": 1, "objects": [{"points": [[3, 4], [5.5, 6]]}]}')
    (found,) = read_prompts(path).for_image('any.png')
    assert found.prompt.points == ((3, 4), (5.5, 6))
    assert found.prompt.labels == (1, 1)
    assert found.in_frame(0)
    assert found.in_frame(77)


def test_an_object_of_one_frame_is_in_that_frame_only(tmp_path: Path) -> None:
    path = tmp_path / 'p.json'
    path.write_text(json.dumps({'format': 1, 'objects': [{**BOX, 'frame': 7}]}))
    (found,) = read_prompts(path).for_image('any.png')
    assert found.in_frame(7)
    assert not found.in_frame(0)


def test_what_a_result_adds_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / 'p.json'
    result = {'label': 1, 'frames': []}
    value = {
        'format': 1,
        'image': {'name': 'a.png'},
        'objects': [{**BOX, 'result': result}],
        'result': {'device': 'cpu'},
    }
    path.write_text(json.dumps(value))
    assert read_prompts(path).for_image('a.png')[0].prompt.box == (1, 2, 30, 40)


def test_a_file_saved_by_windows_notepad_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'p.json'
    path.write_text(json.dumps({'format': 1, 'objects': [BOX]}), encoding='utf-8-sig')
    assert len(read_prompts(path).shared) == 1


def test_an_image_that_is_not_listed_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'p.json'
    path.write_text(json.dumps({'format': 1, 'images': {'a.png': {'objects': [BOX]}}}))
    with pytest.raises(PromptError, match=r'p\.json has no objects for b\.png'):
        read_prompts(path).for_image('b.png')


@pytest.mark.parametrize(
    ('item', 'problem'),
    [
        ({'points': [[1, 2]], 'lables': [1]}, "'lables'"),
        ({'points': [[1, 2]], 'labels': [0]}, 'Say where the object is'),
        ({'points': [[1, 2]], 'labels': [1, 0]}, '1 points but 2 labels'),
        ({'points': [[1, 2]], 'labels': [2]}, 'must be 1 (inside) or 0'),
        ({'points': [[1, 2, 3]]}, '2 numbers'),
        ({'points': [['a', 'b']]}, '2 numbers'),
        ({'points': 'ab'}, '2 numbers'),
        ({'box': [1, 2, 3]}, '4 numbers'),
        ({'box': [1, 2, 1, 9]}, 'no area'),
        ({'box': [float('nan')] * 4}, '4 numbers'),
        ({}, 'Say where the object is'),
        ({**BOX, 'frame': -1}, 'whole number'),
        ({**BOX, 'frame': 1.5}, 'whole number'),
        ({**BOX, 'frame': True}, 'whole number'),
        ([1, 2], 'An object must be written as'),
        ({'box': [0, 0, 5, 10**400]}, '4 numbers'),
        ({'points': [[1, 1e400]]}, '2 numbers'),
        ({**BOX, 'frame': 10**12}, 'whole number'),
        ({'points': [[1, 2]], 'x' * 5000: 1}, 'x...'),
        ({'points': ['y' * 5000]}, 'y...'),
    ],
)
def test_a_bad_object_is_named_by_its_number(
    tmp_path: Path, item: object, problem: str
) -> None:
    for wrapped, where in (
        ({'objects': [BOX, item]}, 'clicks.json, object 2: '),
        (
            {'images': {'a.png': {'objects': [BOX, item]}}},
            'clicks.json, image a.png, object 2: ',
        ),
    ):
        message = problem_with(tmp_path, {'format': 1, **wrapped})
        assert message.startswith(where)
        assert problem in message
        assert len(message) < 400


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        ('', 'is not a JSON file'),
        ('col,line\n1,2\n', 'is not a JSON file'),
        ('row,col\n1,2\n', "unknown column 'col'"),
        ('[' * 100_000, 'is not a JSON file'),
        ('x' * 200_000, 'is not a JSON file'),
        ([], 'must be a JSON object'),
        ({'objects': [BOX]}, 'format None'),
        ({'format': 2, 'objects': [BOX]}, 'format 2'),
        ({'format': 10**4000}, 'has the format'),
        ({'format': 1}, 'either "objects" or "images"'),
        ('{"format": 1, "images": {"a": {}, "a": {}}}', "has the key 'a' twice"),
        ({'format': 'z' * 5000}, 'z...'),
        ({'format': 1, 'objects': [BOX], 'images': {}}, 'either "objects" or'),
        ({'format': 1, 'objects': []}, 'at least one object'),
        ({'format': 1, 'objects': BOX}, 'at least one object'),
        ({'format': 1, 'object': [BOX]}, "unknown key 'object'"),
        ({'format': 1, 'images': []}, 'map file names'),
        ({'format': 1, 'images': {'a.png': [BOX]}}, 'image a.png must be'),
        ({'format': 1, 'images': {'a.png': {}}}, 'at least one object'),
    ],
)
def test_a_file_of_another_form_is_refused(
    tmp_path: Path, content: object, problem: str
) -> None:
    assert problem in problem_with(tmp_path, content)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'p.json').write_bytes(b'\xff\xfe\x00\x80')
    with pytest.raises(PromptError, match='not a JSON file'):
        read_prompts(tmp_path / 'p.json')


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r'no prompts file lost\.json'):
        read_prompts(tmp_path / 'lost.json')
    with pytest.raises(PromptError, match='cannot be read'):
        read_prompts(tmp_path)


def test_only_one_form_is_written(tmp_path: Path) -> None:
    item = (ObjectPrompt(Prompt(box=(1, 2, 3, 4))),)
    for bad in (PromptSet(), PromptSet(item, {'a.png': item})):
        with pytest.raises(PromptError, match='either'):
            write_prompts(tmp_path / 'p.json', bad)


# Tables


def test_a_table_of_prompts_gives_objects_of_images_and_frames(tmp_path: Path) -> None:
    path = tmp_path / 'prompts.csv'
    path.write_text(
        'image,frame,object,row,column,label,row0,column0,row1,column1\n'
        'a.png,,1,10,20,,,,,\n'
        'a.png,,1,12,22,0,,,,\n'
        'a.png,,2,,,,1,2,30,40\n'
        'b.npy,3,,5.5,6.5,1,,,,\n',
        encoding='utf-8',
    )
    found = read_prompts(path)
    one, two = found.images['a.png']
    assert one.prompt.points == ((10, 20), (12, 22))
    assert one.prompt.labels == (1, 0)
    assert two.prompt.box == (1, 2, 30, 40)
    (three,) = found.images['b.npy']
    assert three.frame == 3
    assert found.shared == ()
    path.write_text('row,column\n3,4\n', encoding='utf-8')
    assert read_prompts(path).shared[0].prompt.points == ((3, 4),)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'nor a CSV table'),
        ('row,colour\n1,2\n', 'colour'),
        ('row,column\n', 'no prompts'),
        ('row,column\n1,x\n', 'line 2: column is a number'),
        ('row,column\n1,\n', 'line 2: give'),
        ('frame,row,column\n1.5,1,2\n', 'whole number'),
        ('row,column,label\n1,2,0\n', 'inside'),
        ('object,row0,column0,row1,column1\n1,0,0,5,5\n1,0,0,6,6\n', 'a box already'),
        ('image,row,column\na.png,43,5,70,5\n', 'line 2 has 5 cells, but there are 3'),
        ('image,row,column\n\n"a\nb",1,2\na.png,1,2,\n', 'line 5 has 4 cells'),
        ('row,column,image\n1,2\n', 'line 2 has 2 cells'),
        ('row,column,row\n1,2,3\n', 'a column twice'),
        ('row,column\n1,nan\n', "column is a number, not 'nan'"),
        ('row,column\ninf,1\n', "row is a number, not 'inf'"),
        ('row,column\n1,"43,5"\n', "not '43,5'"),
        ('frame,row,column\ninf,1,2\n', 'frame is a number'),
        ('frame,row,column\n1e300,1,2\n', 'whole number'),
        ('row,column,label\n1,2,nan\n', 'label is a number'),
        ('row,column,label\n1,2,0.5\n', 'label is 1'),
        (f'row,column\n1,{"x" * 5000}\n', r'x\.\.\.'),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_by_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / 'prompts.csv'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(PromptError, match=message) as caught:
        read_prompts(path)
    assert len(str(caught.value)) < 400
