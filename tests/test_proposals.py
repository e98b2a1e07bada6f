"""Proposals: the head's file, the geometry of its boxes, its training, its use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from napari_kdsam import Predictor, Prompt, load_model
from napari_kdsam.errors import CheckpointError, PromptError
from napari_kdsam.inference.geometry import box_of_mask
from napari_kdsam.inference.proposals import (
    load_proposal_head,
    proposals_of_maps,
    propose_boxes,
)
from napari_kdsam.model.proposal_head import (
    BUNDLED_HEAD,
    HEATMAP_SIZE,
    ProposalHead,
    encoder_digest,
    load_head,
    save_head,
)
from napari_kdsam.model.registry import find_model, list_models
from napari_kdsam.phantoms import (
    dermoscopy_phantom,
    endoscopy_phantom,
    ultrasound_phantom,
)

SIDE = HEATMAP_SIZE
KDSAM = find_model('kdsam').path
sizes = st.integers(40, 900)


def shaken_head(seed: int = 0) -> ProposalHead:
    torch.manual_seed(seed)
    head = ProposalHead()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return head.eval()


@pytest.fixture
def saved_head(tmp_path: Path) -> Path:
    return save_head(shaken_head(), tmp_path / 'head.safetensors', {'encoder': 'mine'})


def maps_of(
    boxes: list[tuple[float, float, float, float]], shape: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a perfect head shows for half-open image boxes: a peak and a box each."""
    scores, proposed = torch.zeros(SIDE, SIDE), torch.zeros(4, SIDE, SIDE)
    for number, box in enumerate(boxes):
        share = torch.tensor(box) / max(shape)
        row, column = ((share[:2] + share[2:]) / 2 * SIDE).int().tolist()
        scores[row, column] = 0.9 - 0.1 * number
        proposed[:, row, column] = share
    return scores, proposed


def overlap(first: Any, second: Any) -> float:
    (a0, b0, a1, b1), (c0, d0, c1, d1) = first, second
    shared = max(0, min(a1, c1) - max(a0, c0)) * max(0, min(b1, d1) - max(b0, d0))
    return shared / ((a1 - a0) * (b1 - b0) + (c1 - c0) * (d1 - d0) - shared)


def test_a_head_comes_back_from_its_file_as_it_was(saved_head: Path) -> None:
    head, again = shaken_head(), load_head(saved_head, 'mine')
    embedding = torch.randn(1, 256, 64, 64)
    for one, other in zip(head(embedding), again(embedding), strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)
    assert again.metadata.encoder == 'mine'
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_what_the_header_says_is_kept(tmp_path: Path) -> None:
    said = {'encoder': 'mine', 'threshold': 0.4, 'views': {'isic/plain': 3}}
    path = save_head(shaken_head(), tmp_path / 'head.safetensors', said)
    kept = load_head(path, 'mine').metadata.model_dump()
    assert said.items() <= kept.items()


def test_a_head_refuses_the_embeddings_of_another_encoder(saved_head: Path) -> None:
    with pytest.raises(CheckpointError, match='another model'):
        load_head(saved_head, 'yours')


def test_the_digest_follows_the_encoder_and_not_the_decoder(tmp_path: Path) -> None:
    parts = {'encoder.a': torch.ones(2, 3), 'mask_decoder.b': torch.zeros(4)}
    digests = []
    for name, change in (('same', {}), ('mask_decoder.b', 1), ('encoder.a', 2)):
        changed = {
            k: t + change * (k == name) if change else t for k, t in parts.items()
        }
        path = tmp_path / f'{name}.safetensors'
        save_file(changed, path)
        digests.append(encoder_digest(path))
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 32


def test_a_file_without_an_encoder_has_no_digest(tmp_path: Path) -> None:
    save_file({'mask_decoder.b': torch.zeros(4)}, tmp_path / 'other.safetensors')
    (tmp_path / 'sam.pth').write_bytes(b'')
    assert encoder_digest(tmp_path / 'other.safetensors') == ''
    assert encoder_digest(tmp_path / 'sam.pth') == ''


