"""Open models to compare, behind one interface."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ModelNotFoundError
from napari_kdsam.core.geometry import Box
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.inference.predictor import Predictor
from napari_kdsam.model.loading import load_model
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.model.onnx import OnnxEncoder
from napari_kdsam.model.registry import models_folder
from napari_kdsam.model.sam import DECODER_FILE
from napari_kdsam.training.evaluation import lite_medsam, sam2
from napari_kdsam.training.evaluation.segmenter import (
    BOX,
    CLICK,
    SegmentedMask,
    Segmenter,
    digest_of,
    onnx_parameters,
    wait_for,
)


class PromptableSegmenter:
    """KD SAM, MobileSAM or one of Meta's SAMs, through `Predictor`.

    Parameters
    ----------
    model : PromptableModel
        From `load_model`.
    name : str
        For tables and file names.
    feed_previous : bool
        From the second click on, hand the mask before to the decoder too, as SAM
        was trained and evaluated.
    """

    prompts = frozenset({BOX, CLICK})

    def __init__(
        self, model: PromptableModel, name: str = '', feed_previous: bool = True
    ) -> None:
        self.name = name or model.identity.name
        self.feed_previous = feed_previous
        # Nothing is embedded twice, and a cached answer would spoil the timing.
        self.predictor = Predictor(model, cache_bytes=0)
        self.parameters = _count_parameters(model)
        files = [Path(model.identity.path)] if model.identity.path else []
        if isinstance(model.encoder, OnnxEncoder):
            files += [Path(part) for part in _companions(files[0])]
        self.fingerprint = (
            f'{digest_of(*files)}|{model.compute_dtype}|{model.device.type}'
            f'|feed_previous={feed_previous}'
        )

    def embed(self, image: NDArray[np.uint8]) -> Any:
        """See `Segmenter.embed`."""
        return self.predictor.embed(image)

    def segment(
        self,
        state: Any,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        box: Box | None,
        previous: Any,
    ) -> SegmentedMask:
        """See `Segmenter.segment`; of several masks, the best by predicted IoU."""
        logits = previous if self.feed_previous else None
        answer = self.predictor.predict(state, Prompt(points, labels, box, logits))
        return SegmentedMask(answer.mask, answer.score, answer.logits)

    def sync(self) -> None:
        """See `Segmenter.sync`."""
        wait_for(self.predictor.model.device)


def _companions(encoder: Path) -> list[Path]:
    companion = encoder.with_name(DECODER_FILE)
    return [companion] if companion.is_file() else []


def _count_parameters(model: PromptableModel) -> int | None:
    total = sum(value.numel() for value in model.parameters())
    if not isinstance(model.encoder, OnnxEncoder):
        return total
    encoder = onnx_parameters(model.encoder.path)
    return None if encoder is None else total + encoder


def open_segmenter(
    name_or_path: str | os.PathLike[str], device: str = 'auto'
) -> Segmenter:
    """Open a model to evaluate.

    Parameters
    ----------
    name_or_path : str or path-like
        ``lite_medsam`` or ``sam2_tiny`` (looked for in the models folder), a name
        from ``napari-kdsam models``, or the path of a weights file (for SAM 2 the
        encoder's ``.onnx``). ``NAME=PATH`` chooses the name in tables.
    device : str
        As for `load_model`; SAM 2 runs on the CPU unless ONNX Runtime has CUDA.

    Raises
    ------
    ModelNotFoundError
        If the name is unknown or its files are not on this computer.
    CheckpointError
        If a weights file cannot be used.
    MissingExtraError
        If a package the model needs is not installed.
    DeviceError
        If the device is not available.
    """
    name, _, target = str(name_or_path).rpartition('=')
    path = Path(target).expanduser()
    if target == lite_medsam.NAME:
        path = models_folder() / lite_medsam.WEIGHTS_FILE
    elif target == sam2.NAME:
        path = models_folder() / sam2.ENCODER_FILE
    if target in (lite_medsam.NAME, sam2.NAME) and not path.is_file():
        raise ModelNotFoundError(
            f'The model {target!r} is not on this computer: put {path.name} in '
            f'{path.parent}, or set NAPARI_KDSAM_MODELS to the folder that has it.'
        )
    if path.name == lite_medsam.WEIGHTS_FILE:
        return lite_medsam.LiteMedSAM(path, name or lite_medsam.NAME, device)
    if path.name.endswith(sam2.ENCODER_SUFFIX) and sam2.decoder_of(path).is_file():
        return sam2.SAM2(path, name or sam2.NAME, device)
    return PromptableSegmenter(load_model(target, device), name)
