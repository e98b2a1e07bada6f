"""A small folder of shards for tests of training, real images where there are any."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from napari_kdsam import phantoms

DATA_SETS = ('kvasir_seg', 'isic', 'busi', 'hc18')
_MAKERS = (
    phantoms.endoscopy_phantom,
    phantoms.dermoscopy_phantom,
    phantoms.ultrasound_phantom,
    phantoms.ultrasound_phantom,
)


def shared_data() -> Path | None:
    """The folder of real shards, if this machine has it."""
    beside = Path(__file__).resolve().parents[2] / 'shared'
    folder = Path(os.environ.get('KDSAM_SHARED') or beside) / 'data'
    return folder if (folder / 'index.csv').is_file() else None


def write_shards(folder: Path, train: int = 3, val: int = 1) -> Path:
    """Write phantoms as shards laid out like the real ones, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'index.csv').open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['dataset', 'split', 'stem', 'shard', 'patient', 'pixel_mm'])
        for number, (name, make) in enumerate(zip(DATA_SETS, _MAKERS, strict=True)):
            with tarfile.open(folder / f'{name}-00.tar', 'w') as tar:
                for index in range(train + val):
                    phantom = make(seed=100 * number + index)
                    stem = f'{name}_{index}'
                    _add(tar, f'{stem}.jpg', phantom.image)
                    _add(tar, f'{stem}.mask.png', phantom.mask.astype(np.uint8) * 255)
                    split = 'train' if index < train else 'val'
                    writer.writerow([name, split, stem, f'{name}-00.tar', '', ''])
    return folder


def _add(tar: tarfile.TarFile, name: str, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    if name.endswith('.jpg'):
        image.convert('RGB').save(buffer, 'JPEG', quality=90)
    else:
        image.save(buffer, 'PNG')
    entry = tarfile.TarInfo(name)
    entry.size = buffer.tell()
    buffer.seek(0)
    tar.addfile(entry, buffer)
