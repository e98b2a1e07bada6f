"""Results told from other files by what they say of themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_kdsam.io.coco import LabelledImage, write_coco
from napari_kdsam.io.label_images import write_labels, write_picture
from napari_kdsam.io.results import DRAWN, is_replaceable, is_result

LABELS = np.zeros((6, 7), np.uint8)
LABELS[2:4, 3:5] = 1


@pytest.mark.parametrize('name', ['a.png', 'a.tif'])
def test_labels_are_a_result_only_if_they_say_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_labels(path, LABELS)
    assert not is_result(path), 'as somebody saves them from the viewer'
    write_labels(path, LABELS, 'segment')
    assert is_result(path)
    assert is_replaceable(path)
    moved = shutil.copy(path, tmp_path / f'renamed{path.suffix}')
    assert is_result(Path(moved)), 'whatever the name'


@pytest.mark.parametrize('name', ['a.png', 'a.tif'])
def test_a_result_that_was_saved_by_another_program_is_none(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    write_labels(path, LABELS, 'segment')
    if name.endswith('.png'):
        Image.fromarray(np.asarray(Image.open(path))).save(path)
    else:
        tifffile.imwrite(path, tifffile.imread(path))
    assert not is_result(path)
    assert not is_replaceable(path)


def test_a_drawn_image_is_replaceable_and_no_result(tmp_path: Path) -> None:
    write_picture(tmp_path / 'a.png', LABELS, DRAWN)
    assert is_replaceable(tmp_path / 'a.png')
    assert not is_result(tmp_path / 'a.png')


def test_nifti_is_replaceable_until_its_voxels_change(tmp_path: Path) -> None:
    nibabel = pytest.importorskip('nibabel')
    from napari_kdsam.io.nifti import write_nifti_labels

    path = tmp_path / 'a.nii.gz'
    write_nifti_labels(path, LABELS)
    assert not is_result(path)
    write_nifti_labels(path, LABELS, mark=True)
    assert is_replaceable(path)
    written = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(LABELS.T * 2, None, written.header), path)
    assert is_result(path), 'still labels, and no image'
    assert not is_replaceable(path)


def test_coco_of_another_program_is_not_replaceable(tmp_path: Path) -> None:
    pytest.importorskip('pycocotools')
    path = tmp_path / 'labels.coco.json'
    write_coco(path, [LabelledImage('a.png', LABELS)])
    assert is_replaceable(path)
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, 'info': {'contributor': 'me'}}))
    assert not is_replaceable(path)


@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.nii.gz', 'a.dcm', 'a.json', 'a'])
@pytest.mark.parametrize(
    'content', [b'', b'\0' * 200, b'{"result": {"versions": 3}}', b'[' * 10**5]
)
def test_what_cannot_be_read_is_no_result(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    assert not is_result(path)
    path.write_bytes(content)
    assert not is_result(path)
    assert not is_replaceable(path)
    path.unlink()
    path.mkdir()
    assert not is_replaceable(path)
