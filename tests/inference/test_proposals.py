"""Proposals: the head's file, the geometry of its boxes, its use."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from napari_kdsam import Predictor, Prompt, load_model
from napari_kdsam.core.errors import CheckpointError, PromptError
from napari_kdsam.core.geometry import box_of_mask
from napari_kdsam.inference.proposals import (
    Proposal,
    load_proposal_head,
    proposals_of_maps,
    propose_boxes,
)
from napari_kdsam.model.proposal_head import (
    HEATMAP_SIZE,
    ProposalHead,
    ProposalMetadata,
    encoder_digest,
    load_head,
    save_head,
)
from napari_kdsam.model.registry import BUNDLED_HEAD, find_model, list_models
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
        ({'encoder': 'mine', 'architecture': 'other' * 999}, "'other"),
        ({'encoder': 'mine', 'threshold': 7}, 'threshold'),
        ({'threshold': 0.3}, 'encoder'),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    saved_head: Path, header: dict[str, Any], words: str
) -> None:
    stored = {'kdsam_proposals': json.dumps(header)} if header else None
    save_file(load_file(saved_head), saved_head, stored)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_head(saved_head, 'mine')
    assert len(str(caught.value)) < 500


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


def test_a_proposal_is_called_what_its_cell_is_surest_of() -> None:
    targets = [(10.0, 10.0, 90.0, 80.0), (10.0, 110.0, 90.0, 190.0)]
    scores, boxes = maps_of(targets, (100, 200))
    classes = torch.zeros(2, SIDE, SIDE)
    classes[1, :, SIDE // 2 :] = 3.0
    names = ('polyp', 'foot ulcer')
    found = proposals_of_maps(scores, boxes, (100, 200), 0.5, 5, classes + 1, names)
    assert [proposal.name for proposal in found] == ['polyp', 'foot ulcer']
    unnamed = proposals_of_maps(scores, boxes, (100, 200), 0.5, 5)
    assert [proposal.name for proposal in unnamed] == ['', '']
    assert [p.box for p in unnamed] == [p.box for p in found]


def test_a_head_with_classes_comes_back_with_them(tmp_path: Path) -> None:
    said = ProposalMetadata(encoder='mine', classes=('polyp', 'skin lesion'))
    head = ProposalHead(said).eval()
    path = save_head(head, tmp_path / 'head.safetensors', {'encoder': 'mine'})
    again = load_head(path, 'mine')
    assert again.metadata.classes == ('polyp', 'skin lesion')
    maps = again(torch.randn(1, 256, 64, 64))
    assert maps.classes.shape == (1, 2, SIDE, SIDE)
    assert bool(maps.classes.std() > 0)


def test_a_head_of_the_first_format_still_loads_and_names_nothing(
    saved_head: Path,
) -> None:
    header = {
        'format': 1,
        'architecture': 'dilated-centre-heatmap-32',
        'encoder': 'mine',
        'threshold': 0.25,
    }
    stored = {'kdsam_proposals': json.dumps(header)}
    save_file(load_file(saved_head), saved_head, stored)
    head = load_head(saved_head, 'mine')
    assert head.metadata.classes == ()
    assert head(torch.randn(1, 256, 64, 64)).classes.shape[1] == 0


def test_a_batch_keeps_the_names_of_what_was_proposed(
    fake_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_kdsam.batch.manifest import write_manifest
    from napari_kdsam.batch.records import FrameResult, Record, Status
    from napari_kdsam.segmentation import methods

    found = [
        Proposal((5, 5, 30, 30), 0.9, 'polyp'),
        Proposal((40, 40, 70, 90), 0.8),
    ]
    proposals = 'napari_kdsam.inference.proposals'
    monkeypatch.setattr(f'{proposals}.bundled_head', lambda predictor: None)
    monkeypatch.setattr(f'{proposals}.propose_boxes', lambda *_: found)
    image = np.zeros((100, 120), np.uint8)
    labelled = methods.Proposed().label(Predictor(fake_model), 0, image)
    assert [item.name for item in labelled.objects] == ['polyp', '']
    record = Record(fingerprint='f' * 32, objects=labelled.objects)
    assert Record.from_json(record.to_json()) == record
    result = FrameResult('a.png', 0, Status.done, '', labelled.objects)
    write_manifest(tmp_path / 'manifest.csv', [result], {'a.png': 'a_labels.png'})
    with (tmp_path / 'manifest.csv').open(newline='') as manifest:
        (row,) = csv.DictReader(manifest)
    assert (row['names'], row['objects']) == ('polyp', '2')


@pytest.fixture(scope='module')
def predictor() -> Predictor:
    return Predictor(load_model('kdsam', 'cpu'))


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
