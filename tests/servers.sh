#!/usr/bin/env bash
# The servers that tests start by themselves, and bubblewrap: tells which are not there, and installs
# them where this is Debian and one may. Tests that miss one are skipped, and fail with CI=true.
set -euo pipefail

missing=()
if [ -z "${CELLGRAFT_TEST_POSTGRES_URL:-}" ] && ! command -v initdb >/dev/null \
    && ! compgen -G "${POSTGRES_VERSIONS:-/usr/lib/postgresql}/*/bin/initdb" >/dev/null; then
    missing+=(postgresql)
fi
command -v redis-server >/dev/null || missing+=(redis-server)
command -v nginx >/dev/null || [ -x "${SYSTEM_PROGRAMS:-/usr/sbin}/nginx" ] || missing+=(nginx-light)
command -v bwrap >/dev/null || missing+=(bubblewrap)
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Tests that need these are skipped; install them to run all: ${missing[*]}" >&2
    exit 0
fi

echo "Installing for the tests: ${missing[*]}"
# Debian starts what it installs; the tests start servers of their own.
policy="${SYSTEM_PROGRAMS:-/usr/sbin}/policy-rc.d"
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
apt-get update -q -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q -q --no-install-recommends "${missing[@]}" >/dev/null
