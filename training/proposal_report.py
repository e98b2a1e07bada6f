"""How well proposed boxes find and outline the targets of validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from napari_kdsam.errors import ImageError
from napari_kdsam.inference.geometry import box_of_mask
from napari_kdsam.inference.predictor import Predictor
from napari_kdsam.inference.prompts import Prompt
from napari_kdsam.inference.proposals import Proposal, propose_boxes
from napari_kdsam.io.writers import atomic_path
from napari_kdsam.measure.scores import dice_and_iou
from napari_kdsam.model.proposal_head import ProposalHead
from napari_kdsam.training.data.samples import Mask, Pixels, Sample
from napari_kdsam.training.evaluation.tables import in_order, title_of
from napari_kdsam.training.proposal_data import object_boxes, part_beside

# Scores are reported down to this, so that other thresholds can be looked at later.
_LOWEST = 0.01
_FOUND = 0.5
_POOR_DICE = 0.5
REPORT = 'report.md'


@dataclass(frozen=True)
class ProposalRow:
    """What the best proposal made of one image.

    Attributes
    ----------
    data_set, stem : str
        Which image.
    score : float
        Of the best proposal, whatever the threshold; 0 for none.
    overlap : float
        Largest IoU of its box with a box of the truth.
    dice : float
        Of the mask that the box gives with the whole truth; 0 without a box.
    beside_score : float or None
        Best score in the part of the image without target; None without such a part.
    """

    data_set: str
    stem: str
    score: float
    overlap: float
    dice: float
    beside_score: float | None


def box_overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU of two boxes (row0, col0, row1, col1)."""
    height = min(first[2], second[2]) - max(first[0], second[0])
    width = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, height) * max(0.0, width)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return shared / (sum(areas) - shared)


def report(
    predictor: Predictor, head: ProposalHead, samples: Sequence[Sample]
) -> list[ProposalRow]:
    """Propose a box in each image, predict its mask, and compare with the truth.

    Parameters
    ----------
    predictor : Predictor
        With the head's encoder.
    head : ProposalHead
        In evaluation mode.
    samples : sequence of Sample
        Not learnt from; unreadable ones are left out.

    Returns
    -------
    list of ProposalRow
    """
    rows = []
    for sample in tqdm(samples, unit='image', desc='Reporting', mininterval=5):
        try:
            image, mask = sample.load()
        except ImageError as error:
            tqdm.write(f'Skipped: {error}')
            continue
        rows.append(_row(predictor, head, sample, image, mask))
    return rows


def _best(predictor: Predictor, head: ProposalHead, image: Pixels) -> Proposal | None:
    found = propose_boxes(head, predictor.embed(image), _LOWEST, max_proposals=1)
    return found[0] if found else None


def _row(
    predictor: Predictor, head: ProposalHead, sample: Sample, image: Pixels, mask: Mask
) -> ProposalRow:
    best = _best(predictor, head, image)
    overlap = dice = 0.0
    if best is not None:
        whole = box_of_mask(mask)
        truths = [*object_boxes(mask), *([whole] if whole else [])]
        overlap = max(box_overlap(best.box, truth) for truth in truths)
        embedding = predictor.embed(image)
        prediction = predictor.predict(embedding, Prompt(box=best.box))
        dice, _ = dice_and_iou(prediction.mask, mask)
    strip = part_beside(image, mask)
    beside_score = None
    if strip is not None:
        other = _best(predictor, head, strip)
        beside_score = other.score if other else 0.0
    score = best.score if best else 0.0
    return ProposalRow(sample.data_set, sample.stem, score, overlap, dice, beside_score)


def report_table(rows: Sequence[ProposalRow], threshold: float) -> str:
    """Summarise rows as a Markdown table with a line for each data set.

    Parameters
    ----------
    rows : sequence of ProposalRow
        From `report`.
    threshold : float
        Proposals below it count as none.

    Returns
    -------
    str
    """
    heading = (
        'data set',
        'images',
        'found (box IoU 0.5 or more)',
        'no proposal',
        'mean Dice',
        'Dice below 0.5',
        'proposal where there is no target',
    )
    lines = [f'| {" | ".join(heading)} |', '|---' * len(heading) + '|']
    for name in in_order(row.data_set for row in rows):
        own = [row for row in rows if row.data_set == name]
        shown = [row.score >= threshold for row in own]
        pairs = list(zip(own, shown, strict=True))
        dices = [row.dice * proposed for row, proposed in pairs]
        beside = [
            row.beside_score >= threshold for row in own if row.beside_score is not None
        ]
        cells = [
            title_of(name),
            str(len(own)),
            _share([proposed and row.overlap >= _FOUND for row, proposed in pairs]),
            _share([not proposed for proposed in shown]),
            f'{sum(dices) / len(dices):.3f}',
            _share([dice < _POOR_DICE for dice in dices]),
            f'{_share(beside)} of {len(beside)}' if beside else '-',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _share(values: Sequence[bool]) -> str:
    return f'{100 * sum(values) / len(values):.0f} %'


def write_report(rows: Sequence[ProposalRow], threshold: float, folder: Path) -> Path:
    """Write ``report.csv``, a row for each image, and the table ``report.md``.

    Returns
    -------
    pathlib.Path
        The table.
    """
    import pandas as pd

    with atomic_path(folder / 'report.csv') as part:
        pd.DataFrame([asdict(row) for row in rows]).to_csv(part, index=False)
    with atomic_path(folder / REPORT) as part:
        part.write_text(report_table(rows, threshold), encoding='utf-8')
    return folder / REPORT
