"""Nothing is lost: sessions are kept in files and offered again, in a real window."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from napari_kdsam.annotation.commands import SetClasses
from napari_kdsam.annotation.state import ObjectClass
from napari_kdsam.core.files import part_path

IMAGE = np.random.default_rng(0).integers(0, 255, (120, 200), np.uint8)
CRASHING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
import napari
from fakes import FakeModel
from napari_kdsam import Predictor
from napari_kdsam.widgets.annotator.dock import AnnotatorWidget
from qtpy.QtWidgets import QApplication

viewer = napari.Viewer(show=False)
viewer.add_image(np.random.default_rng(0).integers(0, 255, (120, 200), np.uint8))
widget = AnnotatorWidget(viewer, lambda model, device: Predictor(FakeModel()))
controller = widget.controller

def until(condition):
    while not condition():
        QApplication.processEvents()

for place in ((60, 60), (60, 150)):
    controller.workspace.layers.points.add(np.array(place, float))
    until(lambda: controller.workspace.status.kind.value == 'ready')
    controller.objects.commit()
controller.workspace.layers.points.add(np.array((20.0, 100.0)))
folder = Path(sys.argv[2])
until(lambda: any('"drafts": [\\n' in p.read_text() for p in folder.glob('*.json')))
np.save(sys.argv[3], controller.workspace.target_layer.data)
print('ready', flush=True)
until(lambda: False)
"""


def session_files(folder: Path) -> list[Path]:
    return sorted(folder.glob('*.json'))


def saved_text(session, folder: Path, text: str) -> None:
    def there() -> bool:
        return any(text in path.read_text() for path in session_files(folder))

    session.qtbot.waitUntil(there, timeout=10_000)


def test_after_kill_9_every_object_and_the_open_prompts_come_back(
    annotate, sessions: Path, tmp_path: Path
) -> None:
    script, labels = tmp_path / 'crash.py', tmp_path / 'labels.npy'
    script.write_text(CRASHING)
    arguments = [sys.executable, script, Path(__file__).parents[2], sessions, labels]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGKILL)
    process.communicate()

    session = annotate(IMAGE)
    session.qtbot.waitUntil(lambda: bool(session.controller.autosave.offers))
    assert '2 objects and open prompts' in session.widget.offer.text.text()
    session.widget.offer.buttons[0].click()
    session.wait_for('ready')
    assert np.array_equal(session.labels, np.load(labels))
    assert session.points.data.tolist() == [[20, 100]]
    assert session.preview[20, 100] == 1
    assert not session.widget.offer.isVisibleTo(session.widget)
    session.widget.action_bar.commit.click()
    assert session.labels[20, 100] == 3
    saved_text(session, sessions, '"label": 3')
    assert len(session_files(sessions)) == 1, 'the restored session goes on in its file'


def test_prompts_not_committed_outlive_the_closed_dock(annotate, sessions) -> None:
    session = annotate(IMAGE)
    session.click(60, 60)
    session.viewer.window.remove_dock_widget('all')
    session.widget.controller.close()
    saved_text(session, sessions, '60')

    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: bool(again.controller.autosave.offers))
    assert 'open prompts' in again.widget.offer.text.text()
    again.widget.offer.buttons[0].click()
    again.wait_for('ready')
    assert again.preview[60, 60] == 1


def test_restoring_beside_new_labels_keeps_both_apart_and_is_one_undo(
    annotate, sessions
) -> None:
    session = annotate(IMAGE)
    session.click(60, 60)
    session.controller.objects.commit()
    saved_text(session, sessions, '"label": 1')
    session.controller.close()

    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: bool(again.controller.autosave.offers))
    again.click(60, 150)
    again.controller.objects.commit()
    again.controller.restore_session()
    assert again.labels[60, 150] == 1
    assert again.labels[60, 60] == 2
    again.controller.undo()
    assert set(np.unique(again.labels)) == {0, 1}


def test_another_image_is_offered_nothing(annotate, sessions) -> None:
    session = annotate(IMAGE)
    session.click(60, 60)
    session.controller.objects.commit()
    saved_text(session, sessions, '"label": 1')
    session.controller.close()
    again = annotate(255 - IMAGE)
    again.click(60, 60)
    again.controller.objects.commit()
    again.qtbot.waitUntil(lambda: len(session_files(sessions)) == 2)
    assert not again.controller.autosave.offers


def test_deleted_earlier_work_is_gone_when_the_panel_is_closed(
    annotate, sessions
) -> None:
    leave_session(annotate, sessions, 60)
    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: bool(again.controller.autosave.offers))
    again.widget.offer.delete.click()
    assert not again.controller.autosave.offers
    assert 'deleted when you leave' in again.widget.offer.text.text()
    assert session_files(sessions), 'it was said that this can be undone'
    again.widget.offer.undelete.click()
    again.widget.offer.restore.click()
    assert again.labels[60, 60] == 1
    again.controller.close()
    again.qtbot.wait(200)
    assert len(session_files(sessions)) == 1

    third = annotate(IMAGE)
    third.qtbot.waitUntil(lambda: bool(third.controller.autosave.offers))
    third.widget.offer.delete.click()
    third.controller.close()
    third.qtbot.waitUntil(lambda: not session_files(sessions))


