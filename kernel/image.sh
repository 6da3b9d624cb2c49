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

# The installed packages of those named, with all that they depend on.
closure()
{
	dpkg-query -W -f '${db:Status-Status} ${Package} ${Depends}, ${Pre-Depends}\n' | awk -v todo="$*" '
		function visit(p, i, n, d) {
			if (seen[p]++ || !(p in needs)) return
			print p
			n = split(needs[p], d, /[,|]/)
			for (i = 1; i <= n; i++) { sub(/^ +/, "", d[i]); sub(/[ (:].*$/, "", d[i]); visit(d[i]) }
		}
		$1 == "installed" { p = $2; $1 = $2 = ""; needs[p] = $0 }
		END { n = split(todo, w, " "); for (k = 1; k <= n; k++) visit(w[k]) }' |
		grep -v '^\(libc-bin\|base-files\|debconf\|dpkg\|gcc-.*\|ucf\|systemd.*\|init.*\|login\|passwd\)$'
}

# Installed packages and those that they depend on, but documents and what belongs to the system. Programs go to /usr/bin. A link that
# leads to an alternative becomes the file.
installed()
{
	list=$(mktemp)
	dpkg-query -L $(closure "$@") | grep -v '^/usr/share/\(doc\|man\|locale\|lintian\|info\|bash-completion\)\|^/usr/include\|/gconv/\|^/[a-z0-9]*$' |
		while read -r f; do
			if [ -L "$f" ] || [ -f "$f" ]; then echo "${f#/}"; fi
		done >"$list"
	tar -C / -cf - --no-recursion --transform 's,^\(s\?bin/\),usr/\1,' -T "$list" | tar -C "$root" -xf -
	rm -f "$list"
	find "$root" -lname '/etc/alternatives/*' | while read -r l; do cp --remove-destination -L "${l#"$root"}" "$l"; done
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
chmod 1777 "$root/tmp"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
rm -f "$dir/root.img" "$dir/swap.img"
truncate -s "${SIZE:-1024}M" "$dir/root.img"
mke2fs -q -F -t ext2 -b 4096 -O none,filetype,sparse_super,large_file -d "$root" "$dir/root.img"
truncate -s "${SWAP:-512}M" "$dir/swap.img"
