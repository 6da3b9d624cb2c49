#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# debian.sh ARCH DIR package...: programs of another architecture than this machine's. Downloads the packages and their
# dependencies from Debian 13, the first release with riscv64, and unpacks them in DIR/root. apt uses its own lists and
# state in DIR and installs no package. Packages present in DIR are not fetched again.
set -eu
arch=$1 dir=$2
shift 2
mkdir -p "$dir/root"
dir=$(cd "$dir" && pwd)
sh "$(dirname "$0")/apt_lists.sh" "$dir" trixie "$arch"
export APT_CONFIG="$dir/apt.conf"
missing=
for p in "$@"; do
	[ -e "$dir/state/$p.unpacked" ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "quire: downloading packages for $arch:$missing"
ls "$dir"/state/lists/*Packages* >/dev/null 2>&1 || apt-get -qq update || {
	echo "quire: Debian's package list for $arch cannot be had" >&2
	exit 1
}
apt-get -qq -y --no-install-recommends --download-only install $missing >/dev/null
for deb in "$dir"/cache/archives/*.deb; do
	dpkg-deb -x "$deb" "$dir/root"
	rm -f "$deb"
done
for p in $missing; do
	: >"$dir/state/$p.unpacked"
done
