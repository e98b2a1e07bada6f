"""One interface for every model: an image encoder with SAM's prompt encoder and mask decoder."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_kdsam.core.sizes import EMBEDDING_CHANNELS, EMBEDDING_SIZE, PROMPT_SIDE
from napari_kdsam.model.student import Bottleneck, ResNet50Trunk, StudentEncoder
from napari_kdsam.model.torchvision_guard import import_segment_anything
from napari_kdsam.model.tracing import TracedDecoder

_logger = logging.getLogger(__name__)

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
# What the decoder has in hand for more of them does not fit into a processor's cache;
# measured, 32 at once take 1.6 times as long an object.
_OBJECTS_IN_CACHE = 4


@dataclass(frozen=True)
class ModelIdentity:
    """What a loaded model is, and what its embeddings may be shared with.

    Attributes
    ----------
    name : str
        Registry name, or the file's stem.
    architecture : str
        Such as ``resnet50-v1-fpn-p3`` or ``sam_vit_h``.
    key : str
        Equal for two models only if they give the same embeddings; of the content of
        their files where they have some, so that places, names and dates do not count.
    path : str
        The weights file.
    metadata : dict
        What the checkpoint says of itself; empty where it says nothing.
    parts : tuple of str
        Further weights files that belong to it.
    """

    name: str
    architecture: str
    key: str
    path: str = ''
    metadata: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    parts: tuple[str, ...] = ()


def normalise_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Normalise (B, 3, h, w) float32 RGB 0..255 with SAM's mean and deviation."""
    mean, std = (
        # Made on the device itself the constants would wait for it.
        torch.tensor(values, dtype=pixels.dtype).to(pixels.device, non_blocking=True)
        for values in (PIXEL_MEAN, PIXEL_STD)
    )
    return (pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


class PromptableModel(nn.Module):
    """Image encoder, prompt encoder and mask decoder.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps (B, 3, S, S) normalised pixels to a (B, 256, 64, 64) embedding.
    prompt_encoder, mask_decoder : torch.nn.Module
        segment_anything's ``PromptEncoder`` and ``MaskDecoder``.
    input_size : int
        S, the side of the encoder's square input in pixels.
    identity : ModelIdentity, optional
        Where the weights came from.
    """

    def __init__(
        self,
        encoder: nn.Module,
        prompt_encoder: Any,
        mask_decoder: Any,
        input_size: int,
        identity: ModelIdentity | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.input_size = input_size
        self.identity = identity or ModelIdentity('untrained', 'unknown', f'{id(self)}')
        self.compute_dtype = torch.float32
        self.prepared = False
        self._pixel_dtype = torch.float32
        self._dense_positions: torch.Tensor | None = None
        # In a tuple, so that it is no part of the model's parameters.
        self._quick_decoder: tuple[nn.Module, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the decoder (and, for torch encoders, the encoder) runs."""
        return next(self.mask_decoder.parameters()).device

    def prepare(self, device: torch.device, dtype: torch.dtype) -> PromptableModel:
        """Make the model ready for inference: fold norms, place, set precision.

        Parameters
        ----------
        device : torch.device
            Where to run.
        dtype : torch.dtype
            ``torch.float32`` or ``torch.bfloat16``.

        Returns
        -------
        PromptableModel
            This model, in evaluation mode and without gradients. Its folded
            parameters no longer match a checkpoint's names.
        """
        self.eval().requires_grad_(False)
        if isinstance(self.encoder, StudentEncoder):
            _fold_batch_norms(self.encoder.trunk)
        self.to(device)
        self.encoder.to(dtype)
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.compute_dtype = dtype
        self.prepared = True
        # An encoder without parameters (ONNX) takes float32 whatever the decoder does.
        has_weights = next(self.encoder.parameters(), None) is not None
        self._pixel_dtype = dtype if has_weights else torch.float32
        self._dense_positions = None
        self._quick_decoder = ()
        if dtype == torch.bfloat16:
            # Autocast would convert every weight again for every click.
            self._quick_decoder = (deepcopy(self.mask_decoder).to(dtype),)
        return self

    def trace_decoder(self) -> None:
        """Make `decode` leave Python's lock to other threads, for a window's sake.

        Call it after `prepare`. Takes about a second; the answers stay the same. Where
        PyTorch cannot trace (any more), `decode` goes on as it is.
        """
        decoder, dtype = self._decoder_in_use()
        points = torch.full((2, 3, 2), 0.5 * PROMPT_SIDE, device=self.device)
        labels = torch.ones((2, 3), device=self.device)
        embedding = torch.zeros(
            (1, EMBEDDING_CHANNELS, EMBEDDING_SIZE, EMBEDDING_SIZE), device=self.device
        )
        inputs = self._decoder_inputs(embedding, (points, labels), None, None, dtype)
        try:
            self._quick_decoder = (TracedDecoder(decoder, *inputs),)
        except (AttributeError, RuntimeError) as error:
            _logger.info('The decoder is used without tracing: %s', error)

    def _decoder_in_use(self) -> tuple[nn.Module, torch.dtype]:
        half = self.prepared and self.compute_dtype == torch.bfloat16
        decoder = self._quick_decoder[0] if self._quick_decoder else self.mask_decoder
        return decoder, torch.bfloat16 if half else torch.float32

    def _decoder_inputs(
        self,
        embedding: torch.Tensor,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        mask_logits: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        if self._dense_positions is None:
            self._dense_positions = self.prompt_encoder.get_dense_pe()
        sparse, dense = self.prompt_encoder(
            points=points, boxes=boxes, masks=mask_logits
        )
        return (
            embedding.to(dtype),
            self._dense_positions.to(dtype),
            sparse.to(dtype),
            dense.to(dtype),
        )

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed 8-bit pixels already scaled to the input frame.

        Parameters
        ----------
        pixels : torch.Tensor
            (B, 3, h, w) uint8 RGB with max(h, w) == input_size.

        Returns
        -------
        torch.Tensor
            (B, 256, 64, 64) float32 image embedding.
        """
        pixels = normalise_pixels(pixels.to(self.device, torch.float32))
        height, width = pixels.shape[-2:]
        padding = (0, self.input_size - width, 0, self.input_size - height)
        return self.encode_normalised(nn.functional.pad(pixels, padding))

    def encode_normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed squares that are normalised and padded.

        Parameters
        ----------
        pixels : torch.Tensor
            (B, 3, input_size, input_size) float32 on the encoder's device, from
            `normalise_pixels`, zero in the padding.

        Returns
        -------
        torch.Tensor
            (B, 256, 64, 64) float32 image embedding.
        """
        pixels = pixels.to(self._pixel_dtype, memory_format=torch.channels_last)
        return self.encoder(pixels).to(torch.float32).contiguous()

    def decode(
        self,
        embedding: torch.Tensor,
        points: tuple[torch.Tensor, torch.Tensor] | None = None,
        boxes: torch.Tensor | None = None,
        mask_logits: torch.Tensor | None = None,
        *,
        multimask_output: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict masks for N objects of one image in one call.

        Parameters
        ----------
        embedding : torch.Tensor
            (1, 256, 64, 64) float32.
        points : tuple of torch.Tensor, optional
            (N, P, 2) float (x, y) in the 1024 frame and (N, P) labels: 1 inside,
            0 outside.
        boxes : torch.Tensor, optional
            (N, 4) float (x0, y0, x1, y1) in the 1024 frame.
        mask_logits : torch.Tensor, optional
            (N, 1, 256, 256) float32 logits of an earlier mask.
        multimask_output : bool
            Whether to return SAM's three alternatives (its rule for a single
            ambiguous point) or its one mask.

        Returns
        -------
        logits : torch.Tensor
            (N, C, 256, 256) float32 over the padded square, C 3 or 1.
        scores : torch.Tensor
            (N, C) float32 predicted IoU.
        """
        decoder, dtype = self._decoder_in_use()
        embedding, positions, sparse, dense = self._decoder_inputs(
            embedding, points, boxes, mask_logits, dtype
        )
        together = _OBJECTS_IN_CACHE if embedding.device.type == 'cpu' else len(sparse)
        answers = [
            decoder(
                image_embeddings=embedding,
                image_pe=positions,
                sparse_prompt_embeddings=some,
                dense_prompt_embeddings=some_dense,
                multimask_output=multimask_output,
            )
            for some, some_dense in zip(
                sparse.split(together), dense.split(together), strict=True
            )
        ]
        logits, scores = (torch.cat(parts) for parts in zip(*answers, strict=True))
        return logits.float(), scores.float()


def _fold_batch_norms(trunk: ResNet50Trunk) -> None:
    def fold(module: nn.Module, conv: str, norm: str) -> None:
        folded = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
        setattr(module, conv, folded)
        setattr(module, norm, nn.Identity())

    if isinstance(trunk.bn1, nn.Identity):
        return
    fold(trunk, 'conv1', 'bn1')
    for module in trunk.modules():
        if isinstance(module, Bottleneck):
            for number in '123':
                fold(module, f'conv{number}', f'bn{number}')
            if module.downsample is not None:
                fold(module.downsample, '0', '1')


def build_sam_decoder(frame: int = PROMPT_SIDE) -> tuple[Any, Any]:
    """Build SAM's prompt encoder and mask decoder with untrained weights.

    Parameters
    ----------
    frame : int
        Side of the square that prompts are given in, in pixels; 1024 for SAM.

    Returns
    -------
    prompt_encoder, mask_decoder : torch.nn.Module
        With segment_anything's own parameter names and sizes.
    """
    modeling = import_segment_anything().modeling
    prompt_encoder = modeling.PromptEncoder(
        embed_dim=EMBEDDING_CHANNELS,
        image_embedding_size=(EMBEDDING_SIZE, EMBEDDING_SIZE),
        input_image_size=(frame, frame),
        mask_in_chans=16,
    )
    mask_decoder = modeling.MaskDecoder(
        num_multimask_outputs=3,
        transformer=modeling.TwoWayTransformer(
            depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=2048, num_heads=8
        ),
        transformer_dim=EMBEDDING_CHANNELS,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
    return prompt_encoder, mask_decoder


def build_kdsam(input_size: int = 512) -> PromptableModel:
    """Build KD SAM (student encoder and SAM's decoder) with untrained weights.

    Parameters
    ----------
    input_size : int
        512 (default) or 1024 (the paper's setting).

    Returns
    -------
    PromptableModel
        On the CPU, in training mode, float32.

    Raises
    ------
    ValueError
        If `input_size` is neither 512 nor 1024.
    """
    return PromptableModel(StudentEncoder(input_size), *build_sam_decoder(), input_size)
