#!/bin/sh
# System parts that some tests need. As root on Debian or Ubuntu they are installed; otherwise they are named, and only the
# tests that need them skip. Prometheus and PostgreSQL are unpacked into .cache instead: their packages would start a service.
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

# Its libraries are installed like any other part; the server itself is only unpacked, and the tests make their own clusters.
if ! command -v initdb >/dev/null 2>&1 && ! ls /usr/lib/postgresql/*/bin/initdb .cache/system/usr/lib/postgresql/*/bin/initdb \
    >/dev/null 2>&1; then
    mkdir -p .cache/system
    if [ -n "$apt" ] && [ -n "$root" ]; then apt-get update -qq || true; fi
    server=$([ -z "$apt" ] || apt-cache depends postgresql 2>/dev/null | sed -n 's/^ *Depends: \(postgresql-[0-9][0-9]*\)$/\1/p' | head -n 1)
    # LLVM is for compiling queries, a hundred megabytes that no test asks for.
    libraries=$([ -z "$server" ] || apt-cache depends "$server" | sed -n 's/^ *|*Depends: \(lib[a-z0-9.+-]*\)$/\1/p' | grep -v llvm || true)
    if [ -n "$server" ] && [ -n "$root" ]; then
        say "installing what PostgreSQL is linked with"
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $libraries >/dev/null || true
    fi
    if [ -n "$server" ] && say "unpacking $server into .cache" && (cd .cache && apt-get download -qq "$server" >/dev/null 2>&1); then
        dpkg -x .cache/"$server"_*.deb .cache/system
        rm -f .cache/"$server"_*.deb
    else
        say "missing, and the tests that need it will skip: PostgreSQL (Debian, Ubuntu: package postgresql)"
    fi
fi

# Valkey comes with Debian 13 and Ubuntu 24.04. Elsewhere Debian 13's is unpacked with the libraries that it needs, and used with
# those alone. Only the tests that hold the stores' contract to it want it.
if ! command -v valkey-server >/dev/null 2>&1 && [ ! -x .cache/system/usr/bin/valkey-server ] && [ -n "$apt" ] && [ -n "$root" ]; then
    if apt-cache show valkey-tools >/dev/null 2>&1; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valkey-tools >/dev/null || true
        check=$(command -v valkey-check-rdb || true)
        [ -z "$check" ] || { mkdir -p .cache/system/usr/bin && ln -sf "$check" .cache/system/usr/bin/valkey-server; }
    elif say "unpacking valkey-server into .cache"; then
        sh scripts/unpack-valkey.sh || say "missing, and the tests that need it will skip: valkey-server (Debian 13: package valkey-tools)"
    fi
fi
