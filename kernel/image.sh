#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# image.sh DIR [what...]: makes DIR/root.img, an ext2 file system with Debian's own programs, and DIR/swap.img. what:
# programs beside busybox: sort, sqlite3, python3, gcc; any other word is a package, which is added with the packages that it
# depends on. Files in DIR/extra are added last. SIZE and SWAP: sizes of the
# images in MiB (1024, 512). ARCH: x86_64 (takes the programs installed on this machine) or riscv64 (takes whole
# packages: debian.sh).
set -eu
dir=$1
shift
root=$dir/root
rm -rf "$root"
mkdir -p "$root"/bin "$root"/dev "$root"/proc "$root"/tmp "$root"/etc "$root"/root "$root"/usr/bin "$root"/usr/lib "$root"/var

# Copies a file to the same place, through its links; then the libraries with which it is linked.
put()
{
	for f in "$@"; do
		[ -e "$root$f" ] && continue
		mkdir -p "$root$(dirname "$f")"
		cp -L "$f" "$root$f"
		case $f in
		*.so* | *.a | *.o) ;;
		*) libs "$f" ;;
		esac
	done
}
libs()
{
	# lines like "libc.so.6 => /lib/... (0x...)" and "/lib64/ld-linux... (0x...)"
	ldd "$1" 2>/dev/null | sed -n 's/^.*=> \(\/[^ ]*\).*$/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*$/\1/p' | while read -r l; do
		[ -e "$root$l" ] && continue
		mkdir -p "$root$(dirname "$l")"
		cp -L "$l" "$root$l"
		libs "$l"
	done
}
tree()
{
	for d in "$@"; do
		mkdir -p "$root$(dirname "$d")"
		cp -a "$d" "$root$(dirname "$d")/"
	done
}

# The installed ones of the packages, with those that they depend on.
closure()
{
	seen=' ' todo=$*
	while [ -n "$todo" ]; do
		p=${todo%% *} todo=${todo#"$p"} todo=${todo# }
		case $seen in *" $p "*) continue ;; esac
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || continue
		seen="$seen$p "
		todo="$todo $(dpkg-query -W -f '${Depends}, ${Pre-Depends}' "$p" | tr ',|' '\n\n' |
			sed 's/^ *//; s/[ (:].*//' | tr '\n' ' ')"
		todo=${todo# }
	done
	echo "$seen"
}

# A file of an installed package. A link stays one, and what it leads to comes with it.
put_installed()
{
	case $1 in /bin/* | /sbin/*) set -- "/usr$1" ;; esac
	if [ -L "$1" ] && [ ! -e "$root$1" ] && [ ! -L "$root$1" ]; then
		mkdir -p "$root$(dirname "$1")"
		cp -P "$1" "$root$1"
		put_installed "$(realpath -s -m "$(dirname "$1")/$(readlink "$1" | sed 's,^/,../../../../../../../../,')")"
	elif [ -f "$1" ]; then
		put "$1"
	fi
}

# Installed packages, and what they depend on, without what belongs to the system.
installed()
{
	for p in $(closure "$@"); do
		case $p in libc6 | libc-bin | base-files | debconf | dpkg | tzdata | libc6-dev | gcc-* | ucf | systemd | init* | login | passwd) continue ;; esac
		dpkg-query -L "$p" | grep -v '^/usr/share/\(doc\|man\|locale\|lintian\|info\|bash-completion\)\|^/usr/include' |
			while read -r f; do put_installed "$f"; done
	done
}

# All files of the packages but documents and translations.
packages()
{
	names=busybox-static
	for what in "$@"; do
		case $what in
		sort) names="$names coreutils" ;;
		python3) names="$names python3-minimal libpython3-stdlib" ;;
		*) names="$names $what" ;;
		esac
	done
	from=${DEBIAN:-$dir/debian}
	sh "$(dirname "$0")/debian.sh" "$ARCH" "$from" $names
	if [ -n "$*" ]; then
		(cd "$from/root" && tar cf - --exclude=usr/share/doc --exclude=usr/share/man --exclude=usr/share/locale \
			--exclude=usr/share/i18n .) | tar xf - -C "$root"
		ln -s usr/lib "$root/lib"
	fi
	cp "$from/root/usr/bin/busybox" "$root/bin/busybox"
}

if [ "${ARCH:=x86_64}" != x86_64 ]; then
	packages "$@"
	set --
else
	cp -L "$(command -v busybox)" "$root/bin/busybox"
fi
for a in sh ls cat echo cp mv rm mkdir ps date sleep cmp md5sum wc head tail grep seq mount env true false uname df kill vi less; do
	ln -s busybox "$root/bin/$a"
done
for what in "$@"; do
	case $what in
	sort) put /usr/bin/sort /usr/bin/md5sum ;;
	sqlite3) put /usr/bin/sqlite3 ;;
	python3)
		put /usr/bin/python3
		version=$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
		mkdir -p "$root/usr/lib/$version"
		(cd "/usr/lib/$version" && tar cf - --exclude=test --exclude=idlelib --exclude=lib2to3 --exclude=ensurepip \
			--exclude='config-*' --exclude=dist-packages .) | tar xf - -C "$root/usr/lib/$version"
		find "$root/usr/lib/$version/lib-dynload" -name '*.so' | while read -r so; do libs "$so"; done
		;;
	gcc)
		gccdir=$(dirname "$(gcc -print-file-name=cc1)")
		put /usr/bin/gcc /usr/bin/as /usr/bin/ld "$gccdir/cc1" "$gccdir/collect2" "$gccdir/lto-wrapper" "$gccdir/liblto_plugin.so"
		tree "$gccdir/include" /usr/include/x86_64-linux-gnu
		mkdir -p "$root/usr/include"
		for h in /usr/include/*.h; do cp -L "$h" "$root/usr/include/"; done
		for h in linux asm-generic; do [ -d "/usr/include/$h" ] && cp -a "/usr/include/$h" "$root/usr/include/"; done
		for f in crt1.o crti.o crtn.o Scrt1.o libc.so libc.so.6 libc_nonshared.a; do
			put "$(realpath -s "$(gcc -print-file-name=$f)")"
		done
		for f in crtbegin.o crtend.o crtbeginS.o crtendS.o libgcc.a libgcc_s.so; do
			put "$(realpath -s "$(gcc -print-file-name=$f)")"
		done
		put /lib/x86_64-linux-gnu/libgcc_s.so.1
		;;
	*) installed "$what" ;;
	esac
done
[ -d "$dir/extra" ] && cp -a "$dir/extra/." "$root/"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
rm -f "$dir/root.img" "$dir/swap.img"
truncate -s "${SIZE:-1024}M" "$dir/root.img"
mke2fs -q -F -t ext2 -b 4096 -O none,filetype,sparse_super,large_file -d "$root" "$dir/root.img"
truncate -s "${SWAP:-512}M" "$dir/swap.img"
