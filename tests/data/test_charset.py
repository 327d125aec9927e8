"""Charset: mark, HTTP label, what the page says, the bytes; one bad byte costs one character."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.data.charset import decode

HANZI = "今天天气很好，我们去公园散步。"
KANA = "東京の天気は晴れです。明日は雨が降るでしょう。"
HANGUL = "서울시는 오늘 새로운 정책을 발표했다."
C_HEADER = "/* 离散余弦变换 头文件 */\n#ifndef DCT_H\n#define DCT_H\nint dct(int a);\n#endif\n"
SHEET = "品名,数量,価格\r\nりんご,3,100\r\nみかん,5,80\r\n"


@pytest.mark.parametrize(
    ("text", "codec", "encoding"),
    [
        (C_HEADER, "gbk", "gb18030"),
        ("中", "gbk", "gb18030"),
        ("中文", "gbk", "gb18030"),
        (SHEET, "cp932", "shift_jis"),
        (KANA, "euc-jp", "euc-jp"),
        (KANA, "iso-2022-jp", "iso-2022-jp"),
        ("繁體中文網頁的內容在這裡，歡迎光臨。", "big5", "big5"),
        (HANGUL, "euc-kr", "euc-kr"),
        ("Сегодня в городе хорошая погода.", "cp1251", "windows-1251"),
        ("Ääni ja yö, café à la carte.", "latin-1", "windows-1252"),
        (HANZI, "utf-8", "utf-8"),
        ("plain words", "ascii", "utf-8"),
        ("<p>no mark</p>", "utf-16-le", "utf-16le"),
        ("<p>中文</p>", "utf-16-be", "utf-16be"),
    ],
)
def test_unlabelled_bytes_are_read_by_what_they_are(text, codec, encoding):
    assert decode(text.encode(codec)) == (text, encoding, 0, "content")


@pytest.mark.parametrize(
    ("codec", "encoding"),
    [("utf-8-sig", "utf-8"), ("utf-16", "utf-16le"), ("utf-16-be", "utf-16be")],
)
def test_a_mark_is_believed_before_any_label_and_is_no_text(codec, encoding):
    mark = "\ufeff" if codec == "utf-16-be" else ""
    data = (mark + HANZI).encode(codec)
    assert decode(data, "gbk") == (HANZI, encoding, 0, "bom")


def test_the_order_of_belief():
    # 0xA4 is a sign in both encodings, another one in each: only the label can tell.
    page = b"<meta charset=iso-8859-15><p>\xa4"
    assert decode(page, "iso-8859-1") == (
        "<meta charset=iso-8859-15><p>¤",
        "windows-1252",
        0,
        "http",
    )
    assert decode(page) == ("<meta charset=iso-8859-15><p>€", "iso-8859-15", 0, "meta")
    assert decode(page, "no-such-label").evidence == "meta"
    assert decode(page, html=False).evidence == "content"


@pytest.mark.parametrize(
    ("label", "data", "text", "encoding"),
    [
        ("gb2312", "鎔𠮷€".encode("gb18030"), "鎔𠮷€", "gb18030"),
        ("GBK", "鎔𠮷".encode("gb18030"), "鎔𠮷", "gb18030"),
        ("iso-8859-1", b"\x93quoted\x94", "“quoted”", "windows-1252"),
        ("ascii", b"\x93quoted\x94", "“quoted”", "windows-1252"),
        ("shift_jis", "①髙".encode("cp932"), "①髙", "shift_jis"),
        ("ks_c_5601-1987", "똠방".encode("cp949"), "똠방", "euc-kr"),
        (" UTF8 ", "é".encode(), "é", "utf-8"),
    ],
)
def test_labels_mean_what_browsers_mean(label, data, text, encoding):
    assert decode(data, label) == (text, encoding, 0, "http")


@pytest.mark.parametrize("times", [1, 20, 2000])
@pytest.mark.parametrize("bad", [b"\xff", b"\xff</p>"])
def test_one_bad_byte_costs_one_character_never_the_page(times, bad):
    head = b"<meta charset=gb2312><p>"
    read = decode(head + (HANZI * times).encode("gbk") + bad)
    assert (read.encoding, read.replaced, read.evidence) == ("gb18030", 1, "meta")
    assert (
        read.text
        == (head + b"?").decode().replace("?", HANZI * times + "\ufffd") + bad[1:].decode()
    )
    # The same without any label, in UTF-8.
    read = decode((HANZI * times).encode() + bad)
    assert (read.encoding, read.replaced) == ("utf-8", 1)


@pytest.mark.parametrize("text", ["近日", "近日获悉", "a近日", HANZI * 50])
@pytest.mark.parametrize("cut", [1, 2])
def test_a_text_cut_within_its_last_character_is_utf8_still(text, cut):
    whole = text if text[-1] != "。" else text[:-1]
    read = decode(whole.encode()[:-cut])
    assert read == (whole[:-1] + "\ufffd", "utf-8", 1, "content")


@pytest.mark.parametrize(
    ("label", "text", "codec", "encoding"),
    [
        ("utf-8", HANZI, "gbk", "gb18030"),
        ("utf-8", HANGUL, "euc-kr", "euc-kr"),
        ("utf-8", "café", "latin-1", "windows-1252"),
        ("gbk", "Сегодня в городе хорошая погода.", "cp1251", "windows-1251"),
        ("gbk", HANZI, "utf-8", "utf-8"),
        ("iso-8859-1", "naïve café — über", "utf-8", "utf-8"),
        ("windows-1251", HANZI, "utf-8", "utf-8"),
    ],
)
def test_a_label_that_the_bytes_contradict_is_passed_over(label, text, codec, encoding):
    data = text.encode(codec)
    assert decode(data, label) == (text, encoding, 0, "content")
    page = f'<meta http-equiv="content-type" content="text/html; charset={label}">'.encode() + data
    read = decode(page)
    assert (read.encoding, read.text.endswith(text)) == (encoding, True)


def test_a_lie_in_the_header_leaves_the_page_its_say():
    page = b"<meta charset=big5>" + ("繁體中文網頁的內容" * 3).encode("big5")
    assert decode(page, "utf-8")[1:] == ("big5", 0, "meta")


def test_bytes_that_are_no_text_give_something_and_count_it():
    read = decode(bytes(range(256)) * 4, "utf-8")
    assert read.text
    assert decode(b"") == ("", "utf-8", 0, "content")
    assert decode(b"", "gbk").text == ""


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([None, "utf-8", "gbk", "utf-16", "iso-2022-jp"]))
def test_any_bytes_give_valid_text_and_an_honest_count(data, label):
    read = decode(data, label)
    read.text.encode()
    assert read.text.count("\ufffd") >= read.replaced


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=200).filter(lambda t: "\ufeff" not in t))
def test_utf8_comes_back_whatever_it_holds(text):
    # A zero in every other place is how UTF-16 looks; it takes a label to say otherwise.
    assert decode(text.encode(), "utf-8", html=False) == (text, "utf-8", 0, "http")
