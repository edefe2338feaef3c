"""Bytes over a socket, as no client library would send them. Used by the tests of connections and of hostile input."""

import contextlib
import socket
import time

WAIT_SECONDS = 60.0  # for an answer, on a busy machine; what is answered ends the wait


def open_to(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), WAIT_SECONDS, (source, 0))


def ask(port: int, *parts: bytes, pause_seconds: float = 0.0) -> bytes:
    """Everything that comes back until the connection ends; b"" when it ends without a word."""
    with open_to(port) as connection:
        with contextlib.suppress(OSError):  # cut off while we were sending
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_seconds)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            answer += part
    return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def head(path: bytes, *lines: bytes, method: bytes = b"GET", host: bytes = b"localhost", close: bool = True) -> bytes:
    """A request without a body; lines are headers."""
    ends = [b"Connection: close"] if close else []
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: " + host, *lines, *ends, b"", b""])


def post(path: bytes, body: bytes, *lines: bytes, kind: bytes = b"application/json") -> bytes:
    return head(path, b"Content-Type: " + kind, b"Content-Length: %d" % len(body), *lines, method=b"POST") + body


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"edge", end: bool = True) -> bytes:
    """Parts of multipart/form-data: headers as they are to be written, and content."""
    written = b"".join(b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, lines, content) for lines, content in parts)
    return written + (b"--%s--\r\n" % boundary if end else b"")
