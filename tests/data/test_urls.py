"""Addresses as keys: one spelling, the host a browser would ask, the domain somebody registered."""

from __future__ import annotations

import json

import internlm_core as ic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.data.readers import SourceSpec, find_files, group_files, read_batches


@pytest.mark.parametrize(
    "same",
    [
        ("http://evil.example.com/", "HTTP://EVIL.Example.COM./", "  http://evil.example.com\t/"),
        (
            "http://evil.example.com/x",
            "http://user:pw@evil.example.com:80/x",
            "//evil.example.com/x",
        ),
        ("https://a.example/b", "https://a.example:443/c/../b#top", "https:\\\\a.example\\b"),
        ("http://xn--fiqs8s.cn/", "http://中国.cn/", "http://中国。cn", "http://XN--FIQS8S.cn"),
        ("http://evil.example.com/", "http://evil。example。com/", "http://ｅｖｉｌ．example｡com/"),
        ("http://www.xn--.ws/", "HTTP://www.XN--.ws"),
        ("http://faß.example/".replace("ß", "ß"), "http://xn--fa-hia.example/"),
    ],
)
def test_one_spelling(same):
    keys = {ic.data.normalise_url(url) for url in same}
    assert len(keys) == 1
    (key,) = keys
    assert key is not None
    assert ic.data.normalise_url(key) == key
    assert len({ic.data.registered_domain(url) for url in same}) == 1


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("http://notevil-example.com/", "notevil-example.com"),
        ("http://evil.example.com.good.org/", "good.org"),
        ("http://good.org/evil.example.com/?u=evil.example.com", "good.org"),
        ("http://evil.example.com@good.org/", "good.org"),
        ("http://evil.example.com\\@good.org/", "example.com"),
        ("//evil.example.com/p", "example.com"),
        ("http://user:pw@evil.example.com:8080/x", "example.com"),
        ("HTTP://EVIL.Example.COM./", "example.com"),
        ("a.b.co.uk", "b.co.uk"),
        ("http://例え.テスト.jp/", "xn--zckzah.jp"),
        ("http://中国.cn/", "xn--fiqs8s.cn"),
        ("http://www.xn--.ws/", "xn--.ws"),
        ("http://127.0.0.1:8080/", None),
        ("http://[2001:db8::1]/", None),
        ("http://0x7f000001/", None),
        ("http://co.uk/", None),
        ("http://localhost/", None),
        ("mailto:someone@example.com", None),
        ("", None),
        ("http://", None),
        ("no address", None),
    ],
)
def test_the_domain_somebody_registered(url, domain):
    assert ic.data.registered_domain(url) == domain


def test_customers_of_one_service_are_told_apart():
    customers = ["http://foo.blogspot.com/", "http://www.bar.blogspot.com/"]
    owners = [ic.data.registered_domain(url) for url in customers]
    assert owners == ["foo.blogspot.com", "bar.blogspot.com"]
    assert {ic.data.registered_domain(url, private=False) for url in customers} == {"blogspot.com"}
    assert ic.data.registered_domain("http://a.b.github.io", private=False) == "github.io"


@pytest.mark.parametrize(
    "other",
    [
        "",
        "notes/1.md",
        "a.example/b",
        "mailto:a@b.example",
        "http://a b/",
        "urn:isbn:1",
        "http://[::1",
    ],
)
def test_what_is_no_web_address_stays_none(other):
    assert ic.data.normalise_url(other) is None


@settings(max_examples=400, deadline=None)
@given(
    st.text(max_size=60)
    | st.builds("http://{}".format, st.text("aA.。-_:@/\\?#%xn中\t 0", max_size=30))
)
def test_any_text_gives_a_fixed_point_or_none(text):
    key = ic.data.normalise_url(text)
    if key is not None:
        assert ic.data.normalise_url(key) == key
        assert key.isascii()
    domain = ic.data.registered_domain(text)
    if domain is not None:
        assert ic.data.registered_domain(domain) == domain


def test_records_get_the_one_spelling_and_keep_what_was_found(tmp_path):
    urls = [
        "HTTP://中国.cn:80",
        "http://a.example/x",
        None,
        "notes/1.md",
        "http://u:p@A.example/x#y",
    ]
    rows = [{"text": "t", "url": url, "n": number} for number, url in enumerate(urls)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (group,) = group_files(find_files([SourceSpec(str(tmp_path / "a.jsonl"))]).files)
    (batch,) = read_batches(group)
    records = batch.records
    plain = "http://a.example/x"
    assert records["url"].to_list() == ["http://xn--fiqs8s.cn/", plain, None, "notes/1.md", plain]
    found = [json.loads(meta).get("url_found") for meta in records["meta"]]
    assert found == [urls[0], None, None, None, urls[4]]
    # The id is that of the record as it is stored: two spellings of an address are one record.
    assert records["id"][1] == records["id"][4]
    assert records["id"].n_unique() == 4
    # Read again, nothing changes.
    records.write_parquet(tmp_path / "b.parquet")
    (group,) = group_files(find_files([SourceSpec(str(tmp_path / "b.parquet"))]).files)
    (again,) = read_batches(group)
    assert again.records.equals(records)
