"""SAM 2 (Hiera) from a pair of ONNX files, a baseline (Ravi et al., 2024; Apache-2.0).

The image is stretched to 1024 x 1024 and normalised with ImageNet's mean and standard
deviation. The exported decoder only gives the three alternative masks, so the best by
predicted IoU is taken at every prompt.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from napari_kdsam.core.errors import CheckpointError, MissingExtraError
from napari_kdsam.model.device import resolve_device
from napari_kdsam.model.onnx import CUDA_PROVIDER, open_onnx_session
from napari_kdsam.training.evaluation.segmenter import (
    BOX,
    CLICK,
    SegmentedMask,
    digest_of,
    onnx_parameters,
)

NAME = 'sam2_tiny'
ENCODER_FILE = 'sam2_hiera_tiny_encoder.onnx'
ENCODER_SUFFIX, DECODER_SUFFIX = '_encoder.onnx', '_decoder.onnx'
SIDE = 1024
_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
_STD = np.array((0.229, 0.224, 0.225), np.float32)
_INPUTS = {
    'image_embed',
    'high_res_feats_0',
    'high_res_feats_1',
    'point_coords',
    'point_labels',
    'mask_input',
    'has_mask_input',
}


def decoder_of(encoder: Path) -> Path:
    """The decoder's file beside an encoder's file."""
    stem = encoder.name.removesuffix(ENCODER_SUFFIX)
    return encoder.with_name(stem + DECODER_SUFFIX)


class SAM2:
    """SAM 2's image segmentation as a `Segmenter`, by ONNX Runtime; float32.

    Parameters
    ----------
    path : path-like
        ``*_encoder.onnx``, with ``*_decoder.onnx`` beside it.
    name : str
        For tables and file names.
    device : str
        As for `load_model`; CUDA is used if ONNX Runtime has it.

    Raises
    ------
    CheckpointError
        If the files cannot be used.
    MissingExtraError
        If ONNX Runtime is not installed.
    """

    prompts = frozenset({BOX, CLICK})

    def __init__(
        self, path: str | os.PathLike[str], name: str = NAME, device: str = 'auto'
    ) -> None:
        encoder, decoder = Path(path), decoder_of(Path(path))
        self.name = name
        wanted = resolve_device(device).type
        self._encoder = _open(encoder, wanted)
        self._decoder = _open(decoder, wanted)
        found = {item.name for item in self._decoder.get_inputs()}
        if found != _INPUTS or len(self._encoder.get_inputs()) != 1:
            raise CheckpointError(
                f'{encoder.name} and {decoder.name} are not a SAM 2 export of the '
                f'expected form: the decoder should take {", ".join(sorted(_INPUTS))}.'
            )
        self._image_input = self._encoder.get_inputs()[0].name
        self._features = [item.name for item in self._encoder.get_outputs()]
        self.parameters = onnx_parameters(encoder, decoder)
        provider = self._encoder.get_providers()[0]
        self.fingerprint = f'{digest_of(encoder, decoder)}|float32|{provider}'

    def embed(self, image: NDArray[np.uint8]) -> Any:
        """See `Segmenter.embed`."""
        picture = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        pixels = (np.asarray(picture, np.float32) / 255 - _MEAN) / _STD
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        outputs = self._encoder.run(None, {self._image_input: batch})
        return dict(zip(self._features, outputs, strict=True)), image.shape[:2]

    def segment(
        self,
        state: Any,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        box: tuple[float, float, float, float] | None,
        previous: Any,
    ) -> SegmentedMask:
        """See `Segmenter.segment`."""
        answers, scores = self.masks_of(state, points, labels, box, previous)
        best = int(scores.argmax())
        logits = np.ascontiguousarray(answers[None, best : best + 1])
        mask = stretched(logits[0, 0], state[1])
        return SegmentedMask(mask, float(scores[best]), logits)

    def masks_of(
        self,
        state: Any,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        box: tuple[float, float, float, float] | None = None,
        previous: Any = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Ask for every mask of a prompt; the arguments are those of `segment`.

        Returns
        -------
        logits : numpy.ndarray
            (C, 256, 256) float32, covering the image and nothing else.
        scores : numpy.ndarray
            (C,) float32 predicted IoU.
        """
        features, shape = state
        scale = SIDE / np.asarray(shape, np.float64)
        coordinates = [(np.asarray(point) + 0.5) * scale - 0.5 for point in points]
        kinds = list(labels)
        if box is not None:
            # SAM 2 takes a box as two points with labels of their own, first.
            corners = np.asarray(box, np.float64).reshape(2, 2) * scale
            coordinates, kinds = [*corners, *coordinates], [2, 3, *kinds]
        frame_points = np.asarray(coordinates, np.float32)[:, ::-1]
        mask = np.zeros((1, 1, 256, 256), np.float32)
        answers, scores = self._decoder.run(
            ['masks', 'iou_predictions'],
            {
                **features,
                'point_coords': np.ascontiguousarray(frame_points[None]),
                'point_labels': np.asarray(kinds, np.float32)[None],
                'mask_input': mask if previous is None else previous,
                'has_mask_input': np.array([previous is not None], np.float32),
            },
        )
        return answers[0], scores[0]

    def sync(self) -> None:
        """See `Segmenter.sync`; ONNX Runtime returns when it has finished."""


def stretched(logits: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(rows, columns) mask of (256, 256) logits that cover the image."""
    full = functional.interpolate(
        torch.from_numpy(logits.copy())[None, None],
        shape,
        mode='bilinear',
        align_corners=False,
    )
    mask: NDArray[np.bool_] = (full[0, 0] > 0).numpy()
    return mask


def _open(path: Path, device: str) -> Any:
    if not path.is_file():
        raise CheckpointError(f'There is no weights file at {path}.')
    preferred = [CUDA_PROVIDER] if device == 'cuda' else []
    try:
        return open_onnx_session(path, *preferred)
    except ImportError as error:
        raise MissingExtraError('Evaluating SAM 2', 'fast') from error
