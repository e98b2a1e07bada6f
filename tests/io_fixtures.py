"""What the tests of files and of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from napari_kdsam.cli.main import app
from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.formats import open_image
from napari_kdsam.model import loading

BOX = ['--box', '10,20,40,60']
Run = Callable[..., Any]


def problem_with(path: Path) -> str:
    """The one sentence that refuses a file."""
    with pytest.raises(ImageError) as caught, open_image(path) as image:
        image.frame(0)
    message = str(caught.value)
    assert str(path.parent) not in message, 'folders may identify patients'
    assert message.endswith('.')
    assert '\n' not in message
    return message


def runner_in(folder: Path, monkeypatch: pytest.MonkeyPatch, fake_model: Any) -> Run:
    """Make a function that runs commands in a folder with a model that fills boxes."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(loading, 'load_model', lambda name, device: fake_model)

    def invoke(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [str(part) for part in arguments])
        assert result.exit_code == code, result.output
        assert not any(mark in result.stderr for mark in ('Traceback', 'napari_kdsam/'))
        return result

    return invoke


def image_file(path: Path, shape: tuple[int, ...] = (64, 96)) -> Path:
    pixels = np.full(shape, 50, np.uint8)
    pixels[..., 10:40, 20:60] = 200
    if path.suffix == '.npy':
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path


def labels_in(path: Path) -> np.ndarray:
    return (
        tifffile.imread(path) if path.suffix == '.tif' else np.array(Image.open(path))
    )


def record_of(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text('utf-8'))


def errors_in(result: Any) -> list[str]:
    lines = result.stderr.strip().splitlines()
    assert all(line.startswith('Error: ') and line.endswith('.') for line in lines)
    return lines
