"""Weights files load exactly as they were saved, or are refused without harm."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional

from napari_kdsam import Predictor, Prompt, list_models, load_model, save_kdsam
from napari_kdsam.errors import (
    CheckpointError,
    DeviceError,
    KDSAMError,
    MissingExtraError,
    ModelNotFoundError,
)
from napari_kdsam.inference.geometry import Frame
from napari_kdsam.model import checkpoint
from napari_kdsam.model.checkpoint import load_kdsam, read_metadata
from napari_kdsam.model.device import (
    available_devices,
    preferred_dtype,
    resolve_device,
)
from napari_kdsam.model.network import (
    PIXEL_MEAN,
    PIXEL_STD,
    PromptableModel,
    build_kdsam,
    build_sam_decoder,
)
from napari_kdsam.model.registry import DEFAULT_MODEL, MODELS_VARIABLE, find_model
from napari_kdsam.model.torchvision_guard import (
    import_segment_anything,
    non_maximum_suppression,
)

SOURCE = Path(__file__).resolve().parents[1] / 'src'
BUNDLED = find_model(DEFAULT_MODEL).path
STUDENT_LIMIT = 26_400_000
CPU = torch.device('cpu')


def shake_norms(model: PromptableModel) -> None:
    """Give batch norms statistics as after training, some beyond float16."""
    for name, buffer in model.named_buffers():
        if name.endswith('running_mean'):
            buffer.copy_(torch.randn_like(buffer) * 0.1)
        elif name.endswith('running_var'):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    model.get_buffer('encoder.trunk.bn1.running_var')[0] = 123_456.0


@pytest.fixture(scope='module')
def untrained() -> PromptableModel:
    """A student with random weights; tests leave it as it is."""
    torch.manual_seed(0)
    model = build_kdsam(512)
    shake_norms(model)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope='module')
def saved(untrained: PromptableModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random student's checkpoint; tests leave it as it is."""
    path = tmp_path_factory.mktemp('saved') / 'mine.safetensors'
    return save_kdsam(untrained, path, {'teacher': 'nobody', 'note': {'epochs': 3}})


