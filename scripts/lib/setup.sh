# Set-up shared by scripts/run, scripts/test and .ci/run; sourced by bash, runs nothing itself.
# Functions work on the checkout in $B1K_ROOT and speak on standard error.

say() { printf 'b1k-eval: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 4
}

# A Python that can make virtual environments. 3.11 is what OmniGibson's present world runs on and
# what CI tests; newer ones come last because wheels for them come last.
PYTHON_CANDIDATES="python3.11 python3.10 python3.12 python3.13 python3"

# Prints the path of the first usable Python; 1 if there is none.
# A name on PATH proves nothing (pyenv's shims fail when run), so each one is tried. The base
# executable is asked for, because PATH may lead into the very environment we are to replace.
find_python() {
  local name found
  for name in $PYTHON_CANDIDATES; do
    found=$("$name" -c '
import sys, venv, ensurepip
print(getattr(sys, "_base_executable", sys.executable)) if sys.version_info >= (3, 10) else 1 / 0
' 2>/dev/null) || continue
    printf '%s\n' "$found"
    return 0
  done
  return 1
}

# The words in front of apt-get that make it run as root; 1 if nothing does.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    printf 'env'
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    printf 'sudo -n'
  else
    return 1
  fi
}

# apt_install PACKAGE...: 1 when it may not or cannot.
apt_install() {
  local root
  command -v apt-get >/dev/null 2>&1 || return 1
  root=$(as_root) || return 1
  say "installing Debian packages: $*"
  # Lists first: on a fresh image there are none. shellcheck disable=SC2086
  $root apt-get update -qq >&2 || true
  # shellcheck disable=SC2086
  $root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2
}

have_library() {
  # ldconfig lies outside an ordinary user's PATH.
  PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null | grep -F "$1" >/dev/null
}

have_file() { # any of the patterns, expanded by the caller
  local file
  for file in "$@"; do
    [ -e "$file" ] && return 0
  done
  return 1
}

# Names of the Debian packages that rendering and OpenCV still lack, by library rather than by
# package: newer releases call libglib2.0-0 libglib2.0-0t64.
missing_gl_packages() {
  have_library libglib-2.0.so.0 || printf 'libglib2.0-0 '
  have_library libGL.so.1 || printf 'libgl1 '
  case "${MUJOCO_GL:-egl}" in
    egl) ;;
    *) return 0 ;; # another backend was chosen, and is the chooser's to provide
  esac
  have_library libEGL.so.1 || printf 'libegl1 '
  # Mesa's drivers, unless NVIDIA has registered one of its own.
  have_file /usr/share/glvnd/egl_vendor.d/*nvidia*.json /etc/glvnd/egl_vendor.d/*nvidia*.json \
    /usr/lib/*/dri/swrast_dri.so /usr/lib/dri/swrast_dri.so /usr/lib64/dri/swrast_dri.so ||
    printf 'libgl1-mesa-dri '
}

ensure_gl_packages() {
  local missing
  missing=$(missing_gl_packages)
  missing=${missing% }
  [ -n "$missing" ] || return 0
  # shellcheck disable=SC2086
  if apt_install $missing; then
    return 0
  fi
  say "libraries for rendering are missing and cannot be installed from here;" \
    "on Debian or Ubuntu run: sudo apt-get install $missing" \
    "(Fedora: mesa-libEGL mesa-dri-drivers libglvnd-glx glib2)"
}

# venv_works DIR: its Python runs, is new enough and belongs to this place.
venv_works() {
  [ -x "$1/bin/python" ] && "$1/bin/python" -c '
import os, sys
here = os.path.realpath(sys.argv[1]) == os.path.realpath(sys.prefix)
sys.exit(0 if sys.version_info >= (3, 10) and here else 1)
' "$1" 2>/dev/null
}

# What an installation depends on; the place, because scripts and .pth files hold absolute paths.
stamp_text() {
  printf '%s|%s|%s\n' \
    "$(cat "$B1K_ROOT/pyproject.toml" "$B1K_ROOT/scripts/lib/constraints.txt" | cksum)" \
    "$B1K_ROOT" "$1"
}

