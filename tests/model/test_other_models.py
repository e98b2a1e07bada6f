"""Meta's SAM and SAM-compatible ONNX encoders behind the same interface."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from weights_files import mixing_weights, write_decoder, write_onnx_encoder

from napari_kdsam import Predictor, Prompt, load_model
from napari_kdsam.core.errors import (
    CheckpointError,
    MissingExtraError,
)
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.model.network import (
    PIXEL_MEAN,
    PIXEL_STD,
)
from napari_kdsam.model.onnx import OnnxEncoder
from napari_kdsam.model.registry import MODELS_VARIABLE, find_model
from napari_kdsam.model.torchvision_guard import (
    import_segment_anything,
)

# Meta's SAM


@pytest.fixture(scope='module')
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like Meta's ViT-B checkpoint, with random weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('official') / 'sam_vit_b_random.pth'
    torch.save(
        import_segment_anything().sam_model_registry['vit_b']().state_dict(), path
    )
    return path


def test_metas_checkpoint_file_loads_by_its_path_alone(official: Path) -> None:
    model = load_model(official, 'cpu')
    assert model.identity.architecture == 'sam_vit_b'
    assert model.input_size == 1024
    embedding = torch.randn(1, 256, 64, 64)
    with torch.inference_mode():
        logits, scores = model.decode(
            embedding,
            boxes=torch.tensor([[100.0, 100.0, 500.0, 400.0]]),
            multimask_output=False,
        )
    assert logits.shape == (1, 1, 256, 256)
    assert scores.shape == (1, 1)
    stored = torch.load(official, weights_only=True)
    name = 'mask_decoder.iou_token.weight'
    assert torch.equal(model.state_dict()[name], stored[name])


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Any, Path]:
    """segment_anything's ViT-B with two window blocks, and its file: wide but quick."""
    package = import_segment_anything()

    def build(checkpoint: None = None) -> Any:
        # The function build_sam hides the module of that name in the package.
        module = sys.modules['segment_anything.build_sam']
        return module._build_sam(768, 2, 12, [], checkpoint)

    monkeypatch.setitem(package.sam_model_registry, 'vit_b', build)
    torch.manual_seed(2)
    sam = build()
    path = tmp_path / 'shallow.pth'
    torch.save(sam.state_dict(), path)
    return sam, path


def test_our_masks_are_those_of_segment_anything(shallow: tuple[Any, Path]) -> None:
    sam, path = shallow
    image = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    theirs = import_segment_anything().SamPredictor(sam)
    ours = Predictor(load_model(path, 'cpu', dtype=torch.float32))
    theirs.set_image(image)
    embedding = ours.embed(image)
    assert embedding.features.shape == (1, 256, 64, 64)
    torch.testing.assert_close(
        embedding.features, theirs.get_image_embedding(), atol=1e-4, rtol=1e-3
    )

    row0, col0, row1, col1 = 20, 31, 77, 150
    mask, score, logits = theirs.predict(
        box=np.array([col0, row0, col1, row1]), multimask_output=False
    )
    found = ours.predict(embedding, Prompt(box=(row0, col0, row1, col1)))
    np.testing.assert_allclose(found.logits, logits[0], atol=1e-3)
    assert found.score == pytest.approx(float(score[0]), abs=1e-4)
    assert (found.mask != mask[0]).mean() < 1e-3

    # Our pixel centres are exact; theirs are off by less than half an image pixel.
    row, column = 40, 90
    scale = PaddedSquare((120, 200), 1024).scale
    shifted = [column + 0.5 - 0.5 / scale[1], row + 0.5 - 0.5 / scale[0]]
    assert max(abs(shifted[0] - column), abs(shifted[1] - row)) < 0.5
    _, scores, logits = theirs.predict(
        point_coords=np.array([shifted]), point_labels=np.array([1])
    )
    found = ours.predict(embedding, Prompt(points=[(row, column)]))
    assert len(found.candidates) == 3
    for candidate, their_logits, their_score in zip(
        found.candidates, logits, scores, strict=True
    ):
        np.testing.assert_allclose(candidate.logits, their_logits, atol=1e-3)
        assert candidate.score == pytest.approx(float(their_score), abs=1e-4)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'image_encoder.pos_embed': torch.zeros(1, 64, 64, 96)}, 'another kind'),
        ({'image_encoder.pos_embed': torch.tensor(1.0)}, 'another kind'),
        ({'weight': torch.zeros(3)}, 'another kind'),
        ({}, 'another kind'),
        ([torch.zeros(3)], 'does not hold a SAM checkpoint'),
        (torch.zeros(3), 'does not hold a SAM checkpoint'),
        ({'epoch': 3, 'model': torch.zeros(3)}, 'does not hold a SAM checkpoint'),
    ],
    ids=['width', 'scalar', 'other', 'empty', 'list', 'tensor', 'training state'],
)
def test_other_torch_files_are_refused(
    tmp_path: Path, content: Any, message: str
) -> None:
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_model(path, 'cpu')


