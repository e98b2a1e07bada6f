"""Folders of masks as the labels they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw
from scipy import ndimage

from napari_kdsam.core.errors import ImageError, SoftMaskWarning
from napari_kdsam.io.label_images import labels_of_mask, read_mask, write_labels
from napari_kdsam.measure.reference_masks import open_reference

SHAPE = (9, 12)


def save(path: Path, pixels: Any) -> None:
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def test_the_mask_of_an_image_is_found_by_its_name(tmp_path: Path):
    for name, value in (('polyp.png', 3), ('scan 7_mask.png', 5), ('scan 70.png', 6)):
        save(tmp_path / name, np.full(SHAPE, value))
    (tmp_path / 'notes.txt').write_text('not a mask')
    found = open_reference(tmp_path, SHAPE, ('labels', 'Scan 7.jpg'))
    assert (np.asarray(found) == 5).all()
    assert (found[2:4, :3] == 5).all() and found[2:4, :3].shape == (2, 3)
    found = open_reference(tmp_path, SHAPE, ('scan 70 labels [1]', 'polyp'))
    assert (found[()] == 6).all()
    with pytest.raises(ImageError, match='None of the 3 masks'):
        open_reference(tmp_path, SHAPE, ('other',))


def test_masks_of_a_stack_are_taken_in_the_order_of_their_numbers(tmp_path: Path):
    for number in range(12):
        save(tmp_path / f'frame{number}.png', np.full(SHAPE, number + 1))
    found = open_reference(tmp_path, (12, *SHAPE))
    stack = np.asarray(found)
    assert stack[:, 0, 0].tolist() == list(range(1, 13))
    assert (found[3] == 4).all()
    for index in ((slice(2, 7, 2), 4), (np.int64(5), slice(1, 3)), (slice(0, 0),)):
        assert np.array_equal(found[index], stack[index])
    found = open_reference(tmp_path, (3, 4, *SHAPE))
    assert np.array_equal(found[1, :, 2:4], stack.reshape(3, 4, *SHAPE)[1, :, 2:4])
    with pytest.raises(ImageError, match='12 masks for 11 frames'):
        open_reference(tmp_path, (11, *SHAPE))


def test_a_file_with_all_frames_is_the_reference_of_a_stack(tmp_path: Path):
    stack = np.random.default_rng(0).integers(0, 5, (6, *SHAPE), np.uint8)
    write_labels(tmp_path / 'cine_labels.tif', stack)
    assert np.array_equal(open_reference(tmp_path, stack.shape)[2:4], stack[2:4])
    write_labels(tmp_path / 'other.tif', stack[:, ::-1])
    assert np.array_equal(open_reference(tmp_path, stack.shape, ['cine']), stack)


def test_black_and_white_masks_are_one_object(tmp_path: Path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 5:] = 255
    save(tmp_path / 'white.png', mask)
    save(tmp_path / 'colour.png', np.stack([mask, mask // 2, mask * 0], -1))
    Image.fromarray(mask).save(tmp_path / 'lossy.jpg', quality=30)
    np.save(tmp_path / 'real.npy', mask / 255)
    np.save(tmp_path / 'half.npy', mask / 2)
    for name in ('white', 'colour', 'lossy', 'real'):
        found = open_reference(tmp_path, SHAPE, [name])
        assert np.array_equal(found, mask // 255), name
    with pytest.raises(ImageError, match='no whole numbers'):
        open_reference(tmp_path, SHAPE, ['half'])[()]


def test_a_folder_that_does_not_serve_is_said(tmp_path: Path):
    with pytest.raises(ImageError, match='no folder'):
        open_reference(tmp_path / 'nowhere', SHAPE)
    with pytest.raises(ImageError, match='no image files'):
        open_reference(tmp_path, SHAPE)
    save(tmp_path / 'a.png', np.zeros((4, 4)))
    with pytest.raises(ImageError, match=r'a\.png has 4 x 4 pixels'):
        open_reference(tmp_path, SHAPE)[()]
    save(tmp_path / 'a_mask.png', np.zeros((4, 4)))
    with pytest.raises(ImageError, match='have one name'):
        open_reference(tmp_path, SHAPE, ['a'])


def _mask() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[:, 5:] = True
    return mask


@pytest.mark.parametrize(
    ('dtype', 'white'),
    [
        (np.uint16, 255),
        (np.uint16, 65535),
        (np.int16, 255),
        (np.int16, 32767),
        (np.int32, 255),
        (np.uint32, 2**32 - 1),
        (np.uint64, 2**64 - 1),
        (np.float32, 1),
        (np.float32, 255),
        (np.float64, 0.9999999),
        (bool, 1),
    ],
)
def test_masks_of_two_values_of_any_type_are_one_object(dtype: Any, white: Any):
    pixels = np.where(_mask(), np.asarray(white, dtype), np.asarray(0, dtype))
    assert np.array_equal(labels_of_mask('a.npy', pixels), _mask())


def test_other_values_stay_labels_and_what_is_none_is_refused():
    assert (labels_of_mask('a.npy', np.full(SHAPE, 7, np.uint16)) == 7).all()
    three = np.where(_mask(), 255, 3).astype(np.uint16)
    assert np.array_equal(labels_of_mask('a.npy', three), three)
    for bad in (-1, np.nan, np.inf, 1e300, 0.5):
        with pytest.raises(ImageError, match=r'a\.npy'):
            labels_of_mask('a.npy', np.full(SHAPE, bad))


@pytest.mark.parametrize('color', [(255, 255, 255), (200, 0, 0), (0, 0, 0)])
def test_what_is_transparent_is_not_labelled(tmp_path: Path, color: Any):
    pixels = np.zeros((*SHAPE, 4), np.uint8)
    pixels[..., :3] = color
    pixels[..., 3] = np.where(_mask(), 255, 0)
    save(tmp_path / 'a.png', pixels)
    assert np.array_equal(open_reference(tmp_path, SHAPE), _mask())
    pixels[..., 3] = 0
    save(tmp_path / 'a.png', pixels)
    assert not np.asarray(open_reference(tmp_path, SHAPE)).any()


def test_the_colours_of_a_palette_are_labels(tmp_path: Path):
    places = np.zeros(SHAPE, np.uint8)
    places[:, 3:6], places[:, 6:] = 1, 2
    picture = Image.fromarray(places)
    for colors, expected in (
        ([0, 0, 0, 200, 0, 0, 0, 200, 0], [0, 1, 2]),
        ([9, 9, 9, 0, 0, 0, 0, 200, 0], [3, 0, 2]),
    ):
        picture.putpalette(colors)
        picture.save(tmp_path / 'a.png')
        found = np.asarray(open_reference(tmp_path, SHAPE))
        assert found[0, [0, 4, 8]].tolist() == expected


PALETTE = np.array([(0, 0, 0), (200, 0, 0), (0, 200, 0), (0, 200, 0)], np.uint8)


def _places() -> np.ndarray:
    places = np.zeros(SHAPE, np.uint8)
    places[:3, 2:5], places[:, 6:9], places[5:, 10:] = 1, 2, 3
    return places


def _save_palette(path: Path, turn: int = 1) -> None:
    picture = Image.fromarray(_places())
    picture.putpalette(PALETTE.ravel().tolist())
    if turn == 1:
        picture.save(path, **({'optimize': False} if path.suffix == '.gif' else {}))
    elif path.suffix == '.png':
        exif = Image.Exif()
        exif[274] = turn
        picture.save(path, exif=exif)
    else:
        picture.save(path, tiffinfo={274: turn})


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.bmp', '.gif'])
def test_a_palette_gives_the_same_labels_in_every_format(tmp_path: Path, suffix: str):
    _save_palette(tmp_path / f'a{suffix}')
    assert np.array_equal(open_reference(tmp_path, SHAPE), _places())


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_the_labels_of_a_palette_are_turned_as_its_picture_is(
    tmp_path: Path, suffix: str
):
    _save_palette(tmp_path / f'a{suffix}', turn=3)
    assert np.array_equal(read_mask(tmp_path / f'a{suffix}'), _places()[::-1, ::-1])


def test_a_stack_of_pages_with_palettes_keeps_its_labels(tmp_path: Path):
    stack = np.stack([_places(), _places()[::-1]])
    colors = np.zeros((3, 256), np.uint16)
    colors[:, :4] = PALETTE.T.astype(np.uint16) * 257
    with tifffile.TiffWriter(tmp_path / 'a.tif') as tiff:
        for page in stack:
            tiff.write(page, photometric='palette', colormap=colors, metadata=None)
    assert np.array_equal(open_reference(tmp_path, stack.shape), stack)


def test_an_animation_with_a_palette_keeps_its_labels(tmp_path: Path):
    stack = np.stack([_places() % 3, _places()[::-1] % 3])
    first, second = (Image.fromarray(frame) for frame in stack)
    for picture in (first, second):
        picture.putpalette(PALETTE.ravel().tolist())
    first.save(tmp_path / 'a.gif', save_all=True, append_images=[second])
    assert np.array_equal(open_reference(tmp_path, stack.shape), stack)


def test_a_palette_of_greys_is_read_as_grey(tmp_path: Path):
    picture = Image.fromarray(np.where(_mask(), 1, 0).astype(np.uint8))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(tmp_path / 'a.bmp')
    assert np.array_equal(read_mask(tmp_path / 'a.bmp'), _mask())


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_grey_with_opacity_keeps_its_labels(tmp_path: Path, suffix: str):
    grey, path = _places() * 7, tmp_path / f'a{suffix}'
    grey[0, 0] = 9
    opacity = np.full(SHAPE, 255, np.uint8)
    opacity[:, 8:] = 0
    Image.merge('LA', [Image.fromarray(grey), Image.fromarray(opacity)]).save(path)
    assert np.array_equal(read_mask(path), np.where(opacity, grey, 0))


def test_labels_that_were_saved_as_rgb_stay_labels(tmp_path: Path):
    save(tmp_path / 'a.png', np.stack([_places()] * 3, -1))
    assert np.array_equal(read_mask(tmp_path / 'a.png'), _places())


def drawn(smooth: int = 1) -> Image.Image:
    """A white ellipse of 50 x 30 pixels whose outline has levels of grey."""
    picture = Image.new('L', (80 * smooth, 60 * smooth))
    ends = [edge * smooth for edge in (10, 15, 60, 45)]
    ImageDraw.Draw(picture).ellipse(ends, fill=255)
    return picture.resize((80, 60), Image.Resampling.BOX)


@pytest.mark.parametrize('kind', ['L', 'RGB', 'LA', 'I;16', 'lossy'])
def test_a_mask_with_soft_outlines_is_one_object_and_that_is_said(
    tmp_path: Path, kind: str
):
    soft, path = drawn(8), tmp_path / 'a.png'
    if kind == 'lossy':
        drawn().save(tmp_path / 'a.jpg', quality=60)
        soft = Image.open(tmp_path / 'a.jpg')
    expected = np.asarray(soft) > 127
    if kind == 'I;16':
        Image.fromarray(np.asarray(soft).astype(np.uint16) * 257).save(path)
    else:
        soft.convert('L' if kind == 'lossy' else kind).save(path)
    with pytest.warns(SoftMaskWarning, match=r'a\.png has soft outlines'):
        assert np.array_equal(read_mask(path), expected)


def test_neither_labels_nor_black_and_white_is_refused():
    shapes = {
        'blurred': ndimage.gaussian_filter(np.asarray(drawn(), np.float64), 8),
        'image': np.random.default_rng(0).rayleigh(40, (60, 80)).clip(0, 255),
    }
    for pixels in shapes.values():
        with pytest.raises(ImageError, match='shades of grey.*save the mask'):
            labels_of_mask('a.png', pixels.astype(np.uint8))
    classes = np.zeros((60, 80), np.uint8)
    classes[10:40, 10:40], classes[10:40, 40:70] = 90, 255
    with pytest.raises(ImageError, match='shades of grey'):
        labels_of_mask('a.jpg', np.maximum(classes, classes + 1))


def test_label_images_are_not_taken_for_soft_masks():
    cells = np.zeros((100, 100), np.uint8)
    for number in range(1, 82):
        row, column = (number - 1) // 9 * 11 + 1, (number - 1) % 9 * 11 + 1
        cells[row : row + 8, column : column + 8] = number * 3
    spots = (np.indices((100, 100)) % 3 == 0).all(0)
    spots = (spots * np.arange(10_000).reshape(100, 100)).astype(np.uint16)
    void = cells.copy()
    void[ndimage.grey_dilation(cells, 3) != ndimage.grey_erosion(cells, 3)] = 255
    quarters = (np.arange(4)[:, None] * 85).repeat(25, 0).repeat(100, 1)
    for labels in (cells, spots, void, quarters.astype(np.uint8)):
        assert np.array_equal(labels_of_mask('a.png', labels), labels)