@pytest.fixture
def altered(saved: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the saved checkpoint again with a change to its tensors or header."""

    def write(
        change: Callable[[dict[str, torch.Tensor]], Any] | None = None,
        **header: Any,
    ) -> Path:
        tensors = load_file(saved)
        if change:
            change(tensors)
        described = read_metadata(saved).model_dump() | header
        path = tmp_path / 'altered.safetensors'
        save_file(tensors, path, {'kdsam': json.dumps(described)})
        return path

    return write


# The student


@pytest.mark.parametrize('input_size', [512, 1024])
def test_the_student_is_small_and_gives_sams_embedding(input_size: int) -> None:
    encoder = build_kdsam(input_size).encoder.eval()
    parameters = sum(tensor.numel() for tensor in encoder.parameters())
    assert 20_000_000 < parameters <= STUDENT_LIMIT
    with torch.inference_mode():
        embedding = encoder(torch.zeros(1, 3, input_size, input_size))
    assert embedding.shape == (1, 256, 64, 64)
    assert bool(torch.isfinite(embedding).all())


def test_other_input_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match='512 or 1024'):
        build_kdsam(768)


def test_preparing_for_inference_changes_no_result(saved: Path) -> None:
    plain = load_kdsam(saved).eval()
    pixels = torch.randint(0, 255, (1, 3, 320, 512), dtype=torch.uint8)
    with torch.inference_mode():
        before = plain.encode(pixels)
        after = plain.prepare(CPU, torch.float32).encode(pixels)
        again = plain.prepare(CPU, torch.float32).encode(pixels)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(again, after)
    assert not any(parameter.requires_grad for parameter in plain.parameters())


def test_pixels_are_normalised_and_padded_at_the_bottom_and_right() -> None:
    seen = []

    class Listening(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(pixels)
            return torch.zeros(1, 256, 64, 64)

    model = PromptableModel(Listening(), *build_sam_decoder(), 512)
    pixels = torch.randint(0, 256, (1, 3, 200, 512), dtype=torch.uint8)
    model.encode(pixels)
    (given_pixels,) = seen
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    assert given_pixels.shape == (1, 3, 512, 512)
    torch.testing.assert_close(given_pixels[:, :, :200], (pixels.float() - mean) / std)
    assert not given_pixels[:, :, 200:].any()


# Checkpoints: what is saved is what is loaded


def test_a_saved_model_loads_equal_to_half_precision(
    untrained: PromptableModel, saved: Path
) -> None:
    loaded = load_kdsam(saved).state_dict()
    for name, tensor in untrained.state_dict().items():
        if name.endswith('num_batches_tracked'):
            continue
        expected = tensor.half().float() if tensor.ndim > 1 else tensor
        assert torch.equal(loaded[name], expected), name


def test_kernels_are_stored_in_half_and_statistics_in_single_precision(
    saved: Path,
) -> None:
    with safe_open(saved, 'pt') as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            tensor = file.get_tensor(name)
            expected = torch.float16 if tensor.ndim > 1 else torch.float32
            assert tensor.dtype == expected, name
            assert not name.endswith('num_batches_tracked')
        overflowing = file.get_tensor('encoder.trunk.bn1.running_var')
    assert overflowing[0] == 123_456.0


def test_a_saved_file_is_a_model_by_its_path_alone(
    untrained: PromptableModel, saved: Path
) -> None:
    model = load_model(str(saved), 'cpu', dtype=torch.float32)
    pixels = torch.randint(0, 255, (1, 3, 512, 512), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(
            model.encode(pixels), untrained.encode(pixels), atol=2e-2, rtol=2e-2
        )
    assert model.identity.name == 'mine'
    assert model.identity.architecture == 'resnet50-v1-fpn-p3'


def test_a_1024_pixel_model_saves_and_loads(tmp_path: Path) -> None:
    path = save_kdsam(build_kdsam(1024), tmp_path / 'large.safetensors')
    loaded = load_kdsam(path)
    assert loaded.input_size == 1024
    assert loaded.identity.architecture == 'resnet50-v1-fpn-p4'


def test_the_description_is_kept_with_keys_this_version_does_not_know(
    saved: Path,
) -> None:
    metadata = read_metadata(saved).model_dump()
    assert metadata['teacher'] == 'nobody'
    assert metadata['note'] == {'epochs': 3}
    assert load_kdsam(saved).identity.metadata == metadata


def test_a_description_cannot_contradict_the_tensors(
    untrained: PromptableModel, tmp_path: Path
) -> None:
    claims = {'format': 99, 'architecture': 'vit', 'input_size': 7}
    metadata = read_metadata(save_kdsam(untrained, tmp_path / 'a.safetensors', claims))
    assert (metadata.format, metadata.input_size) == (1, 512)
    assert metadata.architecture == 'resnet50-v1-fpn-p3'


def test_identity_changes_with_the_file(altered: Callable[..., Path]) -> None:
    path = altered()
    first, same = load_kdsam(path).identity, load_kdsam(path).identity
    assert first.key == same.key
    os.utime(path, ns=(1, 1))
    assert load_kdsam(path).identity.key != first.key


def test_a_save_that_fails_leaves_nothing_and_keeps_the_old_file(
    untrained: PromptableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: Any, filename: Any, metadata: Any = None) -> None:
        Path(filename).write_bytes(b'half of it')
        raise OSError('disk full')

    monkeypatch.setattr(checkpoint, 'save_file', fail)
    with pytest.raises(OSError, match='disk full'):
        save_kdsam(untrained, tmp_path / 'new.safetensors')
    assert list(tmp_path.iterdir()) == []
    old = tmp_path / 'old.safetensors'
    old.write_bytes(b'precious')
    with pytest.raises(OSError, match='disk full'):
        save_kdsam(untrained, old)
    assert [path.name for path in tmp_path.iterdir()] == ['old.safetensors']
    assert old.read_bytes() == b'precious'


def test_values_beyond_half_precision_are_not_written(tmp_path: Path) -> None:
    model = build_kdsam(512)
    name = 'encoder.neck.lateral3.weight'
    with torch.no_grad():
        model.get_parameter(name)[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=name):
        save_kdsam(model, tmp_path / 'model.safetensors')
    assert list(tmp_path.iterdir()) == []


def test_a_model_prepared_for_inference_is_not_written_as_a_checkpoint(
    saved: Path, tmp_path: Path
) -> None:
    model = load_model(saved, 'cpu', dtype=torch.float32)
    with pytest.raises(CheckpointError, match='prepared|inference'):
        save_kdsam(model, tmp_path / 'model.safetensors')
    assert list(tmp_path.iterdir()) == []


# Checkpoints: what is refused


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda t: t.pop('encoder.trunk.conv1.weight'),
            r'misses 1 tensor \(encoder.trunk.conv1.weight\)',
        ),
        (
            lambda t: t.update({'encoder.trunk.conv1.weight': torch.zeros(64, 3, 3)}),
            r'wrong shape .*conv1.weight \(64, 3, 3\) instead of \(64, 3, 7, 7\)',
        ),
        (
            lambda t: t.update({'encoder.extra': torch.zeros(1)}),
            r'unknown 1 tensor \(encoder.extra\)',
        ),
        (
            lambda t: t['mask_decoder.mask_tokens.weight'].fill_(torch.nan),
            r'not finite in 1 tensor \(mask_decoder.mask_tokens.weight\)',
        ),
        (
            lambda t: [t.pop(name) for name in sorted(t)[:5]],
            'misses 5 tensors .* and 2 more',
        ),
    ],
    ids=['missing', 'misshapen', 'unknown', 'nan', 'several missing'],
)
def test_tensors_that_do_not_fit_are_named(
    altered: Callable[..., Path], change: Any, message: str
) -> None:
    path = altered(change)
    with pytest.raises(CheckpointError, match=message) as refusal:
        load_model(path, 'cpu')
    assert path.name in str(refusal.value)


@pytest.mark.parametrize(
    ('header', 'message'),
    [
        ({'format': 2}, 'update napari-kdsam'),
        ({'format': 'one'}, 'unusable header: format'),
        ({'architecture': 'vit_b'}, "'vit_b'"),
        ({'architecture': ''}, 'resnet50-v1-fpn-p3'),
        ({'architecture': 'resnet50-v1-fpn-p4'}, 'resnet50-v1-fpn-p3'),
        ({'input_size': 768}, '768 pixel input'),
        ({'input_size': None}, 'unusable header: input_size'),
    ],
)
def test_a_header_this_version_cannot_follow_is_refused(
    tmp_path: Path, header: dict[str, Any], message: str
) -> None:
    good = {'format': 1, 'architecture': 'resnet50-v1-fpn-p3', 'input_size': 512}
    path = tmp_path / 'model.safetensors'
    save_file({'a': torch.zeros(1)}, path, {'kdsam': json.dumps(good | header)})
    with pytest.raises(CheckpointError, match=message):
        load_model(path, 'cpu')


@pytest.mark.parametrize('text', ['', 'not json', '[]', '"text"', 'null'])
def test_a_header_that_is_not_a_description_is_refused(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / 'model.safetensors'
    save_file({'a': torch.zeros(1)}, path, {'kdsam': text})
    with pytest.raises(CheckpointError, match='unusable header'):
        load_model(path, 'cpu')


@pytest.mark.parametrize('metadata', [None, {'format': 'pt'}])
def test_other_safetensors_files_are_refused(tmp_path: Path, metadata: Any) -> None:
    path = tmp_path / 'other.safetensors'
    save_file({'a': torch.zeros(1)}, path, metadata)
    with pytest.raises(CheckpointError, match='not a KD SAM checkpoint'):
        load_model(path, 'cpu')


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth', '.pt', '.onnx'])
@pytest.mark.parametrize('content', [b'', b'garbage', b'\x00' * 4096])
def test_files_of_another_kind_are_refused_whatever_their_name(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f'model{suffix}'
    path.write_bytes(content)
    if suffix == '.onnx':
        pytest.importorskip('onnxruntime')
        write_decoder(tmp_path)
    with pytest.raises(CheckpointError, match=path.name):
        load_model(path, 'cpu')


@pytest.mark.parametrize('kept', [0.0001, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(
    saved: Path, tmp_path: Path, kept: float
) -> None:
    content = saved.read_bytes()
    path = tmp_path / 'short.safetensors'
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match='copy it again'):
        load_model(path, 'cpu')


@pytest.mark.parametrize('name', ['gone.safetensors', 'gone.pth', 'gone.onnx', 'gone'])
def test_an_absent_file_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match='no weights file at'):
        load_model(tmp_path / name, 'cpu')
    with pytest.raises(CheckpointError, match='no weights file at'):
        load_kdsam(tmp_path / name)


def test_a_folder_or_another_kind_of_file_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match='no weights file'):
        load_model(tmp_path, 'cpu')
    picture = tmp_path / 'scan.png'
    picture.write_bytes(b'png')
    with pytest.raises(CheckpointError, match='not a kind of weights file'):
        load_model(picture, 'cpu')


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), 'w')


@pytest.mark.parametrize('suffix', ['.pth', '.pt', '.safetensors', '.onnx'])
@pytest.mark.parametrize('form', ['zip', 'pickle', 'legacy'])
def test_code_hidden_in_a_weights_file_is_never_run(
    tmp_path: Path, suffix: str, form: str
) -> None:
    marker, path = tmp_path / 'ran', tmp_path / f'model{suffix}'
    content = {'image_encoder.pos_embed': Payload(marker)}
    if form == 'pickle':
        path.write_bytes(pickle.dumps(content))
        pickle.loads(path.read_bytes())['image_encoder.pos_embed'].close()
        assert marker.exists(), 'the payload does nothing, so this test would not'
        marker.unlink()
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == 'zip')
    if suffix == '.onnx':
        pytest.importorskip('onnxruntime')
        write_decoder(tmp_path)
    with pytest.raises(CheckpointError, match=path.name):
        load_model(path, 'cpu')
    assert not marker.exists()


def test_code_hidden_in_a_decoder_file_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / 'ran'
    write_decoder(tmp_path).write_bytes(pickle.dumps(Payload(marker)))
    pytest.importorskip('onnxruntime')
    with pytest.raises(CheckpointError):
        load_model(write_onnx_encoder(tmp_path), 'cpu')
    assert not marker.exists()


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
            embedding, boxes=torch.tensor([[100.0, 100.0, 500.0, 400.0]]), several=False
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
    scale = Frame((120, 200), 1024).scale
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


# Names and devices


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError) as refusal:
        load_model('kdsm')
    assert all(entry.name in str(refusal.value) for entry in list_models())


def test_a_file_that_happens_to_have_a_models_name_does_not_hide_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    (tmp_path / 'mobile_sam').write_bytes(b'my notes about it')
    with pytest.raises(ModelNotFoundError, match='put mobile_sam_encoder.onnx'):
        load_model('mobile_sam')


def test_a_known_model_that_is_absent_says_where_its_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    with pytest.raises(ModelNotFoundError, match='mobile_sam_encoder.onnx') as refusal:
        load_model('mobile_sam')
    assert str(tmp_path) in str(refusal.value)
    with pytest.raises(ModelNotFoundError, match='--download sam_vit_b'):
        load_model('sam_vit_b')


def test_the_default_model_comes_first_and_with_the_package() -> None:
    entry = list_models()[0]
    assert (entry.name, entry.bundled, entry.available) == (DEFAULT_MODEL, True, True)
    assert read_metadata(BUNDLED).input_size == entry.input_size


def test_the_device_is_chosen_or_taken_as_asked() -> None:
    assert resolve_device('cpu') == CPU
    assert resolve_device('auto').type == available_devices()[0]
    assert available_devices()[-1] == 'cpu'


@pytest.mark.parametrize('name', ['', 'gpu', 'cpu0', 'cuda:x', 'CUDA', 'tpu'])
def test_an_unknown_device_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(DeviceError, match='auto, cpu, cuda, mps'):
        resolve_device(name)


@pytest.mark.parametrize('name', ['cuda', 'cuda:0', 'mps'])
def test_an_absent_device_is_refused_before_anything_is_loaded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    with pytest.raises(DeviceError, match=f'{name!r} is not available .* use cpu'):
        load_model('no such model', name)


def test_a_cuda_device_beyond_the_last_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert resolve_device('cuda:1') == torch.device('cuda', 1)
    with pytest.raises(DeviceError, match='2 CUDA device'):
        resolve_device('cuda:2')


@pytest.mark.parametrize(
    ('capabilities', 'expected'),
    [
        ({'avx512_bf16': True}, torch.bfloat16),
        ({'amx_bf16': True}, torch.bfloat16),
        ({'avx512_f': True, 'avx512_bf16': False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_half_precision_is_used_only_on_processors_that_compute_in_it(
    monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, bool],
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr(
        torch.cpu, 'get_capabilities', lambda: capabilities, raising=False
    )
    assert preferred_dtype(CPU) == expected
    assert preferred_dtype(torch.device('cuda')) == torch.float32


# torchvision


FAKE_TORCHVISION = {
    '__init__.py': 'from torchvision import _meta, ops\n',
    '_meta.py': (
        'import torch\n'
        "if not hasattr(torch.ops.torchvision, 'nms'):\n"
        "    raise RuntimeError('operator torchvision::nms does not exist')\n"
    ),
    'ops/__init__.py': '',
    'ops/boxes.py': 'def batched_nms(): ...\ndef box_area(): ...\n',
    'transforms/__init__.py': '',
    'transforms/functional.py': 'def resize(): ...\ndef to_pil_image(): ...\n',
}


def run_with_torchvision(folder: Path, files: dict[str, str], code: str) -> str:
    """Run code in a new Python that finds these files as torchvision."""
    for name, text in files.items():
        target = folder / 'torchvision' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    path = os.pathsep.join([str(folder), str(SOURCE)])
    finished = subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_segment_anything_imports_where_torchvisions_operators_cannot_load(
    tmp_path: Path,
) -> None:
    code = """
import torch
try:
    import torchvision
except RuntimeError as error:
    assert 'torchvision::nms does not exist' in str(error)
else:
    raise AssertionError('torchvision imports, so nothing is tested')
from napari_kdsam.model.torchvision_guard import import_segment_anything
assert import_segment_anything().SamPredictor
assert import_segment_anything() is import_segment_anything()
boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
kept = torch.ops.torchvision.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
print(kept.tolist())
"""
    out = run_with_torchvision(tmp_path, FAKE_TORCHVISION, code)
    assert out.strip() == '[1, 2]'


def test_other_faults_of_torchvision_are_passed_on_at_once(tmp_path: Path) -> None:
    code = """
from napari_kdsam.model.torchvision_guard import import_segment_anything
try:
    import_segment_anything()
except RuntimeError as error:
    print(error)
"""
    fault = "print('importing')\nraise RuntimeError('the driver is on fire')\n"
    out = run_with_torchvision(tmp_path, {'__init__.py': fault}, code)
    assert out.splitlines() == ['importing', 'the driver is on fire']


def reference_suppression(
    boxes: list[tuple[int, int, int, int]], scores: list[float], threshold: float
) -> list[int]:
    """Non-maximum suppression as its definition reads."""

    def iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        union = sum(areas) - width * height
        return width * height / union if union else 0.0

    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda n: (-scores[n], n)):
        if all(iou(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
    return kept


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            *[st.integers(0, 20)] * 2,
            *[st.integers(0, 20)] * 2,
            st.sampled_from([0.1, 0.4, 0.5, 0.9]),
        ),
        max_size=12,
    ),
    # No ratio of small whole numbers, so rounding cannot decide.
    st.sampled_from([0.0, 0.31234567, 0.5123456, 0.91234567]),
)
def test_the_stand_in_for_suppression_follows_the_definition(
    items: list[tuple[int, int, int, int, float]], threshold: float
) -> None:
    boxes = [(x, y, x + width, y + height) for x, y, width, height, _ in items]
    scores = [item[4] for item in items]
    kept = non_maximum_suppression(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float64),
        threshold,
    )
    assert kept.dtype == torch.int64
    assert kept.tolist() == reference_suppression(boxes, scores, threshold)


def test_errors_about_weights_are_the_packages_own(tmp_path: Path) -> None:
    with pytest.raises(KDSAMError) as refusal:
        load_model(tmp_path / 'gone.safetensors')
    assert isinstance(refusal.value, LookupError)


def test_only_a_student_is_written_as_a_kdsam_checkpoint(tmp_path: Path) -> None:
    model = build_kdsam()
    model.encoder = torch.nn.Identity()
    with pytest.raises(CheckpointError, match='another encoder'):
        save_kdsam(model, tmp_path / 'model.safetensors')
    assert list(tmp_path.iterdir()) == []
