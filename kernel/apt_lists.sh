#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# apt_lists.sh DIR RELEASE [ARCH] [deb-src]: makes DIR/apt.conf (for APT_CONFIG), by which apt uses lists and state of its own in DIR,
# of that release of Debian, and knows of no installed package. ARCH: that of the packages, if it is not this machine's; "" is this machine's.
# deb-src: sources, too.
set -eu
mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial"
dir=$(cd "$1" && pwd) release=$2 arch=${3:-} sources=${4:-}
: >>"$dir/state/status"
for kind in deb $sources; do
	echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $release main"
done >"$dir/sources.list"
cat >"$dir/apt.conf" <<END
APT::Sandbox::User "root";
Dir::State "$dir/state";
Dir::State::status "$dir/state/status";
Dir::Cache "$dir/cache";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
END
[ -z "$arch" ] || printf 'APT::Architecture "%s";\nAPT::Architectures { "%s"; };\n' "$arch" "$arch" >>"$dir/apt.conf"
