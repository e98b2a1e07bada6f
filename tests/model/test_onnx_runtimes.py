"""Libraries that report to their makers are told not to, before they are imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_kdsam

PACKAGE = Path(napari_kdsam.__file__).parent

# Stands in for a library: notes what it was told at the moment of its import.
ONNXRUNTIME = """
import os
told = os.environ.get('ORT_DISABLE_TELEMETRY')
events = True
def disable_telemetry_events():
    global events
    events = False
"""
OPENVINO = """
try:
    import openvino_telemetry
    sends = True
except ImportError:
    sends = False
"""


def said_by(folder: Path, code: str) -> str:
    """Run Python with the stand-ins in the place of the libraries."""
    (folder / 'onnxruntime.py').write_text(ONNXRUNTIME)
    (folder / 'openvino.py').write_text(OPENVINO)
    (folder / 'openvino_telemetry.py').touch()
    begin = f'import sys; sys.path[:0] = [{str(folder)!r}]; '
    done = subprocess.run(
        [sys.executable, '-c', begin + code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_onnx_runtime_is_told_before_and_after_its_import(tmp_path: Path) -> None:
    code = (
        'from napari_kdsam.model.onnx_runtimes import import_onnxruntime as load; '
        'module = load(); print(module.told, module.events)'
    )
    assert said_by(tmp_path, code) == '1 False'


def test_openvino_finds_nothing_to_send_with(tmp_path: Path) -> None:
    code = (
        'from napari_kdsam.model.onnx_runtimes import import_openvino as load; '
        'print(load().sends)'
    )
    assert said_by(tmp_path, code) == 'False'


def test_no_other_module_imports_them() -> None:
    found = {
        path.name
        for path in PACKAGE.rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and {'onnxruntime', 'openvino'} & _names(node)
    }
    assert found == {'onnx_runtimes.py'}


def _names(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return {(node.module or '').split('.')[0]} if not node.level else set()
    return {alias.name.split('.')[0] for alias in node.names}


GUARD = """
import socket, sys
def refuse(*_):
    sys.stderr.write('A CONNECTION')
    raise OSError('no network here')
socket.getaddrinfo = socket.gethostbyname = refuse
socket.socket.connect = socket.socket.connect_ex = refuse
"""


@pytest.mark.timeout(300)
def test_no_command_opens_a_connection(tmp_path: Path) -> None:
    """As far as Python's sockets show; the stand-ins above are for the rest."""
    commands = [
        ['info'],
        ['models'],
        ['batch', 'a.png', '--out', 'b', '--box', '20,20,60,60'],
        ['segment', 'a.png', '--out', 's', '--box', '20,20,60,60'],
        ['embed', 'a.png', '--out', 'e'],
    ]
    code = f"""
{GUARD}
import numpy as np
from PIL import Image
from napari_kdsam.cli.main import app
Image.fromarray(np.full((80, 90), 128, np.uint8)).save('a.png')
for arguments in {commands!r}:
    try:
        app(arguments)
    except SystemExit as end:
        print(arguments[0], end.code)
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'A CONNECTION' not in done.stderr
    codes = [line for line in done.stdout.splitlines() if line.endswith(' 0')]
    assert [line.split()[0] for line in codes if line[0] in 'imbse'] == [
        command[0] for command in commands
    ], done.stderr
