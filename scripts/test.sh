#!/usr/bin/env bash
# Runs the tests. Without arguments all of them, in two processes at once: the annotator's
# windows and the stories in one, everything else in the other, which takes about as long.
# Windows share a keyboard, so two such processes run at once only where each has a virtual
# display of its own. With arguments, pytest with those. The 30 slowest are kept in
# build/slowest-tests.txt. KDSAM_COVERAGE=1 measures which lines are run.
set -euo pipefail
cd "$(dirname "$0")/.."
# Many tests start processes: without compiled files each would compile torch anew.
unset PYTHONDONTWRITEBYTECODE
# With two processes a second thread each would only be in the other's way.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
pytest=(scripts/with_display.sh .venv/bin/python -m)
[ -z "${KDSAM_COVERAGE:-}" ] || pytest+=(coverage run -m)
pytest+=(pytest)
if [ $# -gt 0 ]; then
  exec "${pytest[@]}" "$@"
fi
mkdir -p build
pytest+=(--durations=30)
annotator=(tests/widgets/annotator tests/stories)
virtual=1
[ "$(uname -s)" = Linux ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || virtual=0

annotator_windows() {
  "${pytest[@]}" -m gui -o cache_dir=.pytest_cache/annotator "${annotator[@]}"
}

other_windows() {
  "${pytest[@]}" -m gui -o cache_dir=.pytest_cache/windows \
    "${annotator[@]/#/--ignore=}" tests
}

others() {
  local status=0
  "${pytest[@]}" -m 'not gui' -o cache_dir=.pytest_cache/others || status=$?
  if [ $virtual = 1 ]; then other_windows || status=$?; fi
  return $status
}

others >build/others.log 2>&1 &
behind=$!
status=0
annotator_windows 2>&1 | tee build/windows.log || status=$?
if [ $virtual = 0 ]; then
  other_windows 2>&1 | tee -a build/windows.log || status=$?
fi
wait $behind || status=$?
cat build/others.log
grep -hE '^[0-9.]+s (call|setup|teardown)' build/windows.log build/others.log |
  sort -rn | head -n 30 >build/slowest-tests.txt || true
exit $status
