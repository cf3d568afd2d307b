"""A public set is fetched from a server on loopback: whole, or not at all, and no byte twice."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fedsynth.cli.main import main
from fedsynth.errors import FetchError
from fedsynth.recordings.fetch import LOCK, Fetched, fetch
from fedsynth.recordings.layout import presets
from fedsynth.recordings.public_sets import PublicSet, files_of, public_sets

FILES = {"RECORDS": b"100\n101\n", "data/100.dat": bytes(range(256)) * 4000, "data/101 b.dat": b"hello"}


class Server:
    """Serves files below `/set/`; `break_at` ends the next answer early, and `asked` notes path and range."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.asked: list[tuple[str, str | None]] = []
        self.break_at: int | None = None
        self.ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                from urllib.parse import unquote

                path, wanted = unquote(self.path).removeprefix("/set/"), self.headers.get("Range")
                outer.asked.append((path, wanted))
                if path not in outer.files:
                    self.send_error(404)
                    return
                data, start = outer.files[path], 0
                if wanted and outer.ranges:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if start >= len(data):
                        self.send_error(416)
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                end, outer.break_at = outer.break_at, None
                self.wfile.write(data[start:end])
                if end is not None:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/set/"

    def publish(self) -> str:
        """Write the file of checksums anew, and return its own."""
        lines = [
            f"{hashlib.sha256(data).hexdigest()} {name}" for name, data in self.files.items() if name != "SUMS"
        ]
        self.files["SUMS"] = ("\n".join(lines) + "\n").encode()
        return hashlib.sha256(self.files["SUMS"]).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def what(server: Server) -> PublicSet:
    pin = server.publish()
    return PublicSet(title="A set", address=server.address, sums="SUMS", sums_sha256=pin)


def go(what: PublicSet, folder: Path, **more: object) -> Fetched:
    return fetch(what, folder, progress=lambda *_: None, **more)  # type: ignore[arg-type]


def test_a_set_is_fetched_once(server: Server, what: PublicSet, tmp_path: Path) -> None:
    first = go(what, tmp_path / "set")
    asked = len(server.asked)
    again = go(what, tmp_path / "set")

    assert {name: (tmp_path / "set" / name).read_bytes() for name in FILES} == FILES
    assert (first.fetched, again.fetched, again.files) == (3, 0, 3)
    assert len(server.asked) == asked
    assert not list(tmp_path.rglob("*.part"))


def test_a_download_that_broke_off_goes_on(server: Server, what: PublicSet, tmp_path: Path) -> None:
    go(what, tmp_path / "set", patterns=("RECORDS",))
    server.break_at = 300_000
    with pytest.raises(FetchError, match="broke off"):
        go(what, tmp_path / "set")
    [part] = (tmp_path / "set").rglob("*.part")
    begun = part.stat().st_size

    go(what, tmp_path / "set")

    assert 0 < begun <= 300_000
    assert ("data/100.dat", f"bytes={begun}-") in server.asked
    assert (tmp_path / "set" / "data" / "100.dat").read_bytes() == FILES["data/100.dat"]


def test_a_server_that_knows_no_ranges_is_asked_anew(server: Server, what: PublicSet, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "100.dat.part").write_bytes(b"half of something")

    go(what, tmp_path)

    assert (tmp_path / "data" / "100.dat").read_bytes() == FILES["data/100.dat"]


def test_a_file_that_is_not_what_was_published_is_not_kept(server: Server, what: PublicSet, tmp_path: Path) -> None:
    server.files["data/101 b.dat"] = b"hullo"

    with pytest.raises(FetchError, match=r"data/101 b\.dat: its checksum is not the one of the set"):
        go(what, tmp_path)

    assert not (tmp_path / "data" / "101 b.dat").exists()
    assert (tmp_path / "RECORDS").exists()


