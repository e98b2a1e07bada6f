"""Stage 2: fine-tune the mask decoder on true masks with simulated prompts."""

from __future__ import annotations

from typing import Any

import torch
from monai.losses.dice import DiceLoss
from torch.nn import functional

from napari_kdsam.inference.prompts import LOGITS_SIZE
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.config import DecoderStageConfig
from napari_kdsam.training.data.dataset import Batch
from napari_kdsam.training.decoding import BatchPrompts, decode_batch
from napari_kdsam.training.prompts import (
    central_clicks,
    number_of_clicks,
    simulated_boxes,
    simulated_corrections,
    simulated_first_clicks,
)
from napari_kdsam.training.stage import Stage, generator_of
from napari_kdsam.training.student import image_part, learning_groups, normalise

# A logit this low is as good as no object, and its gradient is zero.
_OUTSIDE = -20.0
_BEST_SHARE = 0.75


class DecoderStage(Stage):
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
    """

    config: DecoderStageConfig

    def __init__(
        self, model: PromptableModel, config: DecoderStageConfig, seed: int
    ) -> None:
        self.geometry = config.geometry
        super().__init__(model, config, seed)
        self.dice = DiceLoss(sigmoid=True, reduction='none', smooth_nr=1, smooth_dr=1)

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

    def embed(self, batch: Batch) -> torch.Tensor:
        """Embed a batch, with gradients only where the encoder learns."""
        pixels = normalise(batch['pixels'], batch['sizes'])
        with torch.set_grad_enabled(self.config.encoder_learns and self.training):
            return self.model.encoder(pixels).float()

    def losses(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        target = functional.interpolate(
            batch['masks'], (LOGITS_SIZE, LOGITS_SIZE), mode='area'
        )
        kept = (target.amax((1, 2, 3)) > 0.5).nonzero()[:, 0]
        if len(kept) == 0:
            zero = target.sum() * 0
            return {'loss': zero.requires_grad_()}
        names = [batch['names'][index] for index in kept.tolist()]
        target = target[kept]
        embeddings = self.embed(batch)[kept]
        sizes = grid_sizes(batch)[kept.to(batch['sizes'].device)]
        inside = image_part(sizes, LOGITS_SIZE, target.device)
        generators = [generator_of(self.seed, step, name) for name in names]
        shared = generator_of(self.seed, step, 'clicks')
        truth = (target[:, 0] > 0.5).cpu().numpy()
        boxes = simulated_boxes(
            truth, sizes.cpu().numpy(), generators, self.config.box_jitter
        )
        by_box = BatchPrompts(boxes=boxes.to(target.device))
        box_logits, box_scores = decode_batch(self.model, embeddings, by_box)
        box_loss, box_score = self._single(box_logits, box_scores, target, inside)
        clicks = simulated_first_clicks(truth, generators).to(target.device)
        by_click = BatchPrompts(
            clicks[:, None], torch.ones(len(names), 1, device=target.device)
        )
        click_logits, click_scores = decode_batch(self.model, embeddings, by_click)
        click_loss, click_score = self._several(
            click_logits, click_scores, target, inside
        )
        if shared.random() < 0.3:
            prompts, logits = by_box, box_logits[:, :1]
        else:
            chosen = click_scores[:, 1:].argmax(1)
            prompts = by_click
            logits = click_logits[torch.arange(len(names)), 1 + chosen][:, None]
        logits = logits.detach()
        rounds = number_of_clicks(shared)
        feeds_back = shared.random() < 0.8
        for number in range(rounds):
            found = ((logits > 0) & (inside > 0))[:, 0].cpu().numpy()
            points, labels = simulated_corrections(found, truth, generators)
            prompts = prompts.with_point(
                points.to(target.device), labels.to(target.device)
            )
            prompts.logits = logits if feeds_back else None
            with torch.set_grad_enabled(number == rounds - 1):
                answer, scores = decode_batch(
                    self.model,
                    embeddings if number == rounds - 1 else embeddings.detach(),
                    prompts,
                )
            logits = answer[:, :1].detach()
        fix_loss, fix_score = self._single(answer, scores, target, inside)
        masks = (box_loss + click_loss + fix_loss) / 3
        score = (box_score + click_score + fix_score) / 3
        return {
            'loss': masks + self.config.score_weight * score,
            'box': box_loss,
            'click': click_loss,
            'corrected': fix_loss,
            'score': score,
        }

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if 'pixels' not in batch:
            return
        target = functional.interpolate(
            batch['masks'].float() / 255, (LOGITS_SIZE, LOGITS_SIZE), mode='area'
        )
        truth = (target[:, 0] > 0.5).cpu().numpy()
        sizes = grid_sizes(batch)
        inside = image_part(sizes, LOGITS_SIZE, target.device)
        names = batch['names']
        generators = [generator_of(self.seed, 0, name) for name in names]
        boxes = simulated_boxes(truth, sizes.cpu().numpy(), generators, 0.0)
        clicks = central_clicks(truth)[:, None].to(target.device)
        pixels = normalise(batch['pixels'], batch['sizes'])
        model = self.result
        embeddings = model.encoder(pixels).float()
        logits, _ = decode_batch(
            model, embeddings, BatchPrompts(boxes=boxes.to(target.device))
        )
        labels = torch.ones(len(names), 1, device=target.device)
        several, scores = decode_batch(model, embeddings, BatchPrompts(clicks, labels))
        chosen = 1 + scores[:, 1:].argmax(1)
        clicked = several[torch.arange(len(names)), chosen][:, None]
        for kind, found in (('box', logits[:, :1]), ('click', clicked)):
            iou = iou_of_logits(found, target, inside)[:, 0]
            for name, dice in zip(names, 2 * iou / (1 + iou), strict=True):
                self.log(
                    f'val/{kind}_dice/{name.split("/")[0]}',
                    dice,
                    on_epoch=True,
                    batch_size=1,
                    sync_dist=True,
                )

    def _mask_loss(
        self, logits: torch.Tensor, target: torch.Tensor, inside: torch.Tensor
    ) -> torch.Tensor:
        """(B, C) loss of (B, C, 256, 256) logits against (B, 1, 256, 256) masks."""
        logits = torch.where(inside > 0, logits, _OUTSIDE)
        target = (target * inside).expand_as(logits)
        loss = self.dice(logits, target).flatten(1)
        if self.config.cross_entropy_weight > 0:
            entropy = functional.binary_cross_entropy_with_logits(
                logits, target, reduction='none'
            )
            mean = entropy.sum((2, 3)) / inside.sum((2, 3))
            loss = loss + self.config.cross_entropy_weight * mean
        return loss

    def _single(
        self,
        logits: torch.Tensor,
        scores: torch.Tensor,
        target: torch.Tensor,
        inside: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        loss = self._mask_loss(logits[:, :1], target, inside).mean()
        wanted = iou_of_logits(logits[:, :1], target, inside)
        return loss, functional.mse_loss(scores[:, :1], wanted)

    def _several(
        self,
        logits: torch.Tensor,
        scores: torch.Tensor,
        target: torch.Tensor,
        inside: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        each = self._mask_loss(logits[:, 1:], target, inside)
        # The best alternative learns most (SAM's rule); the others follow a little.
        loss = _BEST_SHARE * each.amin(1) + (1 - _BEST_SHARE) * each.mean(1)
        wanted = iou_of_logits(logits[:, 1:], target, inside)
        return loss.mean(), functional.mse_loss(scores[:, 1:], wanted)


def grid_sizes(batch: Batch) -> torch.Tensor:
    """(B, 2) rows and columns of the image part on the 256 grid, rounded up."""
    step = batch['pixels'].shape[-1] // LOGITS_SIZE
    return torch.div(batch['sizes'] + step - 1, step, rounding_mode='floor')


@torch.no_grad()
def iou_of_logits(
    logits: torch.Tensor, target: torch.Tensor, inside: torch.Tensor
) -> torch.Tensor:
    """(B, C) intersection over union of logits above 0 with targets above one half."""
    found = (logits > 0) & (inside > 0)
    real = target > 0.5
    both = (found & real).sum((2, 3)).float()
    either = (found | real).sum((2, 3)).float()
    return both / either.clamp(min=1.0)
