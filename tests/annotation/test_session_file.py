"""Sessions in files: nothing lost, nothing foreign let in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from annotation_scripts import SHAPE, ArrayTarget, command_for, disc, steps
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.annotation.commands import (
    ChangeOutput,
    CompositeCommand,
    SetClasses,
)
from napari_kdsam.annotation.content_digest import digest_of_image
from napari_kdsam.annotation.history import AnnotationSession
from napari_kdsam.annotation.label_commands import CommitObject
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.session_file import (
    SavedSession,
    SessionFileError,
    read_session,
    write_session,
)
from napari_kdsam.annotation.state import (
    FIRST_CLASS,
    AnnotationState,
    CommittedObject,
    Draft,
    ObjectClass,
)
from napari_kdsam.cli.replay import replay
from napari_kdsam.core.choices import ExistingFile


def worked(script) -> tuple[AnnotationSession, ArrayTarget]:
    """A session after some random steps, each commit with a label of its own."""
    session, target, label = AnnotationSession(), ArrayTarget(), 0
    for step in script:
        if step[0] == 'undo':
            session.undo()
        elif step[0] == 'redo':
            session.redo()
        else:
            label += 1
            command = command_for(step, session, target, label)
            if command is not None:
                session.execute(command)
    return session, target


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=25))
def test_a_saved_session_restores_labels_and_prompts_and_undoes_as_one(
    tmp_path_factory: pytest.TempPathFactory, script
) -> None:
    session, target = worked(script)
    path = tmp_path_factory.mktemp('session') / 'one.json'
    write_session(path, SavedSession('digest', SHAPE, session.state))
    saved = read_session(path, 'digest')
    assert np.array_equal(saved.labels(), target.data)

    again, fresh = AnnotationSession(), ArrayTarget()
    again.execute(CompositeCommand(saved.restoring(fresh)))
    assert np.array_equal(fresh.data, target.data)
    assert dict(again.state.drafts) == dict(session.state.drafts)
    assert again.state.objects == session.state.objects
    again.undo()
    assert not fresh.data.any()
    assert not again.state.objects and not again.state.drafts


def committed(tmp_path: Path) -> Path:
    session, _ = worked([('box', (0,), (1.0, 2.0, 9.0, 9.0)), ('commit', (0,), 8)])
    path = tmp_path / 'session.json'
    write_session(path, SavedSession('digest', SHAPE, session.state))
    return path


def test_a_session_of_another_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionFileError, match='another image'):
        read_session(committed(tmp_path), 'other')


def test_a_session_of_a_later_version_says_to_update(tmp_path: Path) -> None:
    path = committed(tmp_path)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(SessionFileError, match='update'):
        read_session(path)


@pytest.mark.parametrize('share', [0.0, 0.3, 0.9])
def test_a_file_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    path = committed(tmp_path)
    text = path.read_text()
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(SessionFileError, match=r'session\.json'):
        read_session(path)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('frame', [7]),
        ('frame', []),
        ('frame', 'x'),
        ('box', [0, 0, 999, 999]),
        ('box', [5, 5, 5, 9]),
        ('box', [0.5, 0, 3, 3]),
        ('mask', 'AAAA'),
        ('mask', None),
        ('label', 0),
        ('label', True),
        ('number', 0),
        ('number', 1.5),
        ('label', 2**63),
        ('score', float('nan')),
        ('class', 0),
        ('class', None),
        ('score', None),
        ('draft', {'points': [[1, 2]]}),
        ('draft', {'points': [[1, float('nan'), True]]}),
        ('draft', {'boxes': [[0, 0, float('inf'), 5]]}),
        ('draft', {'scribbles': [[[], True]]}),
        ('draft', {'outlines': [[[[1, 2, 3]], True]]}),
        ('draft', {'mask': {'box': [0, 0, 3, 3], 'mask': 'AAAA'}}),
        ('draft', {'candidate': 'x'}),
        ('draft', {'number': 0}),
    ],
)
def test_a_damaged_object_is_refused(tmp_path: Path, name: str, value) -> None:
    path = committed(tmp_path)
    content = json.loads(path.read_text())
    content['objects'][0][name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(SessionFileError, match='damaged'):
        read_session(path)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('classes', []),
        ('classes', [{'id': 1, 'name': 'object', 'color': 'nonsense'}]),
        ('classes', [{'id': 1, 'name': 'object', 'color': None}]),
        ('classes', 2 * [{'id': 1, 'name': 'object', 'color': '#00e5ff'}]),
        ('current_class', '1'),
        ('cleanup', {'snap': 'square'}),
        ('frame', [7]),
        ('shape', [3, 20, 0]),
        ('shape', [30]),
        ('drafts', [{'points': []}]),
    ],
)
def test_a_damaged_session_is_refused(tmp_path: Path, name: str, value) -> None:
    path = committed(tmp_path)
    content = json.loads(path.read_text())
    content[name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(SessionFileError, match='damaged'):
        read_session(path)


def test_a_huge_image_is_refused_before_memory_is_asked_for(
    tmp_path: Path, capfd
) -> None:
    path = committed(tmp_path)
    content = json.loads(path.read_text())
    content['shape'][0] = 2**31
    path.write_text(json.dumps(content))
    with pytest.raises(SessionFileError, match='damaged'):
        read_session(path)
    content['shape'] = [2**31 - 1, 2**31 - 1, 2**31 - 1]
    path.write_text(json.dumps(content))
    with pytest.raises(typer.Exit, match='2'):
        replay(path, tmp_path / 'labels.tif')
    assert 'do not fit in memory' in capfd.readouterr().err
    assert not (tmp_path / 'labels.tif').exists()


@pytest.mark.parametrize(
    'content',
    [
        b'{"format": 1, "image": "' + 5000 * b'\xe4',
        b'{"format": 1, "cleanup": {"' + 5000 * b'x' + b'": 1}}',
        b'{"format": "' + 5000 * b'x' + b'"}',
        b'{"format": 1' + 4000 * b'0' + b'}',
        5000 * b'[',
    ],
)
def test_a_message_holds_little_of_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'session.json'
    path.write_bytes(content)
    with pytest.raises(SessionFileError) as caught:
        read_session(path)
    assert len(str(caught.value)) < 320


def test_two_objects_of_one_number_are_refused(tmp_path: Path) -> None:
    path = committed(tmp_path)
    content = json.loads(path.read_text())
    content['objects'] *= 2
    path.write_text(json.dumps(content))
    with pytest.raises(SessionFileError, match='damaged'):
        read_session(path)


def test_a_file_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'deep.json'
    path.write_text('[' * 100_000)
    with pytest.raises(SessionFileError, match='damaged'):
        read_session(path)


def test_the_digest_tells_images_apart_and_reads_three_frames_at_most() -> None:
    stack = np.random.default_rng(0).integers(0, 255, (40, 8, 9), np.uint8)
    read: list[int] = []

    def frame(index):
        read.append(index[0])
        return stack[index]

    first = digest_of_image(frame, (40,))
    assert len(read) == 3
    assert digest_of_image(lambda i: stack[i], (40,)) == first
    changed = stack.copy()
    changed[-1, 0, 0] ^= 1
    assert digest_of_image(lambda i: changed[i], (40,)) != first
    wider = stack.astype(np.uint16)
    assert digest_of_image(lambda i: wider[i], (40,)) != first


def test_the_file_says_nothing_of_where_the_image_came_from(tmp_path: Path) -> None:
    content = json.loads(committed(tmp_path).read_text())
    assert set(content) == {
        'format',
        'image',
        'shape',
        'frame',
        'classes',
        'current_class',
        'cleanup',
        'semantic',
        'overlap',
        'drafts',
        'objects',
    }
    assert set(content['objects'][0]) == {
        'number',
        'label',
        'class',
        'frame',
        'score',
        'draft',
        'box',
        'mask',
        'semantic',
    }


def test_replay_writes_the_labels_of_a_session(tmp_path: Path, capfd) -> None:
    session, target = worked(
        [
            ('box', (0,), (1.0, 2.0, 9.0, 9.0)),
            ('commit', (0,), 8),
            ('commit', (2,), 9),
            ('box', (1,), (1.0, 2.0, 9.0, 9.0)),
        ]
    )
    path = tmp_path / 'session.json'
    write_session(path, SavedSession('digest', SHAPE, session.state))
    out = tmp_path / 'new' / 'labels.tif'
    replay(path, out)
    assert np.array_equal(tifffile.imread(out), target.data)
    assert '2 objects; open prompts on 1 frame are' in capfd.readouterr().out


def test_replay_replaces_its_own_labels_only_if_asked(tmp_path: Path, capfd) -> None:
    path, out = committed(tmp_path), tmp_path / 'labels.tif'
    replay(path, out)
    first = out.read_bytes()
    with pytest.raises(typer.Exit, match='2'):
        replay(path, out)
    assert 'labels.tif is in' in capfd.readouterr().err
    replay(path, out, ExistingFile.skip)
    assert 'skipped, it was there already' in capfd.readouterr().out
    replay(path, out, ExistingFile.overwrite)
    assert out.read_bytes() == first
    corrected = tifffile.imread(out)
    tifffile.imwrite(out, corrected, photometric='minisblack')
    before = out.read_bytes()
    with pytest.raises(typer.Exit, match='2'):
        replay(path, out, ExistingFile.overwrite)
    assert 'changed since' in capfd.readouterr().err
    assert out.read_bytes() == before


def test_labels_of_more_than_32_bits_stay_what_they_are(tmp_path: Path) -> None:
    path = committed(tmp_path)
    content = json.loads(path.read_text())
    content['objects'][0]['label'] = 2**40 + 3
    path.write_text(json.dumps(content))
    assert read_session(path).labels().max() == 2**40 + 3


@pytest.mark.parametrize('name', ['labels.png', 'labels.bmp'])
def test_replay_into_a_format_that_cannot_hold_the_labels_says_so(
    tmp_path: Path, capfd, name: str
) -> None:
    out = tmp_path / name
    with pytest.raises(typer.Exit, match='2'):
        replay(committed(tmp_path), out)
    assert name in capfd.readouterr().err
    assert not out.exists()


def test_replay_of_what_is_no_session_says_so(tmp_path: Path, capfd) -> None:
    path = tmp_path / 'other.json'
    path.write_text('[]')
    with pytest.raises(typer.Exit, match='2'):
        replay(path, tmp_path / 'labels.tif')
    assert 'other.json' in capfd.readouterr().err


def test_labels_of_classes_stay_when_a_session_is_put_beside_other_labels() -> None:
    region = PixelRegion.of_mask((0,), disc(5, 5, 3))
    other = PixelRegion.of_mask((0,), disc(15, 20, 3))
    state = AnnotationState(
        objects=(
            CommittedObject(1, 1, (0,), Draft(), 0.9, region, 1, semantic=True),
            CommittedObject(2, 2, (0,), Draft(), 0.9, other),
        )
    )
    session, target = AnnotationSession(), ArrayTarget()
    saved = SavedSession('digest', SHAPE, state)
    session.execute(CompositeCommand(saved.restoring(target, above=10)))
    assert target.data[0, 5, 5] == 1
    assert target.data[0, 15, 20] == 12
    assert session.state.numbers == {11, 12}


def of_class(number: int, class_id: int, row: int, semantic: bool) -> CommittedObject:
    region = PixelRegion.of_mask((0,), disc(row, 8, 3))
    label = class_id if semantic else number
    return CommittedObject(
        number, label, (0,), Draft(), 0.5, region, class_id, semantic
    )


def test_output_and_overlap_are_kept_and_earlier_files_have_neither(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'session.json'
    state = AnnotationState(objects=(of_class(4, 1, 5, True),), semantic=True)
    write_session(path, SavedSession('digest', SHAPE, state, 'ask'))
    assert read_session(path).state.semantic
    assert read_session(path).overlap == 'ask'
    content = json.loads(path.read_text())
    del content['semantic'], content['overlap']
    path.write_text(json.dumps(content))
    assert read_session(path).state.semantic, 'as its last object'
    assert read_session(path).overlap == 'keep'


@pytest.mark.parametrize('now', [False, True])
@pytest.mark.parametrize('before', [False, True])
def test_work_restored_beside_other_work_is_numbered_and_classed_as_that(
    before: bool, now: bool
) -> None:
    polyp, tool, again = (
        ObjectClass(2, 'polyp', '#ff0000'),
        ObjectClass(2, 'tool', '#00ff00'),
        ObjectClass(7, 'polyp', '#0000ff'),
    )
    session, target = AnnotationSession(), ArrayTarget()
    session.execute(SetClasses((FIRST_CLASS, polyp)))
    session.execute(ChangeOutput(now))
    session.execute(CommitObject(target, of_class(1, 2, 5, now)))
    saved = AnnotationState(
        objects=(of_class(1, 2, 12, before), of_class(2, 7, 19, before)),
        classes=(tool, again),
        current_class=7,
        semantic=before,
    )
    restoring = SavedSession('d', SHAPE, saved).restoring(target, 1, session.state)
    session.execute(CompositeCommand(restoring))
    state = session.state
    assert [c.name for c in state.classes] == ['object', 'polyp', 'tool']
    named = [state.class_named(item.class_id) for item in state.objects]
    assert named == ['polyp', 'tool', 'polyp']
    assert state.class_named(state.current_class) == 'polyp'
    assert state.semantic == now
    labels = [int(target.data[0, row, 8]) for row in (5, 12, 19)]
    assert labels == ([2, 3, 2] if now else [1, 2, 3])
    session.undo()
    assert [c.name for c in session.state.classes] == ['object', 'polyp']
    assert np.unique(target.data).tolist() == [0, labels[0]]


def test_objects_that_lie_under_others_are_left_out_and_no_pixel_is_given_twice() -> (
    None
):
    session, target = AnnotationSession(), ArrayTarget()
    session.execute(CommitObject(target, of_class(1, 1, 8, False)))
    saved = AnnotationState(
        objects=(of_class(1, 1, 8, False), of_class(2, 1, 12, False))
    )
    restoring = SavedSession('d', SHAPE, saved).restoring(target, 1, session.state)
    session.execute(CompositeCommand(restoring))
    first, second = session.state.objects
    assert (first.number, second.number) == (1, 3)
    assert second.region.minus(first.region) == second.region
    assert target.data[0, 8, 8] == 1