def test_checksums_that_are_not_the_pinned_ones_are_refused(
    server: Server, what: PublicSet, tmp_path: Path
) -> None:
    server.files["data/100.dat"] = b"changed"
    server.publish()  # whoever changes a file changes its checksum as well

    with pytest.raises(FetchError, match="SUMS: its checksum"):
        go(what, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_set_that_nobody_pinned_takes_a_word(server: Server, what: PublicSet, tmp_path: Path) -> None:
    loose = what.model_copy(update={"sums_sha256": ""})

    with pytest.raises(FetchError, match="--unpinned"):
        go(loose, tmp_path / "set")
    assert server.asked == []

    first = go(loose, tmp_path / "set", unpinned=True)
    assert (first.sums_sha256, first.trusted_now) == (what.sums_sha256, True)


@pytest.fixture
def trusted(what: PublicSet, tmp_path: Path) -> PublicSet:
    """A set without a pin, fetched in part into the folder `set`."""
    loose = what.model_copy(update={"sums_sha256": ""})
    go(loose, tmp_path / "set", unpinned=True, patterns=("RECORDS",))
    return loose


def test_what_was_trusted_once_is_pinned_from_then_on(trusted: PublicSet, tmp_path: Path) -> None:
    again = go(trusted, tmp_path / "set")

    assert (again.files, again.fetched, again.trusted_now) == (3, 2, False)


@pytest.mark.parametrize("unpinned", [False, True])
def test_a_server_that_changes_its_mind_is_refused(
    server: Server, trusted: PublicSet, tmp_path: Path, unpinned: bool
) -> None:
    (tmp_path / "set" / "SUMS").unlink()
    server.files["data/100.dat"] = b"changed"
    server.publish()

    with pytest.raises(FetchError, match="no longer those that this folder was fetched by"):
        go(trusted, tmp_path / "set", unpinned=unpinned)

    assert not (tmp_path / "set" / "data").exists()


def test_checksums_that_were_changed_in_the_folder_are_fetched_again(trusted: PublicSet, tmp_path: Path) -> None:
    (tmp_path / "set" / "SUMS").write_text("0" * 64 + " RECORDS\n")

    assert go(trusted, tmp_path / "set").files == 3


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ('address = "https://other.org/"\nsums_sha256 = "' + "0" * 64 + '"\n', "holds another set"),
        ("sums_sha256 = 7", "cannot be used"),
        ("=", "cannot be used"),
    ],
)
def test_a_lock_of_another_set_or_a_damaged_one_is_refused(
    server: Server, trusted: PublicSet, tmp_path: Path, text: str, fragment: str
) -> None:
    (tmp_path / "set" / LOCK).write_text(text)
    asked = len(server.asked)

    with pytest.raises(FetchError, match=fragment):
        go(trusted, tmp_path / "set", unpinned=True)

    assert len(server.asked) == asked


def test_no_network_is_named(tmp_path: Path, server: Server, what: PublicSet) -> None:
    server.server.shutdown()
    server.server.server_close()

    with pytest.raises(FetchError, match=r"127\.0\.0\.1 cannot be reached.*is there a network"):
        go(what, tmp_path)


@pytest.mark.parametrize(
    "line",
    [f"{'0' * 64}  ../up", f"{'0' * 64}  /etc/passwd", "no checksum", f"{'0' * 63}  short", f"{'0' * 64}  a\\b"],
)
def test_checksums_that_lead_elsewhere_are_refused(line: str) -> None:
    with pytest.raises(FetchError, match="line 1 of the file of checksums"):
        files_of(line.encode(), patterns=())


def test_every_set_has_a_preset_that_is_there_and_an_address_with_tls() -> None:
    for one in public_sets().values():
        assert one.preset in presets()
        assert one.address.startswith("https://")
        assert one.address.endswith("/")


def test_an_address_without_tls_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sets.toml").write_text('[a]\ntitle = "A"\naddress = "http://example.org/"\nsums = "S"\n')

    with pytest.raises(FetchError, match="https"):
        public_sets(tmp_path / "sets.toml")


def test_the_command_fetches_what_is_asked(
    what: PublicSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    page = (
        f'[mine]\ntitle = "Mine"\naddress = "{what.address}"\nsums = "SUMS"\nsums_sha256 = "{what.sums_sha256}"\n'
    )
    (tmp_path / "sets.toml").write_text(page)
    out = tmp_path / "out"
    words = ["fetch", "mine", "--registry", str(tmp_path / "sets.toml"), "--out", str(out), "--files", "data/*"]
    monkeypatch.setattr("sys.argv", ["fedsynth", *words])

    with pytest.raises(SystemExit) as done:
        main()

    assert done.value.code == 0
    assert "Mine: 2 files are in" in capsys.readouterr().out
    assert sorted(path.name for path in (out / "data").iterdir()) == ["100.dat", "101 b.dat"]
    assert not (out / "RECORDS").exists()
