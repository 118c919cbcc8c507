import io
import struct
import tracemalloc
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from discern.data.decode import FITS, LONGER, SHORTER, decode, resized
from discern.errors import UnreadableImage

ORIENTATION = 0x0112


def scene(width=60, height=40, seed=0):
    """A smooth picture without symmetry, in levels 20 to 235."""
    rng = np.random.default_rng(seed)
    small = rng.integers(20, 236, (5, 6, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def encode(picture, format, **options):
    buffer = io.BytesIO()
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(picture)
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def same_size(data):
    """Decoded without any resizing: size of the file, which must be a square."""
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
        side = max(picture.size)
    return decode(data, size=side, fit="pad")


def assert_close(image, expected, *, mean, worst=255):
    difference = np.abs(image.astype(int) - np.asarray(expected).astype(int))
    assert image.shape == np.asarray(expected).shape
    assert difference.mean() <= mean, difference.mean()
    assert difference.max() <= worst, difference.max()


# --- formats -----------------------------------------------------------------------------------------------

SQUARE = scene(48, 48)
GREY = SQUARE[:, :, 0]


@pytest.mark.parametrize(
    ("data", "format", "mode", "expected"),
    [
        (encode(SQUARE, "PNG"), "PNG", "RGB", SQUARE),
        (encode(SQUARE, "BMP"), "BMP", "RGB", SQUARE),
        (encode(SQUARE, "TIFF"), "TIFF", "RGB", SQUARE),
        (encode(SQUARE, "TIFF", compression="tiff_lzw"), "TIFF", "RGB", SQUARE),
        (encode(SQUARE, "WEBP", lossless=True), "WEBP", "RGB", SQUARE),
        (encode(SQUARE, "PPM"), "PPM", "RGB", SQUARE),
        (encode(GREY, "PNG"), "PNG", "L", np.stack([GREY] * 3, 2)),
    ],
    ids=["png", "bmp", "tiff", "tiff-lzw", "webp", "ppm", "png-grey"],
)
def test_lossless_formats_give_the_very_pixels(data, format, mode, expected):
    decoded = same_size(data)
    np.testing.assert_array_equal(decoded.image, expected)
    assert (decoded.width, decoded.height, decoded.format, decoded.mode) == (48, 48, format, mode)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_jpeg_agrees_with_pillow(options):
    data = encode(SQUARE, "JPEG", **options)
    decoded = same_size(data)
    assert_close(decoded.image, Image.open(io.BytesIO(data)).convert("RGB"), mean=1, worst=8)
    assert (decoded.format, decoded.mode) == ("JPEG", "RGB")


def test_grey_jpeg_gives_three_equal_channels():
    decoded = same_size(encode(GREY, "JPEG", quality=95))
    assert decoded.mode == "L"
    assert_close(decoded.image, np.stack([GREY] * 3, 2), mean=2)
    assert np.ptp(decoded.image, axis=2).max() == 0


def test_cmyk_jpeg_as_adobe_writes_it_has_its_true_colours():
    # Pillow writes CMYK as Photoshop does: inverted, with the Adobe marker that says so.
    data = encode(Image.fromarray(SQUARE).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    decoded = same_size(data)
    assert (decoded.format, decoded.mode) == ("JPEG", "CMYK")
    assert_close(decoded.image, SQUARE, mean=3)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(mode):
    alpha = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (48, 1))
    picture = Image.fromarray(SQUARE).convert("L" if mode == "LA" else "RGB")
    colour = np.asarray(picture.convert("RGB")).astype(float)
    picture.putalpha(Image.fromarray(alpha))
    assert picture.mode == mode
    expected = colour * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255)
    decoded = same_size(encode(picture, "PNG"))
    assert decoded.mode == mode
    assert_close(decoded.image, np.rint(expected), mean=0.6, worst=1)


def test_transparent_webp_is_laid_on_white():
    picture = Image.fromarray(SQUARE).convert("RGBA")
    picture.putalpha(0)
    assert (same_size(encode(picture, "WEBP", lossless=True)).image == 255).all()


def test_palette_png_keeps_its_colours():
    picture = Image.fromarray(SQUARE).quantize(32)
    decoded = same_size(encode(picture, "PNG"))
    np.testing.assert_array_equal(decoded.image, np.asarray(picture.convert("RGB")))
    assert decoded.mode == "P"


@pytest.mark.parametrize("transparency", [0, bytes([0, 255, 255])], ids=["index", "alpha-table"])
def test_transparent_palette_entry_is_white(transparency):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 0])
    picture.paste(0, (0, 0, 2, 4))
    image = same_size(encode(picture, "PNG", transparency=transparency)).image
    assert (image[:, :2] == 255).all()
    assert (image[:, 2:] == [200, 100, 50]).all()


