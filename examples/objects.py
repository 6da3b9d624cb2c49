#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Build, index, sort and walk a large number of small objects.

    python3 examples/objects.py [COUNT]

An ordinary program without any code for memory: COUNT objects of about 330 bytes each, visited
first in the order of creation, then by name, then in sorted order, which is random order in memory.
Prints checksums of each stage; the
same COUNT prints the same lines on every machine.
"""

import sys


class Record:
    __slots__ = ("key", "name", "tags", "next")

    def __init__(self, key, name, tags):
        self.key = key
        self.name = name
        self.tags = tags
        self.next = None


def numbers(seed):
    """An endless, repeatable stream of 61-bit numbers."""
    x = seed
    while True:
        x = (x * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        yield x >> 3


def build(count):
    stream = numbers(2026)
    records = []
    for i in range(count):
        key = next(stream)
        records.append(Record(key, "record-%016x" % key, [i, key & 0xFFFF]))
    return records


def mix(total, value):
    return (total * 1000003 ^ value) & 0xFFFFFFFFFFFFFFFF


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000

    records = build(count)
    total = 0
    for r in records:
        total = mix(total, r.key)
    print("built  %d objects  %016x" % (len(records), total), flush=True)

    by_name = {r.name: r for r in records}
    total = 0
    stream = numbers(2026)
    for i in range(count):
        key = next(stream)
        if i % 4 == 0:
            total = mix(total, by_name["record-%016x" % key].tags[0])
    print("found  %d by name  %016x" % ((count + 3) // 4, total), flush=True)

    records.sort(key=lambda r: r.key)
    total = 0
    last = None
    for r in records:
        if last is not None:
            last.next = r
            if last.key > r.key:
                sys.exit("out of order")
        total = mix(total, r.tags[1])
        last = r
    print("sorted %d by key   %016x" % (count, total), flush=True)

    steps = 0
    total = 0
    r = records[0]
    while r is not None:
        total = mix(total, r.tags[0])
        steps += 1
        r = r.next
    print("walked %d links    %016x" % (steps, total), flush=True)


if __name__ == "__main__":
    main()
