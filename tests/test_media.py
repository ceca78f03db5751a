"""Image files: what is kept as it is, what is drawn again, what is refused, and what a full disk does."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat
from PIL.PngImagePlugin import PngInfo

from studio import StudioError
from studio.media import Media, write_whole

GPS, ORIENTATION, MAKE = 0x8825, 0x0112, 0x010F


@pytest.fixture
def media(tmp_path: Path) -> Media:
    return Media(tmp_path)


def drawing(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    """No two corners alike, so that a turn or a flip shows."""
    ramp = Image.linear_gradient("L").resize(size)
    bands = [
        ramp,
        ramp.transpose(Image.Transpose.ROTATE_180),
        ramp.rotate(90).resize(size),
        ramp.point(lambda v: v // 2),
    ]
    if mode == "I;16":
        values = struct.pack(f"<{size[0] * size[1]}H", *(v * 257 for v in ramp.tobytes()))
        return Image.frombytes("I;16", size, values)
    picture = Image.merge("RGBA", bands)
    return picture.convert("RGB").convert(mode) if mode in ("P", "1", "CMYK") else picture.convert(mode)


def encoded(picture: Image.Image, kind: str, **settings: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **settings)
    return out.getvalue()


def opened(data: bytes | Path) -> Image.Image:
    picture = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    picture.load()
    return picture


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any channel of any pixel."""
    bands = ImageChops.difference(one.convert("RGBA"), other.convert("RGBA")).split()
    return max(high for low, high in (band.getextrema() for band in bands))  # type: ignore[return-value]