@pytest.mark.parametrize(("mode", "key"), [("RGB", (10, 20, 30)), ("L", 7), ("1", 0)])
def test_colour_key_transparency_is_white(mode, key):
    image = same_size(encode(Image.new(mode, (4, 4), key), "PNG", transparency=key)).image
    assert (image == 255).all()


def test_one_bit_png_is_black_and_white():
    bits = GREY > 128
    image = same_size(encode(Image.fromarray(bits), "PNG")).image
    np.testing.assert_array_equal(image, np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format):
    deep = (GREY.astype(np.uint16) << 8) | 0x37
    decoded = same_size(encode(Image.fromarray(deep), format))
    assert decoded.mode.startswith("I;16")
    assert_close(decoded.image[..., 0], GREY, mean=1, worst=1)


def test_16_bit_rgb_png_is_scaled_not_clipped():
    deep = (SQUARE.astype(np.uint16) << 8) | 0x37
    ok, data = cv2.imencode(".png", np.ascontiguousarray(deep[..., ::-1]))
    assert ok
    assert_close(same_size(data.tobytes()).image, SQUARE, mean=1, worst=1)


@pytest.mark.parametrize("scale", [1 / 255, 1.0], ids=["0-to-1", "grey-levels"])
def test_float_tiff_may_hold_shares_or_grey_levels(scale):
    picture = Image.fromarray((GREY * scale).astype(np.float32))
    assert_close(same_size(encode(picture, "TIFF")).image[..., 0], GREY, mean=0.5, worst=1)


def test_float_tiff_with_holes_shows_them_black():
    values = (GREY / 255).astype(np.float32)
    values[:10] = np.nan
    image = same_size(encode(Image.fromarray(values), "TIFF")).image
    assert (image[:10] == 0).all()
    assert_close(image[10:, :, 0], GREY[10:], mean=0.5, worst=1)


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    decoded = same_size(data)
    assert (decoded.image == [255, 0, 0]).all()
    assert decoded.format == "GIF"


def test_a_file_is_what_its_bytes_are_not_what_its_name_says():
    # decode never sees the name, so a GIF or PNG called .jpg is one; the scan's test has the names.
    assert same_size(encode(Image.fromarray(SQUARE).quantize(8), "GIF")).format == "GIF"


