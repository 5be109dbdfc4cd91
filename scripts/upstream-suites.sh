#!/bin/sh
# The test suites of anyio and Starlette, at the versions installed here, twice: as they are, and with our hooks installed
# and a span around every test (tests/hooks_plugin.py). What fails in the second run only is ours to mend.
#   sh scripts/upstream-suites.sh [anyio] [starlette]      writes to .cache/upstream; exit 1 when the hooks break a test
# In an environment of its own: these suites want plugins that ours must not see. IPv6 and trio are left out: the first is
# not everywhere, the second runs without our hooks.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
work=$root/.cache/upstream
bin=$work/venv/bin
mkdir -p "$work"
[ -x "$bin/python" ] || "${PYTHON:-python3}" -m venv "$work/venv"
own=${VENV:-.venv}/bin/python # the environment whose versions are tested
version() { "$own" -c "from importlib.metadata import version; print(version('$1'))"; }
parts='pytest>=8.3 pytest-mock pytest-timeout trustme truststore blockbuster psutil hypothesis
    httpx httpx2 opentelemetry-sdk itsdangerous jinja2 python-multipart pyyaml sniffio trio'
broken=0
"$bin/python" -m pip install -qq --disable-pip-version-check -e "$root" "anyio==$(version anyio)" \
    "starlette==$(version starlette)" "uvloop==$(version uvloop)" $parts

suite() {  # name of the project; the rest goes to pytest
    name=$1
    shift
    folder=$work/$name-$(version "$name")
    [ -d "$folder" ] || {
        "$bin/python" -m pip download -q --disable-pip-version-check --no-deps --no-binary "$name" \
            -d "$work" "$name==$(version "$name")" 2>"$work/download" || true
        tar -xzf "$work/$name-$(version "$name").tar.gz" -C "$work"
    }
    for with in base hooks; do
        plugin=$([ $with = hooks ] && echo '-p hooks_plugin' || true)
        # shellcheck disable=SC2086
        (cd "$folder" && PYTHONPATH=$root/tests "$bin/python" -m pytest -q -p no:cacheprovider -rfE --tb=line \
            $plugin "$@" tests) >"$work/$name-$with.txt" 2>&1 || true
        sed -n 's/^\(FAILED\|ERROR\) \([^ ]*\).*/\2/p' "$work/$name-$with.txt" | sort -u >"$work/$name-$with.failed"
        echo "$name $with: $(grep -E '(passed|failed|error).* in ' "$work/$name-$with.txt" | tail -1)"
    done
    comm -13 "$work/$name-base.failed" "$work/$name-hooks.failed" >"$work/$name-ours.failed"
    [ ! -s "$work/$name-ours.failed" ] || { broken=1 && echo "fails with the hooks only:" && cat "$work/$name-ours.failed"; }
}

for name in ${*:-anyio starlette}; do
    case $name in
        anyio) suite anyio --timeout 120 -k 'not trio and not ipv6' ;;
        starlette) suite starlette --timeout 120 -k 'not trio' ;;
        *) echo "there is anyio and starlette, not $name" >&2 && exit 2 ;;
    esac
done
exit $broken
