"""Small pictures of every kind, and the means to break one in a single place."""

import io
import random
import struct
import zlib

from PIL import Image


def noise(size, mode="RGB", seed=1):
    """Pixels without any pattern: the longest entropy-coded data, with many FF bytes in them."""
    bands = Image.new(mode, (1, 1)).getbands()
    pixels = random.Random(seed).randbytes(size[0] * size[1] * len(bands))
    return Image.frombytes(mode, size, pixels)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name, body=b""):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*chunks, header=(4, 2, 8, 2, 0, 0, 0)):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *header)) + b"".join(chunks) + chunk(b"IEND")


PNG = encoded(noise((23, 17)), "PNG")
JPEG = encoded(noise((61, 43)), "JPEG", quality=90)
PROGRESSIVE = encoded(noise((61, 43)), "JPEG", progressive=True, optimize=True)
WEBP = encoded(noise((31, 19)), "WEBP")
WEBP_ALPHA = encoded(noise((31, 19), "RGBA"), "WEBP")
IDAT = chunk(b"IDAT", zlib.compress(bytes(26)))