def leave_session(annotate, sessions: Path, *columns: int) -> None:
    """Commit objects in a window of its own, and close it."""
    before = len(session_files(sessions))
    session = annotate(IMAGE)
    for column in columns:
        session.click(60, column)
        session.controller.objects.commit()
    session.qtbot.waitUntil(lambda: len(session_files(sessions)) > before)
    session.controller.close()
    last = f'"number": {len(columns)}'
    saved_text(session, sessions, last)


def test_every_earlier_session_is_offered_and_a_damaged_one_does_no_harm(
    annotate, sessions
) -> None:
    leave_session(annotate, sessions, 60)
    (first,) = session_files(sessions)
    leave_session(annotate, sessions, 120, 170)
    second = next(path for path in session_files(sessions) if path != first)
    os.utime(first, (1e9, 1e9))
    damaged = first.with_name(first.name.replace('-', '-0'))
    damaged.write_text(first.read_text()[:-40])

    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: len(again.controller.autosave.offers) == 2)
    again.qtbot.waitUntil(lambda: 'damaged' in again.workspace.status.text)
    offer = again.widget.offer
    listed = [offer.choice.itemText(n) for n in range(offer.choice.count())]
    assert '2 objects' in listed[0]
    assert '09 Sep 2001' in listed[1] and '1 object' in listed[1]
    offer.choice.setCurrentIndex(1)
    offer.restore.click()
    assert again.labels[60, 60] == 1
    assert not again.labels[60, 120]
    assert offer.isVisibleTo(again.widget), 'the other one is still offered'
    offer.restore.click()
    assert again.labels[60, [60, 120, 170]].tolist() == [1, 2, 3]
    assert not offer.isVisibleTo(again.widget)
    again.qtbot.waitUntil(lambda: not second.exists())
    assert sorted(session_files(sessions)) == sorted([first, damaged])


def test_undoing_the_return_of_earlier_work_does_not_lose_it(
    annotate, sessions
) -> None:
    leave_session(annotate, sessions, 60, 150)
    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: bool(again.controller.autosave.offers))
    again.widget.offer.restore.click()
    again.controller.undo()
    assert not again.labels.any()
    again.controller.close()
    third = annotate(IMAGE)
    third.qtbot.waitUntil(lambda: bool(third.controller.autosave.offers))
    assert '2 objects' in third.widget.offer.text.text()


def test_not_now_keeps_earlier_work_for_another_time(annotate, sessions) -> None:
    leave_session(annotate, sessions, 60)
    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: bool(again.controller.autosave.offers))
    again.widget.offer.later.click()
    assert not again.widget.offer.isVisibleTo(again.widget)
    again.controller.close()
    third = annotate(IMAGE)
    third.qtbot.waitUntil(lambda: bool(third.controller.autosave.offers))


def test_an_undone_session_leaves_no_file(annotate, sessions) -> None:
    session = annotate(IMAGE)
    session.click(60, 60)
    session.controller.objects.commit()
    saved_text(session, sessions, '"label": 1')
    session.controller.undo()
    session.controller.undo()
    session.qtbot.waitUntil(lambda: not session_files(sessions))


def test_what_an_annotator_was_writing_when_it_was_killed_is_swept_away(
    annotate, sessions
) -> None:
    sessions.mkdir()
    half = part_path(sessions / 'earlier.json')
    half.write_bytes(b'{')
    os.utime(half, (0, 0))
    session = annotate(IMAGE)
    session.qtbot.waitUntil(lambda: not half.exists())


def test_a_folder_that_cannot_be_written_is_said_once_and_work_goes_on(
    annotate, sessions
) -> None:
    sessions.write_text('a file where the folder should be')
    session = annotate(IMAGE)
    session.click(60, 60)
    session.controller.objects.commit()
    session.wait_for('error')
    assert 'in memory only' in session.workspace.status.text
    session.click(60, 150)
    session.controller.objects.commit()
    assert session.labels[60, 60] == 1
    assert session.labels[60, 150] == 2


def test_a_damaged_earlier_session_is_said_and_stays_where_it_is(
    annotate, sessions
) -> None:
    session = annotate(IMAGE)
    session.click(60, 60)
    session.controller.objects.commit()
    saved_text(session, sessions, '"label": 1')
    session.controller.close()
    (path,) = session_files(sessions)
    path.write_text(path.read_text()[:-40])
    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: 'damaged' in again.controller.workspace.status.text)
    assert not again.controller.autosave.offers
    assert path.exists()


def test_a_state_that_cannot_be_written_is_said_and_tried_again(
    annotate, sessions
) -> None:
    session = annotate(IMAGE)
    (first,) = session.workspace.session.state.classes
    unwritable = ObjectClass(first.id, 'poly\ud800p', first.color)
    session.workspace.session.execute(SetClasses((unwritable,)))
    session.click(60, 60)
    session.controller.objects.commit()
    session.wait_for('error')
    assert 'in memory only' in session.workspace.status.text
    assert session_files(sessions) == []
    session.workspace.session.execute(SetClasses((first,)))
    session.click(60, 150)
    saved_text(session, sessions, '"label": 1')
