"""Write what is made from tables: docs/shortcuts.md and the manifest's preferences.

`--check` writes nothing and fails if one of them is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from napari_kdsam.widgets.preferences import manifest_configurations
from napari_kdsam.widgets.shared.shortcuts import help_rows, how_to, key_preferences

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs' / 'shortcuts.md'
MANIFEST = ROOT / 'src' / 'napari_kdsam' / 'napari.yaml'
_START = '  # Written by scripts/make_reference.py; the rest of this file is by hand.\n'

_CHANGING = """
## Changing keys

In napari 0.9 and newer: *File > Preferences > KD SAM*. Write a key as `W`, `Shift-W`, `Control-Shift-Left` or `F5`; an empty field leaves the action without a key. A key that napari uses itself, or that another action has, is refused with a sentence at the bottom of the panel, and the action keeps its key. Changes count for annotators opened afterwards.

In older naparis, write the changes into `preferences.json` in the folder that `python -c "import platformdirs; print(platformdirs.user_config_path('napari-kdsam', appauthor=False))"` prints:

```json
{"device": "cpu", "keys": {"next_candidate": "Shift-M", "use_box": "Shift-B"}}
```

The names of actions and of the other preferences are those of [napari.yaml](../src/napari_kdsam/napari.yaml).
"""


def page() -> str:
    """The page of shortcuts."""
    parts = ['# Shortcuts', '', 'How to work:', '']
    parts += [f'- {sentence}' for sentence in how_to()]
    parts += [
        '',
        'On a Mac, Control is Command and Alt is Option.',
    ]
    for group, rows in help_rows().items():
        parts += ['', f'## {group}', '', '| key | what it does |', '|---|---|']
        parts += [f'| <kbd>{keys}</kbd> | {title} |' for keys, title in rows]
    return '\n'.join(parts) + '\n' + _CHANGING


def manifest() -> str:
    """The manifest with the preferences as the model describes them."""
    by_hand = MANIFEST.read_text(encoding='utf-8').split(_START)[0].rstrip() + '\n'
    made = yaml.safe_dump(
        {'configurations': manifest_configurations(key_preferences())},
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return by_hand + _START + ''.join(f'  {line}\n' for line in made.splitlines())


def main() -> None:
    """Write both files, or check them."""
    stale = []
    for path, wanted in ((PAGE, page()), (MANIFEST, manifest())):
        if path.is_file() and path.read_text(encoding='utf-8') == wanted:
            continue
        stale.append(path.name)
        if '--check' not in sys.argv:
            path.write_text(wanted, encoding='utf-8')
    if stale and '--check' in sys.argv:
        sys.exit(f'Out of date: {", ".join(stale)}; run scripts/make_reference.py.')


if __name__ == '__main__':
    main()
