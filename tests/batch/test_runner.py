"""Batches: prompts for each image, results, resuming, and counts that add up."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_kdsam import Predictor
from napari_kdsam.batch import output_folder, work
from napari_kdsam.batch.exports import ExportOptions, export
from napari_kdsam.batch.jobs import Job, Task, fingerprint_of
from napari_kdsam.batch.label_files import write_frame
from napari_kdsam.batch.manifest import MANIFEST
from napari_kdsam.batch.output_folder import NOT_REACHED, BatchError, OutputFolder
from napari_kdsam.batch.processes import LostWorkersError
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.batch.runner import Summary, find_sources, run_batch
from napari_kdsam.batch.work import do_tasks
from napari_kdsam.core.choices import Existing, Export
from napari_kdsam.core.errors import ImageError, PromptError
from napari_kdsam.core.prompts import ObjectPrompt, Prompt, PromptSet
from napari_kdsam.io.coco import read_coco_masks
from napari_kdsam.io.label_images import write_labels
from napari_kdsam.segmentation.methods import Method

CLICK = PromptSet((ObjectPrompt(Prompt([(30.0, 40.0)])),))
SHAPE = (64, 96)
BOXES = ((10, 10, 30, 30), (20, 50, 60, 90))


def pixels(number: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, shape, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images and a stack of five frames."""
    place = tmp_path / 'images'
    place.mkdir()
    for number in range(3):
        Image.fromarray(pixels(number)).save(place / f'scan{number}.png')
    np.save(place / 'stack.npy', np.stack([pixels(n) for n in range(5)]))
    return place


@pytest.fixture
def run(
    fake_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Summary]:
    """Run a batch over the fake model, into the folder `results`."""
    predictor = Predictor(fake_model, cache_bytes=0)
    monkeypatch.setattr(work, 'predictor_for', lambda *_: predictor)

    def go(
        *inputs: object,
        prompts: PromptSet = CLICK,
        method: Method = Method.prompts,
        existing: Existing = Existing.fail,
        executor: Any = do_tasks,
        **options: Any,
    ) -> Summary:
        out = tmp_path / 'results'
        out.mkdir(exist_ok=True)
        fingerprint = fingerprint_of('fake', method, prompts, False)
        output = OutputFolder(out, fingerprint)
        job = Job(output, 'fake', 'cpu', method, prompts)
        sources = find_sources([str(item) for item in inputs], output)
        return run_batch(job, sources, executor, existing, **options)

    return go


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / 'results'


def rows(results: Path) -> list[dict[str, str]]:
    with (results / MANIFEST).open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def contents(results: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(results)): path.read_bytes()
        for path in sorted(results.rglob('*'))
        if path.is_file()
    }


def interrupted_after(count: int) -> Any:
    """An executor that is interrupted after some frames."""

    def executor(job: Job, tasks: Sequence[Task]) -> Iterator[FrameResult]:
        inner = do_tasks(job, tasks)
        try:
            for _ in range(count):
                yield next(inner)
        finally:
            inner.close()
        raise KeyboardInterrupt

    return executor


def test_every_image_and_stack_of_a_folder_gets_its_labels(run, folder, results):
    summary = run(folder)
    assert summary.count(Status.done) == 8
    assert not summary.stopped
    for number in range(3):
        labels = np.asarray(Image.open(results / f'scan{number}_labels.png'))
        assert labels.shape == SHAPE
        assert labels[30, 40] == 1
        assert labels[2, 2] == 0
    stack = tifffile.imread(results / 'stack_labels.tif')
    assert stack.shape == (5, *SHAPE)
    assert (stack[:, 30, 40] == 1).all()
    assert not (results / 'stack_labels_frames').exists()
    listed = rows(results)
    assert len(listed) == 8
    assert {row['status'] for row in listed} == {'done'}
    assert listed[-1]['frame'] == '4'
    assert listed[-1]['labels'] == 'stack_labels.tif'
    assert int(listed[0]['pixels']) == np.count_nonzero(
        np.asarray(Image.open(results / 'scan0_labels.png'))
    )


