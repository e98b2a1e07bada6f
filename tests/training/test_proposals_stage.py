"""Stage 3: what the proposal head is shown, learns and is judged by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import write_shards
from typer.testing import CliRunner

from napari_kdsam.inference.proposals import Proposal, proposals_of_maps
from napari_kdsam.model.network import ModelIdentity, PromptableModel
from napari_kdsam.model.proposal_head import HEATMAP_SIZE, load_head
from napari_kdsam.training.config import (
    ConfigError,
    ProposalsStageConfig,
    TrainingConfig,
)
from napari_kdsam.training.config_file import CONFIG_FOLDER, read_config
from napari_kdsam.training.data.order import TrainingBatch
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.data.store import ImageStore
from napari_kdsam.training.lightning_loop import fit
from napari_kdsam.training.proposals.beside import strip_beside
from napari_kdsam.training.proposals.losses import (
    class_loss,
    heatmap_loss,
    overlap_loss,
)
from napari_kdsam.training.proposals.report import (
    ProposalRow,
    match_proposals,
    report_table,
)
from napari_kdsam.training.proposals.run import encoder_path
from napari_kdsam.training.proposals.stage import ProposalStage
from napari_kdsam.training.proposals.targets import (
    UNNAMED,
    CentreMaps,
    ObjectBoxes,
    centre_maps,
)
from napari_kdsam.training.stage import TrainingError

SIDE = HEATMAP_SIZE
SQUARE = 256
LEFT, MIDDLE, RIGHT = (40, 20, 90, 60), (60, 110, 110, 180), (30, 190, 80, 235)


class Stopped(Exception):
    pass


class Brightness(torch.nn.Module):
    """An encoder that is quick, and whose embedding a person can read."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        grey = pixels.float().mean(1, keepdim=True)
        small = torch.nn.functional.adaptive_avg_pool2d(grey, 64)
        return small * torch.linspace(0.1, 1, 256)[:, None, None]


def quick_encoder() -> PromptableModel:
    parts = torch.nn.Identity(), torch.nn.Linear(1, 1)
    identity = ModelIdentity('quick', 'none', 'quick')
    return PromptableModel(Brightness(), *parts, SQUARE, identity)


def sample_of(
    data_set: str, stem: str, *boxes: tuple[int, int, int, int], numbers: Any = None
) -> Sample:
    """A dark image with bright boxes, each an object with its class number."""
    image = np.zeros((150, SQUARE, 3), np.uint8)
    objects = np.zeros((150, SQUARE), np.uint8)
    for (row0, col0, row1, col1), number in zip(
        boxes, numbers or [1] * len(boxes), strict=True
    ):
        image[row0:row1, col0:col1] = 255
        objects[row0:row1, col0:col1] = number
    return Sample(
        data_set,
        'train',
        stem,
        objects=max(numbers or [1]),
        read=lambda: (image, objects),
    )


@pytest.fixture(scope='module')
def store() -> ImageStore:
    return ImageStore(
        [
            sample_of('kvasir_seg', 'left', LEFT),
            sample_of('cvc_clinicdb', 'right', RIGHT),
            sample_of('isic', 'two', LEFT, RIGHT),
            sample_of('fh_ps_aop', 'both', LEFT, MIDDLE, numbers=[1, 2]),
        ],
        SQUARE,
    )


def stage_of(store: ImageStore, digest: str = 'mine', **changes: Any) -> ProposalStage:
    values = {
        'steps': 14,
        'batch_size': 4,
        'warmup_steps': 2,
        'rate': 3e-3,
        'ema_decay': 0.5,
        'beside_share': 1.0,
    }
    config = ProposalsStageConfig.model_validate({**values, **changes})
    return ProposalStage(quick_encoder(), digest, config, 0, store, store)


def train(stage: ProposalStage, out: Path, name: str = 'tiny') -> Path:
    config = TrainingConfig.model_validate(
        {
            'name': name,
            'out': out,
            'data': {'sources': [{'folder': out}]},
            'proposals': stage.config.model_dump(),
            'loop': {
                'accelerator': 'cpu',
                'precision': '32-true',
                'checkpoint_every': 7,
                'validate_every': 14,
                'log_every': 1,
            },
        }
    )
    return fit(stage, config, 'proposals', {})