def test_metas_file_with_a_tensor_missing_or_cut_short_is_refused(
    shallow: tuple[Any, Path],
) -> None:
    _, path = shallow
    whole = path.read_bytes()
    tensors = torch.load(path, weights_only=True)
    tensors.pop('mask_decoder.iou_token.weight')
    torch.save(tensors, path)
    with pytest.raises(CheckpointError, match='misses 1 tensor .*iou_token'):
        load_model(path, 'cpu')
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match='not a readable checkpoint'):
        load_model(path, 'cpu')


# ONNX encoders


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize('batch', [1, 'N'])
def test_an_onnx_encoder_joins_sams_decoder_in_either_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, batch: Any
) -> None:
    pytest.importorskip(runtime)
    if runtime == 'openvino':
        without(monkeypatch, 'onnxruntime')
    write_decoder(tmp_path)
    path = write_onnx_encoder(tmp_path, batch=batch)
    model = load_model(path, 'cpu', dtype=torch.float32)
    assert model.input_size == 1024
    pixels = torch.randint(0, 256, (2, 3, 1024, 640), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    padded = functional.pad((pixels.float() - mean) / std, (0, 384, 0, 0))
    expected = functional.conv2d(
        functional.avg_pool2d(padded, 16), torch.from_numpy(mixing_weights())
    )
    torch.testing.assert_close(model.encode(pixels), expected, atol=1e-4, rtol=1e-4)

    predictor = Predictor(model)
    embedding = predictor.embed(np.eye(40, 60, dtype=np.uint8) * 255)
    assert predictor.predict(embedding, Prompt(points=[(5, 5)])).mask.shape == (40, 60)


def test_without_a_runtime_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_decoder(tmp_path)
    path = write_onnx_encoder(tmp_path)
    without(monkeypatch, 'onnxruntime', 'openvino')
    with pytest.raises(MissingExtraError, match=r'napari-kdsam\[fast\]'):
        load_model(path, 'cpu')


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize('shape', [{'side': 512}, {'channels': 128}], ids=str)
def test_an_onnx_model_that_is_not_a_sam_encoder_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str,
    shape: dict[str, Any],
) -> None:
    pytest.importorskip(runtime)
    if runtime == 'openvino':
        without(monkeypatch, 'onnxruntime')
    write_decoder(tmp_path)
    with pytest.raises(CheckpointError, match='not a SAM-compatible image encoder'):
        load_model(write_onnx_encoder(tmp_path, **shape), 'cpu')


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize(
    ('name', 'damaged'),
    [(b'AveragePool', b'\x88veragePool'), (b'mixing', b'mixin\x9d')],
)
def test_an_onnx_model_with_names_that_are_no_text_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str,
    name: bytes,
    damaged: bytes,
) -> None:
    pytest.importorskip(runtime)
    if runtime == 'openvino':
        without(monkeypatch, 'onnxruntime')
    path = write_onnx_encoder(tmp_path)
    path.write_bytes(path.read_bytes().replace(name, damaged, 1))
    with pytest.raises(CheckpointError, match='copy it again'):
        OnnxEncoder(path)


def test_an_onnx_encoder_runs_on_the_device_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip('onnxruntime')
    asked = []
    plain = onnxruntime.InferenceSession

    def record(path: str, providers: list[str]) -> Any:
        asked.append(providers)
        return plain(path, providers=['CPUExecutionProvider'])

    both = ['CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: both)
    monkeypatch.setattr(onnxruntime, 'InferenceSession', record)
    encoder = OnnxEncoder(write_onnx_encoder(tmp_path))
    encoder.run_on(torch.device('cpu'))
    assert asked == [['CPUExecutionProvider']]
    encoder.run_on(torch.device('cuda'))
    assert asked[1:] == [both]


def test_an_encoder_that_cannot_take_single_precision_is_refused_when_loaded(
    tmp_path: Path,
) -> None:
    pytest.importorskip('onnxruntime')
    write_decoder(tmp_path)
    with pytest.raises(CheckpointError, match='tiny.onnx'):
        load_model(write_onnx_encoder(tmp_path, element='FLOAT16'), 'cpu')


def test_an_onnx_encoder_without_sams_decoder_says_what_to_put_beside_it(
    tmp_path: Path,
) -> None:
    pytest.importorskip('onnxruntime')
    with pytest.raises(
        CheckpointError, match='put sam_prompt_mask_decoder.safetensors beside it'
    ):
        load_model(write_onnx_encoder(tmp_path), 'cpu')


def test_mobile_sam_segments_a_disc_where_its_files_are() -> None:
    if not os.environ.get(MODELS_VARIABLE) or not find_model('mobile_sam').available:
        pytest.skip(f'MobileSAM is not in the folder that {MODELS_VARIABLE} names')
    pytest.importorskip('onnxruntime')
    predictor = Predictor(load_model('mobile_sam', 'cpu'))
    rows, columns = np.ogrid[:120, :200]
    disc = (rows - 60) ** 2 + (columns - 120) ** 2 <= 30**2
    image = np.where(disc, 200, 50).astype(np.uint8)
    found = predictor.predict(predictor.embed(image), Prompt(box=(30, 90, 91, 151)))
    assert (found.mask & disc).sum() / (found.mask | disc).sum() > 0.9
