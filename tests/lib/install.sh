#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# install.sh SOURCE BUILD: the files that `meson install` installs are enough to compile and run the example from
# elsewhere, in C and in C++, found by pkg-config; the programs find their parts; and the manual pages are there.
set -eu
source=$1
build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
meson=$(command -v /usr/bin/meson || command -v meson)

"$meson" install -C "$build" --no-rebuild --quiet --destdir "$work/root"
pc=$(find "$work/root" -name quire.pc)
[ -n "$pc" ] || { echo "no quire.pc was installed"; exit 1; }
export PKG_CONFIG_PATH="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$work/root"
flags=$(pkg-config --cflags --libs --static quire)
[ "$(pkg-config --modversion quire)" ] || exit 1

for program in quire quire-lab; do
	path=$(find "$work/root" -path "*/bin/$program")
	[ -n "$path" ] || { echo "$program was not installed"; exit 1; }
done
bin=${path%/*}
[ -f "$bin/../lib/quire/quire-trace.so" ] || { echo "quire-lab will not find its plugin"; exit 1; }
"$bin/quire-lab" --help >/dev/null
"$bin/quire" check nbd+unix:///?socket=/nowhere 2>&1 | grep -q "No such file" || { echo "quire does not find quire-far"; exit 1; }
if "$bin/quire" check >/dev/null 2>&1; then
	[ "$("$bin/quire" run -m 64M --report none -- echo hosted)" = hosted ] || { echo "nothing can be hosted"; exit 1; }
fi

cd "$work"
cp "$source/examples/hello.c" "$source/examples/far_table.c" .
# shellcheck disable=SC2086
${CC:-cc} -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -o hello hello.c $flags
./hello
# shellcheck disable=SC2086
${CC:-cc} -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -o far_table far_table.c $flags
if command -v "${CXX:-c++}" >/dev/null; then
	cat >plus.cc <<'END'
#include <quire/quire.h>
#include <cerrno>
#include <cstdio>
#include <memory>
struct closer { void operator()(quire *q) const { (void)quire_close(q); } };
int main()
{
	quire_config c = {};
	quire *q = nullptr;
	c.size = sizeof c;
	c.memory = 2u << 20;
	if (quire_open(&c, &q) != 0)
		return errno == ENOSYS || errno == EPERM ? 77 : 1;
	std::unique_ptr<quire, closer> owner(q);
	auto *p = static_cast<int *>(quire_map(q, nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	if (p == MAP_FAILED)
		return 1;
	*p = 42;
	quire_stats st;
	if (quire_stat(q, &st, sizeof st) != 0 || st.mapped != 4096)
		return 1;
	std::puts("C++ too");
	return *p == 42 ? 0 : 1;
}
END
	for std in c++11 c++20; do
		# shellcheck disable=SC2086
		"${CXX:-c++}" -std=$std -pedantic -Wall -Wextra -Werror -o plus plus.cc $flags
		./plus
	done
else
	echo "no C++ compiler: not tried"
fi
for page in quire.1 libquire.3; do
	[ -n "$(find "$work/root" -name "$page*")" ] || { echo "$page was not installed"; exit 1; }
	! command -v mandoc >/dev/null || [ $page = quire.1 ] || mandoc -T lint -W warning "$source/man/$page"
done