def maps_of(*boxes: tuple[float, ...], kinds: Any = None) -> CentreMaps:
    shown = len(boxes) > 0
    tensor = torch.tensor([list(boxes) if shown else [(0.0,) * 4]])
    kind = torch.tensor([list(kinds or [0] * max(1, len(boxes)))])
    return centre_maps(tensor, kind, torch.full(tensor.shape[:2], shown))


def test_the_heads_own_maps_agree_with_the_targets_it_learns() -> None:
    box = (0.1, 0.3, 0.35, 0.7)
    maps = maps_of(box)
    row, column = np.unravel_index(int(maps.heatmap[0].argmax()), (SIDE, SIDE))
    assert row == int((0.1 + 0.35) / 2 * SIDE)
    assert column == int((0.3 + 0.7) / 2 * SIDE)
    torch.testing.assert_close(maps.boxes[0, :, row, column], torch.tensor(box))
    (found,) = proposals_of_maps(maps.heatmap[0], maps.boxes[0], (1000, 1000), 1.0, 5)
    np.testing.assert_allclose(found.box, np.array(box) * 1000, atol=0.01)


def test_every_object_has_a_centre_with_its_own_box_and_class() -> None:
    first, second = (0.1, 0.1, 0.3, 0.3), (0.5, 0.5, 0.9, 0.8)
    maps = maps_of(first, second, kinds=[2, 1])
    assert int((maps.heatmap == 1).sum()) == 2
    for box, kind in ((first, 2), (second, 1)):
        row, column = (int((box[k] + box[k + 2]) / 2 * SIDE) for k in (0, 1))
        assert maps.heatmap[0, row, column] == 1
        assert maps.kinds[0, row, column] == kind
        torch.testing.assert_close(maps.boxes[0, :, row, column], torch.tensor(box))


def test_images_without_targets_teach_that_there_are_none() -> None:
    maps = maps_of()
    sure, unsure = torch.full((1, SIDE, SIDE), 4.0), torch.full((1, SIDE, SIDE), -4.0)
    assert heatmap_loss(sure, maps.heatmap) > 100 * heatmap_loss(unsure, maps.heatmap)
    boxes = torch.rand(1, 4, SIDE, SIDE, requires_grad=True)
    assert overlap_loss(boxes, maps) == 0
    assert class_loss(torch.rand(1, 3, SIDE, SIDE), maps) == 0


def test_what_has_no_name_teaches_none() -> None:
    box, logits = (0.1, 0.3, 0.35, 0.7), torch.rand(1, 3, SIDE, SIDE)
    assert class_loss(logits, maps_of(box, kinds=[2])) > 0
    assert class_loss(logits, maps_of(box, kinds=[UNNAMED])) == 0
    assert class_loss(logits[:, :0], maps_of(box)) == 0


def test_equal_names_are_one_class_whatever_the_data_set(store: ImageStore) -> None:
    found = ObjectBoxes.of_store(store)
    assert found.classes == ('fetal head', 'polyp', 'pubic symphysis', 'skin lesion')
    named = [[found.classes[k] for k in row if k != UNNAMED] for row in found.kinds]
    assert named == [
        ['polyp'],
        ['polyp'],
        ['skin lesion', 'skin lesion'],
        ['pubic symphysis', 'fetal head'],
    ]
    assert (found.numbers > 0).sum(1).tolist() == [1, 1, 2, 2]
    expected = torch.tensor(MIDDLE) / SQUARE
    torch.testing.assert_close(found.boxes[3, 1], expected)


def test_drawn_pictures_have_objects_without_a_name() -> None:
    found = ObjectBoxes.of_store(ImageStore([sample_of('drawn', 'a', LEFT)], SQUARE))
    assert found.classes == ()
    assert found.kinds.tolist() == [[UNNAMED]]
    assert found.numbers.tolist() == [[1]]


def test_specks_are_no_objects_and_one_of_two_with_the_same_centre_stands_for_both() -> (
    None
):
    speck = (100, 100, 103, 103)
    around = sample_of('camus', 'b', LEFT, (42, 22, 88, 58), numbers=[2, 1])
    found = ObjectBoxes.of_store(
        ImageStore([sample_of('isic', 'a', LEFT, speck), around], SQUARE)
    )
    assert (found.numbers > 0).sum(1).tolist() == [1, 1]
    torch.testing.assert_close(found.boxes[0, 0], torch.tensor(LEFT) / SQUARE)
    assert found.classes == ('left ventricle', 'skin lesion')


