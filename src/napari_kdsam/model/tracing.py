"""Decode in one call that leaves Python's lock to other threads."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn


class _WithNumberOfMasks(nn.Module):
    """A mask decoder asked for always as many masks, as tracing needs it."""

    def __init__(self, decoder: nn.Module, multimask_output: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.multimask_output = multimask_output

    def forward(self, *inputs: torch.Tensor) -> Any:
        embedding, positions, sparse, dense = inputs
        return self.decoder(
            image_embeddings=embedding,
            image_pe=positions,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=self.multimask_output,
        )


class TracedDecoder(nn.Module):
    """SAM's mask decoder as two traced graphs: one mask, and three.

    A decoder is some hundreds of short operations. Called from Python, each of them takes
    Python's lock back, and waits for it while a window paints; a traced graph runs through.

    Parameters
    ----------
    decoder : torch.nn.Module
        segment_anything's ``MaskDecoder``, in evaluation mode.
    *example : torch.Tensor
        Embedding, positions, sparse and dense prompt embeddings of at least two objects
        with at least two prompts, in the decoder's precision.
    """

    def __init__(self, decoder: nn.Module, *example: torch.Tensor) -> None:
        super().__init__()
        with torch.no_grad(), warnings.catch_warnings():
            # It holds for any number of objects and prompts, which the tests check; and
            # without PyTorch's tracing the decoder is used as it is.
            warnings.simplefilter('ignore')
            self._one, self._several = (
                torch.jit.freeze(
                    torch.jit.trace(
                        _WithNumberOfMasks(decoder, multimask_output).eval(),
                        example,
                        check_trace=False,
                    )
                )
                for multimask_output in (False, True)
            )

    def forward(
        self,
        image_embeddings: torch.Tensor,
        image_pe: torch.Tensor,
        sparse_prompt_embeddings: torch.Tensor,
        dense_prompt_embeddings: torch.Tensor,
        multimask_output: bool,
    ) -> Any:
        graph = self._several if multimask_output else self._one
        return graph(
            image_embeddings,
            image_pe,
            sparse_prompt_embeddings,
            dense_prompt_embeddings,
        )