def test_each_image_gets_the_prompts_of_its_name_and_others_are_skipped(
    run, folder, results
):
    two = (
        ObjectPrompt(Prompt(box=(10, 10, 30, 30))),
        ObjectPrompt(Prompt(box=(20, 50, 60, 90))),
    )
    stack = (
        ObjectPrompt(Prompt(box=(10, 10, 30, 30)), 1),
        ObjectPrompt(Prompt(box=(20, 50, 60, 90)), 3),
    )
    summary = run(folder, prompts=PromptSet((), {'scan1.png': two, 'stack.npy': stack}))
    assert summary.count(Status.done) == 3
    assert summary.count(Status.skipped) == 5
    labels = np.asarray(Image.open(results / 'scan1_labels.png'))
    assert labels[20, 20] == 1
    assert labels[40, 70] == 2
    assert not (results / 'scan0_labels.png').exists()
    frames = tifffile.imread(results / 'stack_labels.tif')
    assert [np.unique(frame).tolist() for frame in frames] == [
        [0],
        [0, 1],
        [0],
        [0, 2],
        [0],
    ]
    reasons = {row['reason'] for row in rows(results) if row['status'] == 'skipped'}
    assert reasons == {'there are no prompts for it'}


def test_prompts_that_find_no_image_are_named(run, folder, results):
    box = (ObjectPrompt(Prompt(box=(10, 10, 30, 30))),)
    given = PromptSet((), {'scan1.png': box, 'Scan1.png': box}, 'boxes.csv')
    summary = run(folder / 'scan1.png', prompts=given)
    assert summary.count(Status.done) == len(summary.results) == 1
    (note,) = summary.notes
    assert note == 'boxes.csv has prompts for Scan1.png, but no such image was given.'
    last = rows(results)[-1]
    assert (last['image'], last['status']) == ('Scan1.png', 'skipped')
    assert 'no such image' in last['reason']


def test_images_of_one_name_get_the_prompts_of_their_folder(run, folder, results):
    for name in ('p1', 'p2'):
        (folder / name).mkdir()
        shutil.copy(folder / 'scan0.png', folder / name / 'frame.png')
    one, two = (ObjectPrompt(Prompt(box=box)) for box in BOXES)
    both = {'p1/frame.png': (one,), 'p2\\frame.png': (two,)}
    run(folder / 'p1', folder / 'p2', prompts=PromptSet((), both))
    names = ('frame_labels.png', 'frame_2_labels.png')
    labels = [np.asarray(Image.open(results / name)) for name in names]
    assert [bool(found[20, 20]) for found in labels] == [True, False]
    assert [bool(found[40, 70]) for found in labels] == [False, True]
    with pytest.raises(PromptError, match='write the folder before the name'):
        run(folder / 'p1', folder / 'p2', prompts=PromptSet((), {'frame.png': (one,)}))


def test_prompts_of_an_image_of_another_size_are_not_used(run, folder):
    drawn = Prompt(box=(10, 10, 30, 30), image_shape=SHAPE[::-1])
    summary = run(folder / 'scan1.png', prompts=PromptSet((ObjectPrompt(drawn),)))
    (result,) = summary.results.values()
    assert result.status is Status.failed
    assert 'drawn on an image of 96 rows and 64 columns' in result.reason


def test_a_damaged_file_is_named_and_the_others_go_on(run, folder, results):
    (folder / 'scan1.png').write_bytes(b'not a picture')
    (folder / 'broken.tif').write_bytes(b'II*\0nothing')
    summary = run(folder)
    assert summary.count(Status.failed) == 2
    assert summary.count(Status.done) == 7
    assert len(summary.results) == 9
    failed = [row for row in rows(results) if row['status'] == 'failed']
    assert [Path(row['image']).name for row in failed] == ['broken.tif', 'scan1.png']
    assert all(row['reason'] and not row['labels'] for row in failed)


