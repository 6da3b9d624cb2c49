# SPDX-License-Identifier: BSD-2-Clause
"""Each error line of cli/ and run/ names the way out: messages_test.py SOURCE [--list]

A line that only says what failed leaves its reader without help. So the text of each message has a word that tells
what to do (WAYS). A text that another call puts together is found where it is written. A panic of run/ is a fault of Quire itself: for what
a user can cause, run/ has host_stop(). The test fails if it finds few messages, as then it has checked nothing.
"""

import glob
import os
import re
import sys

source = os.path.abspath(sys.argv[1])
CALLS = re.compile(r"\b(fail|host_stop|stop_start|say_line|snprintf\(why, whylen|snprintf\(why, sizeof why)\b")
WAYS = re.compile(r"\b([Gg]ive|[Ww]rite|[Nn]ame|[Rr]un|[Rr]aise|[Rr]emove|[Ss]ee|[Uu]se|[Ss]et|[Cc]heck|[Cc]opy|[Ii]nstall|[Ss]tart|[Rr]eport|[Ff]ree|"
                  r"[Bb]uild|[Cc]lose|[Aa]llow|chmod|mount|sysctl|quire check|did you mean|is needed|lists them|is off)\b")
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
LEAST = 70


def call_text(text, at):
    """The arguments of the call whose name ends at that place."""
    depth, i, quoted = 0, at, False
    while i < len(text):
        c = text[i]
        if quoted:
            i += c == "\\"
            quoted = c != '"'
        elif c == '"':
            quoted = True
        elif c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth <= 0:
                break
        i += 1
    return text[at:i]


def messages(text):
    """The texts of one piece of code: literals that follow each other are one text, and a conditional tail belongs to the text before it."""
    found = []
    end = None
    for m in LITERAL.finditer(text):
        between = text[end:m.start()] if end is not None else None
        if found and between is not None and re.fullmatch(r"\s*|\s*[A-Z_]+\s*", between):
            found[-1] += m.group(1)
        else:
            found.append(m.group(1))
        end = m.end()
    return found


bad, seen = [], 0
for path in sorted(glob.glob(source + "/cli/*.c") + glob.glob(source + "/run/*.c")):
    with open(path) as f:
        code = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), f.read(), flags=re.S)
    name = os.path.relpath(path, source)
    places = [(m.start(), call_text(code, m.start(1))) for m in CALLS.finditer(code)]
    if name == "cli/tell.c":
        places = [(m.start(), m.group().replace("MORE", '"; give more"')) for m in re.finditer(r"\{ [^{}]*\},\n", code)]
    for at, text in places:
        for message in messages(text):
            if len(message) < 12 or message.startswith(("%s", ";")):
                continue
            seen += 1
            line = code.count("\n", 0, at) + 1
            if "--list" in sys.argv:
                print("%s:%d: %s" % (name, line, message))
            if name.startswith("run/") and len(message) > 240:
                bad.append("%s:%d: longer than a line of host_stop(): %s" % (name, line, message))
            if not WAYS.search(message):
                bad.append("%s:%d: no way out: %s" % (name, line, message))
    for m in re.finditer(r'mach_panic\(\s*"quire: ', code):
        bad.append("%s:%d: host_stop() tells a user" % (name, code.count("\n", 0, m.start()) + 1))

if seen < LEAST:
    bad.append("only %d messages were found" % seen)
for line in bad:
    print(line)
print("messages: %d, %d wrong" % (seen, len(bad)))
sys.exit(1 if bad else 0)
