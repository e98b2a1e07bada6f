"""Stage 2: fine-tune the mask decoder on true masks with simulated prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceLoss
from torch.nn import functional

from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.config import DecoderStageConfig
from napari_kdsam.training.data.order import TrainingBatch
from napari_kdsam.training.data.store import ImageStore, Squares
from napari_kdsam.training.finetuning.anchor import Anchor
from napari_kdsam.training.finetuning.batch_decoder import BatchPrompts, decode_batch
from napari_kdsam.training.finetuning.losses import band_of, outline_loss, ranking_loss
from napari_kdsam.training.finetuning.mask_targets import MaskTargets, mask_targets
from napari_kdsam.training.finetuning.overlays import MOST_TILES, draw_answer
from napari_kdsam.training.finetuning.simulated_prompts import (
    central_clicks,
    inner_clicks,
    number_of_clicks,
    simulated_boxes,
    simulated_corrections,
    simulated_first_clicks,
)
from napari_kdsam.training.parameter_groups import learning_groups
from napari_kdsam.training.randomness import name_key
from napari_kdsam.training.squares import normalise
from napari_kdsam.training.stage import PromptableStage

# A logit this low is as good as no object, and its gradient is zero.
_OUTSIDE = -20.0
_BEST_SHARE = 0.75


class DecoderStage(PromptableStage):
    """Dice fine-tuning of the mask decoder (arXiv 2501.16740, stage 2).

    Each image is embedded once and prompted three ways: with a jittered box, with
    one click, and with corrective clicks on the errors of an earlier answer, which
    is fed back as a mask prompt.

    Parameters
    ----------
    model : PromptableModel
        Trained in place.
    config : DecoderStageConfig
        Rates of decoder, neck and trunk decide what learns.
    seed : int
        Of the run.
    store : ImageStore
        What is learnt from.
    val_store : ImageStore, optional
        What is looked at on the way.
    anchor : Anchor, optional
        Whose answers must not be forgotten.
    """

    config: DecoderStageConfig

    def __init__(
        self,
        model: PromptableModel,
        config: DecoderStageConfig,
        seed: int,
        store: ImageStore,
        val_store: ImageStore | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        self.geometry = config.geometry
        super().__init__(model, config, seed, store, val_store)
        self.dice = DiceLoss(sigmoid=True, reduction='none', smooth_nr=1, smooth_dr=1)
        # In a tuple, so that it is no part of the stage's parameters.
        self._anchor = (anchor,)

    def parameter_groups(self) -> list[dict[str, Any]]:
        config = self.config
        return learning_groups(
            self.model,
            decoder_rate=config.decoder_rate,
            neck_rate=config.neck_rate,
            trunk_rate=config.trunk_rate,
            frozen=list(config.frozen),
            weight_decay=config.weight_decay,
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self._anchor[0] is not None:
            self._anchor[0].place_on(self.device)

    def losses(self, squares: Squares, step: int) -> dict[str, torch.Tensor]:
        targets = mask_targets(squares)
        pixels = normalise(squares.pixels, squares.sizes)
        with torch.set_grad_enabled(self.config.encoder_learns):
            embeddings = self.model.encoder(pixels).float()
        boxes = simulated_boxes(
            targets.extents, targets.sizes, squares.draws, self.config.box_jitter
        )
        by_box = BatchPrompts(boxes=boxes)
        box_logits, box_scores = decode_batch(self.model, embeddings, by_box)
        box_loss, box_score = self._graded(
            box_logits[:, :1], box_scores[:, :1], targets
        )
        clicks = simulated_first_clicks(targets.truth, squares.draws)
        by_click = BatchPrompts.of_clicks(clicks)
        click_logits, click_scores = decode_batch(self.model, embeddings, by_click)
        click_loss, click_score = self._graded(
            click_logits[:, 1:], click_scores[:, 1:], targets
        )
        # Every process draws the same, so that all decode equally often.
        shared = np.random.default_rng([self.seed, step, abs(name_key('clicks'))])
        if shared.random() < 0.3:
            prompts, logits = by_box, box_logits[:, :1]
        else:
            prompts, logits = by_click, best_candidate(click_logits, click_scores)
        fixed_logits, fixed_scores = self._corrected(
            embeddings, prompts, logits.detach(), targets, squares, shared
        )
        fix_loss, fix_score = self._graded(
            fixed_logits[:, :1], fixed_scores[:, :1], targets
        )
        masks = (box_loss + click_loss + fix_loss) / 3
        score = (box_score + click_score + fix_score) / 3
        found = {
            'loss': masks + self.config.score_weight * score,
            'box': box_loss,
            'click': click_loss,
            'corrected': fix_loss,
            'score': score,
        }
        anchor = self._anchor[0]
        if anchor is not None and self.config.anchor_weight > 0:
            found['anchor'] = anchor.loss(self.model, squares, embeddings)
            found['loss'] = found['loss'] + self.config.anchor_weight * found['anchor']
        return found

    def _corrected(
        self,
        embeddings: torch.Tensor,
        prompts: BatchPrompts,
        logits: torch.Tensor,
        targets: MaskTargets,
        squares: Squares,
        shared: np.random.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer of the decoder after corrective clicks; only the last one learns."""
        rounds = number_of_clicks(shared)
        feeds_back = shared.random() < 0.8
        for left in reversed(range(rounds)):
            found = ((logits > 0) & (targets.inside > 0))[:, 0]
            points, labels = simulated_corrections(
                found, targets.truth, squares.draws, left
            )
            prompts = prompts.with_point(points, labels)
            prompts.logits = logits if feeds_back else None
            with torch.set_grad_enabled(left == 0):
                answer, scores = decode_batch(self.model, embeddings, prompts)
            logits = answer[:, :1].detach()
        return answer, scores

    def _graded(
        self, logits: torch.Tensor, scores: torch.Tensor, targets: MaskTargets
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses of (B, C, 256, 256) masks and of their (B, C) predicted IoU.

        The best of several candidates learns most (SAM's rule), the others follow a
        little; a single one learns wholly.
        """
        config, inside = self.config, targets.inside
        wanted = iou_of_logits(logits, targets)
        logits = torch.where(inside > 0, logits, _OUTSIDE)
        soft = (targets.soft * inside).expand_as(logits)
        each = self.dice(logits, soft).flatten(1)
        if config.cross_entropy_weight > 0:
            entropy = functional.binary_cross_entropy_with_logits(
                logits, soft, reduction='none'
            )
            mean = entropy.sum((2, 3)) / inside.sum((2, 3))
            each = each + config.cross_entropy_weight * mean
        if config.outline_weight > 0:
            band = band_of(targets.soft, inside)
            each = each + config.outline_weight * outline_loss(logits, soft, band)
        masks = _BEST_SHARE * each.amin(1) + (1 - _BEST_SHARE) * each.mean(1)
        score = functional.mse_loss(scores, wanted, reduction='none').mean(1)
        if config.ranking_weight > 0 and scores.shape[1] > 1:
            score = score + config.ranking_weight * ranking_loss(scores, wanted)
        return targets.mean(masks), targets.mean(score)

    def validation_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        assert self.val_store is not None
        squares = self.val_store.batch(
            batch['places'], batch['numbers'], self.seed, 0, self.device
        )
        targets = mask_targets(squares)
        model = self.result
        pixels = normalise(squares.pixels, squares.sizes)
        embeddings = model.encoder(pixels).float()
        boxes = simulated_boxes(targets.extents, targets.sizes, squares.draws, 0.0)
        found = {'box': decode_batch(model, embeddings, BatchPrompts(boxes=boxes))[0]}
        found['box'] = found['box'][:, :1]
        for kind, clicks in (
            ('click', central_clicks(targets.truth)),
            ('click_off', inner_clicks(targets.truth, squares.draws)),
        ):
            prompts = BatchPrompts.of_clicks(clicks)
            found[kind] = best_candidate(*decode_batch(model, embeddings, prompts))
        if len(self.tiles) < MOST_TILES:
            self._keep_tile(squares, targets, found['box'])
        for kind, logits in found.items():
            iou = iou_of_logits(logits, targets)[:, 0]
            for name, dice, there in zip(
                squares.names, 2 * iou / (1 + iou), targets.there.tolist(), strict=True
            ):
                if there:
                    self.log(
                        f'val/{kind}_dice/{name.split("/")[0]}',
                        dice,
                        on_epoch=True,
                        batch_size=1,
                        sync_dist=True,
                    )

    def _keep_tile(
        self, squares: Squares, targets: MaskTargets, logits: torch.Tensor
    ) -> None:
        """Draw the first answer of a batch, for a look at the run."""
        found = ((logits[0, 0] > 0) & (targets.inside[0, 0] > 0)).cpu().numpy()
        iou = float(iou_of_logits(logits, targets)[0, 0])
        caption = f'{squares.names[0].split("/")[0]} {2 * iou / (1 + iou):.3f}'
        self.tiles.append(
            draw_answer(
                squares.pixels[0].byte(),
                targets.truth[0].cpu().numpy(),
                found,
                targets.extents[0].cpu().numpy(),
                caption,
            )
        )


def best_candidate(logits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """(B, 1, 256, 256): of SAM's three alternatives, the best by predicted IoU."""
    chosen = 1 + scores[:, 1:].argmax(1)
    return logits[torch.arange(len(logits), device=logits.device), chosen][:, None]


@torch.no_grad()
def iou_of_logits(logits: torch.Tensor, targets: MaskTargets) -> torch.Tensor:
    """(B, C) intersection over union of logits above 0 with the true masks."""
    found = (logits > 0) & (targets.inside > 0)
    real = targets.soft > 0.5
    both = (found & real).sum((2, 3)).float()
    either = (found | real).sum((2, 3)).float()
    return both / either.clamp(min=1.0)