def test_a_frame_that_cannot_be_read_leaves_an_empty_frame_and_is_tried_again(
    run, folder, results, monkeypatch
):
    from napari_kdsam.batch.inputs import Reader

    whole = Reader.read

    def broken(self, source, frame):
        if source.is_stack and frame == 2:
            raise ImageError('frame 2 is damaged')
        return whole(self, source, frame)

    with monkeypatch.context() as patch:
        patch.setattr(Reader, 'read', broken)
        summary = run(folder / 'stack.npy')
    assert summary.count(Status.failed) == 1
    assert not tifffile.imread(results / 'stack_labels.tif')[2].any()
    summary = run(folder / 'stack.npy', existing=Existing.resume)
    assert summary.count(Status.done) == 5
    assert tifffile.imread(results / 'stack_labels.tif')[2].any()
    assert not (results / 'stack_labels_frames').exists()


@pytest.mark.parametrize('count', [0, 1, 3, 4, 6])
def test_an_interrupted_batch_resumes_to_the_same_bytes(
    run, folder, results, count, fake_model
):
    run(folder)
    whole = contents(results)
    shutil.rmtree(results)
    summary = run(folder, executor=interrupted_after(count))
    assert summary.stopped
    assert len(summary.results) == 8
    done = summary.count(Status.done)
    assert count <= done <= count + 4, 'with what was written behind the last result'
    assert (results / 'stack_labels.tif').exists() == (done == 8)
    before = fake_model.encoded
    summary = run(folder, existing=Existing.resume)
    assert not summary.stopped
    assert contents(results) == whole
    assert fake_model.encoded - before == 8 - done, 'what is done is not done again'


def test_what_was_written_and_not_reported_is_done_in_the_manifest(
    run, folder, results
):
    def lost(job: Job, tasks: Sequence[Task]) -> Iterator[FrameResult]:
        list(do_tasks(job, tasks[:1]))
        list(do_tasks(job, [Task(tasks[1].items[:2])]))
        raise LostWorkersError('The Dask scheduler is lost.')
        yield

    summary = run(folder, executor=lost)
    assert summary.stopped == 'The Dask scheduler is lost.'
    ends = [
        (row['status'], row['objects'], bool(row['reason'])) for row in rows(results)
    ]
    assert ends == [('done', '1', False)] * 5 + [('skipped', '0', True)] * 3
    (results / 'scan1_labels.png').unlink()
    summary = run(folder, executor=lost, existing=Existing.overwrite)
    assert summary.count(Status.done) == 5


def test_labels_of_another_run_are_not_told_as_done(run, folder, results):
    def interrupted(job: Job, tasks: Sequence[Task]) -> Iterator[FrameResult]:
        raise KeyboardInterrupt
        yield

    run(folder)
    before = contents(results)
    box = PromptSet((ObjectPrompt(Prompt(box=(10, 10, 30, 30))),))
    options = {'prompts': box, 'existing': Existing.overwrite}
    summary = run(folder, executor=interrupted, **options)
    assert summary.count(Status.skipped) == 8
    assert {row['reason'] for row in rows(results)} == {NOT_REACHED}
    del before[MANIFEST]
    assert before.items() < contents(results).items()


def test_resuming_a_finished_batch_does_nothing(run, folder, results, fake_model):
    run(folder)
    whole, encoded = contents(results), fake_model.encoded
    summary = run(folder, existing=Existing.resume)
    assert summary.count(Status.done) == 8
    assert fake_model.encoded == encoded
    assert contents(results) == whole


def test_what_a_killed_process_was_writing_is_swept_away(run, folder, results):
    run(folder, executor=interrupted_after(3))
    frames = results / 'stack_labels_frames'
    assert frames.is_dir()
    for part in (
        results / '.scan0_labels.png.0a1b2c3d.part',
        frames / '.x.0a1b2c3d.part',
    ):
        part.write_bytes(b'half')
    run(folder, existing=Existing.resume)
    assert not list(results.rglob('*.part'))


def test_what_a_dead_worker_was_writing_is_swept_away_at_the_end(run, folder, results):
    def dying(job: Job, tasks: Sequence[Task]) -> Iterator[FrameResult]:
        (results / '.scan0_labels.png.0a1b2c3d.part').write_bytes(b'half')
        yield from do_tasks(job, tasks)

    summary = run(folder, executor=dying)
    assert summary.count(Status.done) == 8
    assert not list(results.rglob('*.part'))


