"""Check the types of the whole package, training included, scripts and benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from package_layout import ROOT, lay_out

LAYOUT = Path('build', 'typecheck')
BESIDE = (Path('scripts'), Path('benchmarks'))


def main() -> int:
    """Run mypy, give its messages the real file names, and return its exit status."""
    package = lay_out(LAYOUT)
    beside = [str(path) for folder in BESIDE for path in sorted(folder.glob('*.py'))]
    return max(_check(package, '-p', 'napari_kdsam'), _check(package, *beside))


def _check(package: Path, *what: str) -> int:
    found = subprocess.run(
        [sys.executable, '-m', 'mypy', *what, *sys.argv[1:]],
        cwd=ROOT,
        env={
            **os.environ,
            'MYPYPATH': os.pathsep.join(map(str, (LAYOUT, *BESIDE))),
        },
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
