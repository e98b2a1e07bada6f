"""The baselines that only evaluation knows: LiteMedSAM and SAM 2."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip('monai', reason='needs the extra "training"')
if find_spec('timm') is None:
    pytest.skip('needs the extra "training"', allow_module_level=True)

from napari_kdsam.core.errors import CheckpointError, ModelNotFoundError, PromptError
from napari_kdsam.model.registry import MODELS_VARIABLE
from napari_kdsam.training.evaluation import lite_medsam
from napari_kdsam.training.evaluation.segmenter import onnx_parameters
from napari_kdsam.training.evaluation.segmenters import open_segmenter

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def published_name(name: str) -> str:
    """The name that LiteMedSAM's authors give a tensor of timm's TinyViT."""
    if not name.startswith('image_encoder.'):
        return name
    name = re.sub(r'\.conv\.', '.c.', name)
    name = re.sub(r'patch_embed\.conv([12])', _sequential, name)
    name = re.sub(r'stages\.(\d)\.blocks', r'layers.\1.blocks', name)
    return re.sub(r'stages\.(\d)\.downsample', _one_earlier, name)


def _sequential(found: re.Match[str]) -> str:
    return f'patch_embed.seq.{2 * int(found[1]) - 2}'


def _one_earlier(found: re.Match[str]) -> str:
    return f'layers.{int(found[1]) - 1}.downsample'


@pytest.fixture(scope='module')
def lite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('lite') / lite_medsam.WEIGHTS_FILE
    tensors = lite_medsam._build().state_dict()
    save_file({published_name(k): v.contiguous() for k, v in tensors.items()}, path)
    return path


def test_litemedsam_loads_under_the_published_names_and_answers_a_box(
    lite_file: Path,
) -> None:
    model = open_segmenter(lite_file, 'cpu')
    assert model.name == 'lite_medsam'
    assert 9.5e6 < model.parameters < 10.5e6
    state = model.embed(IMAGE)
    assert state[0].shape == (1, 256, 64, 64)
    answer = model.segment(state, [], [], (10.0, 20.0, 50.0, 80.0), None)
    mask = answer.mask
    assert isinstance(answer.predicted_iou, float)
    assert mask.shape == (90, 120)
    assert mask.dtype == np.bool_


def test_litemedsam_sees_the_same_picture_at_any_brightness(lite_file: Path) -> None:
    model = open_segmenter(lite_file, 'cpu')
    dark = (IMAGE // 4 + 30).astype(np.uint8)
    bright = (dark.astype(int) * 2).astype(np.uint8)
    torch.testing.assert_close(
        model.embed(dark)[0], model.embed(bright)[0], atol=2e-2, rtol=2e-2
    )


def test_litemedsam_refuses_clicks(lite_file: Path) -> None:
    model = open_segmenter(lite_file, 'cpu')
    with pytest.raises(PromptError, match='box'):
        model.segment(model.embed(IMAGE), [(5.0, 5.0)], [1], None, None)


def test_a_baseline_that_is_not_here_is_told_where_to_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    for name in ('lite_medsam', 'sam2_tiny'):
        with pytest.raises(ModelNotFoundError, match=r'put \S+ in'):
            open_segmenter(name, 'cpu')


def write_sam2(folder: Path) -> Path:
    """A pair of files like SAM 2's that draws what it was asked.

    Of its three masks the first (best for a click inside) is everything from the
    first point to the right, the second (best for a box's first corner) everything
    from there down, the third (best for a click outside) is empty. A mask fed back is
    added to all.
    """
    onnx = pytest.importorskip('onnx')
    make, float32 = onnx.helper, onnx.TensorProto.FLOAT

    def value(name: str, shape: list[Any]) -> Any:
        return make.make_tensor_value_info(name, float32, shape)

    def constant(name: str, array: Any) -> Any:
        return onnx.numpy_helper.from_array(np.asarray(array), name)

    def save(graph: Any, name: str) -> Path:
        opset = [make.make_opsetid('', 13)]
        model = make.make_model(graph, opset_imports=opset, ir_version=8)
        onnx.save(model, folder / name)
        return folder / name

    features = {
        'high_res_feats_0': [1, 32, 256, 256],
        'high_res_feats_1': [1, 64, 128, 128],
        'image_embed': [1, 256, 64, 64],
    }
    nodes = [make.make_node('ReduceMean', ['image'], ['mean'], keepdims=1)]
    constants = []
    for name, shape in features.items():
        constants.append(constant(f'{name}_shape', np.array(shape, np.int64)))
        nodes.append(make.make_node('Expand', ['mean', f'{name}_shape'], [name]))
    outputs = [value(name, shape) for name, shape in features.items()]
    image = [value('image', [1, 3, 1024, 1024])]
    encoder = make.make_graph(nodes, 'encoder', image, outputs, constants)
    centres = np.arange(256, dtype=np.float32) * 4 + 1.5
    ramps = np.stack(
        [
            np.broadcast_to(centres[None, :], (256, 256)),
            np.broadcast_to(centres[:, None], (256, 256)),
            np.zeros((256, 256), np.float32),
        ]
    )[None]
    constants = [
        constant('ramps', ramps.astype(np.float32)),
        constant('first', np.array([0], np.int64)),
        constant('second', np.array([1], np.int64)),
        constant('codes', np.array([[1, 2, 0]], np.float32)),
        constant('much', np.array([[1e4]], np.float32)),
        constant('column', np.array([1, 3, 1, 1], np.int64)),
    ]
    nodes = [
        make.make_node('Gather', ['point_coords', 'first'], ['point'], axis=1),
        make.make_node('Squeeze', ['point', 'second'], ['place']),
        make.make_node('Concat', ['place', 'much'], ['offsets'], axis=1),
        make.make_node('Reshape', ['offsets', 'column'], ['offset']),
        make.make_node('Sub', ['ramps', 'offset'], ['drawn']),
        make.make_node('Mul', ['mask_input', 'has_mask_input'], ['fed']),
        make.make_node('Add', ['drawn', 'fed'], ['masks']),
        make.make_node('Gather', ['point_labels', 'first'], ['label'], axis=1),
        make.make_node('Sub', ['codes', 'label'], ['apart']),
        make.make_node('Mul', ['apart', 'apart'], ['distance']),
        make.make_node('Neg', ['distance'], ['iou_predictions']),
    ]
    inputs = [value(name, shape) for name, shape in features.items()]
    inputs += [
        value('point_coords', [1, 'n', 2]),
        value('point_labels', [1, 'n']),
        value('mask_input', [1, 1, 256, 256]),
        value('has_mask_input', [1]),
    ]
    outputs = [
        value('masks', [1, 3, 256, 256]),
        value('iou_predictions', [1, 3]),
    ]
    decoder = make.make_graph(nodes, 'decoder', inputs, outputs, constants)
    save(decoder, 'sam2_fake_decoder.onnx')
    return save(encoder, 'sam2_fake_encoder.onnx')


@pytest.fixture(scope='module')
def sam2_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip('onnxruntime')
    return write_sam2(tmp_path_factory.mktemp('sam2'))


def test_sam2_gets_clicks_where_they_are_and_the_best_mask_is_taken(
    sam2_file: Path,
) -> None:
    model = open_segmenter(f'sam2={sam2_file}', 'cpu')
    assert model.name == 'sam2'
    state = model.embed(IMAGE)
    answer = model.segment(state, [(40.0, 60.0)], [1], None, None)
    mask = answer.mask
    # That of the mask taken: the square of its code's distance from the label.
    assert answer.predicted_iou == 0
    assert mask.shape == (90, 120)
    assert not mask[:, :60].any()
    assert mask[:, 61:].all()
    outside = model.segment(state, [(40.0, 60.0)], [0], None, None).mask
    assert not outside.any()


def test_sam2_gets_a_box_as_its_corners_before_the_clicks(sam2_file: Path) -> None:
    model = open_segmenter(sam2_file, 'cpu')
    box = (30.0, 10.0, 60.0, 70.0)
    mask = model.segment(model.embed(IMAGE), [(80.0, 5.0)], [1], box, None).mask
    assert not mask[:30].any()
    assert mask[31:].all()


def test_sam2_is_fed_its_answer_back(sam2_file: Path) -> None:
    model = open_segmenter(sam2_file, 'cpu')
    state = model.embed(IMAGE)
    logits = model.segment(state, [(40.0, 60.0)], [1], None, None).previous
    fed = model.segment(state, [(40.0, 60.0)], [1], None, logits).previous
    np.testing.assert_allclose(fed, 2 * logits, rtol=1e-5)


def test_sam2_of_another_form_is_refused(sam2_file: Path, tmp_path: Path) -> None:
    encoder = tmp_path / 'sam2_odd_encoder.onnx'
    encoder.write_bytes(sam2_file.read_bytes())
    (tmp_path / 'sam2_odd_decoder.onnx').write_bytes(sam2_file.read_bytes())
    with pytest.raises(CheckpointError, match='not a SAM 2 export'):
        open_segmenter(encoder, 'cpu')


def test_a_damaged_onnx_file_is_refused_where_weights_are_counted(
    tmp_path: Path,
) -> None:
    pytest.importorskip('onnx')
    path = tmp_path / 'damaged.onnx'
    path.write_bytes(b'no model')
    with pytest.raises(CheckpointError, match='damaged.onnx is not a readable'):
        onnx_parameters(path)
