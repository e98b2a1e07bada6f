"""Check the types of the whole package, `napari_kdsam.training` included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from package_layout import ROOT, lay_out

LAYOUT = Path('build', 'typecheck')


def main() -> int:
    """Run mypy, give its messages the real file names, and return its exit status."""
    package = lay_out(LAYOUT)
    found = subprocess.run(
        [sys.executable, '-m', 'mypy', '-p', 'napari_kdsam', *sys.argv[1:]],
        cwd=ROOT,
        env={**os.environ, 'MYPYPATH': str(LAYOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    output = found.stdout.replace(str(package / 'training'), 'training')
    print(output.replace(str(package), str(Path('src', 'napari_kdsam'))), end='')
    print(found.stderr, end='', file=sys.stderr)
    return found.returncode


if __name__ == '__main__':
    raise SystemExit(main())
