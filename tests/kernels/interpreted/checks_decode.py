"""Decoding over pages in Triton under the interpreter against fp64; run by ../test_interpreter.py."""

from __future__ import annotations

import pytest
import torch
from internlm_core.errors import KernelError
from internlm_core.kernels.attention import attention_reference
from internlm_core.kernels.decode_attention import decode_attention, decode_attention_reference

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def draw(lengths, *, page=16, kv_heads=2, group=3, width=32, dtype=torch.float32):
    """Sequences over shuffled pages; what no sequence wrote is NaN."""
    torch.manual_seed(2)
    counts = [-(-length // page) for length in lengths]
    total, longest = sum(counts) + 2, max([*counts, 1])
    order = torch.randperm(total)
    table = torch.full((len(lengths), longest), -7, dtype=torch.int32)  # garbage beyond the end
    k, v = (torch.full((total, page, kv_heads, width), float("nan"), dtype=dtype) for _ in "kv")
    used = 0
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        table[row, :count] = order[used : used + count]
        used += count
        for slot in range(length):
            at = int(table[row, slot // page]), slot % page
            k[at], v[at] = (torch.randn(kv_heads, width).to(dtype) for _ in "kv")
    q = torch.randn(len(lengths), kv_heads * group, width).to(dtype)
    return q, k, v, table, torch.tensor(lengths, dtype=torch.int32)


def exact(q, k, v, table, lengths, **options):
    return decode_attention_reference(q.double(), k.double(), v.double(), table, lengths, **options)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("group", [1, 3, 4, 6, 16])
def test_groups(error, bound, dtype, group):
    given = draw([37, 1, 64], group=group, dtype=dtype)
    assert error(decode_attention(*given), exact(*given)) < bound[dtype]


@pytest.mark.parametrize("width", [16, 64, 96, 128, 256])
def test_head_widths(error, bound, width):
    given = draw([40, 9], width=width, group=2)
    assert error(decode_attention(*given), exact(*given)) < bound[torch.float32]


@pytest.mark.parametrize("page", [1, 7, 16, 64])
@pytest.mark.parametrize("splits", [None, 1, 2, 5, 16])
def test_pages_and_splits(error, bound, page, splits):
    given = draw([150, 0, 33, 1], page=page, kv_heads=1)
    got = decode_attention(*given, splits=splits)
    assert error(got, exact(*given)) < bound[torch.float32]
    assert (got[1] == 0).all()  # nothing cached: zeros, whatever the splits


def test_all_sequences_empty():
    given = draw([0, 0])
    assert (decode_attention(*given) == 0).all()


def test_equals_the_last_row_of_full_attention(error, bound):
    q, k, v, table, lengths = draw([50], page=50, group=4)
    keys, values = (x[table[0, 0]].double()[None] for x in (k, v))
    whole = attention_reference(q.double()[:, None], keys, values)
    assert error(decode_attention(q, k, v, table, lengths), whole[:, 0]) < bound[torch.float32]


def test_pages_with_heads_first(error, bound):
    q, k, v, table, lengths = draw([37, 20])
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (k, v)]
    got = decode_attention(q.transpose(0, 1).contiguous().transpose(0, 1), *turned, table, lengths)
    assert error(got, exact(q, k, v, table, lengths)) < bound[torch.float32]


def test_pages_beyond_two_to_the_31_elements(sparse, error, bound):
    q, k, v, table, lengths = draw([20], kv_heads=1, dtype=torch.float16)
    far = sparse.view(torch.float16).as_strided(
        (9, 16, 1, 32), (1 << 28, 32, 32, 1)
    )  # the last page 2^31 elements from the first
    first, second = table[0].tolist()
    far[8], far[2] = k[first], k[second]
    moved = torch.tensor([[8, 2]], dtype=torch.int32)
    v = torch.stack([v[second if page == 2 else first] for page in range(9)])
    assert (
        error(decode_attention(q, far, v, moved, lengths), exact(q, far, v, moved, lengths))
        < bound[torch.float16]
    )


@pytest.mark.parametrize("fault", ["scale", "length", "page", "heads"])
def test_faults_show(error, bound, fault):
    q, k, v, table, lengths = draw([40, 33])
    got = decode_attention(q, k, v, table, lengths)
    if fault == "scale":
        wrong = exact(q, k, v, table, lengths, scale=1.0)
    elif fault == "length":
        wrong = exact(q, k, v, table, lengths - 1)
    elif fault == "page":
        wrong = exact(q, k, v, table[:, [1, 0, 2]], lengths - 8)
    else:
        wrong = exact(q[:, [0, 3, 1, 4, 2, 5]], k, v, table, lengths)
    assert error(got, wrong) > 100 * bound[torch.float32]


def test_the_cpu_path_gives_the_same(monkeypatch, error, bound):
    given = draw([37, 0, 64, 5], group=6)
    monkeypatch.setenv("INTERNLM_KERNELS", "reference")
    assert error(decode_attention(*given), exact(*given)) < bound[torch.float32]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"q": (2, 5, 32)}, "head counts"),
        ({"q": (2, 6, 16)}, "width"),
        ({"lengths": [200, 3]}, "room for"),
        ({"lengths": [-1, 3]}, "room for"),
        ({"table": [[99, 0, 0], [1, 1, 1]]}, "page outside"),
        ({"long": True}, "int32"),
    ],
)
def test_what_does_not_fit_is_refused(change, named):
    q, k, v, table, lengths = draw([40, 33])
    if "q" in change:
        q = torch.randn(change["q"])
    if "lengths" in change:
        lengths = torch.tensor(change["lengths"], dtype=torch.int32)
    if "table" in change:
        table = torch.tensor(change["table"], dtype=torch.int32)
    if "long" in change:
        lengths = lengths.long()
    with pytest.raises(KernelError, match=named):
        decode_attention(q, k, v, table, lengths)