def unlike(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of the channels, for lossy formats: 0 for the same picture, over 30 for a turned ``drawing``."""
    return max(ImageStat.Stat(ImageChops.difference(one.convert("RGBA"), other.convert("RGBA"))).mean)


def exif(orientation: int = 1) -> Image.Exif:
    made = Image.Exif()
    made[MAKE] = "Secret Camera"
    made[ORIENTATION] = orientation
    made[GPS] = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)}
    return made


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    return png[:33] + chunk(name, content) + png[33:]  # behind IHDR


# ---- kept as they are


def test_the_real_pictures_are_kept_byte_for_byte(media: Media, shared: Path) -> None:
    files = sorted((shared / "intermt_examples").rglob("*.jpg"))
    assert len(files) == 64
    for file in files:
        stored = media.add(file.read_bytes(), file.name)
        assert stored.path.read_bytes() == file.read_bytes()
        assert stored.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert (stored.width, stored.height) == opened(file).size
        assert stored.mime == "image/jpeg"


VARIETY = [(kind, mode, size)
           for kind, modes in {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"),
                               "WEBP": ("RGB", "RGBA"), "GIF": ("L", "P", "RGB")}.items()
           for mode in modes for size in ((1, 1), (7, 3), (48, 32))]  # fmt: skip


@pytest.mark.parametrize(("kind", "mode", "size"), VARIETY)
def test_a_stored_file_added_again_is_the_same(media: Media, kind: str, mode: str, size: tuple[int, int]) -> None:
    data = encoded(drawing(mode, size), kind, **({"lossless": True} if kind == "WEBP" else {}))
    first = media.add(data)
    second = media.add(first.path.read_bytes())
    assert second == first
    assert first.path == media.path(first.sha256)
    assert (first.width, first.height, first.bytes) == (*size, first.path.stat().st_size)
    as_seen = drawing("RGBA", size).getchannel("R") if mode == "I;16" else opened(data)
    assert difference(opened(first.path), as_seen) <= (4 if kind == "JPEG" and mode == "CMYK" else 0)
    assert (first.path.read_bytes() == data) == (kind != "GIF" and mode not in ("CMYK", "I;16"))


# ---- drawn again

DIRTY = {
    "EXIF in a JPEG": lambda: encoded(drawing(), "JPEG", exif=exif()),
    "EXIF in a PNG": lambda: encoded(drawing(), "PNG", exif=exif()),
    "EXIF in a WEBP": lambda: encoded(drawing(), "WEBP", exif=exif()),
    "a comment in a JPEG": lambda: encoded(drawing(), "JPEG", comment=b"Secret Camera"),
    "XMP in a JPEG": lambda: encoded(drawing(), "JPEG", xmp=b"<x>Secret Camera</x>"),
    "XMP in a WEBP": lambda: encoded(drawing(), "WEBP", xmp=b"<x>Secret Camera</x>"),
    "ICC in a JPEG": lambda: encoded(drawing(), "JPEG", icc_profile=b"Secret Camera" * 20),
    "ICC in a WEBP": lambda: encoded(drawing(), "WEBP", icc_profile=b"Secret Camera" * 20),
    "ICC in a PNG": lambda: encoded(drawing(), "PNG", icc_profile=b"Secret Camera" * 20),
    "text in a PNG": lambda: encoded(drawing(), "PNG", pnginfo=png_text("Author")),
    "text in a PNG, named like a harmless field": lambda: encoded(drawing(), "PNG", pnginfo=png_text("background")),
    "a private chunk": lambda: with_chunk(encoded(drawing(), "PNG"), b"seCt", b"Secret Camera"),
    "the time of the last change": lambda: with_chunk(encoded(drawing(), "PNG"), b"tIME", b"\x07\xe9\x01\x02\x03\x04\x05"),
    "a comment in a GIF": lambda: encoded(drawing("P"), "GIF", comment=b"Secret Camera"),
    "a second photo behind the first": lambda: encoded(drawing(), "MPO", save_all=True, append_images=[drawing("L")]),
}  # fmt: skip


def png_text(key: str) -> PngInfo:
    made = PngInfo()
    made.add_text(key, "Secret Camera")
    return made


@pytest.mark.parametrize("what", DIRTY)
def test_metadata_is_dropped(media: Media, what: str) -> None:
    data = DIRTY[what]()
    stored = media.add(data)
    kept = stored.path.read_bytes()
    picture = opened(kept)
    assert kept != data
    assert b"Secret" not in kept
    assert not picture.getexif()
    assert not set(picture.info) & {"exif", "xmp", "icc_profile", "comment", "Author", "mp"}
    for name in (b"iCCP", b"ICC_PROFILE", b"tIME", b"eXIf", b"Exif"):
        assert name not in kept
    assert unlike(picture, opened(data)) < 4  # WEBP and JPEG lose a little when drawn twice
    assert media.add(kept).sha256 == stored.sha256


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(media: Media, kind: str, orientation: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # how a camera held so would have seen the upright picture
    upright = drawing()
    seen = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    stored = media.add(encoded(seen, kind, exif=exif(orientation=orientation)))
    assert (stored.width, stored.height) == upright.size
    assert unlike(opened(stored.path), upright) <= (0 if kind == "PNG" else 10)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_becomes_its_first_frame(media: Media, kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    stored = media.add(encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50))
    picture = opened(stored.path)
    assert stored.mime == "image/png"
    assert getattr(picture, "n_frames", 1) == 1
    red, green, blue = picture.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert (red > 240, green < 15, blue < 15) == (True, True, True)


def archive(comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("payload.html", "<script>alert(1)</script>" * 5)
        made.comment = comment
    return out.getvalue()


ENDS = {"JPEG": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB`\x82", "GIF": b"\0;", "WEBP": b""}


@pytest.mark.parametrize("honest", [True, False], ids=["plain", "ending like the picture"])
@pytest.mark.parametrize("kind", ENDS)
def test_a_second_file_behind_the_picture_is_gone(media: Media, kind: str, honest: bool) -> None:
    data = encoded(drawing(), kind) + archive(b"" if honest else ENDS[kind])
    assert zipfile.is_zipfile(io.BytesIO(data))
    stored = media.add(data)
    kept = stored.path.read_bytes()
    assert not zipfile.is_zipfile(io.BytesIO(kept))
    assert b"payload" not in kept
    assert media.add(kept).sha256 == stored.sha256


# ---- refused


def bomb() -> bytes:
    data = encoded(Image.new("1", (10_000, 6_000)), "PNG", compress_level=9)
    assert len(data) < 10_000
    return data


def lying_header() -> bytes:
    good = encoded(drawing(), "PNG")
    return good[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0)) + good[33:]


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
REFUSED = {
    "60 megapixels in 10 KB": (bomb, "60 megapixels"),
    "3,600 megapixels in the header": (lying_header, "far too large"),
    "SVG named .png": (lambda: SVG, "no PNG, JPEG, WEBP or GIF"),
    "HTML": (lambda: b"<!doctype html><script>1</script>", "no PNG, JPEG, WEBP or GIF"),
    "EPS": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n", "no PNG, JPEG"),
    "FITS": (lambda: (b"SIMPLE  =                    T".ljust(80) + b"END".ljust(80)).ljust(2880), "no PNG, JPEG, WEBP"),
    "TIFF": (lambda: encoded(drawing(), "TIFF"), "no PNG, JPEG, WEBP or GIF"),
    "BMP": (lambda: encoded(drawing(), "BMP"), "no PNG, JPEG, WEBP or GIF"),
    "zip": (archive, "no PNG, JPEG, WEBP or GIF"),
    "empty": (lambda: b"", "no PNG, JPEG, WEBP or GIF"),
    "truncated JPEG": (lambda: encoded(drawing(size=(300, 300)), "JPEG")[:2000], "broken"),
    "truncated PNG": (lambda: encoded(drawing(size=(300, 300)), "PNG")[:300], "broken"),
    "truncated WEBP": (lambda: encoded(drawing(size=(300, 300)), "WEBP")[:300], "broken"),
    "truncated GIF": (lambda: encoded(drawing("P", (300, 300)), "GIF")[:900], "broken"),
    "21 MB": (lambda: encoded(drawing(), "PNG") + bytes(21 * 2**20), "21 MB"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line_and_at_once(media: Media, what: str) -> None:
    make, words = REFUSED[what]
    data, seconds = make(), []
    for _ in range(3):  # the best of three: other programs run here too
        start = time.perf_counter()
        with pytest.raises(StudioError, match=words) as refused:
            media.add(data, "holiday.png")
        seconds.append(time.perf_counter() - start)
    line = str(refused.value)
    assert "\n" not in line
    assert len(line) < 250
    assert line.startswith("holiday.png ")
    assert min(seconds) < 0.5
    assert not [p for p in media.folder.rglob("*") if p.is_file()]


MEASURE = """
import resource, sys
from pathlib import Path
from studio import StudioError
from studio.media import Media
media, refused = Media(Path(sys.argv[1]) / "home"), 0
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
for file in sorted(Path(sys.argv[1]).glob("*.bin")):
    try:
        media.add(file.read_bytes())
    except StudioError:
        refused += 1
print(refused, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit there")
def test_refusals_take_little_memory(tmp_path: Path) -> None:
    for i, (make, _) in enumerate(REFUSED.values()):
        (tmp_path / f"{i}.bin").write_bytes(make())
    ran = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    refused, grown_mb = ran.stdout.split()
    assert int(refused) == len(REFUSED)
    assert float(grown_mb) < 300


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of odd EXIF and goes on
def test_damaged_files_are_stored_or_refused_and_nothing_else(media: Media) -> None:
    dice = random.Random(7)
    good = [make() for make in DIRTY.values()] + [encoded(drawing(), "JPEG", progressive=True)]
    good.append(encoded(drawing("P"), "GIF", save_all=True, append_images=[drawing("P").rotate(90)]))
    outcomes = {True: 0, False: 0}
    for _ in range(1500):
        data = bytearray(dice.choice(good))
        for _ in range(dice.choice([1, 2, 8])):
            at = dice.randrange(min(len(data), dice.choice([64, 400, 10**6])))
            data[at : at + dice.choice([0, 1, 1, 3])] = dice.randbytes(dice.choice([0, 1, 1, 4]))
        try:
            stored = media.add(bytes(data))
        except StudioError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
            assert media.add(stored.path.read_bytes()).sha256 == stored.sha256
    assert min(outcomes.values()) > 100


def test_a_gif_cut_inside_a_frame_is_no_crash(media: Media) -> None:
    data = encoded(drawing("P"), "GIF", save_all=True, append_images=[drawing("P").rotate(90)])
    second = data.rindex(b"\x2c\0\0\0\0")  # the image descriptor of the second frame
    stored = media.add(data[: second + 2])
    assert difference(opened(stored.path), opened(data)) == 0


# ---- by hash, and only by hash

HASH = "ab" * 32
OUTSIDE = [
    "", ".", "..", "../studio.db", "../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/studio.db",
    "..\\studio.db", "C:\\Windows\\win.ini", "\\\\server\\share", "file:///etc/passwd", "~", "~root", "ab", "ab/" + HASH,
    HASH[:-1], HASH + "0", HASH.upper(), HASH + ".png", HASH + "\0", HASH + "\n", "\n" + HASH, HASH + "/..", "../" + HASH[3:],
    HASH[:60] + "/../", "*" * 64, "?" * 64, "." * 64, "/" * 64, "g" * 64, "٣" * 64, "a\u0301" * 32, ".thumbs", "studio.db", "." * 4096,
    "..;/", "....//....//", "%00", "ab%00" + HASH, "＇" * 64,
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_path_leads_outside(media: Media, tmp_path: Path, name: str) -> None:
    media.add(encoded(drawing(), "PNG"))
    (tmp_path / "studio.db").write_text("secret")
    assert media.path(name) is None
    assert not media.verify(name)
    with pytest.raises(StudioError, match="No picture has the hash"):
        media.thumbnail(name)


def test_a_link_is_not_followed(media: Media, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = media.folder / "ab" / f"{HASH}.png"
    link.parent.mkdir(parents=True)
    link.symlink_to(secret)
    assert media.path(HASH) is None


def test_a_thumbnail_is_made_once(media: Media) -> None:
    stored = media.add(encoded(drawing("RGBA", (900, 300)), "PNG"))
    first = media.thumbnail(stored.sha256)
    made = first.stat()
    assert opened(first).size == (320, 107)
    assert opened(first).mode == "RGBA"
    assert media.thumbnail(stored.sha256) == first
    assert first.stat().st_mtime_ns == made.st_mtime_ns
    assert first.stat().st_ino == made.st_ino
    assert opened(media.thumbnail(stored.sha256, 64)).size == (64, 21)


def test_verify_notices_a_changed_file(media: Media) -> None:
    stored = media.add(encoded(drawing(), "PNG"))
    assert media.verify(stored.sha256)
    stored.path.write_bytes(stored.path.read_bytes() + b"!")
    assert not media.verify(stored.sha256)
    stored.path.unlink()
    assert not media.verify(stored.sha256)


def test_a_file_of_another_studio(media: Media) -> None:
    data = encoded(drawing(), "JPEG", comment=b"kept as it was")
    digest = hashlib.sha256(data).hexdigest()
    media.add_verbatim(data, digest)
    found = media.path(digest)
    assert found is not None
    assert found.read_bytes() == data
    two = encoded(drawing(), "MPO", save_all=True, append_images=[drawing()])
    media.add_verbatim(two, hashlib.sha256(two).hexdigest())
    assert media.verify(hashlib.sha256(two).hexdigest())


@pytest.mark.parametrize(("data", "digest", "words"), [
    (encoded(drawing(), "PNG"), HASH, "not what its hash says"),
    (encoded(drawing(), "PNG"), "../../evil", "not what its hash says"),
    (SVG, hashlib.sha256(SVG).hexdigest(), "no PNG"),
    (bomb(), hashlib.sha256(bomb()).hexdigest(), "over 40 megapixels"),
    (b"\xff\xd8\xff\xe0", hashlib.sha256(b"\xff\xd8\xff\xe0").hexdigest(), "no PNG"),
])  # fmt: skip
def test_a_wrong_file_of_another_studio(media: Media, data: bytes, digest: str, words: str) -> None:
    with pytest.raises(StudioError, match=words):
        media.add_verbatim(data, digest)
    assert not media.folder.exists()


# ---- disks that refuse


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("in the way")
    with pytest.raises(StudioError, match=r"Cannot write .* Free some space, or choose another folder with --home"):
        Media(tmp_path).add(encoded(drawing(), "PNG"))
    with pytest.raises(StudioError, match=r"Cannot write x\.png"):
        write_whole(tmp_path / "media" / "deep" / "x.png", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["media"]
    assert (tmp_path / "media").read_text() == "in the way"


FULL = """
import resource, sys
from pathlib import Path
from studio import StudioError
from studio.media import write_whole
target = Path(sys.argv[1]) / "media" / "ab" / "picture.png"
write_whole(target, b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_whole(target, b"n" * 200_000)
except StudioError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits there")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("Cannot write picture.png into ")
    assert ran.stdout.count("\n") == 1
    assert [(p.name, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()] == [("picture.png", b"old")]
