#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# setup.sh [package...]: install what building and testing need and this machine lacks, and the packages named.
#
# Asks dpkg first, so that a machine that has everything touches neither the
# network nor the package lists.  Needs root only when something is missing.
set -eu

# What is needed, and why.
packages="
gcc g++ libc6-dev
meson ninja-build pkg-config
liblz4-dev libzstd-dev liburing-dev libnbd-dev libhiredis-dev libssl-dev
libcmocka-dev
clang-format-14 cppcheck
python3
sqlite3 redis-server redis-tools nbdkit openssl xz-utils e2fsprogs iproute2 iptables
libjemalloc2 libtcmalloc-minimal4 libfaketime
$*
"

# A word that a person may set to keep this script from changing the machine.
if [ "${QUIRE_NO_SETUP:-}" ]; then
	exit 0
fi

if ! command -v dpkg-query >/dev/null 2>&1; then
	echo "quire: this is no Debian system; make sure these are installed:" $packages
	exit 0
fi

missing=
for p in $packages; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

echo "quire: missing packages:$missing"
if [ "$(id -u)" -ne 0 ]; then
	echo "quire: not root; please run:"
	echo "    sudo apt-get update && sudo apt-get install --no-install-recommends$missing"
	exit 1
fi

# policy-rc.d answers 101 ("not allowed") so that installing redis-server does
# not start a daemon nobody asked for.  An existing one is left alone.
rc=/usr/sbin/policy-rc.d
made=
log=$(mktemp)
trap 'rm -f "$log"; [ -z "$made" ] || rm -f $rc' EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e $rc ]; then
	printf '#!/bin/sh\nexit 101\n' >$rc
	chmod +x $rc
	made=1
fi

export DEBIAN_FRONTEND=noninteractive

# Quiet unless it fails: two hundred lines of unpacking tell nobody anything.
step() {
	echo "quire: $1"
	shift
	"$@" >"$log" 2>&1 && return
	cat "$log" >&2
	echo "quire: '$*' failed" >&2
	exit 1
}
step "reading package lists" apt-get update -qq
step "installing them; this is done once and takes a minute or two" \
	apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $missing
echo "quire: packages installed"
