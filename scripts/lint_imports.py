"""Check that imports keep to the contracts in pyproject.toml, training's included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from package_layout import ROOT, lay_out

LAYOUT = Path('build', 'imports')


def main() -> int:
    """Run import-linter; its exit status is ours."""
    lay_out(LAYOUT)
    command = 'from importlinter.cli import lint_imports_command as run; run()'
    options = ('--no-logo', '--cache-dir', str(LAYOUT / 'cache'), *sys.argv[1:])
    return subprocess.run(
        [sys.executable, '-c', command, *options],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(LAYOUT)},
        check=False,
    ).returncode


if __name__ == '__main__':
    raise SystemExit(main())