# --- orientation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_every_exif_orientation_is_turned_upright(format, orientation, fit):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 95} if format == "JPEG" else {}
    data = encode(scene(60, 40), format, exif=exif.tobytes(), **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert upright.size == ((60, 40) if orientation < 5 else (40, 60))
    decoded = decode(data, size=32, fit=fit)
    assert (decoded.width, decoded.height) == upright.size
    assert_close(decoded.image, decode(encode(upright, "PNG"), size=32, fit=fit).image, mean=3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(scene(60, 40), "JPEG", exif=exif.tobytes())
    assert (decode(data, size=32, fit="pad").width, decode(data, size=32, fit="pad").height) == (60, 40)


def turned(**options):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encode(scene(60, 40), "JPEG", exif=exif.tobytes(), **options)


def test_the_orientation_may_stand_behind_a_large_colour_profile():
    data = turned(icc_profile=b"\xff\xda\xff\xe1Exif" * 20_000)
    assert (decode(data, size=32, fit="pad").width, decode(data, size=32, fit="pad").height) == (40, 60)


def test_markers_may_be_padded():
    data = turned()
    start = data.index(b"\xff\xe1")
    padded = data[:start] + b"\xff\xff\xff" + data[start:]
    assert (decode(padded, size=32, fit="pad").width, decode(padded, size=32, fit="pad").height) == (40, 60)


def test_the_word_exif_in_a_comment_turns_nothing():
    data = encode(scene(60, 40), "JPEG", comment=b"Exif\0\0" + turned()[30:80])
    assert (decode(data, size=32, fit="pad").width, decode(data, size=32, fit="pad").height) == (60, 40)


BAD_EXIF = b"\xff\xe1\x00\x16Exif\x00\x00II*\x00\x08\x00\x00\x00\x09\x00\x12\x01\x03\x00"


def test_damaged_exif_does_not_cost_the_picture():
    data = encode(SQUARE, "JPEG").replace(b"\xff\xdb", BAD_EXIF + b"\xff\xdb", 1)
    assert_close(same_size(data).image, SQUARE, mean=6)


# --- fits --------------------------------------------------------------------------------------------------


def pillow_fit(picture, size, fit):
    """What the three fits mean, said with Pillow."""
    if fit == "squash":
        return picture.resize((size, size), Image.Resampling.BOX)
    if fit == "crop":
        return ImageOps.fit(picture, (size, size), Image.Resampling.BOX)
    width, height = (max(1, round(side * size / max(picture.size))) for side in picture.size)
    square = Image.new("RGB", (size, size), "black")
    square.paste(picture.resize((width, height), Image.Resampling.BOX), ((size - width) // 2, (size - height) // 2))
    return square


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("width", "height"), [(90, 60), (60, 90), (128, 128), (64, 400), (400, 64)])
def test_shrinking_agrees_with_pillow(width, height, fit):
    picture = Image.fromarray(scene(width, height))
    decoded = decode(encode(picture, "PNG"), size=32, fit=fit)
    assert_close(decoded.image, pillow_fit(picture, 32, fit), mean=2.5)


def test_pad_keeps_the_shape_and_leaves_black_borders():
    image = decode(encode(np.full((40, 80, 3), 200, np.uint8), "PNG"), size=40, fit="pad").image
    assert (image[:10] == 0).all()
    assert (image[30:] == 0).all()
    assert (image[10:30] == 200).all()


def test_crop_keeps_the_centre():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    assert (decode(encode(wide, "PNG"), size=20, fit="crop").image == 200).all()


def test_squash_keeps_every_corner():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:20, :40], picture[20:, 40:] = 100, 200
    image = decode(encode(picture, "PNG"), size=40, fit="squash").image
    assert (image[:20, :20] == 100).all()
    assert (image[20:, 20:] == 200).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize(("width", "height"), [(1, 500), (500, 1), (1, 1), (2, 3), (1, 60_000), (60_000, 1)])
def test_extreme_shapes_fit_without_extreme_memory(width, height, format, fit):
    data = encode(np.full((height, width, 3), 150, np.uint8), format)
    tracemalloc.start()
    try:
        decoded = decode(data, size=64, fit=fit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoded.image.shape == (64, 64, 3)
    assert (decoded.width, decoded.height) == (width, height)
    assert decoded.image.max() == 150
    assert (decoded.image == 150).all() or fit == "pad"
    assert peak < 20e6


def test_enlarging_is_smooth():
    ramp = np.repeat(np.array([[[0] * 3, [200] * 3]], np.uint8), 2, axis=0)
    row = decode(encode(ramp, "PNG"), size=16, fit="squash").image[8, :, 0].astype(int)
    assert row[0] == 0
    assert row[-1] == 200
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() < 40


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [32, 50, 96])
def test_scaled_jpeg_decoding_is_close_to_the_full_one(size, fit):
    picture = scene(640, 480, seed=3)
    data = encode(picture, "JPEG", quality=95)
    full = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert_close(decode(data, size=size, fit=fit).image, pillow_fit(Image.fromarray(full), size, fit), mean=2)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [8, 32, 300])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (900, 100), (100, 80), (2000, 2000)])
def test_of_a_jpeg_enough_is_decoded_for_statistics(width, height, size, fit):
    picture = decode(encode(scene(width, height), "JPEG"), size=size, fit=fit).picture
    assert max(picture.shape[:2]) >= min(LONGER, max(width, height))
    assert min(picture.shape[:2]) >= min(SHORTER, min(width, height))


@pytest.mark.parametrize("times", [1.1, 1.3, 1.5, 1.8, 2.4, 4])
def test_making_smaller_is_about_as_good_as_lanczos(times):
    rng = np.random.default_rng(0)
    fine = sum(
        cv2.resize(rng.normal(size=(cells, cells)), (240, 240), interpolation=cv2.INTER_CUBIC) / cells
        for cells in (4, 10, 30, 80, 240)
    )
    picture = np.clip(128 + 300 * fine, 0, 255).astype(np.uint8)
    side = round(240 / times)
    expected = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)).astype(float)

    def error(method):
        return np.sqrt(((cv2.resize(picture, (side, side), interpolation=method) - expected) ** 2).mean())

    ours = np.sqrt(((resized(picture, side, side) - expected) ** 2).mean())
    assert ours <= 1.1 * min(error(cv2.INTER_AREA), error(cv2.INTER_LINEAR))


