#!/usr/bin/env bash
# Makes .venv and what it needs; does nothing when all is there already.
#
#   scripts/setup.sh demo   what using the plugin needs
#   scripts/setup.sh dev    that, the extra "training", the development tools and Xvfb
#
# PYTHON chooses the interpreter; pip's own settings (PIP_EXTRA_INDEX_URL for example,
# to get PyTorch without CUDA on Linux) are honoured.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-dev}
case $mode in
  demo | dev) ;;
  *)
    echo "usage: scripts/setup.sh [demo|dev]" >&2
    exit 2
    ;;
esac

QT_PACKAGES='libdbus-1-3 libegl1 libgl1 libgl1-mesa-dri libglx-mesa0 libopengl0
  libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
  libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxkbcommon-x11-0'

say() { echo "set-up: $*"; }

stop() {
  echo "set-up: $*" >&2
  exit 1
}

# Runs a command as root when that needs no password.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo -n "$@"
  fi
}

can_install() {
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

# Installs those of the named Debian packages that are missing.
need_packages() {
  local missing='' name
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' ||
      missing="$missing $name"
  done
  [ -n "$missing" ] || return 0
  can_install || stop "these system packages are missing; install them, then run this again:
  sudo apt-get install$missing"
  say "installing system packages:$missing"
  as_root apt-get update -qq
  # shellcheck disable=SC2086  # a list of names
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends $missing >/dev/null
}

need_system_libraries() {
  [ "$(uname -s)" = Linux ] || return 0
  local wanted=''
  if [ "$mode" = dev ] || [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    wanted=$QT_PACKAGES
  fi
  if [ "$mode" = dev ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    wanted="$wanted xauth xvfb"
  fi
  [ -n "$wanted" ] || return 0
  if command -v dpkg-query >/dev/null; then
    # shellcheck disable=SC2086  # a list of names
    need_packages $wanted
  elif [ "$mode" = dev ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] &&
    ! command -v xvfb-run >/dev/null; then
    stop "without a display the tests need xvfb-run; install Xvfb and your system's
  packages for these Debian ones, then run this again:" $wanted
  fi
}

version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Prefers the versions that the pinned packages have files for.
find_python() {
  local name
  if [ -n "${PYTHON:-}" ]; then
    echo "$PYTHON"
    return
  fi
  for name in python3 python3.13 python3.12 python3.11; do
    case $(version_of "$name") in
      3.11 | 3.12 | 3.13)
        echo "$name"
        return
        ;;
    esac
  done
  echo python3
}

need_python() {
  python=$(find_python)
  command -v "$python" >/dev/null ||
    stop "there is no $python; install Python 3.11 or newer, or name one with PYTHON=..."
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "Python 3.11 or newer is needed, and $python is $(version_of "$python");" \
      "install one, or name one with PYTHON=..."
  "$python" -c 'import ensurepip, venv' 2>/dev/null && return
  local package
  package="python$(version_of "$python")-venv"
  command -v dpkg-query >/dev/null ||
    stop "$python has no venv module; install it, then run this again"
  need_packages "$package"
}

# Changes whenever what is to be installed, or where, does.
fingerprint() {
  echo "$PWD $(version_of "$python")"
  cksum pyproject.toml constraints.txt
}

install_into_venv() {
  local marker=.venv/.installed-$mode log=.venv/install.log
  if [ -x .venv/bin/python ]; then
    # A development environment holds everything the demo needs.
    for done_before in "$marker" .venv/.installed-dev; do
      if [ "$(cat "$done_before" 2>/dev/null)" = "$(fingerprint)" ]; then
        return
      fi
    done
  fi
  say "installing into .venv (some minutes the first time; details in $log)"
  # An environment that was moved, or made by another Python, cannot be mended.
  if [ "$(head -n 1 .venv/.made-for 2>/dev/null)" != "$(fingerprint | head -n 1)" ]; then
    "$python" -m venv --clear .venv
    fingerprint >.venv/.made-for
  fi
  rm -f .venv/.installed-*
  local wanted=(-e '.[all,fast]')
  if [ "$mode" = dev ]; then
    wanted=(-e '.[all,batch,fast,training]' --group dev)
  fi
  # Dependency groups need a recent pip.
  if ! { .venv/bin/python -m pip install --upgrade 'pip>=25.1' &&
    .venv/bin/python -m pip install --no-compile -c constraints.txt "${wanted[@]}"; } \
    >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    stop "installing failed; the whole log is in $log"
  fi
  fingerprint >"$marker"
}

need_system_libraries
need_python
install_into_venv
