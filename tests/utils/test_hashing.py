"""Hashes are stored in caches, ledgers and run folders: their values must never move."""

import hashlib
import json

from fewshot_ns.utils.hashing import digest, fast_hash, file_hash, file_key, json_hash, sha256_hex


def test_hashes_are_those_of_the_standard_library(tmp_path):
    content = bytes(range(256)) * 9000
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    assert file_hash(path) == hashlib.sha256(content).hexdigest()
    assert sha256_hex(["ü", b"\x00", "b"]) == hashlib.sha256("ü".encode() + b"\x00b").hexdigest()
    assert json_hash({"b": 1, "a": [2, None]}) == hashlib.sha256(b'{"b": 1, "a": [2, null]}').hexdigest()
    assert json_hash({"b": 1, "a": 2}, sort_keys=True) == json_hash(json.loads('{"a": 2, "b": 1}'))
    assert fast_hash([content[:9], content[9:]]) == hashlib.blake2b(content, digest_size=16).hexdigest()


def test_keys_of_finished_work_stay_as_they_were(tmp_path):
    assert digest("a", 1, b"c") == "fbdc70cb0c8a5515"
    assert digest("ab") != digest("a", "b")
    path = tmp_path / "photo.png"
    assert file_key(path) == digest("photo.png", "missing")
    path.write_bytes(b"x" * 200_000)
    ends = b"x" * (1 << 16)
    assert file_key(path) == digest(200_000, ends, ends)
    path.write_bytes(b"x" * 70_000)
    assert file_key(path) == digest(70_000, ends, b"x" * (70_000 - (1 << 16)))
