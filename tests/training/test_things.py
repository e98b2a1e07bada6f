"""The set of things: what is kept of a teacher's masks, and the folder it is kept in."""

from __future__ import annotations

import csv
import io
import tarfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from napari_kdsam.cli.train import app
from napari_kdsam.core.errors import CheckpointError, ImageError
from napari_kdsam.inference.predictor import Predictor
from napari_kdsam.training.config import FindingConfig, ShareConfig, ThingsConfig
from napari_kdsam.training.config_file import read_config_as
from napari_kdsam.training.data.catalogue import DATA_SETS
from napari_kdsam.training.data.leaks import find_leaks
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.data.shards import read_shards
from napari_kdsam.training.things import making
from napari_kdsam.training.things import teacher as teachers
from napari_kdsam.training.things.finding import find_things
from napari_kdsam.training.things.making import (
    NOTHING_CERTAIN,
    ThingsError,
    ThingsReport,
    make_things,
)
from napari_kdsam.training.things.masks import (
    Judge,
    Thing,
    of_every_size,
    paint,
    tidied,
    view_of,
    without_conflicts,
    without_repeats,
)
from napari_kdsam.training.things.pictures import plan_pictures
from napari_kdsam.training.things.teacher import (
    SAMTeacher,
    ThingProposal,
    open_thing_teacher,
)

SHAPE = (96, 128)
GROUND = 40
Box = tuple[float, float, float, float]
Mask = NDArray[np.bool_]


def rectangle(row0: int, col0: int, row1: int, col1: int) -> Mask:
    mask = np.zeros(SHAPE, bool)
    mask[row0:row1, col0:col1] = True
    return mask


def disc(row: float, column: float, radius: float) -> Mask:
    rows, columns = np.indices(SHAPE)
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


LEFT, RIGHT = disc(30, 30, 14), rectangle(50, 80, 80, 115)
# Where a grid of eight clicks a row does not miss it.
SMALL = disc(14, 90, 9)


def drawn(**levels: Mask) -> NDArray[np.uint8]:
    """Shapes of flat grey, by names such as ``g120``, one over the other."""
    grey = np.full(SHAPE, GROUND, np.uint8)
    for level, mask in levels.items():
        grey[mask] = int(level[1:])
    return np.repeat(grey[..., None], 3, axis=2)


@dataclass
class FlatTeacher:
    """Sees a patch of nearly one grey as one thing, as sure as it is told to be."""

    scores: dict[int, float] = field(default_factory=dict)
    stability: float = 1.0
    box_growth: int = 0
    stop_after: int | None = None
    name: str = 'flat'
    fingerprint: str = 'flat'
    embedded: int = 0

    def embed(self, image: NDArray[np.uint8]) -> Any:
        if self.embedded == self.stop_after:
            raise KeyboardInterrupt
        self.embedded += 1
        # JPEG leaves faint noise around what was one grey.
        return np.round(ndimage.median_filter(image[..., 0], 5) / 40).astype(int) * 40

    def at_point(self, state: Any, point: tuple[float, float]) -> list[ThingProposal]:
        parts, _ = ndimage.label(state == state[round(point[0]), round(point[1])])
        mask = parts == parts[round(point[0]), round(point[1])]
        level = int(state[mask][0])
        score = self.scores.get(level, 0.95)
        return [
            ThingProposal(score, self.stability, mask.mean(), lambda: mask),
            ThingProposal(0.2, 1.0, 0.1, lambda: ~mask),
        ]

    def in_box(self, state: Any, box: Box) -> list[ThingProposal]:
        row0, col0, row1, col1 = (int(side) for side in box)
        answer, *_ = self.at_point(state, ((row0 + row1) / 2, (col0 + col1) / 2))
        grown = answer.make_mask()
        if self.box_growth:
            grown = ndimage.binary_dilation(grown, iterations=self.box_growth)
        return [
            ThingProposal(answer.score, self.stability, grown.mean(), lambda: grown)
        ]


def find(
    image: NDArray[np.uint8],
    teacher: FlatTeacher | None = None,
    labelled: NDArray[np.uint8] | None = None,
    **settings: Any,
) -> list[Thing]:
    return find_things(
        image,
        np.zeros(SHAPE, np.uint8) if labelled is None else labelled,
        teacher or FlatTeacher(),
        FindingConfig(**settings),
        np.random.default_rng(0),
    )


