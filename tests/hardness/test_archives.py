"""Archives of strangers: names that lead elsewhere, links, bombs, lies and locks. More in test_vivae."""

import gzip
import io
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hf_vivae.corpus import archive as module
from hf_vivae.corpus import load_vivae
from hf_vivae.corpus.archive import list_members, read_members
from hf_vivae.corpus.download import download
from hf_vivae.network import NetworkError
from hf_vivae.run_folder import peak_memory_mb, reset_peak_memory

NAME = "full_set/S01_anger_low_01.wav"
DIRECTORY, LOCAL = b"PK\1\2", b"PK\3\4"
READ = """
import sys
from hf_vivae.corpus import archive as module
from hf_vivae.corpus.archive import list_members, read_members
from hf_vivae.run_folder import peak_memory_mb, reset_peak_memory
reset_peak_memory()
before = peak_memory_mb()
print(next(read_members(sys.argv[1], lambda path: True)).fault, int(peak_memory_mb() - before), sep="|")
"""


def zip_of(members: dict[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def patched(data: bytes, field: dict[bytes, int], value: bytes) -> bytes:
    """Other bytes in the first entry's local header and in the directory, at these offsets."""
    changed = bytearray(data)
    for signature, offset in field.items():
        place = changed.index(signature) + offset
        changed[place : place + len(value)] = value
    return bytes(changed)


def encrypted(data: bytes) -> bytes:
    return patched(data, {LOCAL: 6, DIRECTORY: 8}, struct.pack("<H", 1))


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name",
    ["../../{}", "/{}", "/tmp/{}", "C:/{}", "C:\\..\\{}", "\\\\host\\share\\{}", "a/../../{}", "./{}", "{}\0.exe"],
)
def test_names_that_lead_elsewhere_write_nothing(name, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "VIVAE.zip"
    path.write_bytes(zip_of({name.format(NAME): b"sound"}))
    monkeypatch.chdir(tmp_path / "in")
    members = read_members(path, lambda path: True)
    assert [member.content for member in members] == [b"sound"]
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["VIVAE.zip", "in"]
    assert not Path("/tmp", NAME).exists()


def test_a_link_is_the_text_that_it_holds_and_is_not_followed(tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"RIFF secret")
    path = tmp_path / "VIVAE.zip"
    path.write_bytes(zip_of({link(NAME): str(secret).encode()}))
    assert next(read_members(path, lambda path: True)).content == str(secret).encode()
    with pytest.raises(ValueError, match=r"S01_anger_low_01\.wav: expected WAV, .* found no readable audio"):
        load_vivae(path)


def test_a_directory_that_lies_about_a_size_unpacks_no_more_than_it_says(tmp_path):
    """200 MB that are announced as 1000 bytes; the memory is that of a process which reads nothing else."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(NAME, "w") as member:
        for _ in range(200):
            member.write(bytes(2**20))
    path = tmp_path / "VIVAE.zip"
    path.write_bytes(patched(file.getvalue(), {LOCAL: 22, DIRECTORY: 24}, struct.pack("<I", 1000)))
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    fault, megabytes = done.stdout.strip().split("|")
    assert fault == f"a damaged member of the archive (Bad CRC-32 for file '{NAME}')"
    assert int(megabytes) < 50


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_without_a_limit_is_not_unpacked(method, serve, tmp_path):
    """A directory that says 1000 bytes, and a first piece of the archive that holds 60 million."""
    data = patched(zip_of({NAME: bytes(60_000_000)}, method), {LOCAL: 22, DIRECTORY: 24}, struct.pack("<I", 1000))
    path = tmp_path / "VIVAE.zip"
    path.write_bytes(data)
    reset_peak_memory()
    before = peak_memory_mb()
    [member] = read_members(path, lambda path: True)
    assert member.fault == (f"a damaged member of the archive (compression method {method}, not stored or deflated)")
    with pytest.raises(NetworkError, match=rf"found a damaged zip archive \({NAME}\); give a"):
        download(serve(["ok"], body=data).url, tmp_path / "sent.zip")
    assert peak_memory_mb() - before < 30


def tar_of(path: Path, members: dict[str | tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_links_pipes_and_devices_of_a_tar_are_no_files(mode, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"RIFF secret")
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
    others = {special(f"full_set/{number}.wav", kind, str(secret)): b"" for number, kind in enumerate(kinds)}
    path = tar_of(tmp_path / "a.tar", {**others, f"../{NAME}": b"sound", "__MACOSX/x.wav": b"no"}, mode)
    assert [str(member) for member in list_members(path)] == [f"../{NAME}"]
    assert [member.content for member in read_members(path, lambda path: True)] == [b"sound"]


@pytest.mark.parametrize("header", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_gigabytes_is_not_unpacked(header, tmp_path):
    """A small gzip, whose first header states that a name of 1 GiB follows."""
    info = special("x", header)
    info.size = 2**30
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(100):
            file.write(bytes(2**20))
    reset_peak_memory()
    before = peak_memory_mb()
    with pytest.raises(ValueError, match=r"found a file that is neither \(more than 256 MiB of headers\); correct"):
        list_members(path)
    assert peak_memory_mb() - before < 50


def test_a_tar_of_too_many_or_too_large_members_is_refused(tmp_path, monkeypatch):
    path = tar_of(tmp_path / "a.tar", {f"{number}.wav": bytes(1000) for number in range(5)})
    for name, limit in (("MAX_TAR_MEMBERS", 4), ("MAX_TOTAL_BYTES", 4000)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, limit)
            with pytest.raises(ValueError, match=r"^expected at most \d+ members and \d GiB in .*, found more; get"):
                list_members(path)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_damaged_bytes_of_a_compressed_tar_are_found_by_its_checksum(place, tmp_path):
    noise = np.random.default_rng(0)
    path = tar_of(tmp_path / "a.tar.gz", {f"{number}.wav": noise.bytes(5000) for number in range(9)}, "w:gz")
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^expected a folder or a whole archive .* found a file that is neither \("):
        list_members(path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_one_member_at_a_time_is_in_memory(kind, tmp_path):
    members = {f"{number}.wav": bytes([number]) * 2**20 for number in range(64)}
    path = tmp_path / f"a.{kind}"
    path.write_bytes(zip_of(members, zipfile.ZIP_STORED)) if kind == "zip" else tar_of(path, members)
    del members
    reset_peak_memory()
    before = peak_memory_mb()
    assert sum(len(member.content) for member in read_members(path, lambda path: True)) == 2**26
    assert peak_memory_mb() - before < 20


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.1, 0.01])
def test_an_archive_that_was_cut_is_refused_as_a_whole(kept, tmp_path):
    data = zip_of({f"full_set/{number}.wav": bytes(100) for number in range(50)})
    path = tmp_path / "VIVAE.zip"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match=r"^expected a folder or a whole archive \(.*\) at .*; correct --data_dir"):
        load_vivae(path)


DAMAGED = {
    "stream": patched(zip_of({NAME: bytes(range(256)) * 9}), {LOCAL: 30 + len(NAME)}, b"\xff\xff\xff\xff"),
    "checksum": patched(zip_of({NAME: b"sound"}, zipfile.ZIP_STORED), {LOCAL: 30 + len(NAME)}, b"S"),
    "method": patched(zip_of({NAME: b"sound"}), {LOCAL: 8, DIRECTORY: 10}, struct.pack("<H", 77)),
    "place": patched(zip_of({NAME: b"sound"}), {DIRECTORY: 42}, struct.pack("<I", 10)),
    "name": patched(zip_of({NAME: b"sound"}), {LOCAL: 30}, b"F"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_member_that_cannot_be_read_is_told_by_name(kind, tmp_path):
    path = tmp_path / "VIVAE.zip"
    path.write_bytes(DAMAGED[kind])
    [member] = read_members(path, lambda path: True)
    assert member.content is None
    assert member.fault.startswith("a damaged member of the archive (")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_downloaded_archive_with_such_a_member_is_not_kept(kind, serve, tmp_path):
    server = serve(["ok"], body=DAMAGED[kind])
    with pytest.raises(NetworkError, match=r"found a damaged zip archive \(full_set/S01_anger_low_01.wav\); give a"):
        download(server.url, tmp_path / "VIVAE.zip")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_downloaded_archive_that_is_encrypted_is_refused_when_it_is_read(serve, tmp_path):
    server = serve(["ok"], body=encrypted(zip_of({NAME: b"sound"})))
    with pytest.raises(ValueError, match=r"^expected an archive without a password, found 1 encrypted files in"):
        load_vivae(url=server.url, cache_dir=tmp_path)


def test_a_downloaded_bomb_is_not_unpacked_to_be_tested(serve, tmp_path):
    """Ten members of 4 GiB each, by what the directory says; 2**32 - 2 is the most without a 64-bit extra field."""
    data = bytearray(zip_of({f"full_set/{number}.wav": b"boom" for number in range(10)}))
    place = data.index(DIRECTORY)
    while place >= 0:
        data[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)
        place = data.find(DIRECTORY, place + 4)
    server = serve(["ok"], body=bytes(data))
    with pytest.raises(NetworkError, match=r"found a damaged zip archive \(more than 4 GiB unpacked\); give a"):
        download(server.url, tmp_path / "VIVAE.zip")


def test_a_hundred_thousand_names_are_neither_a_burden_nor_told(tmp_path):
    path = tmp_path / "VIVAE.zip"
    path.write_bytes(zip_of({f"other/{number}.wav": b"" for number in range(100_000)}, zipfile.ZIP_STORED))
    reset_peak_memory()
    before = peak_memory_mb()
    with pytest.raises(ValueError, match=r"^expected full_set/ with \.wav files at any depth of .{1,200}$"):
        load_vivae(path)
    assert peak_memory_mb() - before < 500
