"""MobileSAM's encoder in torch, with the weights of its ONNX file."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from weights_files import write_decoder, write_onnx_encoder

if find_spec('timm') is None or find_spec('onnx') is None:
    pytest.skip('needs the extra "training"', allow_module_level=True)

import onnx

from napari_kdsam.core.errors import CheckpointError, MissingExtraError
from napari_kdsam.model.onnx import OnnxEncoder
from napari_kdsam.model.registry import MODELS_VARIABLE, find_model
from napari_kdsam.phantoms import (
    dermoscopy_phantom,
    endoscopy_phantom,
    ultrasound_phantom,
)
from napari_kdsam.training.teachers import mobile_sam
from napari_kdsam.training.teachers import teacher as teacher_module
from napari_kdsam.training.teachers.mobile_sam import (
    check_against_runtime,
    is_mobile_sam,
    load_mobile_sam,
)
from napari_kdsam.training.teachers.teacher import (
    open_teacher,
    weights_digest,
)
from napari_kdsam.training.teachers.tiny_vit import TinyViTEncoder

NOT_MOBILE_SAM = "is not MobileSAM's image encoder"


@pytest.fixture(scope='module')
def encoder() -> TinyViTEncoder:
    """Random weights, batch norms folded."""
    torch.manual_seed(0)
    encoder = TinyViTEncoder()
    shake(encoder)
    encoder.fold_batch_norms()
    return encoder.eval().requires_grad_(False)


def shake(encoder: nn.Module) -> None:
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            if name.endswith('running_var'):
                tensor.uniform_(0.5, 2)
            elif name.endswith(('running_mean', 'bias', 'biases')):
                tensor.normal_(std=0.1)


def scope_of(name: str) -> str:
    """The name that torch.onnx gives a part of MobileSAM, by its name in timm."""
    name = re.sub(r'\.conv$', '.c', name)
    name = re.sub(
        r'stages\.(\d)\.downsample',
        lambda found: f'layers.{int(found[1]) - 1}.downsample',
        name,
    ).replace('stages.', 'layers.')
    name = name.replace('patch_embed.conv1', 'patch_embed.seq.seq.0')
    name = name.replace('patch_embed.conv2', 'patch_embed.seq.seq.2')
    name = re.sub(r'^neck\.', 'neck.neck.', name)
    return '/' + re.sub(r'\.(?=\D)', '/', name)


def write_graph(
    encoder: nn.Module, path: Path, edit: Callable[[Any], None] | None = None
) -> Path:
    """Write an encoder's tensors, and the nodes that use them, as MobileSAM's file."""
    nodes: list[Any] = []
    stored: list[Any] = []

    def add(scope: str, kind: str, tensors: Iterable[torch.Tensor]) -> None:
        names = []
        for tensor in tensors:
            names.append(f'onnx::{kind}_{len(stored)}')
            stored.append(onnx.numpy_helper.from_array(tensor.numpy(), names[-1]))
        label = f'{scope}/{kind}'
        out = f'{label}_output_{len(nodes)}'
        nodes.append(onnx.helper.make_node(kind, ['x', *names], [out], name=label))

    for name, module in encoder.named_modules():
        scope = scope_of(name)
        if isinstance(module, nn.Conv2d):
            bias = [] if module.bias is None else [module.bias]
            add(scope, 'Conv', [module.weight, *bias])
        elif isinstance(module, nn.Linear):
            add(scope, 'MatMul', [module.weight.T.contiguous()])
            add(scope, 'Add', [module.bias])
        elif isinstance(module, nn.LayerNorm):
            shape = (-1, 1, 1) if 'neck' in name else (-1,)
            add(scope, 'Mul', [module.weight.reshape(shape)])
            add(scope, 'Add', [module.bias.reshape(shape)])
        elif name.endswith('.attn'):
            table = module.attention_biases[:, module.attention_bias_idxs]
            value = onnx.numpy_helper.from_array(table.numpy())
            nodes.append(
                onnx.helper.make_node('Constant', [], [f'{name}_table'], value=value)
            )
            nodes.append(
                onnx.helper.make_node(
                    'Add', ['x', f'{name}_table'], [f'{name}_sum'], name=f'{scope}/Add'
                )
            )
    graph = onnx.helper.make_graph(nodes, 'encoder', [], [], stored)
    if edit is not None:
        edit(graph)
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return path


def test_every_tensor_of_the_file_fills_the_parameter_it_was_exported_from(
    encoder: TinyViTEncoder, tmp_path: Path
) -> None:
    path = write_graph(encoder, tmp_path / 'encoder.onnx')
    assert is_mobile_sam(path)
    found = load_mobile_sam(path)
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    expected = encoder.state_dict()
    assert found.state_dict().keys() == expected.keys()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_folding_batch_norms_changes_no_embedding() -> None:
    torch.manual_seed(1)
    encoder = TinyViTEncoder().eval()
    shake(encoder)
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = encoder(pixels)
        encoder.fold_batch_norms()
        found = encoder(pixels)
    assert expected.shape == (2, 256, 6, 6)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in encoder.modules())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def _tensor(graph: Any, kind: str) -> Any:
    return next(t for t in graph.initializer if t.name.startswith(f'onnx::{kind}'))


def _replace(graph: Any, kind: str, change: Callable[[Any], Any]) -> None:
    tensor = _tensor(graph, kind)
    array = change(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _poison(array: Any) -> Any:
    array.flat[0] = np.nan
    return array


def _drop(graph: Any) -> None:
    graph.initializer.remove(_tensor(graph, 'MatMul'))


def _add_unused(graph: Any) -> None:
    graph.initializer.append(
        onnx.numpy_helper.from_array(np.ones(3, np.float32), 'more')
    )


def _use_twice(graph: Any) -> None:
    linear = [node for node in graph.node if node.op_type == 'MatMul']
    linear[1].input[1] = linear[0].input[1]


def _fill_twice(graph: Any) -> None:
    linear = [node for node in graph.node if node.op_type == 'MatMul']
    linear[1].name = linear[0].name


def _other_operation(graph: Any) -> None:
    next(node for node in graph.node if node.op_type == 'MatMul').op_type = 'Gemm'


def _bias_per_pair(graph: Any) -> None:
    node = next(node for node in graph.node if node.op_type == 'Constant')
    table = np.random.default_rng(0).normal(size=(4, 49, 49)).astype(np.float32)
    node.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(table))


def _small_table(graph: Any) -> None:
    node = next(node for node in graph.node if node.op_type == 'Constant')
    table = np.zeros((4, 7, 7), np.float32)
    node.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(table))


def _elsewhere(graph: Any) -> None:
    tensor = _tensor(graph, 'MatMul')
    tensor.ClearField('raw_data')
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key='location', value='weights.bin')


@pytest.mark.parametrize(
    ('edit', 'reason'),
    [
        (_drop, 'misses 1 tensor'),
        (_add_unused, r'never uses 1 of its tensors \(more\)'),
        (_use_twice, 'more than once'),
        (_fill_twice, 'several tensors for stages'),
        (_other_operation, 'takes a tensor'),
        (_bias_per_pair, 'not those of pixel distances'),
        (_small_table, r'shape \(4, 7, 7\)'),
        (_elsewhere, 'in another file'),
        (lambda g: _replace(g, 'MatMul', _poison), 'not finite'),
        (lambda g: _replace(g, 'MatMul', lambda a: a[:, :5].copy()), 'wrong shape'),
        (lambda g: _replace(g, 'MatMul', lambda a: a.astype(np.float16)), 'misses 1'),
    ],
)
def test_a_file_that_does_not_fill_the_network_exactly_is_refused(
    encoder: TinyViTEncoder, tmp_path: Path, edit: Any, reason: str
) -> None:
    path = write_graph(encoder, tmp_path / 'odd.onnx', edit)
    with pytest.raises(CheckpointError, match=f'odd.onnx {NOT_MOBILE_SAM}.*{reason}'):
        load_mobile_sam(path)


def test_a_damaged_file_is_refused(encoder: TinyViTEncoder, tmp_path: Path) -> None:
    path = write_graph(encoder, tmp_path / 'encoder.onnx')
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match='not a readable ONNX model'):
        is_mobile_sam(path)


def test_other_encoders_are_not_taken_for_mobile_sam(tmp_path: Path) -> None:
    path = write_onnx_encoder(tmp_path)
    assert not is_mobile_sam(path)
    with pytest.raises(CheckpointError, match=NOT_MOBILE_SAM):
        load_mobile_sam(path)


@pytest.mark.parametrize('package', ['onnx', 'timm.models'])
def test_without_the_extra_the_message_says_what_to_install(
    encoder: TinyViTEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    path = write_graph(encoder, tmp_path / 'encoder.onnx')
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r'napari-kdsam\[training\]'):
        load_mobile_sam(path)


# The check against the file's own graph


@pytest.fixture
def graph_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Let a function stand for the runtime that runs the file's graph."""
    monkeypatch.setattr(mobile_sam, 'PROMPT_SIDE', 32)

    def put(answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
        monkeypatch.setattr(mobile_sam, 'OnnxEncoder', lambda path: answer)

    return put


def test_a_network_that_agrees_with_its_graph_is_accepted(graph_says: Any) -> None:
    graph_says(lambda pixels: pixels + 1e-5)
    assert check_against_runtime(nn.Identity(), Path('x.onnx')) == pytest.approx(
        1e-5, rel=0.1
    )


def test_a_network_that_differs_from_its_graph_is_refused(graph_says: Any) -> None:
    for error in (0.01, float('nan')):
        graph_says(lambda pixels, error=error: pixels + error)
        with pytest.raises(CheckpointError, match=f'x.onnx {NOT_MOBILE_SAM}.*differs'):
            check_against_runtime(nn.Identity(), Path('x.onnx'))


def test_without_a_runtime_the_check_is_left_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_onnx_encoder(tmp_path)
    for package in ('onnxruntime', 'openvino'):
        monkeypatch.setitem(sys.modules, package, None)
    with caplog.at_level(logging.INFO):
        assert check_against_runtime(nn.Identity(), path) is None
    assert 'unchecked' in caplog.text


# The teacher


@pytest.mark.parametrize('beside', [False, True])
def test_mobile_sam_teaches_in_torch_in_either_precision(
    encoder: TinyViTEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    beside: bool,
) -> None:
    checked = []
    monkeypatch.setattr(
        teacher_module, 'check_against_runtime', lambda *args: checked.append(args)
    )
    path = write_graph(encoder, tmp_path / 'encoder.onnx')
    if beside:
        write_decoder(tmp_path)
    plain = open_teacher(path, 'cpu')
    assert len(checked) == 1
    assert plain.key == f'onnx-{weights_digest(path)}' and plain.name == 'encoder'
    assert isinstance(plain.model.encoder, TinyViTEncoder)
    assert plain.has_decoder == beside
    half = open_teacher(path, 'cpu', torch.bfloat16)
    assert half.key == f'{plain.key}-bfloat16'
    kinds = {parameter.dtype for parameter in half.model.encoder.parameters()}
    assert kinds == {torch.bfloat16}


@pytest.fixture
def published() -> Path:
    if (
        not os.environ.get(MODELS_VARIABLE)
        or not find_model('mobile_sam').path.exists()
    ):
        pytest.skip(f'MobileSAM is not in the folder that {MODELS_VARIABLE} names')
    return find_model('mobile_sam').path


def test_in_torch_mobile_sam_embeds_as_its_own_graph_does(published: Path) -> None:
    pytest.importorskip('onnxruntime')
    teacher = open_teacher(published, 'cpu')
    assert isinstance(teacher.model.encoder, TinyViTEncoder)
    phantoms = (ultrasound_phantom, dermoscopy_phantom, endoscopy_phantom)
    images = [np.asarray(phantom(seed=3).image) for phantom in phantoms]
    found = teacher.embed(images)
    teacher.model.encoder = OnnxEncoder(published)
    expected = teacher.embed(images)
    for own, wanted in zip(found, expected, strict=True):
        assert (own - wanted).abs().max() < 1e-3 * wanted.std()
