#!/bin/sh
# Create .venv and install the pinned requirements; do nothing when that is already so.
set -eu
cd "$(dirname "$0")/.."
supported="3.11 3.12 3.13 3.14"

say() { echo "env: $*"; }

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

is_supported() { case " $supported " in *" $1 "*) [ -n "$1" ] ;; *) false ;; esac; }

pins() { cat requirements.txt constraints.txt pyproject.toml; }

home() { pwd; .venv/bin/python --version 2>&1; }  # an environment cannot be moved

if [ ! -x .venv/bin/python ] || [ ! -f .venv/home ] || ! home | cmp -s - .venv/home; then
    # PYTHON=... decides; else python3 if it will do, else the oldest supported one that runs.
    set -- "${PYTHON:-python3}"
    if [ -z "${PYTHON:-}" ]; then
        for v in $supported; do set -- "$@" "python$v"; done
    fi
    chosen=""
    for candidate; do
        if is_supported "$(version_of "$candidate")"; then chosen="$candidate"; break; fi
    done
    if [ -z "$chosen" ]; then
        first="${PYTHON:-python3}"
        found="$(version_of "$first")"
        say "needs Python $supported, and $first is ${found:-not there}: install one of these," \
            "or name it: make PYTHON=python3.12 ..." >&2
        exit 2
    fi
    say "creating .venv with Python $(version_of "$chosen")"
    rm -rf .venv
    "$chosen" -m venv .venv
    home > .venv/home
fi

if [ ! -f .venv/pins ] || ! pins | cmp -s - .venv/pins; then
    say "installing requirements.txt (minutes the first time: torch is large)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    pins > .venv/pins
    say "ready"
fi