def agree(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def matches(things: list[Thing], *shapes: Mask) -> bool:
    return len(things) == len(shapes) and all(
        max(agree(thing.mask, shape) for thing in things) > 0.9 for shape in shapes
    )


# What is found in one image


def test_each_shape_is_found_once_however_often_it_is_clicked() -> None:
    things = find(drawn(g120=LEFT, g200=RIGHT), points_per_side=16)
    assert matches(things, LEFT, RIGHT)


def test_a_labelled_object_is_left_to_its_label() -> None:
    labelled = np.asarray(RIGHT * 2, np.uint8)
    assert matches(find(drawn(g120=LEFT, g200=RIGHT), labelled=labelled), LEFT)


def test_a_thing_that_is_mostly_inside_a_labelled_object_is_left_out() -> None:
    labelled = np.asarray(rectangle(10, 0, 60, 38), np.uint8)
    assert matches(find(drawn(g120=LEFT, g200=RIGHT), labelled=labelled), RIGHT)


@pytest.mark.parametrize('what', ['unsure', 'unstable', 'unlike its box'])
def test_a_doubtful_mask_is_left_out(what: str) -> None:
    image = drawn(g120=LEFT)
    teacher = {
        'unsure': FlatTeacher({120: 0.5}),
        'unstable': FlatTeacher(stability=0.5),
        'unlike its box': FlatTeacher(box_growth=6),
    }[what]
    assert find(image)
    assert not find(image, teacher)


def test_the_mask_of_the_box_is_the_one_that_is_kept() -> None:
    (thing,) = find(drawn(g120=RIGHT), FlatTeacher(box_growth=1))
    assert agree(thing.mask, ndimage.binary_dilation(RIGHT)) > 0.98
    assert thing.pixels > RIGHT.sum()


def test_things_too_small_or_too_large_are_left_out() -> None:
    image = drawn(g120=LEFT, g200=RIGHT)
    share = LEFT.mean()
    assert matches(find(image, min_area=share * 1.1), RIGHT)
    assert matches(find(image, max_area=share * 1.1), LEFT)


def test_the_black_around_a_view_and_the_view_itself_are_no_things() -> None:
    view = disc(48, 64, 40)
    image = drawn(g0=~view, g160=view)
    assert agree(view_of(image), view) > 0.95
    assert not find(image, max_area=0.9)


def test_marks_on_the_black_around_a_view_are_things() -> None:
    mark = rectangle(4, 4, 14, 16)
    view = disc(48, 80, 30)
    judge = Judge(
        drawn(g0=~view, g200=mark), np.zeros(SHAPE, np.uint8), FindingConfig()
    )
    assert judge.accepts(mark)
    assert not judge.accepts(rectangle(60, 2, 80, 20))


def test_a_frame_along_three_sides_is_no_thing() -> None:
    judge = Judge(drawn(), np.zeros(SHAPE, np.uint8), FindingConfig())
    frame = rectangle(0, 0, 96, 10) | rectangle(0, 0, 10, 128)
    assert not judge.accepts(frame)
    assert judge.accepts(rectangle(0, 0, 30, 10))


def test_clicking_ends_when_enough_was_found() -> None:
    image = drawn(g120=LEFT, g200=RIGHT, g80=SMALL)
    assert len(find(image)) == 3
    assert len(find(image, candidates=1)) == 1


# Masks


def test_specks_and_tiny_holes_go_and_real_holes_stay() -> None:
    hole = disc(30, 30, 1)
    cleaned = tidied((LEFT & ~hole) | disc(80, 10, 1))
    assert cleaned is not None
    assert np.array_equal(cleaned, LEFT)
    ring = LEFT & ~disc(30, 30, 7)
    kept = tidied(ring)
    assert kept is not None
    assert np.array_equal(kept, ring)


def test_a_mask_in_two_parts_and_an_empty_one_are_no_things() -> None:
    assert tidied(LEFT | RIGHT) is None
    assert tidied(np.zeros(SHAPE, bool)) is None


def test_of_repeats_the_one_with_the_highest_score_is_kept() -> None:
    things = [Thing(disc(30, 30, 14), 0.9), Thing(disc(30, 31, 14), 0.95)]
    others = [Thing(RIGHT, 0.8)]
    kept = without_repeats([*things, *others], 0.7)
    assert [thing.score for thing in kept] == [0.95, 0.8]


def test_a_small_thing_lies_over_a_large_one() -> None:
    large, small = Thing(rectangle(20, 20, 80, 100), 0.9), Thing(disc(50, 60, 8), 0.95)
    for order in ([large, small], [small, large]):
        kept = without_conflicts(order, 0.15)
        assert len(kept) == 2
        drawn_map = paint(kept)
        assert (drawn_map == 1 + kept.index(small)).sum() == small.pixels


def test_where_too_much_would_be_hidden_the_lower_score_is_dropped() -> None:
    large, part = rectangle(20, 20, 80, 100), rectangle(20, 20, 80, 50)
    kept = without_conflicts([Thing(large, 0.9), Thing(part, 0.95)], 0.15)
    assert [thing.score for thing in kept] == [0.95]
    kept = without_conflicts([Thing(large, 0.97), Thing(part, 0.95)], 0.15)
    assert [thing.score for thing in kept] == [0.97]


def test_several_small_things_together_may_not_hide_a_large_one() -> None:
    large = Thing(rectangle(20, 20, 80, 100), 0.8)
    parts = [Thing(rectangle(20 + 20 * n, 20, 40 + 20 * n, 48), 0.9) for n in range(3)]
    assert len(without_conflicts([large, parts[0]], 0.15)) == 2
    assert large not in without_conflicts([large, *parts], 0.15)


def test_the_kept_things_are_of_every_size_and_the_best_of_theirs() -> None:
    things = [Thing(disc(48, 64, 3 + n), 0.9 + 0.01 * (n % 2)) for n in range(12)]
    kept = of_every_size(things, 6)
    assert [thing.score for thing in kept] == [0.91] * 6
    assert [thing.pixels for thing in kept] == sorted(t.pixels for t in kept)
    assert kept[-1].pixels > 8 * kept[0].pixels
    assert len(of_every_size(things[:2], 6)) == 2


# The folder


def add(tar: tarfile.TarFile, name: str, array: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    if name.endswith('.jpg'):
        Image.fromarray(array).save(buffer, 'JPEG', quality=95)
    else:
        Image.fromarray(array).save(buffer, 'PNG')
    entry = tarfile.TarInfo(name)
    entry.size = buffer.tell()
    buffer.seek(0)
    tar.addfile(entry, buffer)


def source_folder(folder: Path, train: int = 5, val: int = 2) -> Path:
    """Two labelled data sets; the label is RIGHT, and LEFT and SMALL are things."""
    folder.mkdir()
    with (folder / 'index.csv').open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['dataset', 'split', 'stem', 'shard', 'patient', 'pixel_mm'])
        for data_set in ('one', 'two'):
            with tarfile.open(folder / f'{data_set}.tar', 'w') as tar:
                for index in range(train + val):
                    image = drawn(g120=LEFT, g200=RIGHT, g80=SMALL)
                    stem, split = f's{index}', 'train' if index < train else 'val'
                    add(tar, f'{stem}.jpg', image)
                    add(tar, f'{stem}.mask.png', np.asarray(RIGHT * 255, np.uint8))
                    patient = '' if index % 2 else f'p{index}'
                    row = [data_set, split, stem, f'{data_set}.tar', patient, '0.5']
                    writer.writerow(row)
    return folder


def settings_for(source: Path, out: Path, **changes: Any) -> ThingsConfig:
    values: dict[str, Any] = {
        'out': out,
        'folder': source,
        'shares': [ShareConfig(data_sets=['one', 'two'], weight=1)],
        'pictures_weight': 0,
        'train_images': 7,
        'val_images': 3,
        'shard_images': 2,
    }
    return ThingsConfig(**{**values, **changes})


def make(
    config: ThingsConfig, teacher: FlatTeacher | None = None, **options: Any
) -> ThingsReport:
    return make_things(
        config,
        progress=False,
        opener=lambda name, device: teacher or FlatTeacher(),
        **options,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return source_folder(tmp_path / 'source')


def test_the_folder_is_read_as_training_reads_any_other(
    source: Path, tmp_path: Path
) -> None:
    report = make(settings_for(source, tmp_path / 'out'))
    train = read_shards(tmp_path / 'out', ['things'])
    val = read_shards(tmp_path / 'out', ['things'], ['val'])
    assert (len(train), len(val)) == (7, 3)
    assert report.images == {'train': 7, 'val': 3}
    assert report.objects == {'train': 14, 'val': 6}
    for sample in [*train, *val]:
        image, objects = sample.load_objects()
        assert np.abs(image[LEFT].astype(int) - 120).mean() < 5
        assert set(np.unique(objects)) == {0, *range(1, sample.objects + 1)}
        assert sample.modality == 'other'
        assert sample.pixel_size_mm == 0.5
        shapes = [Thing(objects == n, 1.0) for n in range(1, sample.objects + 1)]
        assert matches(shapes, LEFT, SMALL)


def test_images_stay_in_their_split_and_patients_apart_by_data_set(
    source: Path, tmp_path: Path
) -> None:
    make(settings_for(source, tmp_path / 'out', train_images=10, val_images=4))
    train = read_shards(tmp_path / 'out')
    val = read_shards(tmp_path / 'out', splits=['val'])
    assert {s.stem.partition('-')[2] for s in train} == {f's{n}' for n in range(5)}
    assert {s.stem.partition('-')[2] for s in val} == {'s5', 's6'}
    assert {s.patient for s in val} == {'', 'one-p6', 'two-p6'}
    leaks = [leak.reason for leak in find_leaks(train, val)]
    assert not {'same patient', 'same name'} & set(leaks)


def test_a_run_that_was_killed_goes_on_to_the_same_folder(
    source: Path, tmp_path: Path
) -> None:
    whole, killed = (
        settings_for(source, tmp_path / name) for name in ('whole', 'killed')
    )
    make(whole)
    for stop_after in (0, 3, 1):
        with pytest.raises(KeyboardInterrupt):
            make(killed, FlatTeacher(stop_after=stop_after))
    done = len(read_shards(killed.out, splits=['train', 'val']))
    assert 0 < done < 10
    teacher = FlatTeacher()
    make(killed, teacher)
    assert teacher.embedded == 10 - done
    assert contents(killed.out) == contents(whole.out)


def test_a_shard_that_was_lost_is_made_again(source: Path, tmp_path: Path) -> None:
    config = settings_for(source, tmp_path / 'out')
    make(config)
    before = contents(config.out)
    (config.out / 'things-train-001.tar').unlink()
    make(config)
    assert contents(config.out) == before


def test_a_run_stopped_by_the_clock_leaves_a_folder_of_both_splits_in_time(
    source: Path, tmp_path: Path
) -> None:
    config = settings_for(source, tmp_path / 'out')
    report = make(config, minutes=0)
    assert report.waiting == 10
    assert '10 images wait' in report.describe()
    assert make(config).waiting == 0


def test_an_image_with_nothing_certain_is_left_out_and_counted(
    source: Path, tmp_path: Path
) -> None:
    teacher = FlatTeacher({120: 0.3, 80: 0.3})
    report = make(settings_for(source, tmp_path / 'out'), teacher)
    assert not report.images
    assert set(report.left_out.values()) == {NOTHING_CERTAIN}
    assert len(report.left_out) == 10
    assert not report.failed
    assert 'nothing certain on 10' in report.describe()


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_made(
    source: Path, tmp_path: Path
) -> None:
    lines = (source / 'index.csv').read_text().splitlines(keepends=True)
    broken = [line.replace('one.tar', 'gone.tar') for line in lines]
    (source / 'index.csv').write_text(''.join(broken))
    report = make(settings_for(source, tmp_path / 'out', train_images=10, val_images=0))
    assert report.images == {'train': 5}
    assert set(report.failed) == {f'one-s{n}' for n in range(5)}
    assert '5 failed: one-s' in report.describe()


def test_a_folder_made_with_other_settings_is_not_mixed(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    make(settings_for(source, out))
    with pytest.raises(ThingsError, match='other settings'):
        make(settings_for(source, out, seed=1))
    with pytest.raises(ThingsError, match='other settings'):
        make(settings_for(source, out), FlatTeacher(fingerprint='another'))


def test_the_source_folder_is_not_written_into(source: Path) -> None:
    before = contents(source)
    with pytest.raises(ThingsError, match='another kind'):
        make(settings_for(source, source))
    assert contents(source) == before


def test_a_damaged_record_is_said_to_be_one(source: Path, tmp_path: Path) -> None:
    config = settings_for(source, tmp_path / 'out')
    make(config)
    (config.out / 'things.json').write_text('{"shards": []}')
    with pytest.raises(ThingsError, match='start anew'):
        make(config)


# Which images


def test_any_start_of_the_plan_is_a_fair_mix(source: Path, tmp_path: Path) -> None:
    shares = [
        ShareConfig(data_sets=['one'], weight=3),
        ShareConfig(data_sets=['two'], weight=1),
    ]
    config = settings_for(source, tmp_path, shares=shares, train_images=4)
    plan = plan_pictures(config)['train']
    assert sorted(p.stem.partition('-')[0] for p in plan) == ['one'] * 3 + ['two']
    assert [p.stem for p in plan_pictures(config)['train']] == [p.stem for p in plan]
    more = plan_pictures(config.model_copy(update={'train_images': 6}))['train']
    assert [p.stem for p in more[:4]] == [p.stem for p in plan]


def test_a_data_set_that_is_not_there_is_named(source: Path, tmp_path: Path) -> None:
    shares = [ShareConfig(data_sets=['three'], weight=1)]
    with pytest.raises(ImageError, match='three'):
        plan_pictures(settings_for(source, tmp_path, shares=shares))


def test_pictures_of_the_packages_are_read_whole_and_in_parts(
    source: Path, tmp_path: Path
) -> None:
    config = settings_for(
        source,
        tmp_path,
        shares=[],
        pictures_weight=1,
        train_images=30,
        val_images=12,
    )
    plan = plan_pictures(config)
    train, val = plan['train'], plan['val']
    assert (len(train), len(val)) == (30, 12)
    assert len({p.stem for p in train}) == 30
    assert not {p.patient for p in train} & {p.patient for p in val}
    parts = [p for p in train if p.stem != p.patient]
    assert parts
    for picture in [*parts[:2], *val[:2]]:
        image, labelled = picture.read()
        assert image.dtype == np.uint8
        assert image.shape == (*labelled.shape, 3)
        assert max(image.shape) <= 560
        assert not labelled.any()


# Teachers


def test_a_sam_answers_for_clicks_and_boxes(fake_model: Any) -> None:
    segmenter: Any = SimpleNamespace(
        name='fake', fingerprint='fake', predictor=Predictor(fake_model)
    )
    teacher = SAMTeacher(segmenter)
    state = teacher.embed(drawn(g120=LEFT))
    for answers in (
        teacher.at_point(state, (30.0, 30.0)),
        teacher.in_box(state, (16.0, 16.0, 45.0, 45.0)),
    ):
        for answer in answers:
            mask = answer.make_mask()
            assert mask.shape == SHAPE
            assert 0 <= answer.stability <= 1
            assert answer.area == pytest.approx(mask.mean(), abs=0.02)


def test_a_model_without_clicks_cannot_find_things(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @dataclass
    class BoxesOnly:
        name: str = 'boxes'

    monkeypatch.setattr(teachers, 'open_segmenter', lambda name, device: BoxesOnly())
    with pytest.raises(CheckpointError, match='boxes does not take clicks'):
        open_thing_teacher('boxes')


# The command


def test_the_command_says_what_was_made(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = partial(make_things, opener=lambda name, device: FlatTeacher())
    monkeypatch.setattr(making, 'make_things', flat)
    config = settings_for(source, tmp_path / 'unused')
    file = tmp_path / 'things.yaml'
    file.write_text(config.model_dump_json())
    out = tmp_path / 'out'
    result = CliRunner().invoke(app, ['things', '-c', str(file), '--out', str(out)])
    assert result.exit_code == 0, result.output
    assert '14 things on 7 train images and 6 things on 3 val images' in result.output
    assert isinstance(read_shards(out)[0], Sample)


def test_the_ready_configuration_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('KDSAM_SHARED', str(tmp_path))
    config = read_config_as(ThingsConfig, Path('things.yaml'))
    assert config.folder == tmp_path / 'data'
    assert all(name in DATA_SETS for share in config.shares for name in share.data_sets)


def test_the_command_names_a_wrong_setting(tmp_path: Path) -> None:
    file = tmp_path / 'things.yaml'
    file.write_text('out: x\nfolder: y\nfinding: {min_area: 0.5}\n')
    result = CliRunner().invoke(app, ['things', '-c', str(file)])
    assert result.exit_code == 2
    assert 'min_area must be smaller than max_area' in result.output
