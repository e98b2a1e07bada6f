"""COCO files: masks pixel by pixel by pycocotools, boxes as prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from missing_package import take_away

from napari_kdsam.core.errors import ImageError, MissingExtraError, PromptError
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.io.coco import (
    LabelledImage,
    read_coco_masks,
    write_coco,
)
from napari_kdsam.io.prompts import read_prompts

pytest.importorskip('pycocotools')
from pycocotools.coco import COCO

in_one_folder = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
labels_of_any_shape = arrays(
    np.uint16,
    array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 1, 1, 2, 700]),
)


def ring() -> np.ndarray:
    """A ring with an island in its hole, and a part that touches at a corner."""
    labels = np.zeros((20, 24), np.uint8)
    labels[2:14, 3:17] = 3
    labels[5:11, 6:14] = 0
    labels[7:9, 8:12] = 3
    labels[14:16, 17:20] = 3
    labels[18, :] = 1
    return labels


@pytest.mark.parametrize('form', ['rle', 'polygon'])
@in_one_folder
@given(labels=labels_of_any_shape)
def test_pycocotools_finds_the_masks_that_were_written(
    tmp_path: Path, form: Any, labels: np.ndarray
) -> None:
    path = tmp_path / 'a.json'
    write_coco(path, [LabelledImage('a.png', labels)], form=form)
    coco = COCO(path)
    found = coco.loadAnns(coco.getAnnIds())
    assert [item['label'] for item in found] == [v for v in np.unique(labels) if v]
    for item in found:
        mask = labels == item['label']
        np.testing.assert_array_equal(coco.annToMask(item) > 0, mask)
        assert item['area'] == mask.sum()
        x, y, width, height = item['bbox']
        rows, columns = np.nonzero(mask)
        assert (y, x) == (rows.min(), columns.min())
        assert (y + height, x + width) == (rows.max() + 1, columns.max() + 1)
    (read,) = read_coco_masks(path)
    np.testing.assert_array_equal(read.labels, labels)


def test_a_ring_with_an_island_keeps_its_hole_as_a_polygon(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    write_coco(path, [LabelledImage('a.png', ring())], form='polygon')
    coco = COCO(path)
    (item,) = [a for a in coco.loadAnns(coco.getAnnIds()) if a['label'] == 3]
    np.testing.assert_array_equal(coco.annToMask(item) > 0, ring() == 3)
    assert len(item['segmentation']) == 3
    # The ring: four corners of two points each, twice, and the way in and back.
    assert max(map(len, item['segmentation'])) <= 2 * (8 + 8 + 2)


def test_images_classes_and_frames_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    images = [
        LabelledImage('a.png', ring(), {3: 'ventricle', 1: 'wall'}),
        LabelledImage('b.png', np.zeros((4, 5), np.uint8)),
        LabelledImage('ciné.dcm', ring(), {3: 'wall'}, frame=7),
    ]
    write_coco(path, iter(images), categories=['wall', 'unused'])
    coco = COCO(path)
    names = {item['id']: item['name'] for item in coco.loadCats(coco.getCatIds())}
    assert names == {1: 'wall', 2: 'unused', 3: 'ventricle', 4: 'object'}
    assert len(coco.getAnnIds(imgIds=[1])) == 2
    read = list(read_coco_masks(path))
    assert [(image.name, image.frame) for image in read] == [
        ('a.png', None),
        ('b.png', None),
        ('ciné.dcm', 7),
    ]
    assert read[0].classes == {3: 'ventricle', 1: 'wall'}
    assert read[2].classes == {3: 'wall', 1: 'object'}
    for ours, theirs in zip(images, read, strict=True):
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_boxes_become_prompts_by_file_name_and_frame(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    images = [
        LabelledImage('a.png', ring()),
        LabelledImage('cine.dcm', ring() * (ring() == 3), frame=2),
        LabelledImage('cine.dcm', ring() * (ring() == 1), frame=5),
        LabelledImage('empty.png', ring() * 0),
    ]
    write_coco(path, images)
    prompts = read_prompts(path)
    assert set(prompts.images) == {'a.png', 'cine.dcm'}
    boxes = [item.prompt.box for item in prompts.for_image('a.png')]
    assert boxes == [(18, 0, 19, 24), (2, 3, 16, 20)]
    cine = prompts.for_image('cine.dcm')
    assert [(item.frame, item.prompt.box) for item in cine] == [
        (2, (2, 3, 16, 20)),
        (5, (18, 0, 19, 24)),
    ]
    with pytest.raises(PromptError, match=r'no objects for empty\.png'):
        prompts.for_image('empty.png')


def written(folder: Path, **changes: Any) -> Path:
    """A COCO file as another program may write it."""
    value = {
        'images': [{'id': 9, 'file_name': 'scans/a.png', 'height': 6, 'width': 8}],
        'annotations': [
            {
                'id': 4,
                'image_id': 9,
                'category_id': 2,
                'bbox': [1.5, 2, 3, 2.5],
                'segmentation': [[1, 1, 5, 1, 5, 4, 1, 4]],
                'iscrowd': 0,
            }
        ],
        'categories': [{'id': 2, 'name': 'polyp'}],
    }
    path = folder / 'other.json'
    path.write_text(json.dumps({**value, **changes}), encoding='utf-8')
    return path


def annotation(**changes: Any) -> dict[str, Any]:
    usual = {'id': 4, 'image_id': 9, 'category_id': 2, 'bbox': [1, 2, 3, 4]}
    return {**usual, 'segmentation': [[1, 1, 5, 1, 5, 4, 1, 4]], **changes}


def test_files_of_other_programs_are_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    (item,) = read_prompts(path).for_image('a.png')
    assert item.prompt.box == (2, 1.5, 4.5, 4.5)
    (image,) = read_coco_masks(path)
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 1:5] = 1
    np.testing.assert_array_equal(image.labels, expected)
    assert image.classes == {1: 'polyp'}


def test_groups_are_left_out_and_uncompressed_rle_is_read(tmp_path: Path) -> None:
    crowd = annotation(id=1, iscrowd=1)
    plain = annotation(segmentation={'size': [6, 8], 'counts': [6, 3, 39]})
    path = written(tmp_path, annotations=[crowd, plain])
    assert len(read_prompts(path).for_image('a.png')) == 1
    (image,) = read_coco_masks(path)
    assert image.labels[:3, 1].tolist() == [1, 1, 1]
    assert image.labels.sum() == 3


def test_where_objects_overlap_the_earlier_one_keeps_the_pixels(tmp_path: Path) -> None:
    later = annotation(id=5, segmentation=[[0, 0, 8, 0, 8, 6, 0, 6]])
    (image,) = read_coco_masks(written(tmp_path, annotations=[annotation(), later]))
    assert (image.labels[1:4, 1:5] == 1).all()
    assert (image.labels == 2).sum() == 48 - 12


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        ({'images': None}, 'not a COCO file'),
        ({'annotations': [annotation(image_id=1)]}, 'not a COCO file'),
        ({'annotations': []}, 'no objects'),
        ({'annotations': [annotation(bbox=[1, 2, 0, 4])]}, 'object 4 has an empty box'),
        ({'annotations': [annotation(bbox=[1, 2])]}, 'object 4 has no box'),
        (
            {
                'images': [
                    {'id': 9, 'file_name': 'x/a.png'},
                    {'id': 8, 'file_name': './x\\a.png'},
                ]
            },
            r'two images of the name \./x',
        ),
        (
            {
                'images': [
                    {'id': 9, 'file_name': 'a.png'},
                    {'id': 9, 'file_name': 'b.png'},
                ]
            },
            'two images with the id 9',
        ),
        ({'annotations': [annotation(), annotation()]}, 'two annotations with the id'),
        ({'annotations': [annotation(bbox=[1, 2, 3, 10**400])]}, 'has no box'),
        ({'annotations': [annotation(bbox=[1, 2, 3, 1e400])]}, 'object 4: A box'),
        ({'annotations': [annotation(category_id=[1])]}, 'not a COCO file'),
        ({'images': [{'id': 9, 'file_name': 'a', 'frame': [1]}]}, 'not a COCO file'),
        ({'images': [{'id': 9, 'file_name': 5}]}, 'not a COCO file'),
        ({'images': [{'id': 9, 'file_name': 'a', 'height': 'x'}]}, 'not a COCO file'),
        (
            {'images': [{'id': 9, 'file_name': 'a.png', 'height': 6}]},
            'gives a.png a height and no width',
        ),
        (
            {'images': [{'id': 9, 'file_name': 'a', 'height': 0, 'width': 8}]},
            'gives a a width and no height',
        ),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(PromptError, match=problem) as caught:
        read_prompts(written(tmp_path, **changes))
    assert 'other.json' in str(caught.value)


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        ({'images': [{'id': 9, 'file_name': 'a.png'}]}, 'does not say the size'),
        (
            {'images': [{'id': 9, 'file_name': 'a', 'height': 90000, 'width': 90000}]},
            'megapixels',
        ),
        ({'annotations': [annotation(segmentation=[[1, 2, 3]])]}, 'object 4 has no'),
        ({'annotations': [annotation(segmentation=[])]}, 'object 4 has no mask'),
        ({'annotations': [annotation(segmentation=[5])]}, 'object 4 has no mask'),
        (
            {'annotations': [annotation(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]])]},
            'object 4 has no mask',
        ),
        ({'categories': 2 * [{'id': 2, 'name': 'polyp'}]}, 'two categories'),
        ({'annotations': [annotation(segmentation=None)]}, 'object 4 has no mask'),
        (
            {'annotations': [annotation(segmentation={'size': [5, 8], 'counts': 'a'})]},
            'another size',
        ),
    ],
)
def test_masks_that_cannot_be_used_are_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ImageError, match=problem):
        list(read_coco_masks(written(tmp_path, **changes)))


def rle(counts: object) -> dict[str, Any]:
    return annotation(segmentation={'size': [6, 8], 'counts': counts})


@pytest.mark.parametrize(
    ('counts', 'problem'),
    [
        ([6, 3], 'add up to 9 pixels, but the image has 6 x 8 = 48'),
        ([6, 3, 40], 'add up to 49 pixels'),
        ([], 'add up to 0 pixels'),
        ('63', 'add up to 9 pixels'),
        ([6, -3, 45], 'no mask that can be read'),
        ([6, 3.5, 38.5], 'no mask that can be read'),
        ([6, True, 41], 'no mask that can be read'),
        ([[6, 3, 39]], 'no mask that can be read'),
        ('6\u00e4', 'no mask that can be read'),
        ('6P', 'no mask that can be read'),
        (None, 'no mask that can be read'),
    ],
)
def test_runs_that_do_not_fill_the_image_are_refused(
    tmp_path: Path, counts: object, problem: str
) -> None:
    path = written(tmp_path, annotations=[rle(counts)])
    with pytest.raises(ImageError, match=problem):
        list(read_coco_masks(path))


@in_one_folder
@given(mask=arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_compressed_runs_are_read_as_pycocotools_writes_them(
    tmp_path: Path, mask: np.ndarray
) -> None:
    from pycocotools import mask as library

    packed = library.encode(np.asfortranarray(mask, np.uint8))
    rows, columns = mask.shape
    item = rle(packed['counts'].decode())
    item['segmentation']['size'] = [rows, columns]
    image = {'id': 9, 'file_name': 'a.png', 'height': rows, 'width': columns}
    path = written(tmp_path, images=[image], annotations=[item])
    (read,) = read_coco_masks(path)
    np.testing.assert_array_equal(read.labels > 0, mask)


def test_lines_have_no_area_and_the_other_polygons_are_read(tmp_path: Path) -> None:
    square = [1, 1, 5, 1, 5, 4, 1, 4]
    items = [
        annotation(segmentation=[[0, 0, 8, 6], square, [3, 3]]),
        annotation(id=5, segmentation=[[0, 0, 8, 6]]),
        annotation(id=6, segmentation=[[6, 0, 8, 0, 8, 6, 6, 6]]),
    ]
    (image,) = read_coco_masks(written(tmp_path, annotations=items))
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 1:5], expected[:, 6:] = 1, 3
    np.testing.assert_array_equal(image.labels, expected)
    assert image.notes == (
        'other.json, object 4: 2 lines without area left out',
        'other.json, object 5: 1 lines without area left out',
    )


@pytest.mark.parametrize('label', [[], {'a': 1}, 'x', 1.5, True, 2**40, -1, None])
def test_labels_of_odd_types_are_counted_instead(tmp_path: Path, label: object) -> None:
    (image,) = read_coco_masks(written(tmp_path, annotations=[annotation(label=label)]))
    assert set(np.unique(image.labels)) == {0, 1}


def test_boxes_are_of_an_image_of_the_size_that_the_file_says(tmp_path: Path) -> None:
    (item,) = read_prompts(written(tmp_path)).for_image('a.png')
    item.prompt.within(PaddedSquare((6, 8), 1))
    for shape, problem in (((8, 6), 'lay on its side'), ((12, 16), '6 rows and 8 col')):
        with pytest.raises(PromptError, match=problem):
            item.prompt.within(PaddedSquare(shape, 1))
    unsaid = [{'id': 9, 'file_name': 'a.png', 'height': 0, 'width': 0}]
    (item,) = read_prompts(written(tmp_path, images=unsaid)).for_image('a.png')
    item.prompt.within(PaddedSquare((12, 16), 1))


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    images = [
        {'id': 9, 'file_name': 'p1/a.png', 'height': 6, 'width': 8},
        {'id': 8, 'file_name': 'p2\\a.png', 'height': 6, 'width': 8},
    ]
    items = [annotation(), annotation(id=5, image_id=8, bbox=[0, 0, 2, 2])]
    prompts = read_prompts(written(tmp_path, images=images, annotations=items))
    (one,) = prompts.for_image('/scans/p1/a.png')
    (two,) = prompts.for_image('/scans/p2/a.png')
    assert one.prompt.box == (2, 1, 6, 4) and two.prompt.box == (0, 0, 2, 2)


def test_files_that_are_not_json_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'a.json').write_text('{"images": [')
    with pytest.raises(PromptError, match=r'a\.json is not a JSON file'):
        read_prompts(tmp_path / 'a.json')
    with pytest.raises(ImageError, match=r'b\.json cannot be read'):
        list(read_coco_masks(tmp_path / 'b.json'))


def test_a_stack_in_place_of_an_image_is_refused(tmp_path: Path) -> None:
    stack = LabelledImage('a.tif', np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(ImageError, match=r'\(H, W\), not'):
        write_coco(tmp_path / 'a.json', [stack])
    assert list(tmp_path.iterdir()) == []


def test_without_pycocotools_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(monkeypatch, 'pycocotools')
    with pytest.raises(MissingExtraError, match=r"'napari-kdsam\[medical\]'"):
        write_coco(tmp_path / 'a.json', [])
    assert len(read_prompts(written(tmp_path)).images) == 1
