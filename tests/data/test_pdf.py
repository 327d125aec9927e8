"""PDF: the text layer; encrypted, broken and scanned files are set aside with the reason."""

from __future__ import annotations

import json

import polars as pl
import pytest
from internlm_core.data.readers import ReadLimits, SourceSpec, find_files, group_files, read_batches
from internlm_core.data.records import SCHEMA

pytest.importorskip("pypdfium2")


def make_pdf(pages, trailer=""):
    """A PDF of one font; pages are lists of lines."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, lines in enumerate(pages):
        body = (
            "BT /F1 12 Tf 72 720 Td " + " ".join(f"({line}) Tj 0 -20 Td" for line in lines) + " ET"
        )
        content = 5 + 2 * number
        objects.append(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]"
            f"/Resources<</Font<</F1 3 0 R>>>>/Contents {content} 0 R>>"
        )
        objects.append(f"<</Length {len(body)}>>\nstream\n{body}\nendstream")
    data, offsets = "%PDF-1.4\n", []
    for number, entry in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{entry}\nendobj\n"
    start = len(data)
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n"
    data += "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    data += (
        f"trailer\n<</Size {len(objects) + 1}/Root 1 0 R{trailer}>>\nstartxref\n{start}\n%%EOF\n"
    )
    return data.encode()


ENCRYPTED = (
    "/ID[<00112233445566778899aabbccddeeff><00112233445566778899aabbccddeeff>]"
    "/Encrypt<</Filter/Standard/V 1/R 2/P -4"
    f"/O<{'41' * 32}>/U<{'42' * 32}>>>"
)


def read(path, limits=None):
    found = find_files([SourceSpec(str(path))])
    frames, rejected = [pl.DataFrame(schema=SCHEMA)], []
    groups = group_files(found.files)
    for group in groups:
        for batch in read_batches(group, limits):
            frames.append(batch.records)
            rejected += batch.rejected
    return pl.concat(frames), rejected, groups


def test_pages_are_joined_by_a_blank_line(tmp_path):
    (tmp_path / "a.pdf").write_bytes(
        make_pdf([["The tide comes.", "It goes."], [], ["Page three."]])
    )
    records, rejected, _ = read(tmp_path / "a.pdf")
    assert rejected == []
    assert records["text"].to_list() == ["The tide comes.\nIt goes.\n\nPage three."]
    assert records["url"].to_list() == ["a.pdf"]
    assert json.loads(records["meta"][0]) == {"pages": 3}


def test_what_gives_no_text_is_set_aside_with_the_reason(tmp_path):
    whole = make_pdf([["Words."]])
    files = {
        "1-encrypted.pdf": make_pdf([["Words."]], ENCRYPTED),
        "2-broken.pdf": b"%PDF-1.4\n" + bytes(range(256)) * 4,
        "3-empty.pdf": b"",
        "4-scan.pdf": make_pdf([[], []]),
        "5-cut.pdf": whole[: len(whole) // 3],
        "6-good.pdf": whole,
        "7-html.pdf": b"<html><p>not found</p></html>",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    records, rejected, groups = read(tmp_path)
    assert records["text"].to_list() == ["Words."]
    assert [(entry.file.rpartition("/")[2][:1], entry.reason) for entry in rejected] == [
        ("1", "encrypted_pdf"),
        ("2", "broken_pdf"),
        ("3", "broken_pdf"),
        ("4", "no_text_layer"),
        ("5", "broken_pdf"),
        ("7", "broken_pdf"),
    ]
    assert all(entry.is_record for entry in rejected)
    assert len(groups) == 1


def test_the_limit_holds_for_the_file_and_for_its_text(tmp_path):
    (tmp_path / "a.pdf").write_bytes(make_pdf([["word " * 10] * 20] * 3))
    size = (tmp_path / "a.pdf").stat().st_size
    for limit in (1000, size):
        _, rejected, _ = read(tmp_path, ReadLimits(record_bytes=limit))
        assert [entry.reason for entry in rejected] == (["too_large"] if limit == 1000 else [])
