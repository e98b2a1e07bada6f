"""The method that `napari-kdsam batch` is asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from io_fixtures import BOX, errors_in, image_file
from typer.testing import CliRunner

from napari_kdsam.batch import runner, work
from napari_kdsam.cli.console import looking_progress
from napari_kdsam.cli.main import app


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Methods and prompts of the batches that were started; none is carried out."""
    jobs: list[Any] = []

    def describe(
        out: Path, model: str, device: str, method: Any, *given: Any, **_: Any
    ):
        jobs.append((str(method), len(given[0].shared)))
        return SimpleNamespace(output=None)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, 'job_for', describe)
    monkeypatch.setattr(runner, 'find_sources', lambda *_: [])
    monkeypatch.setattr(runner, 'run_batch', stop)
    image_file(tmp_path / 'a.png')
    return jobs


@pytest.mark.parametrize(
    ('arguments', 'method'),
    [
        (BOX, 'prompts'),
        ([*BOX, '--method', 'prompts'], 'prompts'),
        ([*BOX, '--method', 'propagation'], 'propagation'),
        ([*BOX, '--propagate'], 'propagation'),
        ([*BOX, '--propagate', '--method', 'propagation'], 'propagation'),
        (['--method', 'automatic'], 'automatic'),
        (['--prompts', 'automatic'], 'automatic'),
        (['--method', 'proposals'], 'proposals'),
        (['--prompts', 'none'], 'proposals'),
    ],
)
def test_the_method_is_the_one_asked_for_in_earlier_spellings_too(
    started: list[Any], arguments: list[str], method: str
) -> None:
    CliRunner().invoke(app, ['batch', 'a.png', '--out', 'out', *arguments])
    assert started == [(method, int(BOX[0] in arguments))]


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        (['--method', 'magic'], "no method 'magic'"),
        (['--method', 'automatic', *BOX], '--method automatic takes no prompts'),
        (['--prompts', 'none', *BOX], '--method proposals takes no prompts'),
        (['--method', 'proposals', '--prompts', 'p.json'], 'takes no prompts'),
        (['--method', 'automatic', '--propagate'], 'leave --propagate out'),
        (['--method', 'propagation'], 'Say where the object is'),
    ],
)
def test_a_method_and_prompts_that_do_not_fit_are_refused(
    started: list[Any], arguments: list[str], problem: str
) -> None:
    result = CliRunner().invoke(app, ['batch', 'a.png', '--out', 'out', *arguments])
    assert result.exit_code == 2
    assert problem in errors_in(result)[0]
    assert started == []


def test_the_help_names_the_methods_and_not_the_earlier_spellings() -> None:
    text = ' '.join(CliRunner().invoke(app, ['batch', '--help']).stdout.split())
    assert 'prompts|propagation|automatic|proposals' in text
    assert '--propagate' not in text
    assert 'automatic|none' not in text


@pytest.mark.parametrize('command', ['batch', 'embed'])
def test_ctrl_c_while_files_are_counted_ends_in_a_sentence(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, 'find_sources', interrupted)
    prompts = BOX if command == 'batch' else []
    result = CliRunner().invoke(app, [command, 'a.png', '--out', 'out', *prompts])
    assert result.exit_code == 130
    assert result.stderr == 'Error: Interrupted.\n'


def test_files_of_a_very_large_folder_are_counted_aloud(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with looking_progress() as on_step:
        for found in range(1, 20_001):
            on_step(0, found)
        for looked_at in range(1, 20_001):
            on_step(looked_at, 20_000)
    assert capsys.readouterr().err.splitlines() == [
        '10000 files found',
        '20000 files found',
        '10000 of 20000 files looked at',
        '20000 of 20000 files looked at',
    ]
