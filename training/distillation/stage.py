"""Stage 1: distil the teacher's embedding into the student's encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch.nn import functional

from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.config import EncoderStageConfig
from napari_kdsam.training.data.order import TrainingBatch
from napari_kdsam.training.data.store import ImageStore, Squares
from napari_kdsam.training.distillation.losses import DistillationLoss, PerceptualLoss
from napari_kdsam.training.embedding_distances import (
    cosine_distance,
    padding_weight,
    weighted_mse,
)
from napari_kdsam.training.finetuning.batch_decoder import BatchPrompts, decode_batch
from napari_kdsam.training.finetuning.mask_targets import mask_targets
from napari_kdsam.training.finetuning.simulated_prompts import (
    simulated_boxes,
    simulated_first_clicks,
)
from napari_kdsam.training.parameter_groups import learning_groups
from napari_kdsam.training.randomness import Draws
from napari_kdsam.training.squares import mirror_squares, normalise
from napari_kdsam.training.stage import PromptableStage
from napari_kdsam.training.teachers.memory import MIRRORED


class Embeddings(Protocol):
    """Where a teacher's embeddings of a store's images are kept."""

    views: tuple[str, ...]

    def get(self, indices: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        """(B, 256, 64, 64) of images by (B,) places, each in its view by number."""


class EncoderStage(PromptableStage):
    """Decoupled distillation (arXiv 2501.16740): ``L = L_MSE + lambda * L_P``.

    The student sees the view the teacher saw, with its appearance changed if the
    configuration says so: it learns to give the embedding of the clean image.

    Parameters
    ----------
    model : PromptableModel
        Its encoder is trained in place.
    config : EncoderStageConfig
        Rates and weights of the losses.
    seed : int
        Of the run.
    store : ImageStore
        What is learnt from.
    embeddings : Embeddings
        The teacher's, of `store`.
    val_store : ImageStore, optional
        What is looked at on the way.
    val_embeddings : Embeddings, optional
        The teacher's, of `val_store`.
    perceptual : PerceptualLoss, optional
        Needed where its weight is not 0.
    """

    config: EncoderStageConfig

    def __init__(
        self,
        model: PromptableModel,
        config: EncoderStageConfig,
        seed: int,
        store: ImageStore,
        embeddings: Embeddings,
        val_store: ImageStore | None = None,
        val_embeddings: Embeddings | None = None,
        perceptual: PerceptualLoss | None = None,
    ) -> None:
        super().__init__(model, config, seed, store, val_store)
        self.embeddings = embeddings
        self.val_embeddings = val_embeddings
        self.distillation = DistillationLoss(
            perceptual, config.perceptual_weight, config.cosine_weight
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        config = self.config
        return learning_groups(
            self.model,
            decoder_rate=0.0,
            neck_rate=config.neck_rate,
            trunk_rate=config.trunk_rate,
            frozen=list(config.frozen),
            weight_decay=config.weight_decay,
        )

    def views_of(self, draws: Draws) -> torch.Tensor:
        """(B,) int64 numbers of the view of each image that a step shows."""
        count = len(self.embeddings.views)
        return torch.from_numpy(draws.on_host('view') * count).long()

    def shown(self, squares: Squares) -> Squares:
        mirrored = torch.tensor([view == MIRRORED for view in self.embeddings.views])
        chosen = mirrored[self.views_of(squares.draws)]
        pixels, masks = (
            mirror_squares(each, squares.sizes, chosen)
            for each in (squares.pixels, squares.masks)
        )
        return replace(squares, pixels=pixels, masks=masks)

    def losses(self, squares: Squares, step: int) -> dict[str, torch.Tensor]:
        pixels = normalise(squares.pixels, squares.sizes)
        student = self.model.encoder(pixels).float()
        places = torch.tensor(squares.places)
        teacher = self.embeddings.get(places, self.views_of(squares.draws))
        teacher = teacher.to(student.device, torch.float32)
        weight = padding_weight(
            squares.sizes, squares.pixels.shape[-1], outside=self.config.padding_weight
        )
        found = self.distillation(student, teacher, weight)
        if self.config.prompt_weight > 0:
            found['prompt'] = self._prompt_loss(student, teacher, squares)
            found['loss'] = found['loss'] + self.config.prompt_weight * found['prompt']
        return found

    def _prompt_loss(
        self, student: torch.Tensor, teacher: torch.Tensor, squares: Squares
    ) -> torch.Tensor:
        """Cross entropy with the teacher's masks for a box and a click.

        Both go through the frozen decoder (EdgeSAM, arXiv 2312.06660).
        """
        targets = mask_targets(squares)
        draws, inside = squares.draws, targets.inside
        boxes = simulated_boxes(targets.extents, targets.sizes, draws, 0.1)
        clicks = simulated_first_clicks(targets.truth, draws)
        total = student.new_zeros(())
        prompts = (BatchPrompts(boxes=boxes), BatchPrompts.of_clicks(clicks))
        for prompt in prompts:
            with torch.no_grad():
                wanted = decode_batch(self.model, teacher, prompt)[0].sigmoid()
            logits, _ = decode_batch(self.model, student, prompt)
            entropy = functional.binary_cross_entropy_with_logits(
                logits, wanted, reduction='none'
            )
            each = (entropy * inside).sum((2, 3)) / inside.sum((2, 3))
            total = total + targets.mean(each.mean(1))
        return total / len(prompts)

    def validation_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        assert self.val_store is not None and self.val_embeddings is not None
        squares = self.val_store.batch(
            batch['places'], batch['numbers'], self.seed, 0, self.device
        )
        pixels = normalise(squares.pixels, squares.sizes)
        student = self.result.encoder(pixels).float()
        places = torch.tensor(squares.places)
        teacher = self.val_embeddings.get(places, torch.zeros_like(places))
        teacher = teacher.to(student.device, torch.float32)
        weight = padding_weight(squares.sizes, squares.pixels.shape[-1], outside=0.0)
        values = {
            'mse': weighted_mse(student, teacher, weight),
            'cosine_distance': cosine_distance(student, teacher, weight),
        }
        for name, value in values.items():
            self.log(
                f'val/{name}',
                value,
                on_epoch=True,
                batch_size=len(student),
                sync_dist=True,
            )