@pytest.mark.parametrize(
    ('header', 'words'),
    [
        ({}, 'not a proposal head'),
        ({'encoder': 'mine', 'format': 99}, 'update napari-kdsam'),
        ({'encoder': 'mine', 'architecture': 'other'}, "'other'"),
        ({'encoder': 'mine', 'threshold': 7}, 'threshold'),
        ({'threshold': 0.3}, 'encoder'),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    saved_head: Path, header: dict[str, Any], words: str
) -> None:
    stored = {'kdsam_proposals': json.dumps(header)} if header else None
    save_file(load_file(saved_head), saved_head, stored)
    with pytest.raises(CheckpointError, match=words):
        load_head(saved_head, 'mine')


def test_a_file_that_is_missing_or_broken_is_an_error_of_the_package(
    tmp_path: Path,
) -> None:
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'not weights')
    for path in (broken, tmp_path / 'missing.safetensors'):
        with pytest.raises(CheckpointError, match=path.stem):
            load_head(path, 'mine')


def test_values_that_the_file_cannot_hold_leave_nothing_behind(tmp_path: Path) -> None:
    head = shaken_head()
    head.reduce.weight.data[0, 0] = 1e6
    with pytest.raises(CheckpointError, match='float16'):
        save_head(head, tmp_path / 'head.safetensors', {'encoder': 'mine'})
    assert not list(tmp_path.iterdir())


@given(rows=sizes, columns=sizes, data=st.data())
def test_a_peak_gives_the_box_at_its_place_whatever_the_images_shape(
    rows: int, columns: int, data: st.DataObject
) -> None:
    row0 = data.draw(st.integers(0, rows - 20))
    col0 = data.draw(st.integers(0, columns - 20))
    row1 = data.draw(st.integers(row0 + 20, rows))
    col1 = data.draw(st.integers(col0 + 20, columns))
    scores, boxes = maps_of([(row0, col0, row1, col1)], (rows, columns))
    (found,) = proposals_of_maps(scores, boxes, (rows, columns), 0.5, 5)
    # The short side is scaled to whole pixels of the frame, so half of one may be lost.
    tolerance = 0.001 * max(rows, columns)
    np.testing.assert_allclose(found.box, (row0, col0, row1, col1), atol=tolerance)
    assert found.score == pytest.approx(0.9)