# installed EXTRAS: as the stamp says, and nobody has taken the packages away since.
installed() {
  local stamp="$B1K_ROOT/.venv/.b1k-eval-stamp$1"
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(stamp_text "$1")" ] &&
    [ -x "$B1K_ROOT/.venv/bin/b1k-eval" ] &&
    "$B1K_ROOT/.venv/bin/python" -c '
import importlib.util as util, sys
sys.exit(0 if all(map(util.find_spec, ("b1k_eval", "mujoco", "bddl", "cv2", "typer"))) else 1)
' 2>/dev/null
}

make_venv() {
  local python
  if ! python=$(find_python); then
    apt_install python3 python3-venv || true
    python=$(find_python) || die \
      "no usable Python: 3.10 or newer with the venv module is needed (tried $PYTHON_CANDIDATES);" \
      "on Debian or Ubuntu run: sudo apt-get install python3 python3-venv"
  fi
  if [ -e "$B1K_ROOT/.venv" ]; then
    say "the environment in .venv does not work here; making it anew"
  fi
  say "making .venv with $python"
  "$python" -m venv --clear "$B1K_ROOT/.venv" ||
    die "cannot make $B1K_ROOT/.venv with $python; its words are above"
}

# cpu_torch EXTRAS: without a GPU, torch's CPU build first; the default one, for CUDA, is twenty times
# as large. Where its index cannot be reached, the default one comes with the rest.
cpu_torch() {
  case "$1" in *xvla* | *test*) ;; *) return 0 ;; esac
  case "$OSTYPE" in linux*) ;; *) return 0 ;; esac
  ! have_file "${NVIDIA_DRIVER:-/proc/driver/nvidia/version}" /dev/dxg || return 0
  (cd "$B1K_ROOT" && .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --retries 0 --timeout 15 --index-url https://download.pytorch.org/whl/cpu \
    torch -c scripts/lib/constraints.txt >&2) ||
    say "no CPU build of torch from download.pytorch.org: the default one is installed"
}

# ensure_installed [EXTRAS]: .venv holds this checkout, editable, with EXTRAS (e.g. "[test]").
# Returns within a second when nothing changed: no pip, no network.
ensure_installed() {
  local extras=${1:-}
  venv_works "$B1K_ROOT/.venv" || make_venv
  if installed "$extras"; then
    return 0
  fi
  say "installing b1k-eval$extras into .venv (a few minutes the first time)"
  "$B1K_ROOT/.venv/bin/python" -m pip --version >/dev/null 2>&1 ||
    "$B1K_ROOT/.venv/bin/python" -m ensurepip >/dev/null ||
    die "pip is missing in $B1K_ROOT/.venv; remove that folder and start again"
  rm -f "$B1K_ROOT"/.venv/.b1k-eval-stamp*
  (
    cd "$B1K_ROOT" &&
      # The pip that venv brings may be years old and search versions for minutes.
      .venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip >&2 &&
      cpu_torch "$extras" &&
      .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        -e ".$extras" -c scripts/lib/constraints.txt >&2 &&
      # openpi's client asks for numpy < 2 and works with newer ones; what it imports is there.
      { [ "$extras" != "[test]" ] || .venv/bin/python -m pip install --quiet \
        --disable-pip-version-check --no-deps openpi-client==0.1.2 >&2; }
  ) || die "installing failed, pip's words are above; is there a network? Start again to go on"
  stamp_text "$extras" >"$B1K_ROOT/.venv/.b1k-eval-stamp$extras"
  # An installation with extras serves the plain command too, and that of the tests all others.
  stamp_text "" >"$B1K_ROOT/.venv/.b1k-eval-stamp"
  if [ "$extras" = "[test]" ]; then
    stamp_text "[xvla]" >"$B1K_ROOT/.venv/.b1k-eval-stamp[xvla]"
  fi
}
