#!/bin/sh
# System parts that some tests need. As root on Debian or Ubuntu they are installed; otherwise they are named, and only the
# tests that need them skip. Prometheus is unpacked into .cache instead: its package would start a service.
set -eu
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
say() { printf '%s\n' "$*" >&2; }

need chromium chromium
need chromedriver chromium-driver
need cc gcc
need npm npm
need systemd-analyze systemd
# The package redis-server would start a service; the same binary comes with redis-tools, under another name.
command -v redis-server >/dev/null 2>&1 || need redis-check-rdb redis-tools
# WeasyPrint draws the letters of a report's PDF with Pango, a library that no command tells of.
{ ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -q libpangoft2-1.0 || missing="$missing libpango-1.0-0 libpangoft2-1.0-0"
apt=$(command -v apt-get || true)
root=$([ "$(id -u)" = 0 ] && echo yes || true)

if [ -n "$missing" ] && [ -n "$apt" ] && [ -n "$root" ]; then
    say "installing for the tests:$missing"
    # shellcheck disable=SC2086
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        $missing fonts-dejavu-core >/dev/null; then
        missing=
    fi
fi
[ -z "$missing" ] || say "missing, and the tests that need them will skip:$missing
  to have them: sudo apt-get install$missing"

if ! command -v promtool >/dev/null 2>&1 && [ ! -x .cache/system/usr/bin/promtool ]; then
    mkdir -p .cache/system
    if [ -n "$apt" ] && say "unpacking promtool into .cache" && (
        cd .cache
        { apt-get download -qq prometheus || { [ -n "$root" ] && apt-get update -qq && apt-get download -qq prometheus; }; } 2>/dev/null >&2
    ); then
        dpkg -x .cache/prometheus_*.deb .cache/system
        rm -f .cache/prometheus_*.deb
    else
        say "missing, and the tests that need it will skip: promtool (Debian, Ubuntu: package prometheus)"
    fi
fi

rdb=$(command -v redis-check-rdb || true)
if [ -n "$rdb" ] && ! command -v redis-server >/dev/null 2>&1; then
    mkdir -p .cache/system/usr/bin
    ln -sf "$rdb" .cache/system/usr/bin/redis-server
fi
