#!/bin/sh
# Debian 13's valkey-server and its libraries, unpacked into .cache/system/valkey on an older Debian: nothing is installed, no service
# is started, and apt's own lists stay as they are. Run by system-parts.sh, as root.
set -eu
cd "$(dirname "$0")/.."
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
place=$PWD/.cache/system/valkey
rm -rf "$place"
mkdir -p "$place/sources" "$place/lists" "$place/cache/archives/partial"
printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie main\n' "$mirror" >"$place/sources/trixie.list"
fetch() {
    apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$place/sources" -o Dir::State::lists="$place/lists" \
        -o Dir::Cache="$place/cache" "$@"
}
fetch update
cd "$place"
fetch download valkey-tools libc6 libatomic1 libjemalloc2 liblzf1 libssl3t64 libsystemd0 libcap2 zlib1g libzstd1 libgcc-s1 \
    libstdc++6 2>/dev/null
for package in *.deb; do dpkg -x "$package" root; done
rm -rf ./*.deb lists cache sources root/usr/share
mkdir -p ../usr/bin
cat >../usr/bin/valkey-server <<'END'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/../../valkey/root
for loader in "$root"/usr/lib*/ld-linux*.so.*; do
    exec "$loader" --argv0 valkey-server --library-path "$(echo "$root"/usr/lib/*-linux-gnu)" "$root/usr/bin/valkey-check-rdb" "$@"
done
END
chmod +x ../usr/bin/valkey-server
../usr/bin/valkey-server --version >/dev/null