def test_a_part_beside_shows_nothing_of_the_target_and_enough_to_look_at() -> None:
    mask = np.zeros((200, 300), bool)
    mask[20:80, 10:60] = True
    assert strip_beside(mask) == (0, 60, 200, 300)
    mask[:, 30:280] = True
    assert strip_beside(mask) is None


def test_each_view_shows_its_boxes_where_its_objects_are(store: ImageStore) -> None:
    stage = stage_of(store)
    stage.on_train_start()
    seen = set()
    for step in range(20):
        for place in (0, 1):
            features, targets = stage.shown(
                TrainingBatch(step=step, places=[place]), step
            )
            bright = features[0, -1] > features[0, -1].amax() - 0.1
            if not bool(targets.heatmap.any()):
                assert float(features.amax()) <= 0  # padding; bright is above
                seen.add('beside')
                continue
            rows, columns = bright.nonzero().float().mean(0).tolist()
            row, column = np.unravel_index(
                int(targets.heatmap[0].argmax()), (SIDE, SIDE)
            )
            assert abs(rows / 2 - row) < 1.5
            assert abs(columns / 2 - column) < 1.5
            seen.add('left' if column < SIDE / 2 else 'right')
    assert seen == {'left', 'right', 'beside'}


def test_training_lowers_the_loss_and_writes_a_head_that_loads(
    store: ImageStore, tmp_path: Path
) -> None:
    stage = stage_of(store)
    losses: list[float] = []
    measure = stage.losses_of

    def noted(batch: TrainingBatch, step: int) -> dict[str, torch.Tensor]:
        found = measure(batch, step)
        losses.append(float(found['loss'].detach()))
        return found

    stage.losses_of = noted  # type: ignore[method-assign]
    head = load_head(train(stage, tmp_path), 'mine')
    assert len(losses) == 14
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    assert head.metadata.classes == stage.targets.classes
    (entry,) = head.metadata.model_dump()['history']
    assert (entry['stage'], entry['steps']) == ('proposals', 14)
    assert str(tmp_path) not in str(head.metadata)
    (log,) = tmp_path.glob('tiny/proposals/logs/csv-from-0/metrics.csv')
    assert 'val/found/kvasir_seg' in log.read_text()


def stop_at(stage: ProposalStage, last: int) -> None:
    measure = stage.losses_of

    def until(batch: TrainingBatch, step: int) -> dict[str, torch.Tensor]:
        if step == last:
            raise Stopped
        return measure(batch, step)

    stage.losses_of = until  # type: ignore[method-assign]


def test_a_stopped_run_goes_on_to_the_weights_of_an_uninterrupted_one(
    store: ImageStore, tmp_path: Path
) -> None:
    whole = load_file(train(stage_of(store), tmp_path, 'whole'))
    stage = stage_of(store)
    stop_at(stage, 9)
    with pytest.raises(Stopped):
        train(stage, tmp_path, 'stopped')
    again = load_file(train(stage_of(store), tmp_path, 'stopped'))
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]), name


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    store: ImageStore, tmp_path: Path
) -> None:
    stage = stage_of(store)
    stop_at(stage, 8)
    with pytest.raises(Stopped):
        train(stage, tmp_path)
    kept = (tmp_path / 'tiny/proposals/last.ckpt').read_bytes()
    broken = stage_of(store)
    measure = broken.losses_of

    def spoilt(batch: TrainingBatch, step: int) -> dict[str, torch.Tensor]:
        broken.model.score.bias.data[:] = float('nan')
        return measure(batch, step)

    broken.losses_of = spoilt  # type: ignore[method-assign]
    with pytest.raises(
        TrainingError, match='not finite at step 7 .*(isic|kvasir_seg)/'
    ):
        train(broken, tmp_path)
    assert (tmp_path / 'tiny/proposals/last.ckpt').read_bytes() == kept


def test_a_checkpoint_that_does_not_fit_says_what_to_do(
    store: ImageStore, tmp_path: Path
) -> None:
    train(stage_of(store, steps=7), tmp_path)
    with pytest.raises(TrainingError, match='another encoder; delete it'):
        train(stage_of(store, 'other'), tmp_path)
    fewer = ImageStore(store.samples[:2], SQUARE)
    with pytest.raises(TrainingError, match='other classes; delete it'):
        train(stage_of(fewer), tmp_path)
    (tmp_path / 'tiny/proposals/last.ckpt').write_bytes(b'broken')
    with pytest.raises(TrainingError, match='delete it'):
        train(stage_of(store), tmp_path)


