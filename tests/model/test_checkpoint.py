"""Folders: both namings, shards, parity with transformers, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from internlm_core import model as room
from internlm_core.errors import CheckpointError, ModelError
from internlm_core.model.naming import join_qkv, split_qkv
from safetensors.torch import load_file, save_file


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("group", [1, 2, 3, 4, 6, 16])
@pytest.mark.parametrize("naming", ["internlm2", "llama"])
def test_round_trip_is_bit_equal(make_model, tmp_path, group, naming):
    model = make_model(group=group, bias=group == 3)
    room.save(model, tmp_path / "a", naming)
    again = room.load(tmp_path / "a")
    assert same(model, again)
    other = "llama" if naming == "internlm2" else "internlm2"
    room.save(again, tmp_path / "b", other)
    assert same(model, room.load(tmp_path / "b"))


@pytest.mark.parametrize("biases", [(False, True), (True, False)])
def test_internlm3_keeps_its_biases(make_model, tmp_path, biases):
    bias, qkv_bias = biases
    model = make_model(group=16, bias=bias, qkv_bias=qkv_bias, mlp_bias=bias)
    room.save(model, tmp_path / "own")
    room.save(model, tmp_path / "their", "llama")
    kind = json.loads((tmp_path / "their" / "config.json").read_text())
    assert (kind["model_type"], kind["bias"], kind["qkv_bias"]) == ("internlm3", bias, qkv_bias)
    names = set(load_file(tmp_path / "their" / "model.safetensors"))
    assert ("model.layers.0.self_attn.q_proj.bias" in names) == qkv_bias
    assert ("model.layers.1.self_attn.o_proj.bias" in names) == bias
    assert ("model.layers.1.mlp.down_proj.bias" in names) == bias
    for folder in ("own", "their"):
        assert same(model, room.load(tmp_path / folder))


def test_biases_that_llamas_names_have_no_architecture_for(make_model, tmp_path):
    model = make_model(bias=False, qkv_bias=True, mlp_bias=True)
    with pytest.raises(ModelError, match="internlm2"):
        room.save(model, tmp_path / "m", "llama")
    assert not (tmp_path / "m").exists()


@pytest.mark.filterwarnings("ignore")
def test_logits_of_internlm3_equal_llamas_with_no_bias_on_the_output(
    make_model, draw_ids, tmp_path
):
    transformers = pytest.importorskip("transformers")
    model, ids = make_model(group=16, qkv_bias=True), draw_ids(1, 40)
    room.save(model, tmp_path, "llama")
    state = load_file(tmp_path / "model.safetensors")
    values = {**model.config.to_hf_dict("llama"), "attention_bias": True, "model_type": "llama"}
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).eval()
    for layer in range(2):
        state[f"model.layers.{layer}.self_attn.o_proj.bias"] = torch.zeros(model.config.hidden_size)
    llama.load_state_dict(state)
    with torch.no_grad():
        theirs, ours = llama(ids).logits, model(ids)
    assert (theirs - ours).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))


def test_float16_of_a_bfloat16_model_is_warned_of(make_model, tmp_path):
    room.save(make_model().to(torch.bfloat16), tmp_path)
    with pytest.warns(UserWarning, match=r"trained in bfloat16.*65,504"):
        assert room.load(tmp_path, "float16").dtype == torch.float16


@pytest.mark.parametrize("group", [1, 3, 4])
@pytest.mark.filterwarnings("ignore")
def test_logits_equal_transformers_llama(make_model, draw_ids, tmp_path, group):
    transformers = pytest.importorskip("transformers")
    model = make_model(group=group, bias=True)
    room.save(model, tmp_path, "llama")
    llama = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = draw_ids(2, 51)
    with torch.no_grad():
        theirs, ours = llama(ids).logits, model(ids)
    assert (theirs - ours).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))

    # A naive [q | k | v] split of the interleaved rows must show.
    config = model.config
    naive = load_file(tmp_path / "model.safetensors")
    kv_rows = config.num_key_value_heads * config.head_width
    for layer in range(config.num_hidden_layers):
        rows = model.layers[layer].attention.wqkv.weight.detach()
        q, k, v = rows.split([kv_rows * group, kv_rows, kv_rows])
        for letter, part in zip("qkv", (q, k, v), strict=True):
            naive[f"model.layers.{layer}.self_attn.{letter}_proj.weight"] = part.contiguous()
    llama.load_state_dict(naive)
    with torch.no_grad():
        assert (llama(ids).logits - ours).abs().max() > 0.1


@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_transformers_wrote_is_read(make_model, draw_ids, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=101,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=56,
        initializer_range=0.2,
        rms_norm_eps=1e-5,
        max_position_embeddings=32,
        rope_parameters={
            "rope_type": "dynamic",
            "factor": 2.0,
            "rope_theta": 10_000.0,
        },
    )
    torch.manual_seed(0)
    llama = transformers.LlamaForCausalLM(config).eval()
    llama.save_pretrained(tmp_path)
    ours = room.load(tmp_path, "float32")
    ids = draw_ids(1, 50)  # beyond 32: dynamic scaling is at work in both
    with torch.no_grad():
        difference = (llama(ids).logits - ours(ids)).abs().max()
    assert difference <= 1e-5 * float(llama(ids).logits.abs().max())


def test_split_of_the_interleaved_rows(make_config):
    config = make_config(group=3, kv_heads=2, width=2)
    rows = torch.arange(20.0)[:, None]  # 2 groups of (3 queries, key, value), 2 rows each
    q, k, v = split_qkv(config, rows)
    assert q[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]
    assert k[:, 0].tolist() == [6, 7, 16, 17]
    assert v[:, 0].tolist() == [8, 9, 18, 19]
    assert torch.equal(join_qkv(config, q, k, v), rows)


def test_normalised_head_is_kept_raw_or_baked_in(make_model, draw_ids, tmp_path):
    model, ids = make_model(norm_head=True), draw_ids(1, 12)
    room.save(model, tmp_path / "own")
    assert same(model, room.load(tmp_path / "own"))
    room.save(model, tmp_path / "llama", "llama")
    baked = room.load(tmp_path / "llama")
    assert not baked.config.norm_head
    torch.testing.assert_close(baked(ids), model(ids), atol=1e-5, rtol=0)


def test_shards_and_their_index(make_model, tmp_path):
    model = make_model()
    room.save(model, tmp_path, max_shard_bytes=20_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert same(model, room.load(tmp_path))
    room.save(model, tmp_path)  # whole again: no shard is left beside it
    assert not list(tmp_path.glob("model-*"))
    assert same(model, room.load(tmp_path))
    room.save(model, tmp_path, max_shard_bytes=20_000)
    (tmp_path / files[1]).unlink()
    with pytest.raises(CheckpointError, match=files[1]):
        room.load(tmp_path)


def test_dtype_is_that_of_the_file_unless_asked(make_model, tmp_path):
    room.save(make_model().to(torch.bfloat16), tmp_path)
    loaded = room.load(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert loaded.config.dtype == "bfloat16"
    assert room.load(tmp_path, "float32").dtype == torch.float32
    assert all(p.requires_grad for p in loaded.parameters())
    with pytest.raises(ModelError, match="int8"):
        room.load(tmp_path, "int8")


def test_tokenizer_files_come_along(make_model, tmp_path):
    source = tmp_path / "tok"
    source.mkdir()
    (source / "tokenizer.json").write_text("{}")
    (source / "tokenizer_config.json").write_text("{}")
    (source / "pytorch_model.bin").write_text("not copied")
    room.save(make_model(), tmp_path / "m", tokenizer=source)
    copied = {path.name for path in (tmp_path / "m").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json"} < copied
    assert "pytorch_model.bin" not in copied
    with pytest.raises(ModelError, match="nowhere"):
        room.save(make_model(), tmp_path / "m", tokenizer=tmp_path / "nowhere")
    room.load(tmp_path / "m")  # the refused save touched nothing


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, -1])
@pytest.mark.parametrize("manifest", [True, False])
def test_cut_weights_are_refused(make_model, tmp_path, keep, manifest):
    room.save(make_model(), tmp_path)
    file = tmp_path / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    if not manifest:
        (tmp_path / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        room.load(tmp_path)


def test_one_altered_bit_is_refused(make_model, tmp_path):
    room.save(make_model(), tmp_path)
    file = tmp_path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="altered"):
        room.load(tmp_path)


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_the_config_are_named(make_model, tmp_path, fault):
    room.save(make_model(), tmp_path)
    (tmp_path / "manifest.json").unlink()
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    if fault == "missing":
        del state["model.layers.1.ffn_norm.weight"]
    elif fault == "extra":
        state["model.layers.1.stranger.weight"] = torch.zeros(2)
    else:
        state["model.norm.weight"] = torch.zeros(3)
    save_file(state, file)
    named = {"missing": r"layers\.1\.ffn_norm", "extra": "stranger", "shape": r"norm.*\(3,\)"}
    with pytest.raises(CheckpointError, match=named[fault]):
        room.load(tmp_path)


def test_pickles_are_never_read(make_model, tmp_path):
    room.save(make_model(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickles"):
        room.load(tmp_path)


def test_a_save_that_fails_leaves_no_model_that_loads(make_model, tmp_path, monkeypatch):
    room.save(make_model(), tmp_path)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        room.save(make_model(seed=2), tmp_path)
    assert not list(tmp_path.glob(".partial-*"))
    with pytest.raises(ModelError):
        room.load(tmp_path)


def test_manifest_covers_subfolders_and_names_what_is_wrong(tmp_path):
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "state.json").write_text("{}")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(CheckpointError, match="never completed"):
        room.verify_manifest(tmp_path)
    room.write_manifest(tmp_path)
    room.verify_manifest(tmp_path)
    (tmp_path / "trainer" / "state.json").write_text("[]")
    room.verify_manifest(tmp_path, hashes=False)
    with pytest.raises(CheckpointError, match=r"state\.json.*altered"):
        room.verify_manifest(tmp_path)
    (tmp_path / "trainer" / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"state\.json.*missing"):
        room.verify_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="broken"):
        room.verify_manifest(tmp_path)
