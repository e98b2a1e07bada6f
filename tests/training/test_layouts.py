"""Data sets as their publishers ship them, with the faults they come with."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.training.data.layouts import read_layout
from napari_kdsam.training.data.samples import Sample

SHAPE = (60, 80)


def disc(row: float, column: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.indices(SHAPE)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def save(path: Path, array: NDArray[np.generic], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path, **options)
    return path


def picture(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (*SHAPE, 3), np.uint8)


def white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return mask.astype(np.uint8) * 255


def only(samples: list[Sample]) -> Sample:
    (sample,) = samples
    return sample


def test_kvasir_masks_are_thresholded_in_spite_of_jpeg(tmp_path: Path) -> None:
    truth = disc(30, 40, 15)
    save(tmp_path / 'images' / 'a.jpg', picture())
    save(tmp_path / 'masks' / 'a.jpg', white(truth), quality=75)
    sample = only(read_layout('kvasir_seg', tmp_path).samples)
    assert sample.modality == 'endoscopy'
    image, mask = sample.load()
    assert image.shape == (*SHAPE, 3)
    assert (mask ^ truth).mean() < 0.01


def test_an_image_without_a_mask_is_named_not_read(tmp_path: Path) -> None:
    save(tmp_path / 'images' / 'a.jpg', picture())
    save(tmp_path / 'images' / 'b.jpg', picture())
    save(tmp_path / 'masks' / 'b.jpg', white(disc(30, 40, 9)))
    listing = read_layout('kvasir_seg', tmp_path)
    assert [s.stem for s in listing.samples] == ['b']
    assert 'a.jpg' in listing.skipped['a']


def test_isic_pairs_images_across_folders_and_ignores_superpixels(
    tmp_path: Path,
) -> None:
    data = tmp_path / 'ISIC-2017_Training_Data'
    save(data / 'ISIC_0000001.jpg', picture())
    save(data / 'ISIC_0000001_superpixels.png', picture())
    truths = tmp_path / 'ISIC-2017_Training_Part1_GroundTruth'
    save(truths / 'ISIC_0000001_segmentation.png', white(disc(30, 40, 9)))
    listing = read_layout('isic', tmp_path)
    assert only(listing.samples).stem == 'ISIC_0000001'
    assert not listing.skipped


@pytest.mark.parametrize('gap', [0, 30])
def test_hc18_outlines_are_filled_even_with_a_gap(tmp_path: Path, gap: int) -> None:
    truth = disc(30, 40, 20)
    outline = truth & ~disc(30, 40, 18.5)
    outline[:12, 40 : 40 + gap // 3] = False
    folder = tmp_path / 'training_set'
    save(folder / '007_2HC.png', picture()[..., 0])
    save(folder / '007_2HC_Annotation.png', white(outline))
    table = 'filename,pixel size(mm),head circumference (mm)\n007_2HC.png,0.25,120\n'
    (tmp_path / 'training_set_pixel_size_and_HC.csv').write_text(table)
    sample = only(read_layout('hc18', tmp_path).samples)
    assert (sample.patient, sample.pixel_size_mm) == ('007', 0.25)
    assert (sample.load()[1] ^ truth).mean() < 0.02


def test_busi_masks_of_one_image_are_merged_and_normal_ones_left_out(
    tmp_path: Path,
) -> None:
    left, right = disc(30, 15, 8), disc(30, 60, 8)
    save(tmp_path / 'benign' / 'benign (4).png', picture())
    save(tmp_path / 'benign' / 'benign (4)_mask.png', white(left))
    save(tmp_path / 'benign' / 'benign (4)_mask_1.png', white(right))
    save(tmp_path / 'normal' / 'normal (1).png', picture())
    save(tmp_path / 'normal' / 'normal (1)_mask.png', white(left & right))
    listing = read_layout('busi', tmp_path)
    sample = only(listing.samples)
    assert sample.stem == 'benign_4'
    assert np.array_equal(sample.load()[1], left | right)
    assert 'nothing to segment' in listing.skipped['normal (1)']


def test_busbra_knows_the_patient_from_the_table(tmp_path: Path) -> None:
    save(tmp_path / 'Images' / 'bus_0001-l.png', picture())
    save(tmp_path / 'Masks' / 'mask_0001-l.png', white(disc(30, 40, 9)))
    (tmp_path / 'bus_data.csv').write_text('ID,Case\nbus_0001-l,1\n')
    assert only(read_layout('busbra', tmp_path).samples).patient == '1'


@pytest.mark.parametrize('ending', ['', '_mask', '_segmentation', '_label'])
def test_a_plain_folder_is_paired_by_stem(tmp_path: Path, ending: str) -> None:
    save(tmp_path / 'images' / 'x.PNG', picture())
    save(tmp_path / 'masks' / f'x{ending}.tif', white(disc(30, 40, 9)))
    sample = only(read_layout('plain', tmp_path).samples)
    assert sample.load()[1].any()


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.bmp', '.gif'])
def test_every_label_of_a_mask_is_trained_on(tmp_path: Path, suffix: str) -> None:
    left, right = disc(30, 20, 9), disc(30, 60, 9)
    save(tmp_path / 'images' / 'x.png', picture())
    save(tmp_path / 'masks' / f'x{suffix}', (left + 3 * right).astype(np.uint8))
    sample = only(read_layout('plain', tmp_path).samples)
    assert np.array_equal(sample.load()[1], left | right)


def test_sixteen_bit_and_rgba_pictures_become_rgb(tmp_path: Path) -> None:
    deep = np.linspace(0, 4000, 60 * 80).reshape(SHAPE).astype(np.uint16)
    save(tmp_path / 'images' / 'deep.png', deep)
    clear = np.dstack([picture(), np.full(SHAPE, 9, np.uint8)])
    save(tmp_path / 'images' / 'clear.png', clear)
    for name in ('deep', 'clear'):
        save(tmp_path / 'masks' / f'{name}.png', white(disc(30, 40, 9)))
    clear_sample, deep_sample = read_layout('plain', tmp_path).samples
    assert np.array_equal(clear_sample.load()[0], clear[..., :3])
    values = deep_sample.load()[0]
    assert (values.min(), values.max()) == (0, 255)


def test_bad_pairs_say_what_is_wrong(tmp_path: Path) -> None:
    save(tmp_path / 'images' / 'a.png', picture())
    save(tmp_path / 'masks' / 'a.png', white(disc(30, 40, 9))[:50])
    save(tmp_path / 'images' / 'b.png', picture())
    save(tmp_path / 'masks' / 'b.png', white(disc(30, 40, 9)) * 0)
    save(tmp_path / 'images' / 'c.png', picture())
    (tmp_path / 'masks' / 'c.png').write_bytes(b'no picture')
    samples = read_layout('plain', tmp_path).samples
    for sample, words in zip(
        samples, ('60 x 80', 'empty', 'c.png is not'), strict=True
    ):
        with pytest.raises(ImageError, match=words):
            sample.load()


@pytest.mark.parametrize(
    'name', ['kvasir_seg', 'isic', 'hc18', 'busi', 'busbra', 'plain']
)
def test_another_folder_is_refused_by_what_it_lacks(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=r'has no|has none'):
        read_layout(name, tmp_path)
    with pytest.raises(ImageError, match='no folder'):
        read_layout(name, tmp_path / 'nowhere')


def test_samples_can_be_sent_to_loader_workers(tmp_path: Path) -> None:
    save(tmp_path / 'images' / 'a.png', picture())
    save(tmp_path / 'masks' / 'a.png', white(disc(30, 40, 9)))
    sample = only(read_layout('plain', tmp_path).samples)
    sent = pickle.loads(pickle.dumps(sample))
    assert np.array_equal(sent.load()[0], sample.load()[0])