def test_results_that_are_there_are_not_touched_unless_allowed(run, folder, results):
    run(folder)
    before = contents(results)
    with pytest.raises(BatchError, match='--resume'):
        run(folder)
    assert contents(results) == before
    box = PromptSet((ObjectPrompt(Prompt(box=(10, 10, 30, 30))),))
    with pytest.raises(BatchError, match='other prompts'):
        run(folder, prompts=box, existing=Existing.resume)
    summary = run(folder, prompts=box, existing=Existing.skip)
    assert summary.count(Status.skipped) == 8
    labels = {
        name: data for name, data in contents(results).items() if name != MANIFEST
    }
    assert labels == {name: data for name, data in before.items() if name != MANIFEST}
    summary = run(folder, prompts=box, existing=Existing.overwrite)
    assert summary.count(Status.done) == 8
    assert np.asarray(Image.open(results / 'scan0_labels.png'))[20, 20] == 1


def test_a_strangers_file_is_never_taken_over(run, folder, results):
    results.mkdir()
    Image.fromarray(pixels(9)).save(results / 'scan0_labels.png')
    with pytest.raises(BatchError, match='not made by a batch'):
        run(folder, existing=Existing.resume)


def test_a_full_disk_stops_the_batch_and_every_frame_is_accounted_for(
    run, folder, results, monkeypatch
):
    written = []

    def full(path, labels, record):
        if len(written) == 2:
            raise ImageError(f'{path.name} could not be written (No space left).')
        written.append(path)
        write_frame(path, labels, record)

    with monkeypatch.context() as patch:
        patch.setattr(output_folder, 'write_frame', full)
        summary = run(folder)
    assert 'No space left' in summary.stopped
    assert summary.count(Status.done) == 2
    assert summary.count(Status.skipped) == 6
    summary = run(folder, existing=Existing.resume)
    assert summary.count(Status.done) == 8


def test_mixed_sizes_and_channels_in_a_folder_are_all_done(run, tmp_path, results):
    place = tmp_path / 'mixed'
    place.mkdir()
    for name, shape in {
        'grey': (60, 80),
        'colour': (90, 70, 3),
        'alpha': (64, 64, 4),
    }.items():
        Image.fromarray(pixels(1, shape)).save(place / f'{name}.png')
    tifffile.imwrite(place / 'deep.tif', pixels(2).astype(np.uint16) * 200)
    tifffile.imwrite(place / 'real.tif', pixels(2).astype(np.float32))
    summary = run(place)
    assert summary.count(Status.done) == 5
    assert np.asarray(Image.open(results / 'colour_labels.png')).shape == (90, 70)


def test_equal_names_in_different_folders_get_results_of_their_own(
    run, tmp_path, results
):
    for folder in ('a', 'b/c', 'B'):
        (tmp_path / 'images' / folder).mkdir(parents=True)
        Image.fromarray(pixels(1)).save(tmp_path / 'images' / folder / 'scan.png')
    Image.fromarray(pixels(1)).save(tmp_path / 'images' / 'a' / 'scan_2.png')
    summary = run(tmp_path / 'images')
    assert summary.count(Status.done) == 4
    assert len(list(results.glob('*_labels.png'))) == 4


def test_inputs_may_be_patterns_and_each_file_is_done_once(folder):
    found = find_sources([str(folder / 'scan*.png'), str(folder / 'scan1.png')])
    assert [source.name for source in found] == ['scan0.png', 'scan1.png', 'scan2.png']
    with pytest.raises(ImageError, match='no image file'):
        find_sources([str(folder / '*.bmp')])


def test_urls_are_read_through_fsspec(run, folder, results):
    import fsspec

    memory = fsspec.filesystem('memory')
    memory.pipe('/clinic/scan0.png', (folder / 'scan0.png').read_bytes())
    memory.pipe('/clinic/stack.npy', (folder / 'stack.npy').read_bytes())
    summary = run('memory://clinic/*')
    assert summary.count(Status.done) == 6
    assert (results / 'scan0_labels.png').is_file()
    summary = run('memory://clinic/gone.png', existing=Existing.resume)
    assert summary.count(Status.failed) == 1
    memory.rm('/clinic', recursive=True)


# What is no image, and what may not be replaced


