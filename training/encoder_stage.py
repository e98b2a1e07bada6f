"""Stage 1: distil the teacher's embedding into the student's encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_kdsam.errors import ImageError
from napari_kdsam.inference.prompts import LOGITS_SIZE
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.config import EncoderStageConfig
from napari_kdsam.training.data.dataset import Batch
from napari_kdsam.training.decoder_stage import grid_sizes
from napari_kdsam.training.decoding import BatchPrompts, decode_batch
from napari_kdsam.training.losses import (
    DistillationLoss,
    PerceptualLoss,
    cosine_distance,
    padding_weight,
    weighted_mse,
)
from napari_kdsam.training.prompts import simulated_boxes, simulated_first_clicks
from napari_kdsam.training.stage import Stage, generator_of
from napari_kdsam.training.student import image_part, learning_groups, normalise
from napari_kdsam.training.teachers.cache import EmbeddingCache, EmbeddingCacheError
from napari_kdsam.training.teachers.views import apply_view


@dataclass(frozen=True)
class CachedViews:
    """Pairs each image with the cached embedding of one of its views.

    Attributes
    ----------
    cache : EmbeddingCache
        Opened for reading.
    views : tuple of str
        A step draws one of them.
    seed : int
        Of the run.
    """

    cache: EmbeddingCache
    views: tuple[str, ...]
    seed: int

    def __call__(
        self, image: NDArray[Any], mask: NDArray[Any], step: int
    ) -> tuple[NDArray[Any], NDArray[Any], torch.Tensor]:
        content = EmbeddingCache.content_key(image)
        drawn = generator_of(self.seed, step, content).integers(len(self.views))
        view = self.views[int(drawn)]
        try:
            embedding = self.cache.get(EmbeddingCache.content_key(image, view))
        except (EmbeddingCacheError, KeyError) as error:
            raise ImageError(
                f'An image has no usable teacher embedding ({error}); run '
                '`napari-kdsam train cache-teacher` again.'
            ) from error
        return (
            apply_view(image, view),
            apply_view(mask, view),
            torch.from_numpy(embedding),
        )


class EncoderStage(Stage):
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
    perceptual : PerceptualLoss, optional
        Needed where its weight is not 0.
    """

    config: EncoderStageConfig

    def __init__(
        self,
        model: PromptableModel,
        config: EncoderStageConfig,
        seed: int,
        perceptual: PerceptualLoss | None = None,
    ) -> None:
        super().__init__(model, config, seed)
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

    def losses(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        student = self.model.encoder(normalise(batch['pixels'], batch['sizes'])).float()
        teacher = batch['embeddings'].float()
        weight = padding_weight(
            batch['sizes'].to(student.device),
            batch['pixels'].shape[-1],
            outside=self.config.padding_weight,
        )
        found = self.distillation(student, teacher, weight)
        if self.config.prompt_weight > 0:
            found['prompt'] = self._prompt_loss(student, teacher, batch, step)
            found['loss'] = found['loss'] + self.config.prompt_weight * found['prompt']
        return found

    def _prompt_loss(
        self, student: torch.Tensor, teacher: torch.Tensor, batch: Batch, step: int
    ) -> torch.Tensor:
        """Cross entropy of the student's masks against the teacher's, through the
        frozen decoder, for a box and a click (EdgeSAM, arXiv 2312.06660)."""
        target = functional.interpolate(
            batch['masks'], (LOGITS_SIZE, LOGITS_SIZE), mode='area'
        )
        kept = (target.amax((1, 2, 3)) > 0.5).nonzero()[:, 0]
        if len(kept) == 0:
            return student.sum() * 0
        sizes = grid_sizes(batch)[kept.to(batch['sizes'].device)]
        inside = image_part(sizes, LOGITS_SIZE, target.device)
        truth = (target[kept, 0] > 0.5).cpu().numpy()
        generators = [
            generator_of(self.seed, step, batch['names'][index])
            for index in kept.tolist()
        ]
        boxes = simulated_boxes(truth, sizes.cpu().numpy(), generators, 0.1)
        clicks = simulated_first_clicks(truth, generators)[:, None].to(target.device)
        labels = torch.ones(len(kept), 1, device=target.device)
        total = student.new_zeros(())
        prompts = (
            BatchPrompts(boxes=boxes.to(target.device)),
            BatchPrompts(clicks, labels),
        )
        for prompt in prompts:
            with torch.no_grad():
                wanted = decode_batch(self.model, teacher[kept], prompt)[0].sigmoid()
            logits, _ = decode_batch(self.model, student[kept], prompt)
            entropy = functional.binary_cross_entropy_with_logits(
                logits, wanted, reduction='none'
            )
            total = total + (entropy * inside).sum() / (inside.sum() * logits.shape[1])
        return total / len(prompts)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if 'embeddings' not in batch:
            return
        student = self.result.encoder(
            normalise(batch['pixels'], batch['sizes'])
        ).float()
        teacher = batch['embeddings'].float()
        weight = padding_weight(
            batch['sizes'].to(student.device), batch['pixels'].shape[-1], outside=0.0
        )
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
