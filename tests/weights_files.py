"""Weights files to try, made for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_kdsam.model.network import (
    PromptableModel,
    build_sam_decoder,
)


def shake_norms(model: PromptableModel) -> None:
    """Give batch norms statistics as after training, some beyond float16."""
    for name, buffer in model.named_buffers():
        if name.endswith('running_mean'):
            buffer.copy_(torch.randn_like(buffer) * 0.1)
        elif name.endswith('running_var'):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    model.get_buffer('encoder.trunk.bn1.running_var')[0] = 123_456.0


def write_decoder(folder: Path) -> Path:
    """Write SAM's decoder with random weights where an ONNX encoder looks for it."""
    torch.manual_seed(3)
    parts = torch.nn.ModuleDict(
        dict(zip(('prompt_encoder', 'mask_decoder'), build_sam_decoder(), strict=True))
    )
    path = folder / 'sam_prompt_mask_decoder.safetensors'
    save_file(parts.state_dict(), path)
    return path


def write_onnx_encoder(
    folder: Path,
    *,
    side: int = 1024,
    channels: int = 256,
    batch: Any = 1,
    element: str = 'FLOAT',
) -> Path:
    """Write a tiny encoder: the mean of every 16 x 16 pixels, mixed to 256 channels."""
    onnx = pytest.importorskip('onnx')
    make, kind = onnx.helper, getattr(onnx.TensorProto, element)
    dtype = np.float32 if element == 'FLOAT' else np.float16
    mixing = mixing_weights(channels).astype(dtype)
    out = side // 16
    graph = make.make_graph(
        [
            make.make_node(
                'AveragePool',
                ['pixels'],
                ['means'],
                kernel_shape=[16, 16],
                strides=[16, 16],
            ),
            make.make_node('Conv', ['means', 'mixing'], ['embedding']),
        ],
        'encoder',
        [make.make_tensor_value_info('pixels', kind, [batch, 3, side, side])],
        [make.make_tensor_value_info('embedding', kind, [batch, channels, out, out])],
        [onnx.numpy_helper.from_array(mixing, 'mixing')],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid('', 13)])
    model.ir_version = 8
    path = folder / 'tiny.onnx'
    path.write_bytes(model.SerializeToString())
    return path


def mixing_weights(channels: int = 256) -> np.ndarray:
    generator = np.random.default_rng(5)
    return generator.normal(size=(channels, 3, 1, 1)).astype(np.float32)
