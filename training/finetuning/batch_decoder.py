"""SAM's mask decoder on a batch of images with one prompt each."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from napari_kdsam.model.network import PromptableModel


@dataclass
class BatchPrompts:
    """One prompt for each image of a batch, in the 1024 frame.

    Attributes
    ----------
    points : torch.Tensor or None
        (B, P, 2) float (x, y), pixel centres at integers.
    labels : torch.Tensor or None
        (B, P) float, 1 inside and 0 outside.
    boxes : torch.Tensor or None
        (B, 4) float (x0, y0, x1, y1).
    logits : torch.Tensor or None
        (B, 1, 256, 256) float logits of an earlier mask.
    """

    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    boxes: torch.Tensor | None = None
    logits: torch.Tensor | None = None

    @classmethod
    def of_clicks(cls, points: torch.Tensor) -> BatchPrompts:
        """One positive click for each image, from (B, 2) points."""
        return cls(points[:, None], points.new_ones(len(points), 1))

    def with_point(self, point: torch.Tensor, label: torch.Tensor) -> BatchPrompts:
        """Add one (B, 2) point with its (B,) label to each image's prompt."""
        point, label = point[:, None], label[:, None]
        if self.points is not None and self.labels is not None:
            point = torch.cat([self.points, point], dim=1)
            label = torch.cat([self.labels, label], dim=1)
        return BatchPrompts(point, label, self.boxes, self.logits)


def decode_batch(
    model: PromptableModel, embeddings: torch.Tensor, prompts: BatchPrompts
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predict all four of SAM's masks for each image's own prompt.

    segment_anything's ``MaskDecoder.forward`` pairs one image with many prompts;
    training needs the i-th image with the i-th prompt, and gradients.

    Parameters
    ----------
    model : PromptableModel
        Whose prompt encoder and mask decoder are used.
    embeddings : torch.Tensor
        (B, 256, 64, 64).
    prompts : BatchPrompts
        B prompts.

    Returns
    -------
    logits : torch.Tensor
        (B, 4, 256, 256) float32; channel 0 is the single mask, 1 to 3 the
        alternatives for an ambiguous point.
    scores : torch.Tensor
        (B, 4) float32 predicted IoU.
    """
    points = None
    if prompts.points is not None and prompts.labels is not None:
        points = (prompts.points, prompts.labels)
    sparse, dense = model.prompt_encoder(
        points=points, boxes=prompts.boxes, masks=prompts.logits
    )
    decoder, count = model.mask_decoder, len(embeddings)
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own[None].expand(count, -1, -1), sparse], dim=1)
    positions = model.prompt_encoder.get_dense_pe().expand(count, -1, -1, -1)
    queries, keys = decoder.transformer(embeddings + dense, positions, tokens)
    masks = decoder.num_mask_tokens
    square = keys.transpose(1, 2).reshape(embeddings.shape)
    upscaled = decoder.output_upscaling(square)
    weights = torch.stack(
        [
            network(queries[:, 1 + index])
            for index, network in enumerate(decoder.output_hypernetworks_mlps[:masks])
        ],
        dim=1,
    )
    logits = torch.einsum('bmc,bchw->bmhw', weights.float(), upscaled.float())
    scores = decoder.iou_prediction_head(queries[:, 0])
    return logits, scores.float()
