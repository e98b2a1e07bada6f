"""Libraries that report to their makers are told not to, before they are imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from PIL import Image
from weights_files import write_decoder, write_onnx_encoder

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


def connections_of(
    folder: Path, commands: list[list[str]], begin: str = ''
) -> list[str]:
    """Run commands in one process, all of which have to succeed.

    What opens a connection by Python's sockets is in the list, and, where strace is
    installed, what a library does past them.
    """
    code = f"""
{GUARD}
{begin}
from napari_kdsam.cli.main import app
for arguments in {commands!r}:
    try:
        app(arguments)
    except SystemExit as end:
        if end.code:
            raise
"""
    trace = folder / 'calls'
    calls = 'trace=connect,sendto,sendmsg,sendmmsg'
    by_strace = ['strace', '-f', '--seccomp-bpf', '-e', calls, '-o', str(trace)]
    done = subprocess.run(
        [*(by_strace if which('strace') else ()), sys.executable, '-c', code],
        cwd=folder,
        env={**os.environ, 'HOME': str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    traced = trace.read_text().splitlines() if trace.exists() else []
    seen = [line for line in done.stderr.splitlines() if 'A CONNECTION' in line]
    return seen + [line for line in traced if 'AF_INET' in line]


def write_pair(folder: Path) -> None:
    for name, value in (('images', 128), ('masks', 0)):
        array = np.full((80, 90), value, np.uint8)
        array[20:60, 20:60] = 255
        (folder / name).mkdir()
        Image.fromarray(array).save(folder / name / 'a.png')


BOX = ['--box', '20,20,60,60']


@pytest.mark.timeout(300)
def test_no_command_opens_a_connection(tmp_path: Path) -> None:
    write_pair(tmp_path)
    commands = [
        ['info'],
        ['models'],
        ['batch', 'images/a.png', '--out', 'b', *BOX],
        ['segment', 'images/a.png', '--out', 's', *BOX],
        ['embed', 'images/a.png', '--out', 'e'],
    ]
    if all(find_spec(name) for name in ('monai', 'matplotlib')):
        commands.append(['evaluate', '.', '--out', 'v', '--kinds', 'box'])
    assert connections_of(tmp_path, commands) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_no_command_opens_a_connection_with_a_model_in_onnx(
    tmp_path: Path, runtime: str
) -> None:
    pytest.importorskip(runtime)
    write_pair(tmp_path)
    write_decoder(tmp_path)
    model = write_onnx_encoder(tmp_path).name
    # ONNX Runtime is taken first where it is installed.
    only = "sys.modules['onnxruntime'] = None" if runtime == 'openvino' else ''
    commands = [['segment', 'images/a.png', '--out', 's', '--model', model, *BOX]]
    assert connections_of(tmp_path, commands, only) == []
    assert not [found for found in tmp_path.rglob('*') if 'ga_cid' in found.name]
    assert not (tmp_path / '.cache' / 'Microsoft').exists()


def test_the_guard_sees_a_connection(tmp_path: Path) -> None:
    attempt = """
try:
    socket.create_connection(('127.0.0.1', 9))
except OSError:
    pass
"""
    assert connections_of(tmp_path, [['models']], attempt)