@pytest.mark.parametrize('existing', [Existing.resume, Existing.skip])
@pytest.mark.parametrize('place', ['.', 'labels'])
def test_own_results_are_not_taken_for_images(run, folder, results, existing, place):
    (folder / place).mkdir(exist_ok=True)
    results.symlink_to(folder / place)
    first = run(folder)
    assert first.count(Status.done) == 8
    again = run(folder, existing=existing)
    assert [s.location for s in again.sources] == [s.location for s in first.sources]
    assert again.left_out == []
    assert len(rows(results)) == 8


def test_results_of_another_run_are_left_out_by_name(run, folder, results, tmp_path):
    run(folder)
    shutil.copytree(results, folder / 'earlier')
    shutil.rmtree(results)
    summary = run(folder)
    assert summary.count(Status.done) == 8
    reasons = {
        Path(row['image']).name: row['reason']
        for row in rows(results)
        if row['status'] == 'skipped'
    }
    own, other = 'a result of an earlier run', 'not a kind of image that is read'
    assert reasons == {
        **{f'scan{n}_labels.png': f'left out: {own}' for n in range(3)},
        'stack_labels.tif': f'left out: {own}',
        'stack_labels.json': f'left out: {other}',
        'manifest.csv': f'left out: {other}',
    }


def test_a_folder_of_labels_and_results_alone_is_refused_by_name(tmp_path):
    labels = nibabel.Nifti1Image(np.ones((8, 9), np.uint8), np.eye(4))
    labels.header.set_intent('label')
    nibabel.save(labels, tmp_path / 'labels.nii')
    write_labels(tmp_path / 'a_labels.png', np.ones((8, 9), np.uint8), 'batch')
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(ImageError, match=r'\(a_labels.png, labels.nii\) is labels'):
        find_sources([str(tmp_path)])


@pytest.mark.parametrize(
    'existing', [Existing.fail, Existing.overwrite, Existing.resume]
)
@pytest.mark.parametrize(
    'name',
    [
        'scan1_labels.png',
        'stack_labels.tif',
        'stack_labels.json',
        'stack_labels_frames/mine.txt',
        'manifest.csv',
        'labels.coco.json',
    ],
)
def test_a_file_of_the_user_is_refused_before_any_work(
    run, folder, results, existing, name, fake_model
):
    (results / name).parent.mkdir(parents=True)
    if name.endswith('.png'):
        Image.fromarray(pixels(9)).save(results / name)
    else:
        (results / name).write_text('{"mine": 1}')
    before = contents(results)
    said = name.split('/')[0]
    with pytest.raises(BatchError, match=f'{said} in .* not made by'):
        run(folder, existing=existing, also=[Export.coco])
    assert contents(results) == before
    assert fake_model.encoded == 0


def test_a_corrected_label_image_is_no_result_any_more(run, folder, results):
    run(folder)
    path = results / 'scan1_labels.png'
    labels = np.asarray(Image.open(path)).copy()
    labels[:5] = 7
    Image.fromarray(labels).save(path)
    with pytest.raises(BatchError, match='changed since'):
        run(folder, existing=Existing.overwrite)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), labels)


def test_results_by_the_fingerprint_of_an_earlier_version_are_taken_over(
    run, folder, results, fake_model
):
    run(folder)
    encoded = fake_model.encoded
    earlier = fingerprint_of('fake', Method.prompts, CLICK, False)
    output = OutputFolder(results, 'another', (earlier,))
    job = Job(output, 'fake', 'cpu', Method.prompts, CLICK)
    sources = find_sources([str(folder)], output)
    summary = run_batch(job, sources, do_tasks, Existing.resume)
    assert summary.count(Status.done) == 8
    assert fake_model.encoded == encoded


def test_labels_of_another_image_are_not_taken_over(run, tmp_path, results):
    for number, place in enumerate(('x', 'y')):
        (tmp_path / place).mkdir()
        Image.fromarray(pixels(number)).save(tmp_path / place / 'scan.png')
    run(tmp_path / 'x')
    before = contents(results)
    with pytest.raises(BatchError, match='made of another image'):
        run(tmp_path / 'y', existing=Existing.resume)
    assert contents(results) == before
    run(tmp_path / 'y', existing=Existing.skip)
    assert 'of another image' in rows(results)[-1]['reason']


