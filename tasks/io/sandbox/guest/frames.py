"""Messages over pipes. The payload has a length prefix, and so has each text field in it."""

import os


def frame(payload: bytes) -> bytes:
    """Return the payload with its length before it."""
    return len(payload).to_bytes(4, "big") + payload


def send(descriptor: int, payload: bytes) -> None:
    """Write one frame."""
    data = frame(payload)
    while data:
        data = data[os.write(descriptor, data) :]


def receive(descriptor: int) -> bytes:
    """Return the payload of the next frame; empty if the other side has closed the pipe."""
    return exactly(descriptor, int.from_bytes(exactly(descriptor, 4), "big"))


def exactly(descriptor: int, size: int) -> bytes:
    """Return the next `size` bytes; empty if the other side has closed the pipe."""
    data = b""
    while len(data) < size:
        if not (chunk := os.read(descriptor, min(size - len(data), 1 << 20))):
            return b""
        data += chunk
    return data


def pack(*fields: str) -> bytes:
    """Return a payload of text fields."""
    return b"".join(frame(field.encode("utf-8", "surrogatepass")) for field in fields)


def unpack(payload: bytes) -> list[str]:
    """Return the fields of a payload. Raises UnicodeDecodeError if they are not text."""
    fields, start = [], 0
    while start < len(payload):
        first = start + 4
        start = first + int.from_bytes(payload[start:first], "big")
        fields.append(payload[first:start].decode("utf-8", "surrogatepass"))
    return fields
