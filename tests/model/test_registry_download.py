"""Downloading weights, from a server on this computer."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from napari_kdsam.core.errors import ModelNotFoundError
from napari_kdsam.model import registry

WEIGHTS = bytes(range(256)) * 4000
MODEL = 'sam_vit_b'


class WeightsServer(ThreadingHTTPServer):
    """Serves `WEIGHTS`, or a failure, and counts what it was asked for."""

    status = 200
    content = WEIGHTS
    announced_bytes = len(WEIGHTS)
    requests = 0

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}/weights.pth'


class Handler(BaseHTTPRequestHandler):
    server: WeightsServer

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        self.send_response(200)
        self.send_header('Content-Length', str(self.server.announced_bytes))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args: Any) -> None:
        """Keep the test output clean."""


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with WeightsServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The models folder, with the registry pointing at `server`."""
    entry = dataclasses.replace(
        registry.find_model(MODEL),
        url=server.url,
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    )
    monkeypatch.setattr(registry, '_ENTRIES', (entry,))
    monkeypatch.setenv(registry.MODELS_VARIABLE, str(tmp_path / 'models'))
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    return tmp_path / 'models'


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob('*')]


def test_a_download_is_complete_and_makes_the_model_available(folder: Path) -> None:
    assert not registry.find_model(MODEL).available
    path = registry.download_model(MODEL)
    assert path.read_bytes() == WEIGHTS
    assert files_in(folder) == ['sam_vit_b_01ec64.pth']
    assert registry.find_model(MODEL).path == path
    assert registry.find_model(MODEL).available


def test_a_wrong_checksum_leaves_nothing_behind(
    folder: Path, server: WeightsServer
) -> None:
    server.content = bytes(len(WEIGHTS))
    with pytest.raises(ModelNotFoundError, match='(?i)sha256|checksum|hash'):
        registry.download_model(MODEL)
    assert server.requests > 0
    assert files_in(folder) == []
    assert not registry.find_model(MODEL).available


def test_a_download_cut_short_leaves_nothing_behind(
    folder: Path, server: WeightsServer
) -> None:
    server.content = WEIGHTS[: len(WEIGHTS) // 2]
    with pytest.raises(ModelNotFoundError, match='failed'):
        registry.download_model(MODEL)
    assert files_in(folder) == []
    assert not registry.find_model(MODEL).available


def test_a_download_stops_where_the_published_file_would_have_ended(
    folder: Path, server: WeightsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataclasses.replace(registry.find_model(MODEL), megabytes=1)
    monkeypatch.setattr(registry, '_ENTRIES', (entry,))
    server.announced_bytes = 10**13
    server.content = bytes(2_100_000)
    with pytest.raises(ModelNotFoundError, match='more arrived than the 1 MB'):
        registry.download_model(MODEL)
    assert files_in(folder) == []


def test_a_download_that_failed_can_be_repeated(
    folder: Path, server: WeightsServer
) -> None:
    server.content = WEIGHTS[:1000]
    with pytest.raises(ModelNotFoundError):
        registry.download_model(MODEL)
    server.content = WEIGHTS
    assert registry.download_model(MODEL).read_bytes() == WEIGHTS


def test_a_file_that_is_there_already_needs_no_server(
    folder: Path, server: WeightsServer
) -> None:
    folder.mkdir()
    (folder / 'sam_vit_b_01ec64.pth').write_bytes(WEIGHTS)
    server.status = 503
    assert registry.download_model(MODEL) == folder / 'sam_vit_b_01ec64.pth'
    assert server.requests == 0


def test_a_damaged_file_is_replaced(folder: Path) -> None:
    folder.mkdir()
    (folder / 'sam_vit_b_01ec64.pth').write_bytes(WEIGHTS[:1000])
    assert registry.download_model(MODEL).read_bytes() == WEIGHTS


def test_a_damaged_file_survives_a_download_that_fails(
    folder: Path, server: WeightsServer
) -> None:
    folder.mkdir()
    (folder / 'sam_vit_b_01ec64.pth').write_bytes(b'what the user put there')
    server.status = 503
    with pytest.raises(ModelNotFoundError):
        registry.download_model(MODEL)
    kept = folder / 'sam_vit_b_01ec64.pth'
    assert kept.read_bytes() == b'what the user put there'


def test_a_missing_file_on_the_server_is_one_sentence_saying_what_to_do(
    folder: Path, server: WeightsServer
) -> None:
    server.status = 404
    with pytest.raises(ModelNotFoundError) as caught:
        registry.download_model(MODEL)
    message = str(caught.value)
    assert '404' in message
    assert str(folder) in message
    assert message.endswith('.')
    assert '. ' not in message
    assert '\n' not in message
    assert files_in(folder) == []


def test_a_server_that_is_gone_is_an_error_and_leaves_nothing_behind(
    folder: Path, server: WeightsServer
) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelNotFoundError, match='failed'):
        registry.download_model(MODEL)
    assert files_in(folder) == []


def test_the_bundled_model_is_never_downloaded() -> None:
    path = registry.download_model(registry.DEFAULT_MODEL)
    assert path == registry.find_model(registry.DEFAULT_MODEL).path
    assert path.is_file()


def test_a_model_without_a_download_says_where_to_put_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.MODELS_VARIABLE, str(tmp_path))
    with pytest.raises(ModelNotFoundError, match='mobile_sam_encoder.onnx') as caught:
        registry.download_model('mobile_sam')
    assert str(tmp_path) in str(caught.value)


def test_an_unknown_model_is_refused_with_the_known_names() -> None:
    with pytest.raises(ModelNotFoundError, match=r'no_such_model.*kdsam'):
        registry.download_model('no_such_model')
