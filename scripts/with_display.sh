#!/usr/bin/env bash
# Runs a command with a display: the one there is, or a virtual one (Xvfb).
set -euo pipefail
if [ "$(uname -s)" = Linux ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
  export QT_QPA_PLATFORM=xcb
  exec xvfb-run -a -s '-screen 0 1400x900x24' "$@"
fi
exec "$@"
