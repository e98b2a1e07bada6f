"""Stage 1: distil the teacher's embedding into the student's encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_kdsam.errors import ImageError
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.config import EncoderStageConfig
from napari_kdsam.training.data.dataset import Batch
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
from napari_kdsam.training.student import learning_groups, normalise
from napari_kdsam.training.targets import mask_targets
from napari_kdsam.training.teachers.cache import EmbeddingCache, EmbeddingCacheError
from napari_kdsam.training.teachers.cache_keys import content_hash, with_view
from napari_kdsam.training.teachers.views import apply_view, check_view


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

    def __post_init__(self) -> None:
        for view in self.views:
            check_view(view)

    def __call__(
        self, image: NDArray[Any], mask: NDArray[Any], step: int
    ) -> tuple[NDArray[Any], NDArray[Any], torch.Tensor]:
        content = content_hash(image)
        own = generator_of(self.seed, step, with_view(content, 'identity'))
        view = self.views[int(own.integers(len(self.views)))]
        try:
            embedding = self.cache.get(with_view(content, view))
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
        targets = mask_targets(batch, self.seed, step)
        if targets is None:
            return student.sum() * 0
        boxes = simulated_boxes(targets.extents, targets.sizes, targets.generators, 0.1)
        clicks = simulated_first_clicks(targets.truth, targets.generators)
        kept, inside = targets.kept, targets.inside
        total = student.new_zeros(())
        prompts = (
            BatchPrompts(boxes=boxes.to(student.device)),
            BatchPrompts.of_clicks(clicks.to(student.device)),
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
