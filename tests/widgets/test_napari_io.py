"""What napari opens and saves through the plugin, with a real viewer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.image_file import ImageFile
from napari_kdsam.io.label_images import write_labels
from napari_kdsam.widgets.napari_io import (
    get_reader,
    read_folder,
    read_layers,
    read_sequence,
    write_labels_layer,
)

nibabel = pytest.importorskip('nibabel')
RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 99, (7, 5, 4), np.uint8)
TILTED = np.array([[-0.5, 0, 0.1, 9], [0, 0.4, 0, -3], [0.1, 0, 2.5, 1], [0, 0, 0, 1]])


def nifti(path: Path, voxels: np.ndarray = VOLUME, affine: Any = TILTED) -> Path:
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def test_what_is_not_ours_is_declined(tmp_path: Path) -> None:
    for name in ('a.csv', 'a.nrrd', 'nii', 'a.nii.txt'):
        (tmp_path / name).write_bytes(b'x' * 10)
        assert get_reader(str(tmp_path / name)) is None
    (tmp_path / 'scans').mkdir()
    assert get_reader(str(tmp_path / 'scans')) is None
    assert get_reader(str(tmp_path / 'missing.nii')) is None
    path = nifti(tmp_path / 'b.nii')
    assert get_reader([str(path), str(path)]) is None
    assert get_reader(str(path)) is read_layers
    assert get_reader(path) is read_layers


def test_a_volume_is_a_lazy_stack_of_millimetres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nifti(tmp_path / 'scan.nii.gz')
    read: list[int] = []
    original = ImageFile.frame

    def spy(image: ImageFile, index: int = 0) -> np.ndarray:
        read.append(index)
        return original(image, index)

    monkeypatch.setattr(ImageFile, 'frame', spy)
    ((data, attributes, kind),) = read_layers(path)
    assert (kind, attributes['name'], attributes['rgb']) == ('image', 'scan', False)
    assert data.shape == (4, 5, 7)
    assert read == []
    np.testing.assert_array_equal(np.asarray(data[2]), VOLUME[:, :, 2].T)
    assert read == [2]
    lengths = np.linalg.norm(TILTED[:3, :3], axis=0)
    assert attributes['scale'] == pytest.approx(lengths[::-1], rel=1e-6)
    assert attributes['units'] == ('millimeter',) * 3
    assert attributes['axis_labels'] == ('z', 'y', 'x')


def test_volumes_in_time_have_four_axes(tmp_path: Path) -> None:
    voxels = RNG.integers(0, 99, (7, 5, 4, 3), np.uint8)
    ((data, attributes, _),) = read_layers(nifti(tmp_path / 'a.nii', voxels))
    assert data.shape == (3, 4, 5, 7)
    assert attributes['units'] == ('pixel', *('millimeter',) * 3)
    np.testing.assert_array_equal(np.asarray(data), voxels.transpose())


def test_a_dicom_cine_is_opened_by_napari_itself(make_napari_viewer_proxy: Any) -> None:
    examples = pytest.importorskip('pydicom.examples')
    viewer = make_napari_viewer_proxy(show=False)
    (layer,) = viewer.open(str(examples.get_path('ybr_color')), plugin='napari-kdsam')
    assert layer.rgb
    assert layer.data.shape == (30, 240, 320, 3)
    assert layer.axis_labels[0] == 'frame'
    # The regions of this file are those of a larger image.
    assert tuple(map(str, layer.units)) == ('pixel',) * 3
    viewer.dims.set_current_step(0, 17)
    first, shown = (np.asarray(layer.data[n]) for n in (0, 17))
    assert (first != shown).any()


def test_dicom_without_suffix_is_opened_and_other_files_are_refused(
    tmp_path: Path, make_napari_viewer_proxy: Any
) -> None:
    pytest.importorskip('pydicom')
    from dicom_files import dataset_of

    pixels = RNG.integers(0, 99, (6, 8), np.uint8)
    viewer = make_napari_viewer_proxy(show=False)
    for name in ('IM_0001', '1.2.840.10008.7'):
        dataset_of(pixels).save_as(tmp_path / name, enforce_file_format=True)
        (layer,) = viewer.open(str(tmp_path / name), plugin='napari-kdsam')
        np.testing.assert_array_equal(np.asarray(layer.data), pixels)
    (tmp_path / 'README').write_text('read me')
    with pytest.raises(ValueError, match='refused the file'):
        viewer.open(str(tmp_path / 'README'), plugin='napari-kdsam')


def test_a_dicom_segmentation_is_a_labels_layer(
    tmp_path: Path, make_napari_viewer_proxy: Any
) -> None:
    examples = pytest.importorskip('pydicom.examples')
    pytest.importorskip('highdicom')
    from napari_kdsam.io.dicom_seg_writer import write_dicom_seg

    labels = np.zeros((30, 240, 320), np.uint8)
    labels[2:, 40:80, 50:90], labels[29, :9, :9] = 1, 2
    write_dicom_seg(tmp_path / 'seg.dcm', labels, examples.get_path('ybr_color'))
    viewer = make_napari_viewer_proxy(show=False)
    (layer,) = viewer.open(str(tmp_path / 'seg.dcm'), plugin='napari-kdsam')
    assert type(layer).__name__ == 'Labels'
    np.testing.assert_array_equal(np.asarray(layer.data), labels)


def test_a_zarr_folder_is_opened_by_napari_itself(
    tmp_path: Path, make_napari_viewer_proxy: Any
) -> None:
    zarr = pytest.importorskip('zarr', minversion='3')
    pixels = RNG.integers(0, 99, (3, 6, 8), np.uint8)
    zarr.save_array(tmp_path / 'a.zarr', pixels[..., None])
    viewer = make_napari_viewer_proxy(show=False)
    (layer,) = viewer.open(str(tmp_path / 'a.zarr'), plugin='napari-kdsam')
    np.testing.assert_array_equal(np.asarray(layer.data), pixels)


@pytest.mark.parametrize('name', ['out.nii', 'out.nii.gz'])
def test_labels_saved_in_napari_lie_on_the_volume_they_came_from(
    tmp_path: Path, make_napari_viewer_proxy: Any, name: str
) -> None:
    source = nifti(tmp_path / 'scan.nii')
    viewer = make_napari_viewer_proxy(show=False)
    (image,) = viewer.open(str(source), plugin='napari-kdsam')
    labels = RNG.integers(0, 9, image.data.shape)
    layer = viewer.add_labels(labels, scale=image.scale, metadata=image.metadata)
    assert layer.save(str(tmp_path / name), plugin='napari-kdsam')
    written = nibabel.load(tmp_path / name)
    np.testing.assert_array_equal(written.affine, nibabel.load(source).affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels.transpose())
    (again,) = viewer.open(str(tmp_path / name), plugin='napari-kdsam')
    assert type(again).__name__ == 'Labels'
    np.testing.assert_array_equal(np.asarray(again.data), labels)


def test_labels_of_other_images_keep_their_size_in_nifti(
    tmp_path: Path, make_napari_viewer_proxy: Any
) -> None:
    viewer = make_napari_viewer_proxy(show=False)
    labels = RNG.integers(0, 9, (2, 5, 6))
    layer = viewer.add_labels(
        labels, scale=(1, 500, 250), units=('pixel', 'micrometer', 'micrometer')
    )
    layer.save(str(tmp_path / 'a.nii'), plugin='napari-kdsam')
    assert nibabel.load(tmp_path / 'a.nii').header.get_zooms() == (0.25, 0.5, 1.0)


@pytest.mark.parametrize('suffix', ['.tif', '.png'])
def test_labels_are_saved_as_pictures_of_the_smallest_type(
    tmp_path: Path, suffix: str
) -> None:
    labels = np.array([[0, 1], [2, 300]], np.int64)
    path = str(tmp_path / f'a{suffix}')
    assert write_labels_layer(path, labels, {}) == [path]
    read = tifffile.imread(path) if suffix == '.tif' else np.asarray(Image.open(path))
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, labels)


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / 'a.nii').write_bytes(b'damaged' * 99)
    with pytest.raises(ImageError, match='not a NIfTI image'):
        read_layers(tmp_path / 'a.nii')


def test_asking_for_a_reader_loads_nothing_heavy(tmp_path: Path) -> None:
    path = nifti(tmp_path / 'a.nii')
    code = (
        'import json, sys\n'
        'from napari_kdsam.widgets.napari_io import get_reader\n'
        'assert get_reader(sys.argv[1])\n'
        'print(json.dumps(list(sys.modules)))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split('.')[0] for name in json.loads(done.stdout)}
    heavy = {'torch', 'qtpy', 'napari', 'dask', 'nibabel', 'pydicom', 'av', 'zarr'}
    assert not loaded & heavy


def turned_jpeg(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RNG.integers(0, 99, (20, 30, 3), np.uint8)).save(path, exif=exif)
    return path


def test_a_picture_has_one_size_in_napari_and_where_it_is_segmented(
    tmp_path: Path, make_napari_viewer_proxy: Any
) -> None:
    path = turned_jpeg(tmp_path / 'a.JPG')
    viewer = make_napari_viewer_proxy(show=False)
    (layer,) = viewer.open(str(path), plugin='napari-kdsam')
    assert layer.rgb
    with open_image(path) as image:
        assert image.shape == (30, 20, 3)
        np.testing.assert_array_equal(layer.data, image.frame())


def test_napari_offers_our_reader_first(
    tmp_path: Path, make_napari_viewer_proxy: Any
) -> None:
    from napari.errors import MultipleReaderError
    from npe2 import PluginManager

    viewer = make_napari_viewer_proxy(show=False)
    path = str(turned_jpeg(tmp_path / 'a.jpg'))
    with pytest.raises(MultipleReaderError) as caught:
        viewer.open(path, plugin=None)
    # The dialog for this error sorts by the names shown and takes the first.
    manager = PluginManager.instance()
    names = {
        manager.get_manifest(r).display_name for r in caught.value.available_plugins
    }
    assert min(names) == 'KD SAM'


def test_pictures_opened_as_a_stack_are_its_frames(
    tmp_path: Path, make_napari_viewer_proxy: Any
) -> None:
    paths = [str(turned_jpeg(tmp_path / f'{n}.jpg')) for n in range(3)]
    viewer = make_napari_viewer_proxy(show=False)
    (layer,) = viewer.open(paths, stack=True, plugin='napari-kdsam')
    assert layer.data.shape == (3, 30, 20, 3)
    for path, frame in zip(paths, np.asarray(layer.data), strict=True):
        np.testing.assert_array_equal(frame, open_image(path).frame())


def test_pictures_that_do_not_fit_make_no_stack(tmp_path: Path) -> None:
    Image.new('RGB', (30, 20)).save(tmp_path / 'a.png')
    Image.new('RGB', (30, 21)).save(tmp_path / 'b.png')
    Image.new('RGB', (30, 20)).save(
        tmp_path / 'c.gif', save_all=True, append_images=[Image.new('RGB', (30, 20), 9)]
    )
    with pytest.raises(ImageError, match=r'b\.png is \(21, 30, 3\)'):
        read_sequence([tmp_path / 'a.png', tmp_path / 'b.png'])
    with pytest.raises(ImageError, match=r'c\.gif has 2 frames'):
        read_sequence([tmp_path / 'a.png', tmp_path / 'c.gif'])


def save_picture(path: Path, *shape: int) -> np.ndarray:
    pixels = RNG.integers(0, 255, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_folder_of_pictures_of_one_size_is_a_stack_in_the_order_of_its_numbers(
    tmp_path: Path,
) -> None:
    saved = [save_picture(tmp_path / f'{name}.png', 6, 8) for name in ('10', '2')]
    (tmp_path / 'notes.txt').write_text('of the study')
    write_labels(tmp_path / '2_labels.png', np.ones((6, 8), np.uint8), 'annotator')
    assert get_reader(str(tmp_path)) is read_folder
    ((data, attributes, kind),) = read_folder(str(tmp_path))
    assert (kind, attributes['name']) == ('image', tmp_path.name)
    assert attributes['metadata']['frame_names'] == ['2.png', '10.png']
    np.testing.assert_array_equal(np.asarray(data), saved[::-1])


def test_a_folder_of_pictures_that_differ_has_a_layer_for_each_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari.utils.notifications

    said: list[str] = []
    monkeypatch.setattr(napari.utils.notifications, 'show_warning', said.append)
    for name, rows in (('a', 6), ('b', 7)):
        save_picture(tmp_path / f'{name}.png', rows, 8)
    (tmp_path / 'c.png').write_bytes(b'broken')
    layers = read_folder(tmp_path)
    assert [attributes['name'] for _, attributes, _ in layers] == ['a', 'b']
    assert 'c.png' in said[0]
    monkeypatch.setattr('napari_kdsam.widgets.napari_io._MOST_LAYERS', 2)
    with pytest.raises(ImageError, match='3 images in .* differ'):
        read_folder(tmp_path)


def test_a_folder_without_an_image_is_declined(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('of the study')
    (tmp_path / 'below').mkdir()
    save_picture(tmp_path / 'below' / 'a.png', 6, 8)
    assert get_reader(str(tmp_path)) is None
    write_labels(tmp_path / 'a_labels.png', np.ones((6, 8), np.uint8), 'annotator')
    with pytest.raises(ImageError, match='no image'):
        read_folder(tmp_path)


def test_zarr_labels_are_a_labels_layer(tmp_path: Path) -> None:
    zarr = pytest.importorskip('zarr', minversion='3')
    for version, zarr_format in (('0.4', 2), ('0.5', 3)):
        path = tmp_path / f'{version}.zarr' / 'labels' / 'lesion'
        group = zarr.open_group(path, mode='w', zarr_format=zarr_format)
        labels = RNG.integers(0, 9, (3, 6, 8), np.uint32)
        group.create_array('0', data=labels)
        image = {
            'axes': [{'name': name, 'type': 'space'} for name in 'zyx'],
            'datasets': [{'path': '0'}],
        }
        described = {'multiscales': [image], 'image-label': {}}
        group.attrs.update(described if version == '0.4' else {'ome': described})
        ((data, attributes, kind),) = read_layers(path)
        assert kind == 'labels'
        assert attributes['name'] == 'lesion'
        np.testing.assert_array_equal(np.asarray(data), labels)


def test_a_picture_that_napari_leaves_lying_is_warned_of(
    tmp_path: Path, make_napari_viewer_proxy: Any, fake_factory: Any
) -> None:
    from napari.utils.notifications import notification_manager

    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget
    from napari_kdsam.widgets.shared.file_of_layer import otherwise_shown

    path = turned_jpeg(tmp_path / 'a.jpg')
    Image.new('RGB', (30, 20)).save(tmp_path / 'b.png')
    viewer = make_napari_viewer_proxy(show=False)
    (ours,) = viewer.open(str(path), plugin='napari-kdsam')
    (plain,) = viewer.open(str(tmp_path / 'b.png'))
    made = viewer.add_image(np.zeros((9, 9)))
    assert [otherwise_shown(layer) for layer in (ours, plain, made)] == ['', '', '']
    viewer.layers.clear()
    (lying,) = viewer.open(str(path))
    widget = AnnotatorWidget(viewer, fake_factory)
    widget.controller.set_image(lying)
    told = [notice.message for notice in notification_manager.records]
    assert any('a.jpg was opened by another reader' in message for message in told)
    widget.controller.close()
