"""Where an ONNX graph's weights lie: pointed from a file of their own to their place inside the bundle.

Not an ONNX library: of the protobuf messages only the path to `external_data` is read, everything else is copied as it is.

ONNX Runtime maps a file that it is given by name, and copies what it is given in memory twice (a 28 MB DenseNet: 159 MB at
its peak against 119). So it is given the bundle's own name.

    ModelProto.graph = 7 -> GraphProto.initializer = 5 -> TensorProto.external_data = 13 -> key = 1, value = 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

Change = Callable[[memoryview], bytes]


def point_into(model: memoryview, file: str, starts: Mapping[str, int]) -> bytes:
    """The graph with other places of its weights.

    Args:
        model: a serialised ModelProto, unsigned 8-bit `[size]`.
        file: the name of the file that holds all weights.
        starts: file name in the graph to the first byte of its content in `file`.

    Raises:
        ValueError, IndexError, KeyError: not such a message, or it names another file.
    """

    def moved(tensor: memoryview) -> bytes:
        place = dict(_entry(body) for number, _, body in _fields(tensor) if number == 13)
        if not place:
            return bytes(tensor)
        offset = int(place.get("offset", "0")) + starts[place["location"]]
        rest = b"".join(whole for number, whole, _ in _fields(tensor) if number != 13)
        entries = {"location": file, "offset": str(offset), "length": place["length"]}
        return rest + b"".join(
            _bytes(13, _bytes(1, key.encode()) + _bytes(2, value.encode())) for key, value in entries.items()
        )

    return _changed(model, 7, lambda graph: _changed(graph, 5, moved))


def _changed(message: memoryview, wanted: int, change: Change) -> bytes:
    parts = (_bytes(number, change(body)) if number == wanted else whole for number, whole, body in _fields(message))
    return b"".join(parts)


def _entry(message: memoryview) -> tuple[str, str]:
    found = {number: str(body, "utf-8") for number, _, body in _fields(message)}
    return found[1], found[2]


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """(number, the field with its tag, its content) of each field; the content of a number is empty."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        body = at
        if tag & 7 == 0:
            _, at = _varint(message, at)
            body = at
        elif tag & 7 == 2:
            length, body = _varint(message, at)
            at = body + length
        elif tag & 7 in (1, 5):
            body = at = at + (8 if tag & 7 == 1 else 4)
        else:
            raise ValueError(f"a protobuf field of wire type {tag & 7}")
        if at > len(message):
            raise ValueError("a protobuf field that goes beyond its message")
        yield tag >> 3, message[start:at], message[body:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """(value, the byte after it); base 128, low groups first, at most ten of them."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a protobuf number of more than ten bytes")


def _bytes(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    head = bytearray()
    for value in (number << 3 | 2, len(content)):
        while value > 127:
            head.append(value & 127 | 128)
            value >>= 7
        head.append(value)
    return bytes(head) + content
