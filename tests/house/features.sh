#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Every file and every test that docs/features.md names exists: features.sh SOURCE_DIRECTORY
cd "$1" || exit 1
bad=0 rows=0 without=0
while IFS='|' read -r _ row tier what where shown _; do
	case $tier in *C*|*B*|*A*) ;; *) continue ;; esac
	rows=$((rows + 1))
	files=$(printf '%s' "$where" | tr '`' '\n' | grep /)
	tests=$(printf '%s' "$shown" | tr '`' '\n' | grep :)
	if [ -z "$files" ]; then
		without=$((without + 1))
		case $what in *"not "*) ;; *) echo "$row: no file, and it does not say that it is missing"; bad=1 ;; esac
		continue
	fi
	[ -n "$tests" ] || { echo "$row: no test"; bad=1; }
	for f in $files; do
		[ -f "$f" ] || { echo "$row: $f does not exist"; bad=1; }
	done
	for t in $tests; do
		file=${t%%:*} name=${t#*:}
		grep -Eq "^((static )?(void|bool|int|enum [a-z_]+)|def) $name\(" "$file" 2>/dev/null ||
			{ echo "$row: $file has no $name"; bad=1; }
		[ "$(grep -c "\b$name\b" "$file")" -ge 2 ] || grep -B1 "^def $name(" "$file" | grep -q '^@needs(' || { echo "$row: $file never runs $name"; bad=1; }
	done
done < docs/features.md
[ $rows -ge 90 ] || { echo "only $rows rows were read"; bad=1; }
echo "$rows rows, $without of them say that they are missing"
exit $bad
