#!/usr/bin/env bash
# Runs the tests. Without arguments all of them, in two processes at once: most of those
# with windows in one, the others and then the rest of those in the other, which takes about
# as long. Windows share a keyboard, so two such processes run at once only where each has
# a virtual display of its own. With arguments, pytest with those.
set -euo pipefail
cd "$(dirname "$0")/.."
# With two processes a second thread each would only be in the other's way.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
pytest=(scripts/with_display.sh .venv/bin/python -m pytest)
if [ $# -gt 0 ]; then
  exec "${pytest[@]}" "$@"
fi
mkdir -p build
most='' rest='' number=0
for file in $(grep -l 'pytest.mark.gui' tests/test_*.py); do
  number=$((number + 1))
  if [ $((number % 4)) = 0 ]; then rest+=" $file"; else most+=" $file"; fi
done
virtual=1
[ "$(uname -s)" = Linux ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || virtual=0

windows() {
  "${pytest[@]}" -m gui -o cache_dir=".pytest_cache/windows-$#" "$@"
}

others() {
  local status=0
  "${pytest[@]}" -m 'not gui' -o cache_dir=.pytest_cache/others || status=$?
  # shellcheck disable=SC2086  # a list of files
  if [ $virtual = 1 ]; then windows $rest || status=$?; fi
  return $status
}

others >build/others.log 2>&1 &
behind=$!
status=0
# shellcheck disable=SC2086  # a list of files
windows $most || status=$?
# shellcheck disable=SC2086  # a list of files
if [ $virtual = 0 ]; then windows $rest || status=$?; fi
wait $behind || status=$?
cat build/others.log
exit $status
