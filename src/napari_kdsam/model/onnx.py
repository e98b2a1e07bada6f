"""SAM-compatible image encoders in ONNX, such as MobileSAM's."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_kdsam.core.errors import CheckpointError, MissingExtraError, excerpt
from napari_kdsam.core.sizes import EMBEDDING_CHANNELS, EMBEDDING_SIZE, PROMPT_SIDE
from napari_kdsam.model.network import (
    ModelIdentity,
    PromptableModel,
)
from napari_kdsam.model.onnx_runtimes import import_onnxruntime, import_openvino
from napari_kdsam.model.sam import DECODER_FILE, load_sam_decoder
from napari_kdsam.model.weights_file import weights_key

_CPU, CUDA_PROVIDER = 'CPUExecutionProvider', 'CUDAExecutionProvider'


class OnnxEncoder(nn.Module):
    """A SAM-compatible image encoder in an ONNX file, run by ONNX Runtime or OpenVINO.

    Parameters
    ----------
    path : path-like
        ONNX file with one (1, 3, 1024, 1024) float input and one
        (1, 256, 64, 64) float output, such as MobileSAM's encoder.

    Raises
    ------
    CheckpointError
        If the file cannot be read or has other inputs or outputs.
    MissingExtraError
        If neither ONNX Runtime nor OpenVINO is installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(path)
        if not self.path.is_file():
            raise CheckpointError(f'There is no weights file at {self.path}.')
        self._run = self._open()

    def _open(self) -> Any:
        try:
            return _open_with_onnxruntime(self.path)
        except ImportError:
            pass
        try:
            return _open_with_openvino(self.path)
        except ImportError as error:
            raise MissingExtraError('Running an ONNX encoder', 'fast') from error

    def run_on(self, device: torch.device) -> None:
        """Use CUDA for a CUDA device where ONNX Runtime has it, else stay on the CPU."""
        if device.type == 'cuda':
            with contextlib.suppress(ImportError):
                self._run = _open_with_onnxruntime(self.path, CUDA_PROVIDER)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed (B, 3, 1024, 1024) normalised pixels as (B, 256, 64, 64) float32."""
        arrays = pixels.detach().float().contiguous().cpu().numpy()
        outputs = [torch.from_numpy(self._run(a[None])) for a in arrays]
        return torch.cat(outputs).to(pixels.device)


def open_onnx_session(path: Path, *preferred: str) -> Any:
    """Open an ONNX file with ONNX Runtime.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    *preferred : str
        Execution providers to use before the CPU's, where ONNX Runtime has them.

    Raises
    ------
    CheckpointError
        If the file is not a readable ONNX model.
    ImportError
        If ONNX Runtime is not installed.
    """
    onnxruntime = import_onnxruntime()
    available = onnxruntime.get_available_providers()
    providers = [name for name in (*preferred, _CPU) if name in available]
    try:
        return onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # onnxruntime has no public base class for its errors
        raise _not_readable(path, str(error)) from error


def read_onnx_graph(path: Path) -> Any:
    """Read what an ONNX file holds, without what other files hold for it.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Raises
    ------
    CheckpointError
        If the file is not a readable ONNX model.
    ImportError
        If ``onnx`` is not installed.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        # Files named inside a model are left alone: they could be anything.
        return onnx.load(str(path), load_external_data=False).graph
    except (DecodeError, OSError) as error:
        raise _not_readable(path, str(error)) from error


def _open_with_onnxruntime(path: Path, *preferred: str) -> Any:
    session = open_onnx_session(path, *preferred)
    _check_encoder(
        path,
        [tuple(item.shape) for item in session.get_inputs()],
        [tuple(item.shape) for item in session.get_outputs()],
        all(item.type == 'tensor(float)' for item in session.get_inputs()),
    )
    name = session.get_inputs()[0].name
    return lambda array: session.run(None, {name: array})[0]


def _open_with_openvino(path: Path) -> Any:
    openvino = import_openvino()
    core = openvino.Core()
    try:
        model = core.read_model(path)
    # Its sentence about a damaged name may be no text.
    except (RuntimeError, UnicodeDecodeError) as error:
        raise _not_readable(path, str(error)) from error
    _check_encoder(
        path,
        [_openvino_shape(item) for item in model.inputs],
        [_openvino_shape(item) for item in model.outputs],
        all(item.get_element_type() == openvino.Type.f32 for item in model.inputs),
    )
    # Left to itself, OpenVINO computes in bfloat16 where the processor can.
    options = {'INFERENCE_PRECISION_HINT': 'f32'}
    compiled = core.compile_model(model, 'CPU', options)
    return lambda array: compiled(array)[0]


def _openvino_shape(port: Any) -> tuple[int | None, ...]:
    return tuple(
        d.get_length() if d.is_static else None for d in port.get_partial_shape()
    )


def _not_readable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f'{path.name} is not a readable ONNX model ({excerpt(reason)}); copy it again '
        'or choose another file.'
    )


def _check_encoder(
    path: Path,
    inputs: list[tuple[Any, ...]],
    outputs: list[tuple[Any, ...]],
    takes_float32: bool,
) -> None:
    wanted_in = (3, PROMPT_SIDE, PROMPT_SIDE)
    wanted_out = (EMBEDDING_CHANNELS, EMBEDDING_SIZE, EMBEDDING_SIZE)
    fits = (
        len(inputs) == 1
        and len(outputs) == 1
        and inputs[0][1:] == wanted_in
        and outputs[0][1:] == wanted_out
    )
    if not fits:
        raise CheckpointError(
            f'{path.name} is not a SAM-compatible image encoder: it maps '
            f'{excerpt(inputs)} to {excerpt(outputs)} instead of (1, 3, 1024, 1024) to '
            '(1, 256, 64, 64).'
        )
    if not takes_float32:
        raise CheckpointError(
            f'{path.name} does not take 32-bit floats; export it in single precision.'
        )


def load_onnx_sam(
    path: str | os.PathLike[str],
    decoder: str | os.PathLike[str] | None = None,
    name: str = '',
) -> PromptableModel:
    """Join an ONNX image encoder with SAM's own prompt encoder and mask decoder.

    Parameters
    ----------
    path : path-like
        The encoder's ONNX file.
    decoder : path-like, optional
        SAM's prompt encoder and mask decoder, as for `load_sam_decoder`; by default
        ``sam_prompt_mask_decoder.safetensors`` beside `path`.
    name : str
        Name to show; the file's stem by default.

    Returns
    -------
    PromptableModel
        On the CPU, float32, not yet prepared for inference.

    Raises
    ------
    CheckpointError
        If either file cannot be used.
    MissingExtraError
        If no ONNX runtime is installed.
    """
    path = Path(path)
    decoder = Path(decoder) if decoder else path.with_name(DECODER_FILE)
    if not decoder.is_file():
        raise CheckpointError(
            f"{path.name} needs SAM's mask decoder: put {DECODER_FILE} beside it."
        )
    encoder = OnnxEncoder(path)
    prompt_encoder, mask_decoder = load_sam_decoder(decoder)
    identity = ModelIdentity(
        name or path.stem,
        'onnx+sam_decoder',
        weights_key(path, decoder),
        str(path),
        parts=(str(decoder),),
    )
    return PromptableModel(encoder, prompt_encoder, mask_decoder, PROMPT_SIDE, identity)
