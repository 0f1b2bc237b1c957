#!/bin/sh
# Installs this package into a virtual environment, which is made where it is not there yet.
#
#   tools/install.sh VENV [EXTRAS] [PYTHON]
#
# VENV    folder of the environment
# EXTRAS  comma-separated extras of pyproject.toml, e.g. dev
# PYTHON  interpreter to make it from; by default the first Python 3.10 to 3.12 on the PATH
set -eu

venv=$1
extras=${2:-}
python=${3:-}
root=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

supported() { case $(version_of "$1") in 3.10 | 3.11 | 3.12) return 0 ;; *) return 1 ;; esac; }

need_python() {
    say "error: Python 3.10, 3.11 or 3.12 is needed; $1."
    say "Install one of them and name it, or let uv fetch one:"
    say "    make ${MAKECMDGOALS:-demo} PYTHON=/path/to/python3.12"
    say "    uv venv --seed --python 3.12 .venv && make ${MAKECMDGOALS:-demo}"
    exit 1
}

if [ ! -x "$venv/bin/python" ]; then
    if [ -n "$python" ]; then
        supported "$python" || need_python "$python is Python '$(version_of "$python")'"
    else
        found=
        for candidate in python3.11 python3.12 python3.10 python3 python; do
            if supported "$candidate"; then
                python=$candidate
                break
            fi
            found="$found $(version_of "$candidate")"
        done
        [ -n "$python" ] || need_python "found only:${found:- none}"
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "error: $python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"
        exit 1
    fi
    say "Making $venv with $python ($("$python" --version))"
    "$python" -m venv "$venv"
fi

supported "$venv/bin/python" || need_python "$venv holds Python $(version_of "$venv/bin/python")"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip --upgrade

"$venv/bin/python" -m pip install --disable-pip-version-check --upgrade pip

# viser wants pyliblzfse, which exists as C source only; nothing here uses it (viser reads Record3D captures with it).
headers=$("$venv/bin/python" -c 'import os, sysconfig; print(os.path.join(sysconfig.get_paths()["include"], "Python.h"))')
if ! "$venv/bin/python" -c 'import liblzfse' 2>/dev/null && { ! command -v cc >/dev/null || [ ! -f "$headers" ]; }; then
    say "No C compiler or no Python headers here: a placeholder takes the place of pyliblzfse."
    "$venv/bin/python" -m pip install "$root/tools/pyliblzfse_placeholder"
fi

# --prefer-binary: some dependencies have wheels for an older release only, and sources need a C++ compiler.
"$venv/bin/python" -m pip install --prefer-binary -e "$root${extras:+[$extras]}"
