# SPDX-License-Identifier: BSD-2-Clause
"""A bad net for the tests of far swap: a relay between quire-far and a server that delays, cuts and closes connections."""
import random
import select
import socket
import threading
import time


class BadNet:
    """
    Relays connections to a port of the loopback, in both directions, each by a thread. What is bad about it:

    delay     seconds that every piece from the server waits before it goes on, in order
    pieces    bytes of one piece, at most: replies arrive in parts
    cut       a connection ends after about so many bytes from the server, in the middle of what it says; once it has
    cut `cuts` times it relays for good
    how       of a cut: "reset", "close", or "half": what the client sends goes on to the server, and no answer comes
    back any more
    """

    def __init__(self, port, delay=0.0, pieces=65536, cut=0, cuts=0, how="reset", seed=1):
        self.to, self.delay, self.pieces, self.cut, self.cuts, self.how = port, delay, pieces, cut, cuts, how
        self.random, self.lock, self.has_cut, self.threads, self.over = random.Random(seed), threading.Lock(), 0, [], False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        self.spawn(self.accept)
        return self

    def __exit__(self, *_):
        self.over = True
        for t in self.threads:
            t.join()
        self.listener.close()

    def spawn(self, what, *words):
        t = threading.Thread(target=what, args=words, daemon=True)
        self.threads.append(t)
        t.start()

    def ready(self, s):
        while not self.over:
            if select.select([s], [], [], 0.1)[0]:
                return True
        return False

    def accept(self):
        while self.ready(self.listener):
            client = self.listener.accept()[0]
            server = socket.create_connection(("127.0.0.1", self.to))
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.spawn(self.relay, client, server, None, 0.0)
            self.spawn(self.relay, server, client, self.next_cut(), self.delay)

    def next_cut(self):
        """Returns the number of bytes after which this connection is cut; None: never."""
        with self.lock:
            if self.cut == 0 or self.has_cut == self.cuts:
                return None
            return self.random.randrange(self.cut // 2, self.cut * 3 // 2)

    def relay(self, a, b, left, delay):
        try:
            while self.ready(a):
                piece = a.recv(self.pieces)
                if delay > 0:
                    time.sleep(delay)
                if left is not None and len(piece) >= left:
                    b.sendall(piece[:left])
                    self.end(a, b)
                    return
                left = None if left is None else left - len(piece)
                if piece == b"":
                    b.shutdown(socket.SHUT_WR)
                    return
                b.sendall(piece)
        except (OSError, ValueError):
            pass  # the other direction has ended both connections
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def end(self, server, client):
        with self.lock:
            self.has_cut += 1
        if self.how == "half":
            while self.ready(server) and server.recv(65536):
                pass
        elif self.how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        for s in (server, client):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
