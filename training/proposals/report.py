"""How well proposed boxes find and outline the targets of validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.geometry import Mask, box_of_mask
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.inference.predictor import Predictor
from napari_kdsam.inference.proposals import Proposal, propose_boxes
from napari_kdsam.measure.csv_table import write_csv
from napari_kdsam.measure.scores import dice_and_iou
from napari_kdsam.model.proposal_head import ProposalHead
from napari_kdsam.training.data.catalogue import object_name
from napari_kdsam.training.data.samples import ObjectMap, Pixels, Sample
from napari_kdsam.training.evaluation.tables import in_order, title_of
from napari_kdsam.training.proposals.beside import strip_beside
from napari_kdsam.training.proposals.targets import FOUND, box_overlap, object_boxes

# Scores are reported down to this, so that other thresholds can be looked at later.
_LOWEST = 0.01
_POOR_DICE = 0.5
REPORT = 'report.md'


@dataclass(frozen=True)
class ProposalRow:
    """What the proposals made of one structure of an image.

    Attributes
    ----------
    data_set, stem : str
        Which image.
    structure : str
        Name of what is there.
    score : float
        Of its proposal, whatever the threshold; 0 for none.
    overlap : float
        Largest IoU of the proposed box with a box of the truth.
    name : str
        What the proposal calls it; empty without a name.
    dice : float
        Of the mask that the box gives with the whole structure; 0 without a box.
    beside_score : float or None
        Best score in the part of the image without target; None without such a part.
    """

    data_set: str
    stem: str
    structure: str
    score: float
    overlap: float
    name: str
    dice: float
    beside_score: float | None


def report(
    predictor: Predictor, head: ProposalHead, samples: Sequence[Sample]
) -> list[ProposalRow]:
    """Propose boxes in each image, predict their masks, and compare with the truth.

    Of an image with n structures the n best proposals count, each for the structure
    that makes all of them overlap most.

    Parameters
    ----------
    predictor : Predictor
        With the head's encoder.
    head : ProposalHead
        In evaluation mode.
    samples : sequence of Sample
        Not learnt from; unreadable ones are left out.
    """
    rows = []
    for sample in tqdm(samples, unit='image', desc='Reporting', mininterval=5):
        try:
            image, objects = sample.load_objects()
        except ImageError as error:
            tqdm.write(f'Skipped: {error}')
            continue
        rows += _rows(predictor, head, sample, image, objects)
    return rows


def _rows(
    predictor: Predictor,
    head: ProposalHead,
    sample: Sample,
    image: Pixels,
    objects: ObjectMap,
) -> list[ProposalRow]:
    masks = {int(n): objects == n for n in np.unique(objects) if n}
    embedding = predictor.embed(image)
    found = propose_boxes(head, embedding, _LOWEST, max_proposals=len(masks))
    prompts = [Prompt(box=proposal.box) for proposal in found]
    predicted = [mask for mask, _ in predictor.predict_masks(embedding, prompts)]
    matches = match_proposals(found, list(masks.values()))
    beside = _beside_score(predictor, head, image, objects > 0)
    rows = []
    for (number, mask), (place, overlap) in zip(masks.items(), matches, strict=True):
        proposal = Proposal((0, 0, 0, 0), 0.0) if place is None else found[place]
        dice = 0.0 if place is None else dice_and_iou(predicted[place], mask)[0]
        rows.append(
            ProposalRow(
                sample.data_set,
                sample.stem,
                object_name(sample.data_set, number),
                proposal.score,
                overlap,
                proposal.name,
                dice,
                beside,
            )
        )
    return rows


def _beside_score(
    predictor: Predictor, head: ProposalHead, image: Pixels, mask: Mask
) -> float | None:
    strip = strip_beside(mask)
    if strip is None:
        return None
    row0, col0, row1, col1 = strip
    embedding = predictor.embed(np.ascontiguousarray(image[row0:row1, col0:col1]))
    found = propose_boxes(head, embedding, _LOWEST, max_proposals=1)
    return found[0].score if found else 0.0


def match_proposals(
    proposals: Sequence[Proposal], masks: Sequence[Mask]
) -> list[tuple[int | None, float]]:
    """Give each structure at most one proposal, so that all overlap most.

    Parameters
    ----------
    proposals : sequence of Proposal
        No more than there are masks.
    masks : sequence of numpy.ndarray
        (H, W) bool, none empty.

    Returns
    -------
    list of tuple
        Place of each mask's proposal, None for none, and the IoU of its box with
        the box of the mask, or of a part of it where that is larger.
    """
    from scipy.optimize import linear_sum_assignment

    overlaps = np.zeros((len(masks), len(proposals)))
    for row, mask in enumerate(masks):
        whole = box_of_mask(mask)
        truths = [*object_boxes(mask), *([whole] if whole else [])]
        for column, proposal in enumerate(proposals):
            overlaps[row, column] = max(box_overlap(proposal.box, t) for t in truths)
    matches: list[tuple[int | None, float]] = [(None, 0.0)] * len(masks)
    for row, column in zip(*linear_sum_assignment(-overlaps), strict=True):
        matches[row] = (int(column), float(overlaps[row, column]))
    return matches


def report_table(rows: Sequence[ProposalRow], threshold: float) -> str:
    """Summarise rows as a Markdown table with a line for each structure of a data set.

    Parameters
    ----------
    rows : sequence of ProposalRow
        From `report`.
    threshold : float
        Proposals below it count as none.
    """
    heading = (
        'data set',
        'structure',
        'images',
        'found (box IoU 0.5 or more)',
        'no proposal',
        'name right where found',
        'mean Dice',
        'Dice below 0.5',
        'proposal where there is no target',
    )
    lines = [f'| {" | ".join(heading)} |', '|---' * len(heading) + '|']
    for data_set in in_order(row.data_set for row in rows):
        of_set = [row for row in rows if row.data_set == data_set]
        for structure in in_order(row.structure for row in of_set):
            own = [row for row in of_set if row.structure == structure]
            cells = [title_of(data_set), structure, *_numbers(own, threshold)]
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _numbers(rows: Sequence[ProposalRow], threshold: float) -> list[str]:
    shown = [row.score >= threshold for row in rows]
    pairs = list(zip(rows, shown, strict=True))
    found = [row for row, proposed in pairs if proposed and row.overlap >= FOUND]
    named = [row.name == row.structure for row in found if row.name]
    dices = [row.dice * proposed for row, proposed in pairs]
    beside = [
        row.beside_score >= threshold for row in rows if row.beside_score is not None
    ]
    return [
        str(len(rows)),
        f'{100 * len(found) / len(rows):.0f} %',
        _share([not proposed for proposed in shown]),
        _share(named) if named else '-',
        f'{sum(dices) / len(dices):.3f}',
        _share([dice < _POOR_DICE for dice in dices]),
        f'{_share(beside)} of {len(beside)}' if beside else '-',
    ]


def _share(values: Sequence[bool]) -> str:
    return f'{100 * sum(values) / len(values):.0f} %'


def write_proposal_report(
    rows: Sequence[ProposalRow], threshold: float, folder: Path
) -> Path:
    """Write ``report.csv``, a row for each structure of each image, and the table ``report.md``.

    Returns
    -------
    pathlib.Path
        The table.
    """
    import pandas as pd

    write_csv(folder / 'report.csv', pd.DataFrame([asdict(row) for row in rows]))
    with atomic_path(folder / REPORT) as part:
        part.write_text(report_table(rows, threshold), encoding='utf-8')
    return folder / REPORT
