"""MobileSAM's image encoder as a torch network, with the weights of its ONNX file.

In torch it runs in batches, on any device and in either precision; ONNX Runtime, where
it is installed, is asked once whether the network was put together rightly.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_kdsam.core.errors import CheckpointError, MissingExtraError, first_of
from napari_kdsam.core.sizes import PROMPT_SIDE
from napari_kdsam.model.checkpoint import load_tensors
from napari_kdsam.model.onnx import OnnxEncoder, read_onnx_graph
from napari_kdsam.training.teachers.tiny_vit import (
    TinyViTEncoder,
    timm_name,
)

_logger = logging.getLogger(__name__)

# Largest difference to ONNX Runtime, in standard deviations of the embedding.
TOLERANCE = 1e-3
_ATTENTION = '.attn'
_BIAS_TABLE = 'attention_biases'
# Nodes that torch.onnx names after the first and the last convolution of MobileSAM.
_SIGNATURE = {'/patch_embed/seq/seq.0/c/Conv', '/neck/neck.2/Conv'}


def is_mobile_sam(path: Path) -> bool:
    """Whether an ONNX file names its nodes as MobileSAM's encoder does.

    Raises
    ------
    CheckpointError
        If the file is not a readable ONNX model.
    MissingExtraError
        If ``onnx`` is not installed.
    """
    return {node.name for node in _read_graph(path).node} >= _SIGNATURE


def load_mobile_sam(path: Path) -> TinyViTEncoder:
    """Build MobileSAM's encoder from its ONNX file.

    Parameters
    ----------
    path : pathlib.Path
        Exported by ``torch.onnx``, batch norms folded.

    Returns
    -------
    TinyViTEncoder
        On the CPU, float32, evaluation mode, without gradients.

    Raises
    ------
    CheckpointError
        Unless each tensor of the file fills one parameter and each parameter is filled.
    MissingExtraError
        If ``onnx`` or ``timm`` is not installed.
    """
    encoder = TinyViTEncoder()
    encoder.fold_batch_norms()
    encoder.eval().requires_grad_(False)
    try:
        tensors = _tensors_by_parameter(_read_graph(path))
        for name, module in encoder.named_modules():
            table = f'{name}.{_BIAS_TABLE}'
            if name.endswith(_ATTENTION) and table in tensors:
                tensors[table] = _biases_by_offset(tensors[table], module)
        load_tensors(encoder, tensors, path.name)
    except _OddGraphError as error:
        raise CheckpointError(
            f"{path.name} is not MobileSAM's image encoder: {error}."
        ) from error
    except CheckpointError as error:
        # `load_tensors` starts with the file's name, which this sentence has already.
        reason = str(error).partition(': ')[2] or str(error)
        raise CheckpointError(
            f"{path.name} is not MobileSAM's image encoder: {reason}"
        ) from error
    return encoder


def check_against_runtime(encoder: nn.Module, path: Path) -> float | None:
    """Compare the network with the file's own graph on one random image.

    Parameters
    ----------
    encoder : torch.nn.Module
        On the CPU, float32.
    path : pathlib.Path
        The file its weights came from.

    Returns
    -------
    float or None
        Largest difference in standard deviations of the embedding; None where neither
        ONNX Runtime nor OpenVINO is installed.

    Raises
    ------
    CheckpointError
        If the difference is above `TOLERANCE`.
    """
    try:
        reference = OnnxEncoder(path)
    except MissingExtraError:
        _logger.info(
            'There is no ONNX Runtime to check %s against; its weights are used '
            'unchecked.',
            path.name,
        )
        return None
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn((1, 3, PROMPT_SIDE, PROMPT_SIDE), generator=generator)
    with torch.no_grad():
        found, expected = encoder(pixels), reference(pixels)
    difference = float((found - expected).abs().max() / expected.std())
    # NaN compares as false with everything, so it is refused here too.
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"{path.name} is not MobileSAM's image encoder: in torch its embedding "
            f'differs from that of its own graph by {difference:.2g} standard '
            f'deviations, more than {TOLERANCE:g}.'
        )
    return difference


class _OddGraphError(Exception):
    """A graph that is put together in another way."""


def _read_graph(path: Path) -> Any:
    try:
        return read_onnx_graph(path)
    except ImportError as error:
        raise MissingExtraError('Reading an ONNX teacher', 'training') from error


def _tensors_by_parameter(graph: Any) -> dict[str, torch.Tensor]:
    """Name the tensors of a graph by the nodes that use them."""
    arrays = _weights(graph)
    tensors: dict[str, torch.Tensor] = {}
    used = set()
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name not in arrays:
                continue
            parameter, array = _parameter(node, position, arrays[name])
            if name in used:
                raise _OddGraphError(f'it uses {name} more than once')
            if parameter in tensors:
                raise _OddGraphError(f'it has several tensors for {parameter}')
            used.add(name)
            tensors[parameter] = torch.from_numpy(array.copy())
    unused = sorted(arrays.keys() - used)
    if unused:
        raise _OddGraphError(
            f'it never uses {len(unused)} of its tensors ({first_of(unused)})'
        )
    return tensors


def _weights(graph: Any) -> dict[str, NDArray[np.float32]]:
    from onnx import TensorProto, numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == 'Constant':
            stored.update(
                (node.output[0], attribute.t)
                for attribute in node.attribute
                if attribute.name == 'value'
            )
    if any(t.data_location == TensorProto.EXTERNAL for t in stored.values()):
        raise _OddGraphError('its tensors are in another file')
    try:
        arrays = {
            name: numpy_helper.to_array(tensor) for name, tensor in stored.items()
        }
    except (ValueError, TypeError) as error:
        raise _OddGraphError(f'its tensors cannot be read ({error})') from error
    # Single numbers and integers belong to the arithmetic and the shapes.
    return {
        name: array
        for name, array in arrays.items()
        if array.dtype == np.float32 and array.size > 1
    }


def _parameter(
    node: Any, position: int, array: NDArray[np.float32]
) -> tuple[str, NDArray[np.float32]]:
    """Name and shape a tensor as torch does, from the node that uses it."""
    scope = node.name.strip('/').rpartition('/')[0]
    # torch.onnx writes child 0 of a sequential container `seq` as `seq/seq.0`.
    path = re.sub(r'\b(\w+)/\1\.', r'\1.', scope).replace('/', '.')
    match node.op_type, position:
        case 'Conv', (1 | 2):
            kind = 'weight' if position == 1 else 'bias'
        case 'MatMul', 1:
            kind, array = 'weight', array.T
        case 'Add', _ if path.endswith(_ATTENTION):
            kind = _BIAS_TABLE
        case (('Mul' | 'Add'), _):
            kind, array = 'weight' if node.op_type == 'Mul' else 'bias', array.ravel()
        case _:
            raise _OddGraphError(f'{node.name or node.op_type} takes a tensor')
    return timm_name(f'{path}.{kind}'), array


def _biases_by_offset(table: torch.Tensor, attention: Any) -> torch.Tensor:
    """Undo the export's look-up: (heads, N, N) by pixel pairs to (heads, offsets)."""
    offsets = attention.attention_bias_idxs
    biases = torch.zeros_like(attention.attention_biases)
    if table.shape != (len(biases), *offsets.shape):
        raise _OddGraphError(
            f'its attention biases have the shape {tuple(table.shape)} instead of '
            f'{(len(biases), *offsets.shape)}'
        )
    biases[:, offsets] = table
    if not torch.equal(biases[:, offsets], table):
        raise _OddGraphError('its attention biases are not those of pixel distances')
    return biases
