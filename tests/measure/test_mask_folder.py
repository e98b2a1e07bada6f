"""One rule for which mask belongs to which image, wherever masks are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_files import dataset_of
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.measure.mask_folder import MaskFolder
from napari_kdsam.measure.reference_masks import open_reference

SHAPE = (60, 80)
PAIRED = (
    ('scan.png', 'scan.png'),
    ('scan.jpg', 'scan.tif'),
    ('Scan.PNG', 'scan_MASK.Tif'),
    ('scan 7.png', 'scan 7 labels.png'),
    ('scan.png', 'scan_masks.png'),
    ('scan.png', 'scan-label.tif'),
    ('scan.png', 'scan_labels.png'),
    ('scan.png', 'scan_segmentation.jpg'),
    ('scan.png', 'scan_seg.png'),
    ('scan.png', 'scan_gt.png'),
    ('scan_seg.png', 'scan_seg.png'),
    ('1.2.840.png', '1.2.840_mask.png'),
    ('L\u00e4sion.png', 'La\u0308sion_mask.png'),
)
UNPAIRED = (
    ('scan.png', 'scan1.png'),
    ('scan.png', 'mask_scan.png'),
    ('scan.png', 'scanmask.png'),
    ('scan.png', 'scan_mask_2.png'),
)


def save(path: Path, value: int = 255) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[20:40, 20:40] = value
    Image.fromarray(pixels).save(path)


def found_by_viewer(folder: Path, image: str) -> bool:
    try:
        open_reference(folder / 'masks', SHAPE, ['Labels', image])
    except ImageError as error:
        assert 'is called like' in str(error)
        return False
    return True


def found_by_evaluate(folder: Path, image: str) -> bool:
    from napari_kdsam.training.evaluation.folder import samples_of_folder

    samples = {sample.stem: sample for sample in samples_of_folder(folder)}
    try:
        return bool(samples[Path(image).stem].load()[1].any())
    except ImageError as error:
        assert f'{image} has no mask' in str(error)
        return False


def found_by_training(folder: Path, image: str) -> bool:
    from napari_kdsam.training.data.layouts import read_layout

    listing = read_layout('plain', folder)
    stem = Path(image).stem
    found = stem in {sample.stem for sample in listing.samples}
    assert found or listing.skipped[stem] == f'{image} has no mask.'
    return found


@pytest.mark.parametrize(
    ('image', 'mask', 'expected'),
    [(*names, True) for names in PAIRED] + [(*names, False) for names in UNPAIRED],
)
def test_viewer_evaluation_and_training_agree_on_names(
    tmp_path: Path, image: str, mask: str, expected: bool
) -> None:
    save(tmp_path / 'images' / image)
    save(tmp_path / 'images' / 'other.png')
    save(tmp_path / 'masks' / mask)
    save(tmp_path / 'masks' / 'other.png')
    assert found_by_viewer(tmp_path, image) == expected
    assert found_by_evaluate(tmp_path, image) == expected
    assert found_by_training(tmp_path, image) == expected


def test_two_masks_of_an_image_are_refused_by_all_three(tmp_path: Path) -> None:
    from napari_kdsam.training.data.layouts import read_layout
    from napari_kdsam.training.evaluation.folder import samples_of_folder

    save(tmp_path / 'images' / 'scan.png')
    for name in ('scan.png', 'scan_mask.png'):
        save(tmp_path / 'masks' / name)
    said = 'scan.png, scan_mask.png in masks have one name'
    with pytest.raises(ImageError, match=said):
        open_reference(tmp_path / 'masks', SHAPE, ['scan'])
    with pytest.raises(ImageError, match=said):
        samples_of_folder(tmp_path)
    assert said in read_layout('plain', tmp_path).skipped['scan']


def test_masks_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ('frame10.png', 'frame9.PNG', '.hidden.png', 'notes.txt'):
        (tmp_path / name).touch()
    names = [path.name for path in MaskFolder(tmp_path).files]
    assert names == ['frame9.PNG', 'frame10.png']


def test_images_are_told_by_their_content_too_and_the_rest_is_named(
    tmp_path: Path,
) -> None:
    from napari_kdsam.training.evaluation.folder import samples_of_folder, unused_files

    save(tmp_path / 'images' / 'scan.png')
    drawn = np.full(SHAPE, 9, np.uint8)
    dataset_of(drawn).save_as(tmp_path / 'images' / 'IM_0001', enforce_file_format=True)
    (tmp_path / 'images' / 'notes.txt').touch()
    for name in ('scan.png', 'IM_0001.png', 'gone.png'):
        save(tmp_path / 'masks' / name)
    (tmp_path / 'masks' / 'old').mkdir()
    stems = [sample.stem for sample in samples_of_folder(tmp_path)]
    assert stems == ['IM_0001', 'scan']
    unused = ['images/notes.txt', 'masks/gone.png', 'masks/old']
    assert unused_files(tmp_path) == unused
