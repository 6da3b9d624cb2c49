# SPDX-License-Identifier: BSD-2-Clause
"""A Redis for the tests of far swap that keeps strings, and answers badly now and then."""
import contextlib
import random
import socket
import threading

INFO = b"# Server\r\nredis_mode:standalone\r\nused_memory:1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"


def string(text):
    return b"$-1\r\n" if text is None else b"$%d\r\n%s\r\n" % (len(text), text)


def is_page(answer):
    return answer[:1] == b"$" and len(answer) > 4000


# What a bad answer is, in the place of a good one.
BAD = {
    "longer than asked for": lambda good, r: string(bytes(70000)) if is_page(good) else good,
    "a length without its bytes": lambda good, r: b"$99999\r\n" + good if is_page(good) else good,
    "a negative length": lambda good, r: b"$-77\r\n",
    "lists in lists": lambda good, r: b"*1\r\n" * 20 + b":1\r\n",
    "a number that is too large": lambda good, r: b":99999999999999999999\r\n",
    "random bytes": lambda good, r: b"?" + r.randbytes(200),
    "a redirection": lambda good, r: b"-MOVED 3 127.0.0.1:1\r\n",
    "half a redirection": lambda good, r: b"-MOVED\r\n",
    "not ready": lambda good, r: b"-LOADING it is\r\n",
    "read-only": lambda good, r: b"-READONLY it is\r\n",
    "an error with control codes": lambda good, r: b"-ERR \0\x1b[31m\r\n",
    "the connection closed in the middle": lambda good, r: good[:r.randrange(len(good))] + b"!",
    "a page with a bit turned": lambda good, r: good[:2000] + bytes([good[2000] ^ 1]) + good[2001:] if is_page(good) else good,
}


class FakeRedis:
    """how: of BAD; each answer after the first `after` is such a one with that probability."""

    def __init__(self, how, rate=0.02, after=60, seed=1):
        self.how, self.rate, self.after, self.answers, self.kept = how, rate, after, 0, {}
        self.random, self.lock = random.Random(seed), threading.Lock()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=self.listener.accept()[:1], daemon=True).start()

    def serve(self, s):
        with s, contextlib.suppress(OSError, ValueError):
            f = s.makefile("rb")
            while True:
                words = []
                for _ in range(int(f.readline()[1:])):
                    words.append(f.read(int(f.readline()[1:])))
                    f.read(2)
                with self.lock:
                    good = self.answer(*words)
                    self.answers += 1
                    bad = self.answers > self.after and self.random.random() < self.rate
                    answer = BAD[self.how](good, self.random) if bad else good
                s.sendall(answer)
                if bad and "closed" in self.how:
                    return

    def answer(self, command, *words):
        if command == b"INFO":
            return string(INFO)
        if command == b"SET":
            if b"XX" not in words:
                self.kept[words[0]] = words[1]
            return b"+OK\r\n"
        if command == b"GET":
            return string(self.kept.get(words[0]))
        if command == b"GETRANGE":
            return string(self.kept.get(words[0], b"")[int(words[1]):int(words[2]) + 1])
        if command == b"DEL":
            return b":%d\r\n" % (self.kept.pop(words[0], None) is not None)
        return b":1\r\n"
