"""Not forgetting: a frozen teacher whose answers the student goes on giving.

Fine-tuning on lesions unlearns what SAM knows of everything else. The teacher is asked
about any part of the same images, labelled or not, and the student is held to its
embedding and to its masks.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from napari_kdsam.core.sizes import PROMPT_SIDE
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.data.store import Squares
from napari_kdsam.training.embedding_distances import padding_weight, weighted_mse
from napari_kdsam.training.finetuning.batch_decoder import BatchPrompts, decode_batch
from napari_kdsam.training.squares import image_part
from napari_kdsam.training.teachers.teacher import Teacher

# Mean squared errors of embeddings are about a hundredth of mask losses.
_EMBEDDING_WEIGHT = 50.0
# Masks the teacher is sure of; the others teach its doubts.
_LEAST_SCORE = 0.7


class Anchor:
    """A frozen model beside the student.

    Parameters
    ----------
    teacher : Teacher
        With a decoder.
    share : float
        Of each batch, how many images are compared; at least one.
    """

    def __init__(self, teacher: Teacher, share: float) -> None:
        self.teacher = teacher
        self.share = share

    def place_on(self, device: torch.device) -> None:
        """Move the teacher to where the student is trained."""
        self.teacher.model.to(device)

    def loss(
        self, student: PromptableModel, squares: Squares, embeddings: torch.Tensor
    ) -> torch.Tensor:
        """Distance of the student's embedding and masks from the teacher's.

        Parameters
        ----------
        student : PromptableModel
            Being trained.
        squares : Squares
            Augmented.
        embeddings : torch.Tensor
            (B, 256, 64, 64) float, the student's.

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        count = max(1, round(self.share * len(squares.names)))
        pixels, sizes = squares.pixels[:count], squares.sizes[:count]
        draws = squares.draws.of(range(count))
        own = embeddings[:count]
        with torch.no_grad():
            wanted = self.teacher.embed_squares(pixels, sizes).float()
        side = pixels.shape[-1]
        loss = _EMBEDDING_WEIGHT * weighted_mse(
            own, wanted, padding_weight(sizes, side, outside=0.0)
        )
        extent = sizes.float().flip(-1) * (PROMPT_SIDE / side)
        place = draws.uniform('anchor point', 2) * extent
        corners = torch.stack([draws.uniform(f'anchor {n}', 2) for n in 'ab'])
        box = torch.cat([corners.amin(0) * extent, corners.amax(0) * extent], dim=1)
        inside = image_part(sizes, side, own.device)
        inside = functional.interpolate(inside, (256, 256), mode='area')
        for prompts in (BatchPrompts.of_clicks(place), BatchPrompts(boxes=box)):
            with torch.no_grad():
                logits, scores = decode_batch(self.teacher.model, wanted, prompts)
            answers, _ = decode_batch(student, own, prompts)
            entropy = functional.binary_cross_entropy_with_logits(
                answers, logits.sigmoid(), reduction='none'
            )
            each = (entropy * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
            sure = (scores > _LEAST_SCORE).float()
            loss = loss + (each * sure).sum() / sure.sum().clamp(min=1)
        return loss
