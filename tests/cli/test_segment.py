"""What `napari-kdsam segment` writes; most tests use a model that fills boxes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_fixtures import BOX, Run, errors_in, image_file, labels_in, record_of, runner_in
from PIL import Image

from napari_kdsam.io.formats import open_image
from napari_kdsam.model import loading


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, fake_model: Any, tmp_path: Path) -> Run:
    return runner_in(tmp_path, monkeypatch, fake_model)


# What a good run writes


def test_a_box_becomes_a_label_image_and_a_record(run: Run, tmp_path: Path) -> None:
    image_file(tmp_path / 'a.png')
    result = run('segment', 'a.png', *BOX, '--out', 'new/results')
    labels = labels_in(tmp_path / 'new/results/a_labels.png')
    assert labels.shape == (64, 96)
    assert labels.dtype == np.uint8
    assert labels[12:38, 22:58].all()
    assert not labels[:8].any()
    assert not labels[:, 64:].any()
    assert 'a.png: 1 object, ' in result.stdout
    assert 'a_labels.png, a.json' in result.stdout
    assert '1 of 1 images done' in result.stdout
    assert result.stderr == ''
    assert sorted(path.name for path in (tmp_path / 'new/results').iterdir()) == [
        'a.json',
        'a_labels.png',
    ]


def test_the_record_says_how_it_was_made_and_not_where(
    run: Run, tmp_path: Path
) -> None:
    image_file(tmp_path / 'a.png')
    run('segment', tmp_path / 'a.png', '--point', '30,40', '-o', tmp_path / 'out')
    record = record_of(tmp_path / 'out/a.json')
    assert record['format'] == 1
    assert record['image'] == {
        'name': 'a.png',
        'shape': [64, 96],
        'frame_count': 1,
        'spacing_mm': None,
    }
    (item,) = record['objects']
    assert (item['points'], item['labels']) == ([[30, 40]], [1])
    found = item['result']
    assert found['label'] == 1
    assert found['frames'][0]['score'] == pytest.approx(0.9)
    labels = labels_in(tmp_path / 'out/a_labels.png')
    assert found['frames'][0]['pixels'] == np.count_nonzero(labels)
    assert record['result']['frames'] == [{'frame': 0, 'intensity': [0.0, 255.0]}]
    assert set(record['result']['versions']) == {'napari-kdsam', 'torch', 'python'}
    assert record['result']['device'] == 'cpu'
    assert record['result']['dtype'] == 'float32'
    assert str(tmp_path) not in (tmp_path / 'out/a.json').read_text()


def test_several_boxes_are_several_objects_and_the_earlier_keeps_the_overlap(
    run: Run, tmp_path: Path
) -> None:
    image_file(tmp_path / 'a.png')
    boxes = ['--box', '10,10,40,50', '--box', '10,30,40,90']
    run('segment', 'a.png', *boxes, '--out', 'out')
    labels = labels_in(tmp_path / 'out/a_labels.png')
    assert (labels[20:30, 14:46] == 1).all()
    assert (labels[20:30, 54:86] == 2).all()
    counts = [
        item['result']['frames'][0]['pixels']
        for item in record_of(tmp_path / 'out/a.json')['objects']
    ]
    assert counts == np.bincount(labels.ravel())[1:].tolist()


def test_negative_points_cut_the_mask(run: Run, tmp_path: Path) -> None:
    image_file(tmp_path / 'a.png')
    run('segment', 'a.png', *BOX, '--negative', '15,30', '--out', 'out')
    labels = labels_in(tmp_path / 'out/a_labels.png')
    assert labels[35, 55]
    assert not labels[15, 30]
    (item,) = record_of(tmp_path / 'out/a.json')['objects']
    assert item == {
        'points': [[15, 30]],
        'labels': [0],
        'box': [10, 20, 40, 60],
        'result': item['result'],
    }


def test_a_result_is_accepted_as_prompts_and_gives_the_same_labels(
    run: Run, tmp_path: Path
) -> None:
    image_file(tmp_path / 'a.png')
    boxes = ['--box', '10,10,40,50', '--box', '10,30,40,90']
    run('segment', 'a.png', *boxes, '--out', 'out')
    run('segment', 'a.png', '--prompts', 'out/a.json', '--out', 'again')
    np.testing.assert_array_equal(
        labels_in(tmp_path / 'out/a_labels.png'),
        labels_in(tmp_path / 'again/a_labels.png'),
    )


def test_a_stack_is_segmented_frame_by_frame_into_one_tiff(
    run: Run, tmp_path: Path, fake_model: Any
) -> None:
    image_file(tmp_path / 'cine.npy', (9, 64, 96))
    result = run('segment', 'cine.npy', *BOX, '--out', 'out', '--overlay')
    labels = labels_in(tmp_path / 'out/cine_labels.tif')
    assert labels.shape == (9, 64, 96)
    assert labels[:, 12:38, 22:58].all()
    assert fake_model.encoded == 9
    (item,) = record_of(tmp_path / 'out/cine.json')['objects']
    assert [entry['frame'] for entry in item['result']['frames']] == list(range(9))
    assert '1 object in 9 frames' in result.stdout
    sheet = np.array(Image.open(tmp_path / 'out/cine_overlay.png'))
    assert max(sheet.shape) <= 2048
    assert sheet.shape[1] > sheet.shape[0]


def test_only_the_frames_asked_for_are_segmented(
    run: Run, tmp_path: Path, fake_model: Any
) -> None:
    image_file(tmp_path / 'cine.npy', (9, 64, 96))
    frames = ['--frame', '7', '--frame', '2', '--frame', '7']
    run('segment', 'cine.npy', *BOX, *frames, '--out', 'out')
    labels = labels_in(tmp_path / 'out/cine_labels.tif')
    assert np.flatnonzero(labels.any((1, 2))).tolist() == [2, 7]
    assert labels.shape == (9, 64, 96)
    assert fake_model.encoded == 2


COCO = {
    'images': [{'id': 1, 'file_name': 'a.png', 'height': 64, 'width': 96}],
    'annotations': [{'id': 1, 'image_id': 1, 'bbox': [20, 10, 40, 30]}],
    'categories': [],
}


@pytest.mark.parametrize(
    'content',
    ['image,row0,column0,row1,column1\na.png,10,20,40,60\n', json.dumps(COCO)],
    ids=['table', 'COCO'],
)
def test_prompts_may_be_a_table_or_a_coco_file_whatever_its_name(
    run: Run, tmp_path: Path, content: str
) -> None:
    image_file(tmp_path / 'a.png')
    (tmp_path / 'prompts.txt').write_text(content)
    run('segment', 'a.png', '--prompts', 'prompts.txt', '--out', 'out')
    assert record_of(tmp_path / 'out/a.json')['objects'][0]['box'] == [10, 20, 40, 60]


def test_objects_of_one_frame_appear_in_that_frame_only(
    run: Run, tmp_path: Path, fake_model: Any
) -> None:
    image_file(tmp_path / 'cine.npy', (5, 64, 96))
    objects = [
        {'box': [10, 10, 40, 40], 'frame': 1},
        {'box': [10, 50, 40, 90], 'frame': 3},
    ]
    (tmp_path / 'p.json').write_text(json.dumps({'format': 1, 'objects': objects}))
    run('segment', 'cine.npy', '--prompts', 'p.json', '--out', 'out')
    labels = labels_in(tmp_path / 'out/cine_labels.tif')
    assert [np.unique(frame).tolist() for frame in labels] == [
        [0],
        [0, 1],
        [0],
        [0, 2],
        [0],
    ]
    assert fake_model.encoded == 2


def test_the_format_can_be_chosen(run: Run, tmp_path: Path) -> None:
    image_file(tmp_path / 'a.png')
    image_file(tmp_path / 'cine.npy', (5, 64, 96))
    run('segment', 'a.png', *BOX, '--format', 'tiff', '--out', 'out')
    assert labels_in(tmp_path / 'out/a_labels.tif').shape == (64, 96)
    frame = ['--frame', '4', '--format', 'png']
    run('segment', 'cine.npy', *BOX, *frame, '--out', 'out')
    assert labels_in(tmp_path / 'out/cine_labels.png')[20, 30] == 1
    png = ['--format', 'png', '--existing', 'overwrite']
    failed = run('segment', 'cine.npy', *BOX, *png, '-o', 'out', code=1)
    assert 'a PNG file holds one' in errors_in(failed)[0]


def test_the_overlay_shows_the_mask_and_the_box(run: Run, tmp_path: Path) -> None:
    image_file(tmp_path / 'a.png')
    result = run('segment', 'a.png', *BOX, '--overlay', '--out', 'out')
    assert 'a_overlay.png' in result.stdout
    drawn = np.array(Image.open(tmp_path / 'out/a_overlay.png')).astype(int)
    scale = drawn.shape[0] // 64
    inside, outside = drawn[25 * scale, 40 * scale], drawn[60 * scale, 90 * scale]
    assert inside[2] > inside[0], 'the first colour is a blue'
    assert outside.tolist() == [50, 50, 50]


def test_more_objects_than_8_bits_can_number_are_written_with_16(
    run: Run, tmp_path: Path
) -> None:
    image_file(tmp_path / 'a.png', (400, 400))
    corners = [(r, c) for r in range(0, 400, 24) for c in range(0, 400, 24)]
    objects = [{'box': [r, c, r + 12, c + 12]} for r, c in corners]
    assert len(objects) > 255
    (tmp_path / 'p.json').write_text(json.dumps({'format': 1, 'objects': objects}))
    run('segment', 'a.png', '--prompts', 'p.json', '--out', 'out')
    labels = labels_in(tmp_path / 'out/a_labels.png')
    assert labels.max() == len(objects)
    assert np.unique(labels).size == len(objects) + 1


# Names of results


def test_inputs_with_one_stem_do_not_overwrite_each_other(
    run: Run, tmp_path: Path
) -> None:
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
        image_file(tmp_path / folder / 'a.png')
    image_file(tmp_path / 'a.npy', (40, 60))
    inputs = ['one/a.png', 'two/a.png', 'a.npy', 'one/../one/a.png']
    result = run('segment', *inputs, '--box', '5,5,30,30', '--out', 'out')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'a.json',
        'a_2.json',
        'a_2_labels.png',
        'a_3.json',
        'a_3_labels.png',
        'a_labels.png',
    ]
    assert labels_in(tmp_path / 'out/a_3_labels.png').shape == (40, 60)
    assert '3 of 3 images done' in result.stdout


def test_inputs_and_the_prompts_file_are_never_overwritten(
    run: Run, tmp_path: Path
) -> None:
    image_file(tmp_path / 'a.png')
    image_file(tmp_path / 'a_labels.png')
    prompts = {'format': 1, 'objects': [{'box': [10, 10, 40, 40]}]}
    (tmp_path / 'a_labels.json').write_text(json.dumps(prompts))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    inputs = ['a.png', 'a_labels.png']
    run('segment', *inputs, '--prompts', 'a_labels.json', '--out', '.')
    for path, content in before.items():
        assert path.read_bytes() == content
    assert (tmp_path / 'a_2_labels.png').exists()
    assert (tmp_path / 'a_labels_2.json').exists()


# What is there already


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_results_that_are_there_are_refused_skipped_or_replaced_as_asked(
    run: Run, tmp_path: Path
) -> None:
    image_file(tmp_path / 'a.png')
    image_file(tmp_path / 'b.png')
    run('segment', 'a.png', *BOX, '--overlay', '--out', 'out')
    before = contents(tmp_path / 'out')
    box = ['--box', '5,5,20,20', '--overlay', '--out', 'out']
    refused = run('segment', 'a.png', 'b.png', *box, code=2)
    assert 'a_labels.png, a_overlay.png, a.json are in out' in errors_in(refused)[0]
    assert '--existing overwrite' in errors_in(refused)[0]
    assert contents(tmp_path / 'out') == before, 'refused before any work'
    skipped = run('segment', 'a.png', 'b.png', *box, '--existing', 'skip')
    assert 'a.png: skipped, a_labels.png was there already' in skipped.stdout
    assert '1 of 2 images done' in skipped.stdout
    after = contents(tmp_path / 'out')
    assert before.items() < after.items()
    run('segment', 'a.png', *box, '--existing', 'overwrite')
    assert labels_in(tmp_path / 'out/a_labels.png')[10, 10] == 1
    assert not labels_in(tmp_path / 'out/a_labels.png')[30, 50]


@pytest.mark.parametrize('existing', ['fail', 'overwrite'])
@pytest.mark.parametrize('name', ['a_labels.png', 'a_overlay.png', 'a.json'])
def test_a_file_of_the_user_is_never_replaced(
    run: Run, tmp_path: Path, fake_model: Any, name: str, existing: str
) -> None:
    image_file(tmp_path / 'a.png')
    if name.endswith('.json'):
        (tmp_path / name).write_text('{"version": "5.0.1", "shapes": []}')
    else:
        image_file(tmp_path / name)
    before = contents(tmp_path)
    options = ['--overlay', '--existing', existing, '--out', '.']
    refused = run('segment', 'a.png', *BOX, *options, code=2)
    assert f'{name} in . was not made by' in errors_in(refused)[0]
    assert contents(tmp_path) == before
    assert fake_model.encoded == 0


def test_results_are_not_taken_for_images(run: Run, tmp_path: Path) -> None:
    image_file(tmp_path / 'a.png')
    run('segment', 'a.png', *BOX, '--overlay', '--out', '.')
    every = ['a.png', 'a_labels.png', 'a_overlay.png']
    result = run('segment', *every, *BOX, '--out', 'out')
    assert 'a_labels.png: left out, as it is a result' in result.stdout
    assert '1 of 1 images done' in result.stdout
    refused = run('segment', 'a_labels.png', *BOX, '--out', 'other', code=2)
    assert 'a_labels.png is left out' in errors_in(refused)[0]


def test_names_are_escaped_where_a_terminal_would_obey_them(
    run: Run, tmp_path: Path
) -> None:
    name = 'a\x1b[31m\n' + os.fsdecode(b'L\xe4sion.png')
    image_file(tmp_path / name)
    result = run('segment', name, *BOX, '--out', 'out')
    assert 'a\\x1b[31m\\nL\\xe4sion.png: 1 object' in result.stdout
    record = record_of(tmp_path / 'out' / f'{name[:-4]}.json')
    assert record['image']['name'] == name


def test_a_name_that_leaves_no_room_for_results_fails_alone(
    run: Run, tmp_path: Path
) -> None:
    image_file(tmp_path / f'{"x" * 240}.png')
    image_file(tmp_path / f'{"y" * 250}.png')
    inputs = [path.name for path in sorted(tmp_path.glob('*.png'))]
    result = run('segment', *inputs, *BOX, '--out', 'out', code=1)
    assert 'longer than the 255 bytes' in errors_in(result)[0]
    assert sorted(path.name[0] for path in (tmp_path / 'out').iterdir()) == ['x', 'x']


def test_brackets_in_file_names_do_no_harm(run: Run, tmp_path: Path) -> None:
    image_file(tmp_path / 'a [red].png')
    result = run('segment', 'a [red].png', 'b [bold].png', *BOX, '-o', 'out', code=1)
    assert 'a [red].png: 1 object' in result.stdout
    assert 'There is no file b [bold].png' in errors_in(result)[0]


def test_the_model_is_loaded_once_for_all_inputs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_model: Any
) -> None:
    asked = []

    def load(name: str, device: str) -> Any:
        asked.append((name, device))
        return fake_model

    monkeypatch.setattr(loading, 'load_model', load)
    names = [image_file(tmp_path / f'{n}.png').name for n in range(3)]
    run('segment', *names, *BOX, '--device', 'cuda:1', '--out', 'out')
    assert asked == [('kdsam', 'cuda:1')]
    assert fake_model.encoded == 3


def test_results_open_with_the_same_readers(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / 'cine.npy', np.zeros((3, 64, 96, 1), np.uint8))
    run('segment', 'cine.npy', *BOX, '--out', 'out')
    with open_image(tmp_path / 'out/cine_labels.tif') as labels:
        assert labels.shape == (3, 64, 96)