@pytest.mark.parametrize('existing', [Existing.resume, Existing.skip])
def test_an_image_keeps_its_labels_when_others_of_its_name_come(
    run, tmp_path, results, existing
):
    def add(number: int, place: str) -> None:
        (tmp_path / 'scans' / place).mkdir(parents=True)
        Image.fromarray(pixels(number)).save(tmp_path / 'scans' / place / 'scan.png')

    add(1, 'p1')
    add(2, 'p2')
    run(tmp_path / 'scans')
    labels = {row['image']: row['labels'] for row in rows(results)}
    add(0, 'p0')
    add(3, 'p3')
    summary = run(tmp_path / 'scans', existing=existing)
    assert summary.count(Status.failed) == 0
    now = {row['image']: row['labels'] for row in rows(results)}
    assert labels.items() < now.items()
    assert len(set(now.values())) == 4
    assert len(list(results.glob('*_labels.png'))) == 4


def test_skipping_leaves_the_frames_of_a_stack_that_is_half_done(run, folder, results):
    run(folder, executor=interrupted_after(3))
    frames = contents(results / 'stack_labels_frames')
    assert frames
    summary = run(folder, existing=Existing.skip)
    assert summary.count(Status.skipped) == 8
    assert contents(results / 'stack_labels_frames') == frames
    assert not (results / 'stack_labels.tif').exists()


def test_the_manifest_of_an_earlier_version_is_gone_on_with(
    run, folder, results
) -> None:
    run(folder / 'scan0.png')
    path = results / MANIFEST
    place = path.read_text().splitlines()[0].split(',').index('names')
    lines = [line.split(',') for line in path.read_text().splitlines()]
    for line in lines:
        del line[place]
    path.write_text('\n'.join(map(','.join, lines)) + '\n')
    run(folder / 'scan1.png', existing=Existing.resume)
    assert [Path(row['image']).name for row in rows(results)] == [
        'scan0.png',
        'scan1.png',
    ]


def test_the_manifest_keeps_the_lines_of_other_images(run, folder, results):
    run(folder / 'scan0.png')
    with pytest.raises(BatchError, match='manifest.csv is in'):
        run(folder / 'scan1.png')
    run(folder / 'scan1.png', existing=Existing.skip)
    run(folder / 'scan1.png', existing=Existing.overwrite)
    assert [Path(row['image']).name for row in rows(results)] == [
        'scan0.png',
        'scan1.png',
    ]


def test_corrections_of_an_export_by_hand_are_not_replaced(run, folder, results):
    nibabel = pytest.importorskip('nibabel')
    volume = np.stack([pixels(n) for n in range(3)]).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / 'case.nii.gz')
    from napari_kdsam.batch.exports import export

    def finish(summary: Summary) -> None:
        assert export(OutputFolder(results), summary, also) == []

    also = [Export.nifti]
    path = results / 'case_labels.nii.gz'
    options = {'also': also, 'finish': finish, 'existing': Existing.overwrite}
    run(folder / 'case.nii.gz', **options)
    first = path.read_bytes()
    run(folder / 'case.nii.gz', **options)
    assert path.read_bytes() == first
    written = nibabel.load(path)
    edited = np.asarray(written.dataobj).copy()
    edited[0] = 3
    # As programs do that keep the rest of the header.
    nibabel.save(nibabel.Nifti1Image(edited, written.affine, written.header), path)
    with pytest.raises(BatchError, match='changed since'):
        run(folder / 'case.nii.gz', **options)


def test_names_of_any_kind_are_done_and_listed(run, tmp_path, results):
    place = tmp_path / 'odd'
    place.mkdir()
    odd = [os.fsdecode(b'L\xe4sion'), '=1+1', 'r\x1b[31m\n', 'x' * 240, 'y' * 251]
    for name in odd:
        Image.fromarray(pixels(1)).save(place / f'{name}.png')
    summary = run(place)
    assert summary.count(Status.done) == 4
    (failed,) = (row for row in rows(results) if row['status'] == 'failed')
    assert 'longer than the 255 bytes' in failed['reason']
    listed = {Path(row['image']).name for row in rows(results)}
    assert {'L\\xe4sion.png', '=1+1.png', 'r\\x1b[31m\\n.png'} < listed


