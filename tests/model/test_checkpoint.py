"""Weights files load exactly as they were saved, or are refused without harm."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from weights_files import write_decoder, write_onnx_encoder

from napari_kdsam import load_model, save_kdsam
from napari_kdsam.core.errors import (
    CheckpointError,
    ModelNotFoundError,
)
from napari_kdsam.model import weights_file
from napari_kdsam.model.checkpoint import load_kdsam, read_metadata
from napari_kdsam.model.network import (
    PromptableModel,
    build_kdsam,
)

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


def test_identity_is_that_of_the_content_whatever_place_and_date_the_file_has(
    altered: Callable[..., Path], tmp_path: Path
) -> None:
    path = altered()
    os.utime(path, ns=(1, 1))
    first, content = load_kdsam(path).identity, bytearray(path.read_bytes())
    copied = tmp_path / 'copied.safetensors'
    copied.write_bytes(content)
    assert load_kdsam(copied).identity.key == first.key
    # The same place, size and date, as of a file saved twice within a clock's tick.
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert load_kdsam(path).identity.key != first.key


def test_a_save_that_fails_leaves_nothing_and_keeps_the_old_file(
    untrained: PromptableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: Any, filename: Any, metadata: Any = None) -> None:
        Path(filename).write_bytes(b'half of it')
        raise OSError('disk full')

    monkeypatch.setattr(weights_file, 'save_file', fail)
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


def test_only_a_student_is_written_as_a_kdsam_checkpoint(tmp_path: Path) -> None:
    model = build_kdsam()
    model.encoder = torch.nn.Identity()
    with pytest.raises(CheckpointError, match='another encoder'):
        save_kdsam(model, tmp_path / 'model.safetensors')
    assert list(tmp_path.iterdir()) == []
