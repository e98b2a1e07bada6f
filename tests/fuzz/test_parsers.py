"""Damaged files of users: each gives a result or one of the project's own errors."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_scripts import SHAPE
from PIL import Image

from napari_kdsam.annotation.session_file import (
    SavedSession,
    read_session,
    write_session,
)
from napari_kdsam.annotation.state import AnnotationState
from napari_kdsam.batch.records import Record, StackRecord
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.io.coco import read_coco_masks
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.prompts import read_prompts

# `make fuzz` gives each parser a time, less memory, and its worst input a limit.
_SECONDS = float(os.environ.get('KDSAM_FUZZ_SECONDS', 0))
_INPUTS = 200
_SECONDS_AN_INPUT = 10
_MEMORY = 2 * 2**30
_LONGEST_MESSAGE = 1000
_ODD = (
    b'null', b'NaN', b'1e999', b'-1', b'9' * 5000, b'[' * 2000, b'{}', b'"x"', b'true',
    b'\xff', b'\x00', b'"\\ud800"', b'0.5', b',', b'\n', b'[]',
)  # fmt: skip
_PROMPTS = {'format': 1, 'images': {'a.png': {'objects': [{'points': [[1, 2]]}]}}}
_COCO = {
    'images': [{'id': 1, 'file_name': 'a.png', 'height': 6, 'width': 8, 'frame': 0}],
    'annotations': [
        {
            'id': 1,
            'image_id': 1,
            'category_id': 1,
            'bbox': [1, 2, 3, 4],
            'label': 2,
            'segmentation': segmentation,
        }
        | {'id': number}
        for number, segmentation in enumerate(
            ([[1, 1, 5, 1, 5, 4]], {'size': [6, 8], 'counts': [6, 3, 39]})
        )
    ],
    'categories': [{'id': 1, 'name': 'polyp'}],
}
_TABLE = 'image,frame,object,row,column,label\na.png,0,1,10,20,1\na.png,1,2,3,4,\n'


def damaged(seed: bytes, chance: random.Random) -> bytes:
    """A file with a few bytes changed, cut, doubled or replaced by something odd."""
    content = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.choice((0, 1, 1, 2, 5, 40)))
        kind = chance.randrange(4)
        if kind == 0:
            content[start:end] = chance.choice(_ODD)
        elif kind == 1:
            content[start:end] = bytes(
                chance.randrange(256) for _ in range(end - start)
            )
        elif kind == 2:
            content[start:start] = content[start:end]
        else:
            del content[start:end]
    return bytes(content)


def session(folder: Path) -> bytes:
    write_session(folder / 's.json', SavedSession('d', SHAPE, AnnotationState()))
    return (folder / 's.json').read_bytes()


def _masks(path: Path) -> Any:
    return list(read_coco_masks(path))


def _record(path: Path) -> Any:
    return Record.from_json(path.read_bytes()), StackRecord.from_json(path.read_bytes())


PARSERS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], bytes]]] = {
    'prompts': (read_prompts, lambda _: json.dumps(_PROMPTS).encode()),
    'table': (read_prompts, lambda _: _TABLE.encode()),
    'coco boxes': (read_prompts, lambda _: json.dumps(_COCO).encode()),
    'coco masks': (_masks, lambda _: json.dumps(_COCO).encode()),
    'session': (read_session, session),
    'record': (
        _record,
        lambda _: b'{"fingerprint": "a", "objects": [[1, 0.5, 9]], "reason": ""}',
    ),
}


def _images(path: Path) -> Any:
    with open_image(path) as image:
        return image.frame()


def _picture(kind: str) -> Callable[[Path], bytes]:
    def seed(_: Path) -> bytes:
        file = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
        if kind == 'npy':
            np.save(file, pixels)
        else:
            Image.fromarray(pixels).save(file, kind)
        return file.getvalue()

    return seed


def _weights(folder: Path) -> bytes:
    torch = pytest.importorskip('torch')
    torch.save({'a.weight': torch.zeros(2, 3)}, folder / 'seed')
    return (folder / 'seed').read_bytes()


def _tensors(path: Path) -> Any:
    from napari_kdsam.model.sam import read_official_tensors

    return read_official_tensors(path)


def _header(folder: Path) -> bytes:
    from safetensors.numpy import save

    header = {'format': 1, 'input_size': 512, 'architecture': 'resnet50-v1-fpn-p3'}
    return save({'a': np.zeros((2, 3), np.float32)}, {'kdsam': json.dumps(header)})


def _checkpoint(path: Path) -> Any:
    from napari_kdsam.model.checkpoint import read_metadata, read_tensors

    return read_metadata(path), read_tensors(path)


def _configuration(path: Path) -> Any:
    from napari_kdsam.training.config_file import read_config

    return read_config(path)


def _yaml(_: Path) -> bytes:
    pytest.importorskip('yaml')
    from napari_kdsam.training.config_file import CONFIG_FOLDER

    return (CONFIG_FOLDER / 'cpu.yaml').read_bytes()


PARSERS |= {
    'weights.pth': (_tensors, _weights),
    'weights.safetensors': (_checkpoint, _header),
    'configuration.yaml': (_configuration, _yaml),
    'a.png': (_images, _picture('png')),
    'a.jpg': (_images, _picture('jpeg')),
    'a.tif': (_images, _picture('tiff')),
    'a.bmp': (_images, _picture('bmp')),
    'a.gif': (_images, _picture('gif')),
    'a.webp': (_images, _picture('webp')),
    'a.npy': (_images, _picture('npy')),
}


def _too_long(*_: object) -> None:
    raise AssertionError(f'An input took more than {_SECONDS_AN_INPUT} s.')


@pytest.fixture
def limited() -> Iterator[None]:
    """The limits of `make fuzz`: memory beyond what is taken already, and time."""
    if not _SECONDS:
        yield
        return
    import resource

    taken = (
        int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    )
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY, before[1]))
    signal.signal(signal.SIGALRM, _too_long)
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', PARSERS)
def test_a_damaged_file_gives_a_result_or_one_sentence(
    tmp_path: Path, name: str, limited: None
) -> None:
    parse, seed_of = PARSERS[name]
    seed, chance = seed_of(tmp_path), random.Random(f'{name} {_SECONDS}')
    path = tmp_path / name
    path.write_bytes(seed)
    parse(path)
    count, end = 0, time.monotonic() + _SECONDS
    while count < _INPUTS or time.monotonic() < end:
        path.write_bytes(damaged(seed, chance))
        if _SECONDS:
            signal.alarm(_SECONDS_AN_INPUT)
        try:
            parse(path)
        except KDSAMError as error:
            assert len(str(error)) < _LONGEST_MESSAGE
        count += 1
    print(f'{name}: {count} inputs')
