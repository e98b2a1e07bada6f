"""Video: every frame by its number, and what happens where a file breaks off."""

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

av = pytest.importorskip('av')

from napari_kdsam.io.video import VideoFile  # noqa: E402

FRAMES, ROWS, COLUMNS = 60, 48, 80
KINDS = {
    'b_frames.mp4': ('libx264', 'yuv420p', {'bf': '3', 'g': '12'}),
    'one_start.mp4': ('libx264', 'yuv420p', {'bf': '2', 'g': '999'}),
    'open_groups.mkv': (
        'libx264',
        'yuv420p',
        {'bf': '3', 'g': '10', 'x264-params': 'open-gop=1'},
    ),
    'mpeg4.avi': ('mpeg4', 'yuv420p', {'g': '12'}),
    'lossless.avi': ('ffv1', 'bgr0', {}),
    'jpeg.mov': ('mjpeg', 'yuvj420p', {}),
    'lossless.mkv': ('ffv1', 'bgr0', {}),
}


def picture_of(number: int, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """A frame that says its number in blocks of black and white, and in no other way."""
    picture = np.full((rows, columns, 3), 60, np.uint8)
    for bit in range(8):
        picture[: rows // 2, 10 * bit : 10 * bit + 10] = 255 * (number >> bit & 1)
    return picture


def number_in(frame: np.ndarray) -> int:
    top = frame[: frame.shape[0] // 2]
    return sum(
        (top[4:-4, 10 * bit + 3 : 10 * bit + 7].mean() > 127) << bit for bit in range(8)
    )


def video(
    path: Path,
    codec: str = 'libx264',
    pixels: str = 'yuv420p',
    options: dict[str, str] | None = None,
    frames: int = FRAMES,
    turned: int = 0,
) -> Path:
    try:
        with av.open(str(path), 'w') as file:
            stream = file.add_stream(codec, rate=25, options=options or {})
            stream.width, stream.height, stream.pix_fmt = COLUMNS, ROWS, pixels
            if turned:
                stream.set_display_rotation(turned)
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(picture_of(number), format='rgb24')
                for packet in stream.encode(frame):
                    file.mux(packet)
            for packet in stream.encode():
                file.mux(packet)
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f'this FFmpeg has no encoder {codec}')
    return path


@pytest.fixture(scope='module')
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('videos')


def video_of(folder: Path, name: str) -> Path:
    path = folder / name
    return path if path.exists() else video(path, *KINDS[name])


@pytest.mark.parametrize('name', list(KINDS))
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(order=st.lists(st.integers(0, FRAMES - 1), min_size=3, max_size=10))
def test_frames_asked_for_in_any_order_are_exactly_those(
    videos: Path, name: str, order: list[int]
) -> None:
    with open_image(video_of(videos, name)) as image:
        assert image.shape == (FRAMES, ROWS, COLUMNS, 3)
        assert image.dtype == np.uint8
        assert [number_in(image.frame(index)) for index in order] == order


@pytest.mark.parametrize('name', list(KINDS))
def test_a_video_read_from_end_to_start_is_the_one_read_from_start_to_end(
    videos: Path, name: str
) -> None:
    with open_image(video_of(videos, name)) as image:
        forwards = image.every_frame()
        for index in reversed(range(FRAMES)):
            np.testing.assert_array_equal(image.frame(index), forwards[index])


def test_a_lossless_video_has_the_very_pixels(videos: Path) -> None:
    with open_image(video_of(videos, 'lossless.mkv')) as image:
        np.testing.assert_array_equal(image.frame(37), picture_of(37))
        assert isinstance(image, VideoFile)
        assert image.rate == 25
        assert image.spacing is None


@pytest.mark.parametrize(
    ('pixels', 'dtype'), [('gray', np.uint8), ('gray16le', np.uint16)]
)
def test_a_grey_video_has_grey_frames(tmp_path: Path, pixels: str, dtype: type) -> None:
    path = video(tmp_path / 'a.mkv', 'ffv1', pixels, frames=20)
    with open_image(path) as image:
        assert (image.frame_shape, image.dtype) == ((ROWS, COLUMNS), dtype)
        bright = image.frame(17)[4, 4]
    assert bright > np.iinfo(dtype).max * 0.9


def test_a_video_held_sideways_is_turned_upright(tmp_path: Path) -> None:
    if not hasattr(av.VideoStream, 'set_display_rotation'):
        pytest.skip('this PyAV cannot write a rotation')
    path = video(tmp_path / 'a.mov', 'mjpeg', 'yuvj420p', frames=3, turned=90)
    with open_image(path) as image:
        assert image.frame_shape == (COLUMNS, ROWS, 3)
        # As players show it: the display matrix turns the frame anticlockwise.
        assert number_in(np.rot90(image.frame(2), -1)) == 2


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Put the four turning numbers into the display matrix of a track."""
    content = bytearray(path.read_bytes())
    # Version 0 of the box: the matrix is 40 bytes behind version and flags.
    start = content.index(b'tkhd') + 4 + 40
    for place, value in ((0, a), (4, b), (12, c), (16, d)):
        content[start + place : start + place + 4] = value.to_bytes(
            4, 'big', signed=True
        )
    path.write_bytes(content)
    return path


ONE = 1 << 16


@pytest.mark.parametrize(
    ('matrix', 'shown'),
    [
        ((-ONE, 0, 0, ONE), lambda frame: frame[:, ::-1]),
        ((ONE, 0, 0, -ONE), lambda frame: frame[::-1]),
        ((-ONE, 0, 0, -ONE), lambda frame: frame[::-1, ::-1]),
        ((0, ONE, -ONE, 0), lambda frame: np.rot90(frame, -1)),
        ((0, -ONE, ONE, 0), np.rot90),
        ((0, ONE, ONE, 0), lambda frame: np.swapaxes(frame, 0, 1)),
        ((0, -ONE, -ONE, 0), lambda frame: np.swapaxes(frame, 0, 1)[::-1, ::-1]),
        ((0, 0, 0, 0), lambda frame: frame),
    ],
    ids=['mirror', 'flip', '180', '90', '270', 'transpose', 'transverse', 'none'],
)
def test_frames_are_turned_and_mirrored_as_the_display_matrix_says(
    tmp_path: Path, matrix: tuple[int, ...], shown: Any
) -> None:
    path = video(tmp_path / 'a.mov', 'mjpeg', 'yuvj420p', frames=2)
    plain = open_image(path).frame(1)
    with open_image(with_matrix(path, *matrix)) as image:
        np.testing.assert_array_equal(image.frame(1), shown(plain))


def test_a_video_that_is_to_be_shown_askew_is_refused(tmp_path: Path) -> None:
    path = video(tmp_path / 'a.mov', 'mjpeg', 'yuvj420p', frames=2)
    with_matrix(path, 46_341, 46_341, -46_341, 46_341)
    assert 'not by quarters' in problem_with(path)


def test_varying_times_between_frames_do_not_move_frames(tmp_path: Path) -> None:
    from fractions import Fraction

    path = tmp_path / 'a.mkv'
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('ffv1', rate=25)
        stream.width, stream.height, stream.pix_fmt = COLUMNS, ROWS, 'bgr0'
        stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(picture_of(number), format='rgb24')
            frame.pts, frame.time_base = number**2 + 3, Fraction(1, 1000)
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    with open_image(path) as image:
        assert image.frame_count == 30
        for index in (29, 3, 17, 0, 18):
            assert number_in(image.frame(index)) == index


def noisy(
    path: Path, codec: str, options: dict[str, str], container: dict[str, str]
) -> Path:
    """A video whose frames are large, so that cutting its file cuts frames."""
    noise = np.random.default_rng(0)
    with av.open(str(path), 'w', options=container) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        pixels = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
        stream.width, stream.height, stream.pix_fmt = COLUMNS, ROWS, pixels
        for number in range(FRAMES):
            picture = picture_of(number)
            picture[ROWS // 2 :] = noise.integers(0, 255, picture[ROWS // 2 :].shape)
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


@pytest.mark.parametrize('share', [0.35, 0.5, 0.635, 0.9])
@pytest.mark.parametrize(
    ('name', 'codec', 'options', 'container'),
    [
        ('a.mp4', 'libx264', {'bf': '3', 'g': '12'}, {'movflags': 'faststart'}),
        ('a.avi', 'mpeg4', {'g': '12', 'b': '4000000'}, {}),
        ('a.mov', 'mjpeg', {}, {'movflags': 'faststart'}),
    ],
)
def test_frames_before_the_end_of_a_video_cut_short_are_still_read(
    tmp_path: Path,
    name: str,
    codec: str,
    options: dict[str, str],
    container: dict[str, str],
    share: float,
) -> None:
    path = noisy(tmp_path / name, codec, options, container)
    with open_image(path) as whole:
        expected = whole.every_frame()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with open_image(path) as image:
        assert image.frame_count == FRAMES
        with pytest.raises(ImageError, match='Frame 59 of a.* cannot be decoded'):
            image.frame(59)
        read = []
        for index in range(FRAMES):
            try:
                read.append(image.frame(index))
            except ImageError:
                break
        assert len(read) > FRAMES * share * 0.6
        np.testing.assert_array_equal(read, expected[: len(read)])
        # A few that are shown later are stored earlier; no other frame takes a place.
        for index in range(len(read) + 1, FRAMES):
            try:
                frame = image.frame(index)
            except ImageError as error:
                assert f'Frame {index} of' in str(error)
            else:
                assert index < len(read) + 16
                np.testing.assert_array_equal(frame, expected[index])
        np.testing.assert_array_equal(image.frame(2), expected[2])


def test_wherever_a_video_breaks_off_no_frame_takes_the_place_of_another(
    tmp_path: Path,
) -> None:
    options = {'bf': '4', 'g': '30', 'b_strategy': '0'}
    path = noisy(tmp_path / 'a.mp4', 'libx264', options, {'movflags': 'faststart'})
    with open_image(path) as whole:
        expected = whole.every_frame()
    content = path.read_bytes()
    for share in np.linspace(0.4, 0.6, 16):
        path.write_bytes(content[: int(len(content) * share)])
        with open_image(path) as image:
            # The last ones that are there first, so that each is sought for anew.
            for index in range(int(FRAMES * share) + 8, int(FRAMES * share) - 12, -1):
                try:
                    frame = image.frame(index)
                except ImageError as error:
                    assert f'Frame {index} of' in str(error)
                else:
                    np.testing.assert_array_equal(frame, expected[index])


def test_an_mkv_cut_short_has_the_frames_that_are_there(tmp_path: Path) -> None:
    path = video(tmp_path / 'a.mkv', 'ffv1', 'bgr0')
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with open_image(path) as image:
        assert 10 < image.frame_count < FRAMES
        for index in (image.frame_count - 2, 0, 5):
            assert number_in(image.frame(index)) == index


def test_what_is_not_a_video_is_refused(tmp_path: Path) -> None:
    for suffix in ('mp4', 'avi', 'mov', 'mkv'):
        path = tmp_path / f'notes.{suffix}'
        path.write_text('These are notes, not a video. ' * 50)
        assert path.name in problem_with(path)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / 'a.mkv'), 'w') as file:
        stream = file.add_stream('pcm_s16le', rate=8000, layout='mono')
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format='s16', layout='mono'
        )
        sound.rate = 8000
        for packet in (*stream.encode(sound), *stream.encode()):
            file.mux(packet)
    assert 'holds no video' in problem_with(tmp_path / 'a.mkv')


def test_only_frames_that_are_asked_for_are_decoded(videos: Path) -> None:
    with open_image(video_of(videos, 'b_frames.mp4')) as image:
        assert isinstance(image, VideoFile)
        image.frame(30)
        # Frames are counted from where decoding started.
        number, _ = next(image._frames)
        assert number < 30


def test_threads_that_share_a_video_get_their_own_frames(videos: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    order = [int(n) for n in np.random.default_rng(0).integers(0, FRAMES, 40)]
    with (
        open_image(video_of(videos, 'b_frames.mp4')) as image,
        ThreadPoolExecutor(4) as pool,
    ):
        assert [number_in(f) for f in pool.map(image.frame, order)] == order


def test_without_pyav_it_says_what_to_install(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video_of(videos, 'lossless.avi')
    take_away(monkeypatch, 'av')
    monkeypatch.delitem(sys.modules, 'napari_kdsam.io.video', raising=False)
    with pytest.raises(MissingExtraError, match=r"'napari-kdsam\[medical\]'"):
        open_image(path)
