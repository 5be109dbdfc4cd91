#!/bin/sh
# System parts that some tests need. As root on Debian or Ubuntu they are installed; otherwise they are named, and only the
# tests that need them skip.
set -eu
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need chromium chromium
need chromedriver chromium-driver
need cc gcc
need npm npm
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    printf 'installing for the tests:%s\n' "$missing" >&2
    # shellcheck disable=SC2086
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing fonts-dejavu-core >/dev/null; then
        exit 0
    fi
fi
printf 'missing, and the tests that need them will skip:%s\n  to have them: sudo apt-get install%s\n' "$missing" "$missing" >&2
