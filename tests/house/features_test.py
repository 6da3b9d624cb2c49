# SPDX-License-Identifier: BSD-2-Clause
"""Every file and every test that docs/features.md names exists: features_test.py SOURCE"""

import functools
import os
import re
import sys

source = os.path.abspath(sys.argv[1])


@functools.lru_cache
def text_of(path):
    try:
        with open(os.path.join(source, path), encoding="utf-8") as f:
            return f.read()
    except OSError:
        return ""


def test_fault(path, name):
    """What is wrong with that test, or None."""
    text = text_of(path)
    if not re.search(r"^(?:(?:static )?(?:void|bool|int|enum [a-z_]+)|def) %s\(" % name, text, re.M):
        return "%s has no %s" % (path, name)
    lines = text.splitlines()
    used = sum(1 for line in lines if re.search(r"\b%s\b" % name, line))
    marked = any(line.startswith("def %s(" % name) and before.startswith("@needs(") for before, line in zip(lines, lines[1:]))
    return None if used >= 2 or marked else "%s never runs %s" % (path, name)


def faults_of(row, what, where, shown):
    files = [word for word in re.findall(r"[^`\s]+", where) if "/" in word]
    tests = [word.split(":", 1) for word in re.findall(r"[^`\s]+", shown) if ":" in word]
    if not files:
        return [] if "not " in what else ["%s: no file, and it does not say that it is missing" % row]
    bad = [] if tests else ["%s: no test" % row]
    bad += ["%s: %s does not exist" % (row, f) for f in files if not os.path.exists(os.path.join(source, f))]
    return bad + ["%s: %s" % (row, fault) for fault in (test_fault(*t) for t in tests) if fault]


def main():
    rows = []
    for line in text_of("docs/features.md").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) >= 7 and re.search("[ABC]", cells[2]):
            rows.append((cells[1], *cells[3:6]))
    bad = [fault for row in rows for fault in faults_of(*row)]
    if len(rows) < 90:
        bad.append("only %d rows were read" % len(rows))
    print("\n".join(bad + ["%d rows, %d of them say that they are missing" % (len(rows), sum(1 for r in rows if "/" not in r[2]))]))
    return 1 if bad else 0


sys.exit(main())