@pytest.mark.parametrize('existing', [Existing.resume, Existing.skip])
def test_a_name_too_long_to_write_fails_alone_in_every_form(
    run, tmp_path, results, existing
):
    place = tmp_path / 'odd'
    place.mkdir()
    for name in ('a', 'y' * 251):
        Image.fromarray(pixels(1)).save(place / f'{name}.png')
    for _ in range(2):
        summary = run(place, existing=existing)
        export(OutputFolder(results), summary, [Export.coco], ExportOptions(existing))
        (failed,) = (row for row in rows(results) if row['status'] == 'failed')
        assert 'longer than the 255 bytes' in failed['reason']
    assert [i.name for i in read_coco_masks(results / 'labels.coco.json')] == ['a.png']


def test_a_formula_in_the_manifest_is_text(run, tmp_path, monkeypatch, results):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels(1)).save('=1+1.png')
    run('=1+1.png')
    (row,) = rows(results)
    assert (row['image'], row['labels']) == ("'=1+1.png", "'=1+1_labels.png")


# Propagation


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    """A stack of bright discs that move to the right on a dark ground."""
    rows, columns = np.mgrid[:64, :160]
    frames = [
        np.where((rows - 32) ** 2 + (columns - 30 - 4 * n) ** 2 < 144, 200, 20)
        for n in range(12)
    ]
    np.save(tmp_path / 'moving.npy', np.stack(frames).astype(np.uint8))
    return tmp_path / 'moving.npy'


def key(frame: int, column: float) -> ObjectPrompt:
    return ObjectPrompt(Prompt(box=(20, column - 12, 45, column + 13)), frame)


def test_objects_are_followed_both_ways_from_key_frames(run, moving, results):
    prompts = PromptSet((key(3, 42), key(8, 62)))
    summary = run(moving, prompts=prompts, method=Method.propagation)
    assert summary.count(Status.done) == 12
    labels = tifffile.imread(results / 'moving_labels.tif')
    assert all(frame.any() for frame in labels)
    assert labels[3, 32, 42] == 1
    assert labels[8, 32, 62] == 1, 'a later key frame starts anew'
    assert labels[8, 32, 42] == 0


def test_an_interrupted_propagation_resumes_to_the_same_bytes(run, moving, results):
    # Two objects that overlap, so that their masks differ from what labels hold.
    prompts = PromptSet((key(3, 42), key(3, 50), key(8, 62)))
    options = {'prompts': prompts, 'method': Method.propagation}
    run(moving, **options)
    whole = contents(results)
    for count in (0, 1, 6, 10):
        shutil.rmtree(results)
        run(moving, executor=interrupted_after(count), **options)
        run(moving, existing=Existing.resume, **options)
        assert contents(results) == whole


def test_a_drift_between_key_frames_ends_that_way_and_the_other_goes_on(
    run, moving, results, monkeypatch
):
    from napari_kdsam.inference.drift import DriftLimits

    seen = []

    def twice(self, label, *measures):
        # Back from frame 8 it is lost on frame 7, on from frame 3 on frame 5.
        seen.append(label)
        return 'Object 1 jumped.' if len(seen) in (1, 3) else ''

    monkeypatch.setattr(DriftLimits, 'warning', twice)
    prompts = PromptSet((key(3, 42), key(8, 62)))
    run(moving, prompts=prompts, method=Method.propagation)
    listed = rows(results)
    assert [row['status'] for row in listed[3:9]] == [
        'done',
        'done',
        'done',
        'skipped',
        'done',
        'done',
    ]
    assert listed[5]['reason'] == listed[7]['reason'] == 'Object 1 jumped.'
    assert 'stopped at frame 5' in listed[6]['reason']


