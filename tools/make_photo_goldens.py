#!/usr/bin/env python3
"""Makes tests/data/photos: tiny HEIC, AVIF and JPEG XL files by foreign encoders, with what foreign decoders see.

Needs numpy, Pillow, pillow-heif (libheif with x265), imagecodecs (libavif, libjxl) and cjxl (libjxl). Each photo
NAME.EXT has its pixels beside it as NAME.png: 8 or 16 bits, grey or colour, with or without alpha. Those that were
coded without loss have the pixels that went in; the others those that the foreign decoder gives, which others may miss
by the tolerance in tests/photo_formats.rs.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
from PIL import Image, ImageOps

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/photos")
WIDTH, HEIGHT = 41, 23


def waves(channels, bits, seed):
    """Smooth colours with some noise, of all values from 0 to the largest."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    random = np.random.default_rng(seed)
    planes = [np.sin(0.31 * x + c) * np.cos(0.23 * y - c) for c in range(channels)]
    planes = np.stack(planes, -1) + 0.05 * random.standard_normal((HEIGHT, WIDTH, channels))
    low, high = planes.min((0, 1)), planes.max((0, 1))
    values = np.rint((planes - low) / (high - low) * (2**bits - 1))
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def full(values, bits):
    """To all 16 bits, as the engine stores what has 10 or 12."""
    if bits <= 8:
        return values
    return ((values.astype(np.uint32) * 65535 + (2**bits - 1) // 2) // (2**bits - 1)).astype(np.uint16)


def put(name, coded, pixels):
    (OUT / name).write_bytes(coded)
    assert len(coded) < 20_000, name
    # Grey with alpha and 16 bits is beyond Pillow.
    (OUT / Path(name).with_suffix(".png")).write_bytes(imagecodecs.png_encode(np.squeeze(pixels), level=9))


def jxl():
    for name, channels, bits in [("grey", 1, 8), ("rgb", 3, 8), ("rgba", 4, 8), ("rgb16", 3, 16), ("grey16", 1, 16)]:
        pixels = waves(channels, bits, len(name))
        photometric = "rgb" if channels > 2 else "gray"
        coded = imagecodecs.jpegxl_encode(np.squeeze(pixels), lossless=True, photometric=photometric)
        put(f"jxl_{name}.jxl", coded, pixels)
    for name, channels, bits in [("rgb10", 3, 10), ("rgb12", 3, 12)]:
        pixels = waves(channels, bits, len(name))
        coded = imagecodecs.jpegxl_encode(pixels, lossless=True, bitspersample=bits)
        put(f"jxl_{name}.jxl", coded, full(pixels, bits))
    # imagecodecs takes two channels for a series of pictures.
    pixels = waves(2, 8, 6)
    with tempfile.TemporaryDirectory() as folder:
        source, coded = Path(folder, "a.png"), Path(folder, "a.jxl")
        source.write_bytes(imagecodecs.png_encode(pixels))
        subprocess.run(["cjxl", "-d", "0", source, coded], check=True, capture_output=True)
        put("jxl_greya.jxl", coded.read_bytes(), pixels)
    pixels = waves(3, 8, 5)
    coded = imagecodecs.jpegxl_encode(pixels, distance=1.0)
    put("jxl_lossy.jxl", coded, imagecodecs.jpegxl_decode(coded))


def jxl_of_jpeg():
    """A JPEG as it is, in JPEG XL: with EXIF that asks to turn it."""
    image = Image.fromarray(waves(3, 8, 9))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    image.save(data, "JPEG", quality=95, exif=exif, subsampling=0)
    coded = imagecodecs.jpegxl_encode_jpeg(data.getvalue())
    put("jxl_jpeg_turned.jxl", coded, imagecodecs.jpegxl_decode(coded))


def heif():
    lossless = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    for name, mode, channels in [("rgb", "RGB", 3), ("rgba", "RGBA", 4)]:
        pixels = waves(channels, 8, len(name))
        data = io.BytesIO()
        pillow_heif.from_bytes(mode, (WIDTH, HEIGHT), pixels.tobytes()).save(data, **lossless)
        assert np.array_equal(seen(data), pixels), name
        put(f"heic_{name}.heic", data.getvalue(), seen(data))
    pixels = waves(1, 8, 7)
    data = io.BytesIO()
    pillow_heif.from_bytes("L", (WIDTH, HEIGHT), pixels.tobytes()).save(data, quality=-1)
    put("heic_grey.heic", data.getvalue(), seen(data))
    for bits in [10, 12]:
        pixels = full(waves(3, bits, bits), bits)
        data = io.BytesIO()
        pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
        pillow_heif.from_bytes("RGB;16", (WIDTH, HEIGHT), pixels.tobytes()).save(data, **lossless)
        print("heic", bits, "lossless" if np.array_equal(seen(data, bits), pixels) else "lossy")
        put(f"heic_rgb{bits}.heic", data.getvalue(), seen(data, bits))
    # Chroma of half the sides, and a loss.
    data = io.BytesIO()
    pillow_heif.from_bytes("RGB", (WIDTH, HEIGHT), waves(3, 8, 11).tobytes()).save(data, quality=90, chroma=420)
    put("heic_lossy.heic", data.getvalue(), seen(data))
    # A phone's: the image itself says how it is turned (irot), and its EXIF says so once more.
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    pillow_heif.from_bytes("RGB", (WIDTH, HEIGHT), waves(3, 8, 12).tobytes()).save(
        data, exif=exif.tobytes(), **lossless)
    assert b"irot" in data.getvalue() and b"Exif" in data.getvalue()
    pixels = seen(data)
    assert pixels.shape == (WIDTH, HEIGHT, 3)
    put("heic_turned.heic", data.getvalue(), pixels)


def seen(data, bits=8):
    image = pillow_heif.open_heif(io.BytesIO(data.getvalue()), convert_hdr_to_8bit=False)
    pixels = np.asarray(image)
    if bits == 8:
        return pixels
    # It shifts what has fewer bits to the top of 16.
    return full(pixels >> (16 - bits), bits)


def avif():
    for name, channels, bits in [("rgb", 3, 8), ("rgba", 4, 8), ("grey", 1, 8), ("rgb10", 3, 10), ("rgb12", 3, 12),
                                 ("rgba10", 4, 10), ("grey10", 1, 10)]:
        pixels = waves(channels, bits, len(name))
        coded = imagecodecs.avif_encode(np.squeeze(pixels), level=100, speed=6, bitspersample=bits,
                                        pixelformat="400" if channels == 1 else "444")
        back = imagecodecs.avif_decode(coded).reshape(pixels.shape[:2] + (-1,))
        back = back[..., :channels]
        print("avif", name, "lossless" if np.array_equal(back, pixels) else "lossy", back.shape)
        put(f"avif_{name}.avif", coded, full(back, bits))
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 8
    # Chroma of all pixels: libavif and libheif differ in how they spread halved chroma, by up to 25 of 255 in noise.
    Image.fromarray(waves(3, 8, 13)).save(data, "AVIF", quality=90, subsampling="4:4:4", exif=exif)
    coded = data.getvalue()
    put("avif_turned.avif", coded, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(coded)).convert("RGB"))))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    jxl()
    jxl_of_jpeg()
    heif()
    avif()
