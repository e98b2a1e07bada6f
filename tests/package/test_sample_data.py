"""Sample images: what napari's sample menu offers."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

from napari_kdsam import sample_data
from napari_kdsam.core.errors import MissingExtraError

NAMES = [
    'lymph_node_ultrasound',
    'heart_ultrasound_cine',
    'dermoscopy_phantom',
    'endoscopy_phantom',
    'ultrasound_phantom',
]
PHANTOMS = NAMES[2:]


def test_the_manifest_offers_exactly_these_samples() -> None:
    manifest = (files('napari_kdsam') / 'napari.yaml').read_text()
    offered = [
        line.rsplit(':', 1)[1]
        for line in manifest.splitlines()
        if 'napari_kdsam.sample_data:' in line
    ]
    assert sorted(offered) == sorted(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_a_sample_is_layers_that_napari_can_show(name: str) -> None:
    for data, attributes, kind in getattr(sample_data, name)():
        assert kind in ('image', 'labels')
        assert attributes['name']
        assert data.dtype == np.uint8
        if kind == 'image':
            assert data.max() > 100
            assert attributes['rgb'] == (data.shape[-1] == 3)


def test_the_heart_is_a_cine_of_30_frames() -> None:
    ((cine, attributes, _),) = sample_data.heart_ultrasound_cine()
    assert cine.shape == (30, 240, 320, 3)
    assert attributes['rgb']
    assert (cine[0] != cine[15]).any()


@pytest.mark.parametrize('name', PHANTOMS)
def test_a_phantom_comes_with_its_hidden_ground_truth(name: str) -> None:
    image, truth = getattr(sample_data, name)()
    assert (image[2], truth[2]) == ('image', 'labels')
    assert truth[1]['visible'] is False
    assert truth[0].shape == image[0].shape[: truth[0].ndim]
    assert set(np.unique(truth[0])) == {0, 1}


@pytest.mark.parametrize('name', NAMES[:2])
def test_real_samples_without_pydicom_say_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'pydicom.examples', None)
    with pytest.raises(MissingExtraError, match=r'napari-kdsam\[medical\]'):
        getattr(sample_data, name)()


def test_samples_load_neither_torch_nor_qt_nor_napari() -> None:
    code = (
        'import json, sys\n'
        'from napari_kdsam import sample_data\n'
        f'for name in {NAMES}: getattr(sample_data, name)()\n'
        'print(json.dumps(sorted(sys.modules)))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    loaded = {name.split('.')[0] for name in json.loads(done.stdout)}
    assert not loaded & {'torch', 'torchvision', 'qtpy', 'PyQt6', 'napari'}