def test_a_prompt_beyond_the_stack_fails_that_stack_only(run, moving, folder, results):
    prompts = PromptSet(
        (ObjectPrompt(Prompt([(30.0, 40.0)])),), {'moving.npy': (key(12, 40),)}
    )
    summary = run(moving, folder, prompts=prompts, method=Method.propagation)
    assert summary.count(Status.failed) == 12
    assert summary.count(Status.done) == 8
    assert 'frames are 0 to 11' in rows(results)[0]['reason']


# Further forms


def test_labels_are_also_written_with_the_place_of_their_images(run, folder, results):
    import highdicom
    import nibabel
    import pydicom
    from pycocotools.coco import COCO
    from pydicom.data import get_testdata_file

    from napari_kdsam.batch.exports import COCO_NAME, export
    from napari_kdsam.core.choices import Export

    affine = np.diag([0.5, 0.4, 2.0, 1.0])
    volume = np.stack([pixels(n) for n in range(5)]).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(volume, affine), folder / 'volume.nii.gz')
    dicom = Path(get_testdata_file('CT_small.dcm'))
    shutil.copy(dicom, folder / 'ct.dcm')
    summary = run(folder)
    assert summary.count(Status.done) == 14
    assert export(OutputFolder(results), summary, list(Export)) == []
    written = nibabel.load(results / 'volume_labels.nii.gz')
    np.testing.assert_allclose(written.affine, affine)
    frames = tifffile.imread(results / 'volume_labels.tif')
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, frames)
    segmentation = highdicom.seg.segread(results / 'ct_labels.dcm')
    source = pydicom.dcmread(dicom)
    (mask,) = segmentation.get_pixels_by_source_instance([source.SOPInstanceUID])[
        ..., 0
    ]
    labels = np.asarray(Image.open(results / 'ct_labels.png'))
    np.testing.assert_array_equal(mask, labels)
    found = COCO(results / COCO_NAME)
    assert len(found.getImgIds()) == 14
    assert len(found.getAnnIds()) == 14
    assert not (results / 'scan0_labels.dcm').exists()


def test_what_cannot_be_written_in_another_form_is_said(
    run, folder, results, monkeypatch
):
    from napari_kdsam.batch import exports
    from napari_kdsam.core.choices import Export

    summary = run(folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise ImageError('labels.coco.json could not be written (No space left).')

    monkeypatch.setattr(exports, 'write_coco', refuse)
    assert exports.export(OutputFolder(results), summary, [Export.coco]) == [
        'labels.coco.json could not be written (No space left).'
    ]


def dotted(*spots: tuple[int, int]) -> np.ndarray:
    """A large frame with bright squares of 40 pixels."""
    image = np.zeros((900, 1100), np.uint8)
    for row, column in spots:
        image[row : row + 40, column : column + 40] = 255
    return image


@pytest.mark.parametrize('look', [True, False])
def test_small_objects_of_large_frames_are_looked_at_again_unless_switched_off(
    tmp_path, monkeypatch, look
):
    from fakes import SeeingModel

    model = SeeingModel()
    predictor = Predictor(model, cache_bytes=0)  # type: ignore[arg-type]
    monkeypatch.setattr(work, 'predictor_for', lambda *_: predictor)
    np.save(tmp_path / 'scan.npy', image := dotted((201, 303), (605, 707)))
    boxes = [(201.0, 303.0, 241.0, 343.0), (605.0, 707.0, 645.0, 747.0)]
    prompts = PromptSet(tuple(ObjectPrompt(Prompt(box=box)) for box in boxes))
    out = tmp_path / 'out'
    out.mkdir()
    job = Job(OutputFolder(out), 'fake', 'cpu', prompts=prompts, second_look=look)
    run_batch(job, find_sources([str(tmp_path / 'scan.npy')]), do_tasks)
    labels = np.asarray(Image.open(out / 'scan_labels.png'))
    truth = (image > 0).astype(np.uint8)
    truth[600:] *= 2
    assert (labels == truth).all() == look
    assert model.encoded == (3 if look else 1)


def test_results_with_and_without_second_looks_are_not_mixed() -> None:
    def key(method: Method, look: bool) -> str:
        return fingerprint_of('fake', method, CLICK, False, second_look=look)

    for method in Method:
        used = method in (Method.prompts, Method.proposals)
        assert (key(method, True) != key(method, False)) == used