@given(rows=sizes, columns=sizes, data=st.data())
def test_proposals_never_leave_the_image_and_come_best_first(
    rows: int, columns: int, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    scores = torch.rand(SIDE, SIDE, generator=generator)
    corners = torch.rand(4, SIDE, SIDE, generator=generator) * 1.4 - 0.2
    corners = torch.cat(
        [
            torch.minimum(corners[:2], corners[2:]),
            torch.maximum(corners[:2], corners[2:]),
        ]
    )
    found = proposals_of_maps(scores, corners, (rows, columns), 0.5, 7)
    assert len(found) <= 7
    values = [proposal.score for proposal in found]
    assert values == sorted(values, reverse=True)
    assert min(values, default=1) >= 0.5
    for proposal in found:
        row0, col0, row1, col1 = proposal.box
        assert 0 <= row0 < row1 <= rows
        assert 0 <= col0 < col1 <= columns


def test_two_targets_are_proposed_once_each() -> None:
    boxes = [(10.0, 10.0, 90.0, 80.0), (10.0, 110.0, 90.0, 190.0)]
    scores, maps = maps_of(boxes, (100, 200))
    # A neighbour of the first peak proposes the same box again.
    row, column = divmod(int(scores.argmax()), SIDE)
    scores[row + 2, column] = 0.7
    maps[:, row + 2, column] = maps[:, row, column]
    found = proposals_of_maps(scores, maps, (100, 200), 0.5, 5)
    np.testing.assert_allclose([p.box for p in found], boxes, atol=0.2)


def test_a_peak_on_the_padding_is_no_proposal() -> None:
    scores, boxes = maps_of([(80.0, 20.0, 160.0, 90.0)], (200, 200))
    assert len(proposals_of_maps(scores, boxes, (200, 200), 0.5, 5)) == 1
    assert proposals_of_maps(scores, boxes, (100, 200), 0.5, 5) == []


def test_nothing_above_the_threshold_is_nothing_found() -> None:
    scores, boxes = maps_of([(10.0, 10.0, 60.0, 60.0)], (100, 100))
    assert proposals_of_maps(scores, boxes, (100, 100), 0.95, 5) == []


def test_the_heads_own_maps_agree_with_the_targets_it_learns() -> None:
    from napari_kdsam.training.proposal_losses import centre_targets

    box = [0.1, 0.3, 0.35, 0.7]
    heatmap, targets = centre_targets([[box]], SIDE)
    (row, column) = np.unravel_index(int(heatmap[0].argmax()), (SIDE, SIDE))
    assert row == int((0.1 + 0.35) / 2 * SIDE)
    assert column == int((0.3 + 0.7) / 2 * SIDE)
    torch.testing.assert_close(targets[0, :, row, column], torch.tensor(box))
    (found,) = proposals_of_maps(heatmap[0], targets[0], (1000, 1000), 1.0, 5)
    np.testing.assert_allclose(found.box, np.array(box) * 1000, atol=0.01)


def test_images_without_targets_teach_that_there_are_none() -> None:
    from napari_kdsam.training.proposal_losses import (
        centre_targets,
        heatmap_loss,
        overlap_loss,
    )

    heatmap, targets = centre_targets([[]], SIDE)
    sure, unsure = torch.full((1, SIDE, SIDE), 4.0), torch.full((1, SIDE, SIDE), -4.0)
    assert heatmap_loss(sure, heatmap) > 100 * heatmap_loss(unsure, heatmap)
    assert overlap_loss(torch.rand(1, 4, SIDE, SIDE), targets, heatmap) == 0


def test_views_mirror_boxes_with_the_image_and_show_parts_without_target() -> None:
    from napari_kdsam.training.data.samples import Sample
    from napari_kdsam.training.proposal_data import views_of

    image = np.zeros((200, 300, 3), np.uint8)
    mask = np.zeros((200, 300), bool)
    mask[20:80, 10:60] = True
    mask[100:103, 100:103] = True  # a speck, no object of its own
    image[mask] = 255
    sample = Sample('isic', 'train', 'one', read=lambda: (image, mask))
    plain, mirrored, beside = views_of(sample, beside=True)
    assert plain.boxes == [(20, 10, 80, 60)]
    assert mirrored.boxes == [(20, 240, 80, 290)]
    for view in (plain, mirrored):
        ((row0, col0, row1, col1),) = view.boxes
        assert view.image[row0:row1, col0:col1].all()
    assert beside.boxes == []
    assert not beside.image.any()
    assert len(views_of(sample, beside=False)) == 2


@pytest.fixture(scope='module')
def predictor() -> Predictor:
    return Predictor(load_model('kdsam', 'cpu'))


@pytest.fixture(scope='module')
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    from training_data import write_shards

    folder = tmp_path_factory.mktemp('proposals')
    yield {
        'name': 'tiny',
        'out': str(folder / 'runs'),
        'data': {
            'sources': [{'folder': str(write_shards(folder / 'data', 1, 1))}],
            'drop_leaks': False,
        },
        'steps': 14,
        'batch_size': 4,
        'warmup_steps': 2,
        'rate': 3e-3,
        'ema_decay': 0.5,
        'checkpoint_every': 7,
    }


@pytest.fixture(scope='module')
def store(settings: dict[str, Any], predictor: Predictor) -> Any:
    from napari_kdsam.training.proposal_data import EmbeddingStore
    from napari_kdsam.training.proposals import ProposalsConfig, proposal_samples

    config = ProposalsConfig.model_validate(settings)
    samples, _ = proposal_samples(config.data)
    made = EmbeddingStore(config.folder / 'embeddings', encoder_digest(KDSAM))
    made.fill(predictor, samples, 1.0)
    return made


def training_of(settings: dict[str, Any], store: Any, **changes: Any) -> Any:
    from napari_kdsam.training.proposals import ProposalsConfig, ProposalTraining

    return ProposalTraining(
        ProposalsConfig.model_validate({**settings, **changes}), store
    )


def test_embeddings_are_made_once_and_only_for_one_encoder(
    settings: dict[str, Any], store: Any, predictor: Predictor
) -> None:
    from napari_kdsam.training.proposal_data import EmbeddingStore, EmbeddingStoreError
    from napari_kdsam.training.proposals import ProposalsConfig, proposal_samples

    samples, _ = proposal_samples(ProposalsConfig.model_validate(settings).data)
    assert {entry['view'] for entry in store} >= {'plain', 'mirrored'}
    again = EmbeddingStore(store.folder, store.encoder)
    unused: Any = None
    again.fill(unused, samples, 1.0)
    assert again.entries == store.entries
    np.testing.assert_array_equal(again.array, store.array)
    expected = predictor.embed(samples[0].load()[0]).features[0].numpy()
    np.testing.assert_allclose(again.batch([0])[0][0], expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(EmbeddingStoreError, match='another encoder'):
        EmbeddingStore(store.folder, 'other').fill(predictor, samples, 0.0)


def test_training_lowers_the_loss_and_writes_a_head_that_loads(
    settings: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    training = training_of(settings, store, out=tmp_path)
    losses = training.run()
    assert len(losses) == 14
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    head = load_head(tmp_path / 'tiny' / 'proposals.safetensors', store.encoder)
    assert head.metadata.model_dump()['steps'] == 14
    assert str(tmp_path) not in str(head.metadata)


def test_a_stopped_run_goes_on_to_the_weights_of_an_uninterrupted_one(
    settings: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    results = []
    for name in ('whole', 'stopped'):
        training = training_of(settings, store, out=tmp_path, name=name)
        if name == 'stopped':
            learn = training.learn

            def until_the_ninth(rows: list[int]) -> Any:
                if training.step == 9:  # noqa: B023
                    raise KeyboardInterrupt
                return learn(rows)  # noqa: B023

            training.learn = until_the_ninth
            with pytest.raises(KeyboardInterrupt):
                training.run()
            training = training_of(settings, store, out=tmp_path, name=name)
        training.run()
        results.append(load_file(tmp_path / name / 'proposals.safetensors'))
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name])


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    settings: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    from napari_kdsam.training.stage import TrainingError

    training = training_of(settings, store, out=tmp_path)
    training.learn([0, 1])
    training.keep()
    before = (tmp_path / 'tiny' / 'last.ckpt').read_bytes()
    training.head.score.bias.data[:] = float('nan')
    with pytest.raises(TrainingError, match='not finite at step 1'):
        training.learn([0, 1])
    assert (tmp_path / 'tiny' / 'last.ckpt').read_bytes() == before


def test_a_checkpoint_that_does_not_fit_says_what_to_do(
    settings: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    from napari_kdsam.training.stage import TrainingError

    training = training_of(settings, store, out=tmp_path)
    training.keep()
    path = tmp_path / 'tiny' / 'last.ckpt'
    state = torch.load(path, weights_only=True)
    torch.save({**state, 'encoder': 'other'}, path)
    with pytest.raises(TrainingError, match='another encoder; delete it'):
        training_of(settings, store, out=tmp_path).run()
    path.write_bytes(b'broken')
    with pytest.raises(TrainingError, match='delete it'):
        training_of(settings, store, out=tmp_path).run()


def test_the_report_counts_what_was_found_and_what_was_not() -> None:
    from napari_kdsam.training.proposal_report import ProposalRow, report_table

    rows = [
        ProposalRow('isic', 'a', 0.9, 0.8, 0.9, 0.6),
        ProposalRow('isic', 'b', 0.9, 0.2, 0.3, 0.1),
        ProposalRow('isic', 'c', 0.1, 0.9, 0.9, None),
        ProposalRow('isic', 'd', 0.8, 0.6, 0.8, None),
    ]
    (line,) = report_table(rows, 0.5).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    assert cells == ['ISIC', '4', '50 %', '25 %', '0.500', '50 %', '50 % of 2']


def test_the_ready_configuration_is_valid_and_unknown_keys_are_refused(
    tmp_path: Path,
) -> None:
    import yaml

    from napari_kdsam.training.config import CONFIG_FOLDER, ConfigError, read_config_as
    from napari_kdsam.training.proposals import ProposalsConfig

    config = read_config_as(ProposalsConfig, Path('proposals.yaml'))
    assert config.name == 'proposals'
    content = yaml.safe_load((CONFIG_FOLDER / 'proposals.yaml').read_text())
    mine = tmp_path / 'mine.yaml'
    mine.write_text(yaml.safe_dump({**content, 'speed': 9}))
    with pytest.raises(ConfigError, match='speed'):
        read_config_as(ProposalsConfig, mine)


def test_the_command_trains_and_reports(
    settings: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    import yaml

    from napari_kdsam.training.command import app

    mine = tmp_path / 'tiny.yaml'
    mine.write_text(yaml.safe_dump({**settings, 'steps': 2, 'beside_share': 1.0}))
    done = CliRunner().invoke(app, ['proposals', '--config', str(mine)])
    assert done.exit_code == 0, done.output
    folder = Path(settings['out']) / 'tiny'
    assert (folder / 'proposals.safetensors').is_file()
    assert 'Kvasir-SEG' in (folder / 'report.md').read_text(encoding='utf-8')
    assert len((folder / 'report.csv').read_text().splitlines()) == 1 + 4
    wrong = CliRunner().invoke(app, ['proposals', '--config', 'smoke.yaml'])
    assert wrong.exit_code == 2


def test_no_model_of_the_registry_is_the_proposal_head() -> None:
    assert BUNDLED_HEAD.name not in {entry.filename for entry in list_models()}
    with pytest.raises(CheckpointError, match='not a KD SAM checkpoint'):
        load_model(BUNDLED_HEAD, 'cpu')


def test_the_bundled_head_belongs_to_the_bundled_weights(predictor: Predictor) -> None:
    head = load_proposal_head(predictor)
    assert head.metadata.encoder == encoder_digest(KDSAM)
    assert sum(parameter.numel() for parameter in head.parameters()) < 1_000_000
    assert BUNDLED_HEAD.stat().st_size < 2_000_000


def test_models_that_are_no_kd_sam_file_get_no_proposals(fake_model: Any) -> None:
    with pytest.raises(CheckpointError, match='choose the model kdsam'):
        load_proposal_head(Predictor(fake_model))


@pytest.mark.parametrize(
    'draw', [dermoscopy_phantom, endoscopy_phantom, ultrasound_phantom]
)
def test_the_bundled_head_proposes_a_phantoms_target(
    predictor: Predictor, draw: Any
) -> None:
    phantom = draw(seed=3)
    embedding = predictor.embed(phantom.image)
    found = propose_boxes(load_proposal_head(predictor), embedding)
    assert overlap(found[0].box, box_of_mask(phantom.mask)) > 0.5
    mask = predictor.predict(embedding, Prompt(box=found[0].box)).mask
    both = np.count_nonzero(mask & phantom.mask)
    assert 2 * both / (mask.sum() + phantom.mask.sum()) > 0.7


def test_the_bundled_head_finds_nothing_where_nothing_is(predictor: Predictor) -> None:
    embedding = predictor.embed(np.full((300, 400), 90, np.uint8))
    head = load_proposal_head(predictor)
    assert propose_boxes(head, embedding) == []
    with pytest.raises(PromptError, match='threshold'):
        propose_boxes(head, embedding, threshold=1.5)
