"""The output folder: records that travel with labels, names, and one run at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_kdsam.batch.label_files import (
    is_own,
    read_labels,
    read_record,
    read_stack_record,
    write_frame,
)
from napari_kdsam.batch.manifest import labels_of_images, write_manifest
from napari_kdsam.batch.output_folder import BATCH_ENDINGS, BatchError, OutputFolder
from napari_kdsam.batch.records import (
    FrameResult,
    Record,
    StackFrame,
    StackRecord,
    Status,
)
from napari_kdsam.batch.single_file import SINGLE_ENDINGS
from napari_kdsam.cli.main import app
from napari_kdsam.core.errors import ImageError
from napari_kdsam.segmentation.frame_labels import LabelledObject

OWNING = """
import sys, time
from pathlib import Path
from napari_kdsam.batch.output_folder import OutputFolder
with OutputFolder(Path(sys.argv[1])).owned():
    print('owned', flush=True)
    time.sleep(60)
"""


def test_a_record_travels_within_its_label_image(tmp_path):
    record = Record(
        fingerprint='f' * 32,
        objects=(LabelledObject(1, 0.91, 5), LabelledObject(300, 0.5, 1, 'polyp')),
        reason='é',
    )
    labels = np.zeros((5, 6), np.uint16)
    labels[2, 3] = 300
    write_frame(tmp_path / 'x' / 'a.png', labels, record)
    assert read_record(tmp_path / 'x' / 'a.png') == record
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / 'x' / 'a.png')), labels
    )
    assert read_record(tmp_path / 'absent.png') is None
    whole = (tmp_path / 'x' / 'a.png').read_bytes()
    (tmp_path / 'cut.png').write_bytes(whole[:20])
    assert read_record(tmp_path / 'cut.png') is None


def test_a_label_image_beyond_pillows_limit_is_found_again(tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    labels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    write_frame(path, labels, Record(fingerprint='f'))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    assert read_record(path) == Record(fingerprint='f')
    assert is_own(path)
    np.testing.assert_array_equal(read_labels(path), labels)


def test_a_label_image_that_promises_more_than_it_holds_is_damaged(tmp_path):
    path = tmp_path / 'a.png'
    write_frame(path, np.ones((5, 6), np.uint8), Record(fingerprint='f'))
    content = bytearray(path.read_bytes())
    content[16:24] = (20_000).to_bytes(4, 'big') * 2
    content[29:33] = crc32(content[12:29]).to_bytes(4, 'big')
    path.write_bytes(content)
    assert read_record(path) is None
    with pytest.raises(ImageError, match='damaged') as caught:
        read_labels(path)
    assert 'more than fit' in str(caught.value.__cause__)


def test_a_manifest_that_cannot_be_read_on_is_refused_and_stays(tmp_path):
    path = tmp_path / 'manifest.csv'
    result = FrameResult('a.png', 0, Status.done)
    write_manifest(path, [result], {'a.png': 'a_labels.png'})
    damaged = path.read_text() + 'b.png,0,done,' + 'x' * 200_000 + ',,,,,\n'
    path.write_text(damaged)
    for read in (labels_of_images, lambda path: write_manifest(path, [], {})):
        with pytest.raises(ImageError, match=r'manifest\.csv is damaged in line 3'):
            read(path)
    assert path.read_text() == damaged


@pytest.mark.parametrize(
    'text',
    [
        '',
        'null',
        '[]',
        '{"fingerprint": 3}',
        '{"fingerprint": "f", "objects": [[1]]}',
        '{"fingerprint": "f", "objects": [[1, NaN, 2]]}',
        '{"fingerprint": "f", "objects": [["a", "b", "c"]]}',
    ],
)
def test_what_is_no_record_is_none(text: str) -> None:
    assert Record.from_json(text) is None
    assert StackRecord.from_json(text) is None


def test_the_record_of_a_stack_is_read_back(tmp_path: Path) -> None:
    frames = (
        StackFrame(status=Status.done, reason='', objects=(LabelledObject(2, 0.5, 9),)),
        StackFrame(status=Status.failed, reason='it is cut short', objects=()),
    )
    record = StackRecord(fingerprint='f' * 32, frames=frames)
    path = tmp_path / 'a_labels.json'
    path.write_text(record.to_json())
    assert read_stack_record(path) == record
    assert read_stack_record(tmp_path / 'absent.json') is None


def test_records_of_the_first_versions_are_read() -> None:
    text = (
        '{"fingerprint": "ab", "objects": [[1, 0.9, 12], [2, 0.8, 3, "polyp"]], '
        '"reason": "Object 1 jumped."}'
    )
    record = Record.from_json(text)
    assert record is not None
    assert [item.name for item in record.objects] == ['', 'polyp']
    text = (
        '{"fingerprint": "ab", "frames": [{"status": "done", "reason": "", '
        '"objects": [[1, 0.9, 12]]}]}'
    )
    stack = StackRecord.from_json(text)
    assert stack is not None
    assert stack.frames[0].objects[0].pixels == 12


def test_stems_are_chosen_the_same_way_every_time(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    stems = folder.stems(['a', 'A', 'a_2', 'b'], [], SINGLE_ENDINGS)
    assert stems == ['a', 'A_2', 'a_2_2', 'b']
    assert folder.stems(['a', 'a', 'a'], [], BATCH_ENDINGS) == ['a', 'a_2', 'a_3']


def test_stems_of_an_earlier_run_are_kept(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    stems = folder.stems(['a', 'a', 'a'], [], BATCH_ENDINGS, ['', 'a', 'a_2'])
    assert stems == ['a_3', 'a', 'a_2']


@pytest.mark.parametrize('endings', [SINGLE_ENDINGS, BATCH_ENDINGS])
def test_no_result_takes_the_name_of_an_input(
    tmp_path: Path, endings: tuple[str, ...]
) -> None:
    kept = [tmp_path / name for name in ('a.png', 'A_LABELS.png', 'b_labels.tif')]
    for path in kept:
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)
    stems = OutputFolder(tmp_path).stems(['a', 'A_LABELS', 'b'], kept, endings)
    assert stems == ['a_2', 'A_LABELS', 'b_2']
    other = tmp_path / 'other'
    other.mkdir()
    assert OutputFolder(other).stems(['a', 'b'], kept, endings) == ['a', 'b']


def test_labels_that_a_batch_made_are_no_reason_for_another_name(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'a_labels.png'
    write_frame(path, np.zeros((4, 5), np.uint8), Record(fingerprint='f'))
    kept = [tmp_path / 'a.png', path]
    assert OutputFolder(tmp_path).stems(['a'], kept, BATCH_ENDINGS) == ['a']


def test_an_input_is_kept_also_where_a_link_leads_to_it(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    drawn, link = out / 'a_labels.png', tmp_path / 'link.png'
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(drawn)
    link.symlink_to(drawn)
    folder = OutputFolder(out)
    stems = folder.stems(['a', 'link'], [tmp_path / 'a.png', link], BATCH_ENDINGS)
    assert stems == ['a_2', 'link']


def test_one_run_owns_a_folder_and_a_dead_one_lets_go(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    with folder.owned(), pytest.raises(BatchError, match='Another run writes'):
        OutputFolder(tmp_path).owned().__enter__()
    assert not list(tmp_path.iterdir()), 'the lock leaves nothing behind'
    process = subprocess.Popen(
        [sys.executable, '-c', OWNING, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == 'owned\n'
    with pytest.raises(BatchError, match='Another run writes'):
        folder.owned().__enter__()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with folder.owned():
        pass


def test_commands_wait_for_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((40, 50), np.uint8)).save('a.png')
    out = tmp_path / 'out'
    out.mkdir()
    box = ['--box', '5,5,20,20', '--out', 'out']
    with OutputFolder(out).owned():
        before = sorted(out.iterdir())
        for arguments in (
            ['segment', 'a.png', *box],
            ['batch', 'a.png', *box],
            ['demo', '--out', 'out'],
        ):
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 2
            assert 'Another run writes to' in result.stderr
            assert len(result.stderr.splitlines()) == 1
        assert sorted(out.iterdir()) == before
    assert not list(out.iterdir())
