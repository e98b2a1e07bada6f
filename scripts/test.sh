#!/usr/bin/env bash
# Runs the tests. Without arguments all of them, in two processes at once: those with
# windows, which share one keyboard, and the others. With arguments, pytest with those.
set -euo pipefail
cd "$(dirname "$0")/.."
# With two processes a second thread each would only be in the other's way.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
pytest=(.venv/bin/python -m pytest)
if [ $# -gt 0 ]; then
  exec scripts/with_display.sh "${pytest[@]}" "$@"
fi
mkdir -p build
scripts/with_display.sh "${pytest[@]}" -m 'not gui' -o cache_dir=.pytest_cache/others >build/others.log 2>&1 &
others=$!
status=0
scripts/with_display.sh "${pytest[@]}" -m gui || status=$?
wait "$others" || status=$?
cat build/others.log
exit "$status"
