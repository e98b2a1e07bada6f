"""The student, and the choice of models and devices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_kdsam import list_models, load_model
from napari_kdsam.core.errors import (
    DeviceError,
    KDSAMError,
    ModelNotFoundError,
)
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

BUNDLED = find_model(DEFAULT_MODEL).path
STUDENT_LIMIT = 26_400_000
CPU = torch.device('cpu')


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


def test_errors_about_weights_are_the_packages_own(tmp_path: Path) -> None:
    with pytest.raises(KDSAMError) as refusal:
        load_model(tmp_path / 'gone.safetensors')
    assert isinstance(refusal.value, LookupError)