@given(width=st.integers(1, 70), height=st.integers(1, 70), size=st.integers(1, 40), fit=st.sampled_from(FITS))
@settings(deadline=None, max_examples=150)
def test_any_shape_gives_the_asked_square(width, height, size, fit):
    for format in ("PNG", "JPEG"):
        decoded = decode(encode(np.full((height, width, 3), 90, np.uint8), format), size=size, fit=fit)
        assert decoded.image.shape == (size, size, 3)
        assert decoded.image.dtype == np.uint8
        assert decoded.image.flags.c_contiguous
        assert abs(int(decoded.image.max()) - 90) <= 2
        assert abs(int(decoded.image.min()) - 90) <= 2 or fit == "pad"


# --- what cannot be read -----------------------------------------------------------------------------------


def png_of(width, height):
    """A PNG whose header says `width` x `height` and whose data are a few bytes."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def jpeg_of(width, height):
    """A small JPEG whose frame header has been changed to say `width` x `height`."""
    data = bytearray(encode(np.zeros((16, 16, 3), np.uint8), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"^it is empty \(0 bytes\)$"),
        (encode(NOISE, "JPEG")[:2000], "^it is cut off$"),
        (encode(NOISE, "JPEG", progressive=True)[:2000], "^it is cut off$"),
        (encode(NOISE, "PNG")[:2000], "^it is cut off$"),
        (encode(NOISE, "BMP")[:2000], "^it is cut off$"),
        (encode(NOISE, "GIF")[:2000], "^it is cut off$"),
        (b"This is no picture.\n" * 9, "^its content is not an image of a known format$"),
        (b"\xff\xd8\xff\xe0 but nothing else", "^it is cut off$"),
        (b"<html><body>404 Not Found</body></html>", "^its content is not an image of a known format$"),
    ],
    ids=["empty", "jpeg", "progressive", "png", "bmp", "gif", "text", "jpeg-start", "html"],
)
def test_what_is_wrong_with_a_file_is_said(data, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(data, size=32, fit="pad")


@pytest.mark.parametrize("data", [png_of(20_000, 20_000), jpeg_of(20_000, 20_000)], ids=["png", "jpeg"])
def test_a_decompression_bomb_is_refused_unread(data):
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableImage, match=r"178,956,970.*decompression bomb"):
            decode(data, size=32, fit="pad")
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_large_picture_is_no_bomb_and_no_warning():
    # 100 million pixels: Pillow alone would warn. The data end early, so it is refused for that.
    with pytest.raises(UnreadableImage, match=r"cut off|damaged"):
        decode(png_of(10_000, 10_000), size=32, fit="pad")


_turned = Image.Exif()
_turned[ORIENTATION] = 6
_rgba = Image.fromarray(SQUARE).convert("RGBA")
SEEDS = [
    encode(SQUARE, "JPEG").replace(b"\xff\xdb", BAD_EXIF + b"\xff\xdb", 1),
    encode(SQUARE, "JPEG", exif=_turned.tobytes()),
    encode(SQUARE, "PNG", exif=_turned.tobytes()),
    encode(SQUARE, "JPEG", progressive=True),
    encode(Image.fromarray(SQUARE).convert("CMYK"), "JPEG"),
    encode(SQUARE, "PNG"),
    encode(Image.fromarray(SQUARE).quantize(16), "PNG", transparency=0),
    encode(Image.fromarray(SQUARE).quantize(16), "GIF"),
    encode(SQUARE, "BMP"),
    encode(SQUARE, "TIFF"),
    encode(SQUARE, "TIFF", compression="tiff_lzw"),
    encode(_rgba, "WEBP"),
    encode(_rgba, "ICO", sizes=[(16, 16)]),
    encode(SQUARE, "TGA"),
    encode(SQUARE, "PPM"),
]


@given(
    data=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    header=st.lists(st.tuples(st.integers(2, 120), st.integers(0, 255)), max_size=3),
    keep=st.floats(0, 1) | st.just(1.0),
)
@settings(deadline=None, max_examples=400)
def test_damaged_bytes_give_a_picture_or_a_reason_and_nothing_else(data, changes, header, keep):
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    for place, value in header:
        damaged[min(place, len(damaged) - 1)] = value
    damaged = bytes(damaged[: int(keep * len(damaged))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = decode(damaged, size=16, fit="pad").image
        except UnreadableImage as error:
            image, reason = None, str(error)
    assert reason.startswith("it") if image is None else image.shape == (16, 16, 3)
