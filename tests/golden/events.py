"""Write events.tfevents and events.png: an event file by TensorBoard's own encoder.

Run with tensorboard installed:  python events.py
"""

import struct
import zlib
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

HERE = Path(__file__).parent


def tiny_png(width, height):
    """An RGB image, by the PNG specification and without a library."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    def row(y):
        return b"\0" + b"".join(bytes((60 * x, 90 * y, 128)) for x in range(width))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(map(row, range(height)))))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def scalar(wall_time, step, tag, value):
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
    return Event(wall_time=wall_time, step=step, summary=summary)


def main():
    width, height = 4, 3
    png = tiny_png(width, height)
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
    events = [
        Event(wall_time=1_700_000_000.25, file_version="brain.Event:2"),
        scalar(1_700_000_001.5, 0, "loss/total", 0.0),
        scalar(1_700_000_002.5, 300, "loss/total", -1.25),
        scalar(1_700_000_003.5, 1 << 40, "größe", float("inf")),
        Event(
            wall_time=1_700_000_004.5,
            step=7,
            summary=Summary(value=[Summary.Value(tag="scenes", image=image)]),
        ),
    ]
    (HERE / "events.png").write_bytes(png)
    with open(HERE / "events.tfevents", "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
        writer.flush()


if __name__ == "__main__":
    main()
