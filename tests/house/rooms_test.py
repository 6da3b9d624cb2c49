# SPDX-License-Identifier: BSD-2-Clause
"""The tables of docs/architecture.md hold: rooms_test.py SOURCE LIBVMCORE BUILD

Each #include line is one that the table of folders allows. Each call from one room of vm/ into another goes down, or
through a door that the table of rooms names, and each door that is named is used. Only vm/seg/ compares a segment's
operations. Each function of machine.h and hat.h is one that the core calls. In the folders of the table of floors a
file calls files of lower floors only, so no files call each other in a circle.
"""

import json
import os
import re
import subprocess
import sys

source, library, build = (os.path.abspath(a) for a in sys.argv[1:4])
bad = []
# The core reads no clock; the conformance suite and programs on the machine do.
FOR_OTHERS = {"mach_time_ns"}


def table(text, heading):
    """Rows of the first table behind a line, each a list of cells."""
    rows = []
    for line in text[text.index(heading):].splitlines()[1:]:
        if line.startswith("|"):
            rows.append([c.strip() for c in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


def names(cell):
    return [n.rstrip("/") for n in re.findall(r"`([^`]+)`", cell)]


def within(path, folders):
    return any(path == f or path.startswith(f + "/") for f in folders)


def sources():
    found = []
    for folder, folders, files in os.walk(source):
        folders[:] = [d for d in folders if not d.startswith((".", "build"))]
        found += [os.path.relpath(os.path.join(folder, f), source) for f in files if f.endswith((".c", ".h"))]
    return sorted(found)


def check_includes(rows, files):
    """Returns the number of checked lines between folders."""
    known, seen = set(files), 0
    may = {names(row[0])[0]: None if row[2] == "everything" else names(row[2]) for row in rows}
    for path in files:
        mine = sorted((f for f in may if within(path, [f])), key=len)[-1:]      # lib/include/ lies in lib/
        if not mine:
            bad.append("%s lies in no folder of the table" % path)
            continue
        with open(os.path.join(source, path)) as f:
            text = f.read()
        for quote, name in re.findall(r'^[ \t]*#[ \t]*include[ \t]+(["<])([^">]+)[">]', text, re.M):
            places = [os.path.normpath(os.path.join(os.path.dirname(path), name)), name, "include/" + name, "lib/include/" + name]
            to = [p for p in (places if quote == '"' else places[2:]) if p in known][:1]
            if not to and quote == '"':     # in a folder named by the build, which depends on the machine
                to = [p for p in files if p.endswith("/" + name)]
            if not to:
                if quote == '"':
                    bad.append("%s includes %s, which is nowhere" % (path, name))
                continue
            seen += 1
            if may[mine[0]] is not None and not any(within(t, mine + may[mine[0]]) for t in to):
                bad.append("%s includes %s: %s/ may not" % (path, to[0], mine[0]))
    return seen


def check_rooms(rows, files):
    """A room includes the headers of vm/ itself, its own, and those of rooms below it."""
    floor = {"vm/" + names(row[0])[0]: i for i, row in enumerate(rows)}
    for path in files:
        room = os.path.dirname(path)
        if room in floor:
            with open(os.path.join(source, path)) as f:
                for name in re.findall(r'^#include "([^"]+)"', f.read(), re.M):
                    if floor.get(os.path.dirname(name), len(floor)) < floor[room]:
                        bad.append("%s includes %s, which is above it" % (path, name))


def check_drivers(files):
    for path in files:
        if within(path, ["vm"]) and not within(path, ["vm/seg"]):
            with open(os.path.join(source, path)) as f:
                if re.search(r"[!=]= *&seg\w*_ops", f.read()):
                    bad.append("%s asks which driver a segment has" % path)


def check_failures(files):
    """There is only one way to tell that a raw call failed: sys_failed()."""
    for path in files:
        if not within(path, ["sys/linux", "tests"]):
            with open(os.path.join(source, path)) as f:
                if re.search(r"[<>]=? *-40(96|95)\b", f.read()):
                    bad.append("%s tells a failed call in a way of its own: sys_failed() does" % path)


def room_of(member):
    """vm_frame_buddy.c.o lies in frame; objects of policy/ in no room."""
    m = re.match(r"vm_([a-z]+)_", member)
    return m.group(1) if m else None


def check_calls(rows):
    """Returns the number of different calls between rooms."""
    floor = {names(row[0])[0]: i for i, row in enumerate(rows)}     # floor 0 is the top
    doors = {names(row[0])[0]: set(names(row[2])) for row in rows}
    used = {room: set() for room in floor}
    defined, wanted = {}, set()
    text = subprocess.run(["nm", "-A", library], capture_output=True, text=True, check=True).stdout
    for member, kind, symbol in re.findall(r"[/:]([^/:\n]+\.o):[0-9a-f]*\s+([A-Za-z])\s+(\S+)$", text, re.M):
        room = room_of(member)
        if room is not None and room not in floor:
            bad.append("vm/%s/ is not in the table of rooms" % room)
        elif kind == "U" and room is not None:
            wanted.add((room, symbol))
        elif kind.isupper() and room is not None:
            defined[symbol] = room
    between = [(room, symbol) for room, symbol in wanted if defined.get(symbol, room) != room]
    for room, symbol in sorted(between):
        if floor[defined[symbol]] < floor[room]:
            if symbol in doors[room]:
                used[room].add(symbol)
            else:
                bad.append("vm/%s/ calls %s of vm/%s/, which is above it" % (room, symbol, defined[symbol]))
    for room, names_ in doors.items():
        for symbol in sorted(names_ - used[room]):
            bad.append("vm/%s/ does not call %s: no door is needed" % (room, symbol))
    return len(between)


def floors_of(cell):
    """`a` → `b` `c`: a list of floors from the top, each a list of files."""
    return [[name + ".c" for name in names(floor)] for floor in cell.split("→")]


def compiled():
    """Each object file with its source file: of Meson's build and, if this computer has the architecture, of the kernel."""
    with open(os.path.join(build, "compile_commands.json")) as f:
        found = [(os.path.join(build, c["output"]), os.path.relpath(os.path.join(build, c["file"]), source)) for c in json.load(f)]
    if os.uname().machine == "x86_64":
        kernel = os.path.join(build, "kernel-x86_64")
        subprocess.run(["make", "-s", "-j2", "-C", os.path.join(source, "kernel"), "BUILD=" + kernel, "objects"], check=True)
        found += [(os.path.join(kernel, file + ".o"), file) for file in sources() if within(file, ["kernel"])]
    return [(object_, file) for object_, file in found if os.path.exists(object_)]


def calls_between(folder, pairs):
    """For each compiled file of a folder, the files of the folder that define the functions it calls."""
    objects = {object_: os.path.basename(file) for object_, file in pairs if os.path.dirname(file) == folder}
    defined, wanted = {}, {file: set() for file in objects.values()}
    if not objects:
        return {}
    text = subprocess.run(["nm", "-A"] + sorted(objects), capture_output=True, text=True, check=True).stdout
    for object_, kind, symbol in re.findall(r"^(.*?):.*([A-Za-z]) (\w+)$", text, re.M):
        if kind == "U":
            wanted[objects[object_]].add(symbol)
        elif kind.isupper():
            defined[symbol] = objects[object_]
    return {file: {defined[s] for s in symbols if s in defined} - {file} for file, symbols in wanted.items()}


def check_floors(rows):
    """A file calls files of the floors below its own. Returns the number of checked calls between files."""
    looked, pairs = 0, compiled()
    for row in rows:
        folder, floors = names(row[0])[0], floors_of(row[1])
        floor = {file: i for i, files in enumerate(floors) for file in files}
        calls = calls_between(folder, pairs)
        for file in sorted(set(os.listdir(os.path.join(source, folder))) - set(floor)):
            if file.endswith(".c"):
                bad.append("%s/%s is not in the table of floors" % (folder, file))
        for file in sorted(floor):
            if not os.path.exists(os.path.join(source, folder, file)):
                bad.append("%s/%s of the table of floors is nowhere" % (folder, file))
            for to in sorted(calls.get(file, ())):
                looked += 1
                if floor.get(to, len(floors)) <= floor[file]:
                    bad.append("%s/%s calls %s, which is on no floor below it" % (folder, file, to))
    return looked


def check_seam():
    """Checks that the core calls each function that a port must have. Returns their number."""
    wanted = set(re.findall(r"\bU (\w+)$", subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout, re.M))
    declared = set()
    for header in ("machine.h", "hat.h"):
        with open(os.path.join(source, "include/quire", header)) as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        declared |= set(re.findall(r"^(?!static)[a-z][^;{}#]*?\b((?:mach|hat)_\w+)\([^;{}]*\);", text, re.M))
    for name in sorted(declared - wanted - FOR_OTHERS):
        bad.append("%s is asked of each port, but the core does not call it" % name)
    return len(declared)


def main():
    with open(os.path.join(source, "docs", "architecture.md")) as f:
        text = f.read()
    folders, rooms, files = table(text, "## What may include what"), table(text, "## The core, room by room"), sources()
    includes, calls = check_includes(folders, files), check_calls(rooms)
    check_rooms(rooms, files)
    check_drivers(files)
    floors = table(text, "## Files, floor by floor")
    seam, floored = check_seam(), check_floors(floors)
    check_failures(files)
    for number, least, what in ((len(folders), 15, "folders"), (len(rooms), 8, "rooms"), (includes, 400, "includes"),
                                (calls, 150, "calls between rooms"), (seam, 50, "functions of the seam"),
                                (len(floors), 8, "folders with floors"), (floored, 500, "calls between files")):
        if number < least:
            bad.append("only %d %s were read" % (number, what))
    for line in bad:
        print(line)
    print("%d folders, %d include lines; %d rooms, %d calls between them; %d functions of a port; "
          "%d folders with floors, %d calls between their files" %
          (len(folders), includes, len(rooms), calls, seam, len(floors), floored))
    return 1 if bad else 0


sys.exit(main())