def test_proposals_are_matched_so_that_every_structure_gets_its_own() -> None:
    masks = np.zeros((3, 150, SQUARE), bool)
    for mask, (row0, col0, row1, col1) in zip(
        masks, (LEFT, MIDDLE, RIGHT), strict=True
    ):
        mask[row0:row1, col0:col1] = True
    wide = (40.0, 20.0, 90.0, 110.0)  # overlaps the left one more
    found = [Proposal(MIDDLE, 0.9), Proposal(wide, 0.8)]
    matches = match_proposals(found, list(masks))
    assert [place for place, _ in matches] == [1, 0, None]
    assert matches[1][1] == pytest.approx(1)
    assert 0.4 < matches[0][1] < 0.5


def test_the_report_counts_what_was_found_named_and_not() -> None:
    rows = [
        ProposalRow('isic', 'a', 'skin lesion', 0.9, 0.8, 'skin lesion', 0.9, 0.6),
        ProposalRow('isic', 'b', 'skin lesion', 0.9, 0.2, 'polyp', 0.3, 0.1),
        ProposalRow('isic', 'c', 'skin lesion', 0.1, 0.9, 'polyp', 0.9, None),
        ProposalRow('isic', 'd', 'skin lesion', 0.8, 0.6, 'polyp', 0.8, None),
        ProposalRow('camus', 'e', 'myocardium', 0.0, 0.0, '', 0.0, None),
        ProposalRow('camus', 'e', 'left atrium', 0.9, 0.6, '', 0.5, None),
    ]
    lines = report_table(rows, 0.5).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells[0] == [
        'ISIC',
        'skin lesion',
        '4',
        '50 %',
        '25 %',
        '50 %',
        '0.500',
        '50 %',
        '50 % of 2',
    ]
    assert [line[1:6] for line in cells[1:]] == [
        ['myocardium', '1', '0 %', '100 %', '-'],
        ['left atrium', '1', '100 %', '0 %', '-'],
    ]


def test_the_ready_configuration_is_valid_and_unknown_keys_are_refused(
    tmp_path: Path,
) -> None:
    import yaml

    config = read_config(Path('proposals.yaml'))
    assert config.name == 'proposals'
    assert config.decoder is None and config.encoder is None
    content = yaml.safe_load((CONFIG_FOLDER / 'proposals.yaml').read_text())
    content['proposals']['speed'] = 9
    mine = tmp_path / 'mine.yaml'
    mine.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match='speed'):
        read_config(mine)


def test_the_encoder_is_that_of_the_last_stage_of_the_run(tmp_path: Path) -> None:
    config = read_config(Path('smoke.yaml')).model_copy(update={'out': tmp_path})
    with pytest.raises(ConfigError, match='train decoder'):
        encoder_path(config)
    decoder = tmp_path / 'smoke' / 'decoder.safetensors'
    decoder.parent.mkdir()
    decoder.touch()
    assert encoder_path(config) == decoder
    alone = read_config(Path('proposals.yaml'))
    assert encoder_path(alone).name == 'kdsam-resnet50-512.safetensors'


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    return {
        'name': 'tiny',
        'out': str(tmp_path / 'runs'),
        'data': {
            'sources': [{'folder': str(write_shards(tmp_path / 'data', 1, 1))}],
            'drop_leaks': False,
        },
        'proposals': {'steps': 2, 'batch_size': 4, 'mirrored': False},
        'loop': {'accelerator': 'cpu'},
    }


def test_the_command_trains_and_reports(shards: dict[str, Any], tmp_path: Path) -> None:
    import yaml

    from napari_kdsam.cli.train import app

    mine = tmp_path / 'tiny.yaml'
    mine.write_text(yaml.safe_dump(shards))
    done = CliRunner().invoke(app, ['proposals', '--config', str(mine)])
    assert done.exit_code == 0, done.output
    folder = tmp_path / 'runs' / 'tiny'
    head = folder / 'proposals.safetensors'
    report = folder / 'proposals' / 'report.md'
    assert f'Written: {head}' in done.output and f'Written: {report}' in done.output
    assert 'Kvasir-SEG | polyp' in report.read_text(encoding='utf-8')
    table = report.with_name('report.csv').read_text().splitlines()
    assert len(table) == 1 + 4
