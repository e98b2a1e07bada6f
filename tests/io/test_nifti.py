"""NIfTI: voxels stay where they are, and labels go back to the same place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from io_fixtures import problem_with
from missing_package import take_away

from napari_kdsam.core.errors import ImageError, MissingExtraError
from napari_kdsam.io.formats import open_image

nibabel = pytest.importorskip('nibabel')

from nibabel.orientations import aff2axcodes  # noqa: E402

from napari_kdsam.io.nifti import write_nifti_labels  # noqa: E402

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(-500, 500, (7, 5, 4), np.int16)
TILTED = np.array(
    [
        [-0.48, 0.05, 0.02, 91.5],
        [0.06, 0.39, -0.31, -12.25],
        [0.01, 0.08, 2.9, 7.125],
        [0, 0, 0, 1],
    ]
)
in_one_folder = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def saved(path: Path, voxels: np.ndarray, affine: Any = None, **fields: Any) -> Path:
    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz', 'a.NII.GZ'])
def test_slices_are_frames_of_rows_and_columns_as_stored(
    tmp_path: Path, name: str
) -> None:
    saved(tmp_path / 'a.nii.gz', VOLUME, TILTED)
    saved(tmp_path / 'a.nii', VOLUME, TILTED)
    if not (tmp_path / name).exists():
        (tmp_path / 'a.nii.gz').rename(tmp_path / name)
    with open_image(tmp_path / name) as image:
        assert image.shape == (4, 5, 7)
        assert image.dtype == np.int16
        for index in (3, 0, 2, 1):
            np.testing.assert_array_equal(image.frame(index), VOLUME[:, :, index].T)
        np.testing.assert_allclose(image.affine, TILTED, rtol=1e-6)
        assert image.orientation == ''.join(aff2axcodes(TILTED))
        lengths = np.linalg.norm(TILTED[:3, :3], axis=0)
        assert image.spacing == pytest.approx((lengths[1], lengths[0]), rel=1e-6)
        (axis,) = image.frame_axes
        assert (axis.name, axis.size) == ('z', 4)
        assert axis.spacing == pytest.approx(lengths[2], rel=1e-6)


def test_time_points_follow_each_other_with_all_their_slices(tmp_path: Path) -> None:
    voxels = RNG.integers(0, 99, (6, 5, 3, 2), np.uint8)
    with open_image(saved(tmp_path / 'a.nii', voxels)) as image:
        assert image.shape == (6, 5, 6)
        assert [(axis.name, axis.size) for axis in image.frame_axes] == [
            ('t', 2),
            ('z', 3),
        ]
        for index in range(6):
            np.testing.assert_array_equal(
                image.frame(index), voxels[:, :, index % 3, index // 3].T
            )


def test_a_single_slice_in_time_is_a_stack_of_times(tmp_path: Path) -> None:
    voxels = RNG.integers(0, 99, (6, 5, 1, 4), np.uint8)
    with open_image(saved(tmp_path / 'a.nii', voxels)) as image:
        assert [(axis.name, axis.size) for axis in image.frame_axes] == [('t', 4)]
        np.testing.assert_array_equal(image.frame(3), voxels[:, :, 0, 3].T)


@pytest.mark.parametrize('shape', [(6, 5), (6, 5, 1), (6, 5, 1, 1)])
def test_one_slice_is_a_single_image(tmp_path: Path, shape: tuple[int, ...]) -> None:
    voxels = RNG.integers(0, 99, shape, np.uint8)
    with open_image(saved(tmp_path / 'a.nii', voxels)) as image:
        assert image.shape == (5, 6)
        assert image.frame_axes == ()
        np.testing.assert_array_equal(image.frame(), voxels.reshape(6, 5).T)


def test_values_go_through_slope_and_intercept(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOLUME, np.eye(4))
    image.header.set_slope_inter(0.5, -7)
    nibabel.save(image, tmp_path / 'a.nii')
    # nibabel fits the stored numbers to slope and intercept, rounding them.
    expected = nibabel.load(tmp_path / 'a.nii').get_fdata()
    with open_image(tmp_path / 'a.nii') as read:
        assert read.dtype == np.float32
        np.testing.assert_allclose(read.frame(2), expected[:, :, 2].T, rtol=1e-6)


def test_rgb_voxels_become_rgb_frames(tmp_path: Path) -> None:
    kind = np.dtype([('R', 'u1'), ('G', 'u1'), ('B', 'u1')])
    colours = RNG.integers(0, 255, (6, 5, 3, 3), np.uint8)
    voxels = colours.view(kind)[..., 0]
    with open_image(saved(tmp_path / 'a.nii', voxels)) as image:
        assert image.shape == (3, 5, 6, 3)
        np.testing.assert_array_equal(
            image.frame(1), colours[:, :, 1].transpose(1, 0, 2)
        )


@pytest.mark.parametrize(
    ('unit', 'factor'), [('mm', 1.0), ('micron', 0.001), ('meter', 1000.0)]
)
def test_the_spacing_is_in_millimetres_whatever_the_unit(
    tmp_path: Path, unit: str, factor: float
) -> None:
    image = nibabel.Nifti1Image(VOLUME, np.diag([2.0, 3, 5, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / 'a.nii')
    with open_image(tmp_path / 'a.nii') as read:
        assert read.spacing == pytest.approx((3 * factor, 2 * factor))
        assert read.frame_axes[0].spacing == pytest.approx(5 * factor)


def test_a_file_that_says_nothing_of_its_voxels_has_no_spacing(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VOLUME, None), tmp_path / 'a.nii')
    with open_image(tmp_path / 'a.nii') as image:
        assert image.spacing is None
        assert image.frame_axes[0].spacing is None


@pytest.mark.parametrize('shape', [(6, 5, 3, 2, 2), (6,)])
def test_other_axes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    saved(tmp_path / 'a.nii', np.zeros(shape, np.uint8))
    assert 'neither slices nor a volume in time' in problem_with(tmp_path / 'a.nii')


def test_what_is_not_nifti_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'a.nii').write_text('These are notes, not a volume. ' * 40)
    assert 'not a NIfTI image' in problem_with(tmp_path / 'a.nii')
    (tmp_path / 'b.nii.gz').write_bytes(b'\x1f\x8b' + bytes(500))
    problem_with(tmp_path / 'b.nii.gz')
    saved(tmp_path / 'c.nii', VOLUME.astype(np.complex64))
    assert 'complex64' in problem_with(tmp_path / 'c.nii')


@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz'])
def test_slices_before_the_end_of_a_file_cut_short_are_still_read(
    tmp_path: Path, name: str
) -> None:
    voxels = RNG.integers(0, 255, (64, 64, 20), np.uint8)
    path = saved(tmp_path / name, voxels)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with open_image(path) as image:
        np.testing.assert_array_equal(image.frame(3), voxels[:, :, 3].T)
        with pytest.raises(ImageError, match=f'{name} cannot be read'):
            image.frame(19)
        np.testing.assert_array_equal(image.frame(4), voxels[:, :, 4].T)


@st.composite
def placements(draw: st.DrawFn) -> tuple[np.ndarray, int, int, str]:
    """An affine with any axes, turned and of any size, and how the header tells it."""
    numbers = st.floats(-1, 1, width=32)
    turned = np.linalg.qr(
        np.array(draw(st.lists(numbers, min_size=9, max_size=9))).reshape(3, 3)
        + 3 * np.eye(3)[list(draw(st.permutations(range(3))))]
    )[0]
    sizes = draw(st.lists(st.floats(0.0625, 9, width=32), min_size=3, max_size=3))
    affine = np.eye(4)
    affine[:3, :3] = turned * sizes
    affine[:3, 3] = draw(st.lists(st.floats(-300, 300), min_size=3, max_size=3))
    codes = st.integers(0, 4)
    unit = draw(st.sampled_from(['mm', 'micron', 'unknown']))
    return affine, draw(codes), draw(codes), unit


@in_one_folder
@given(
    placement=placements(),
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    suffix=st.sampled_from(['.nii', '.nii.gz']),
)
def test_labels_get_the_affine_orientation_and_size_of_their_image(
    tmp_path: Path,
    placement: tuple[np.ndarray, int, int, str],
    shape: list[int],
    suffix: str,
) -> None:
    affine, qform, sform, unit = placement
    image = nibabel.Nifti1Image(np.zeros(shape, np.int16), None)
    image.header.set_qform(affine, qform)
    image.header.set_sform(affine, sform)
    image.header.set_xyzt_units(unit, 'sec')
    nibabel.save(image, tmp_path / 'image.nii')
    source = nibabel.load(tmp_path / 'image.nii')
    with open_image(tmp_path / 'image.nii') as opened:
        labels = RNG.integers(0, 9, opened.shape, np.uint8)
    path = tmp_path / f'labels{suffix}'
    write_nifti_labels(path, labels, like=tmp_path / 'image.nii')
    written = nibabel.load(path)
    np.testing.assert_array_equal(written.affine, source.affine)
    assert aff2axcodes(written.affine) == aff2axcodes(source.affine)
    for name in ('qform', 'sform'):
        ours, code = getattr(written, f'get_{name}')(coded=True)
        theirs, expected = getattr(source, f'get_{name}')(coded=True)
        assert code == expected
        if theirs is not None:
            np.testing.assert_array_equal(ours, theirs)
    assert written.header.get_zooms() == source.header.get_zooms()
    assert written.header.get_xyzt_units() == source.header.get_xyzt_units()
    assert written.shape == source.shape
    with open_image(path) as read:
        assert read.holds_labels
        np.testing.assert_array_equal(read.every_frame(), labels)


def test_names_and_remarks_of_the_image_do_not_reach_the_labels(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOLUME, TILTED)
    image.header['descrip'] = b'Doe^Jane'
    image.header['db_name'] = b'secret-7'
    image.header['aux_file'] = b'secret.txt'
    image.header.extensions.append(
        nibabel.nifti1.Nifti1Extension('comment', b'secret comment')
    )
    nibabel.save(image, tmp_path / 'a.nii')
    labels = np.ones((4, 5, 7), np.uint8)
    write_nifti_labels(tmp_path / 'b.nii', labels, like=tmp_path / 'a.nii')
    assert b'secret' in (tmp_path / 'a.nii').read_bytes()
    content = (tmp_path / 'b.nii').read_bytes()
    assert b'secret' not in content
    assert b'Doe' not in content


def test_labels_in_time_may_have_an_axis_for_each_of_time_and_depth(
    tmp_path: Path,
) -> None:
    saved(tmp_path / 'a.nii', np.zeros((6, 5, 3, 2), np.uint8), TILTED)
    labels = RNG.integers(0, 900, (2, 3, 5, 6), np.int64)
    write_nifti_labels(tmp_path / 'b.nii', labels, like=tmp_path / 'a.nii')
    read = nibabel.load(tmp_path / 'b.nii')
    assert read.get_data_dtype() == np.uint16
    np.testing.assert_array_equal(np.asarray(read.dataobj), labels.transpose())


def test_a_nifti_2_image_gets_nifti_2_labels(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(VOLUME, TILTED), tmp_path / 'a.nii')
    labels = np.ones((4, 5, 7), np.uint8)
    write_nifti_labels(tmp_path / 'b.nii.gz', labels, like=tmp_path / 'a.nii')
    written = nibabel.load(tmp_path / 'b.nii.gz')
    assert isinstance(written, nibabel.Nifti2Image)
    np.testing.assert_array_equal(
        written.affine, nibabel.load(tmp_path / 'a.nii').affine
    )


def test_labels_without_an_image_take_a_spacing(tmp_path: Path) -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_nifti_labels(tmp_path / 'a.nii.gz', labels, spacing=(5.0, 0.5, 0.25))
    with open_image(tmp_path / 'a.nii.gz') as image:
        assert image.spacing == (0.5, 0.25)
        assert image.frame_axes[0].spacing == 5.0
        np.testing.assert_array_equal(image.every_frame(), labels)


def test_labels_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    saved(tmp_path / 'a.nii', VOLUME)
    for labels, name, problem in (
        (np.ones((4, 7, 5), np.uint8), 'b.nii', 'label that image'),
        (np.ones((4, 5, 7)), 'b.nii', 'whole numbers'),
        (np.ones((4, 5, 7), np.uint8), 'b.img', r'written as \.nii'),
    ):
        with pytest.raises(ImageError, match=problem):
            write_nifti_labels(tmp_path / name, labels, like=tmp_path / 'a.nii')
    assert [path.name for path in tmp_path.iterdir()] == ['a.nii']


@pytest.mark.parametrize('number', [np.nan, np.inf])
def test_labels_of_an_image_without_a_place_in_numbers_are_refused(
    tmp_path: Path, number: float
) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    image = nibabel.Nifti1Image(np.zeros((6, 5, 4), np.uint8), affine)
    image.header['srow_x'] = [1, 0, number, 0]
    image.header['sform_code'] = 1
    content = bytearray(image.to_bytes())
    content[280:296] = np.array([1, 0, number, 0], '<f4').tobytes()
    (tmp_path / 'a.nii').write_bytes(content)
    labels = np.ones((4, 5, 6), np.uint8)
    with pytest.raises(ImageError, match='does not say in numbers'):
        write_nifti_labels(tmp_path / 'b.nii', labels, tmp_path / 'a.nii')
    assert not (tmp_path / 'b.nii').exists()


def test_a_file_packed_twice_alike_is_the_same(tmp_path: Path) -> None:
    labels = np.ones((4, 5), np.uint8)
    for name in ('a.nii.gz', 'b.nii.gz'):
        write_nifti_labels(tmp_path / name, labels)
    first, second = (
        (tmp_path / name).read_bytes() for name in ('a.nii.gz', 'b.nii.gz')
    )
    assert first == second
    assert b'part' not in first


def test_without_nibabel_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / 'a.nii', VOLUME)
    take_away(monkeypatch, 'nibabel')
    monkeypatch.delitem(sys.modules, 'napari_kdsam.io.nifti', raising=False)
    with pytest.raises(MissingExtraError, match=r"'napari-kdsam\[medical\]'"):
        open_image(path)


@pytest.mark.filterwarnings('ignore')
@in_one_folder
@given(data=st.data())
def test_damaged_nifti_gives_pixels_or_an_image_error_and_nothing_else(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = saved(tmp_path / 'a.nii', VOLUME, TILTED)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, 351))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        with open_image(path) as image:
            frame = image.frame(image.frame_count - 1)
            assert frame.shape == image.frame_shape
            assert frame.dtype == image.dtype
    except ImageError as error:
        assert 'a.nii' in str(error)
