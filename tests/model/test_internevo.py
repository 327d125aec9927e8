"""Import of InternEvo's files: shards, stages, pairs of the rotary embedding, normalised head."""

from __future__ import annotations

import pickle

import pytest
import torch
from internlm_core import model as room
from internlm_core.errors import CheckpointError, ModelError
from torch.nn import functional


def settings_of(config, **changes):
    return {
        "num_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "num_attention_heads": config.num_attention_heads,
        "num_kv_attention_heads": config.num_key_value_heads,
        "layer_norm_epsilon": config.rms_norm_eps,
        "no_bias": True,
        "rope_base": config.rope_theta,
        "adapt_hf": True,
        "norm_head": config.norm_head,
        "embed_split_hidden": True,
        "dtype": "torch.bfloat16",
        "mlp_ratio": 3.5,
    } | changes


def to_pairs(config, wqkv):
    """Rows as a model trained with pairs (2i, 2i + 1) has them: written as the definition says."""
    width, heads = config.head_width, config.group_size + 2
    rows = wqkv.clone()
    for head in range(config.num_key_value_heads * heads):
        if head % heads == heads - 1:
            continue  # values are not turned
        for i in range(width // 2):
            rows[head * width + 2 * i] = wqkv[head * width + i]
            rows[head * width + 2 * i + 1] = wqkv[head * width + i + width // 2]
    return rows


@pytest.fixture
def write(tmp_path):
    def make(model, *, tensor=1, stages=1, prefix="", file="model_tp{}_pp{}.pt", **changes):
        config = model.config
        settings = settings_of(config, **changes)
        axes = {"wo.weight": 1, "w2.weight": 1}
        for name in ("wqkv.weight", "w1.weight", "w3.weight", "output.weight"):
            axes[name] = 0
        axes["tok_embeddings.weight"] = 1 if settings["embed_split_hidden"] else 0
        each = config.num_hidden_layers // stages
        files = {(i, j): {} for i in range(tensor) for j in range(stages)}
        for name, value in model.state_dict().items():
            stage = stages - 1 if not name.startswith("tok_embeddings") else 0
            short = name
            if name.startswith("layers."):
                number = int(name.split(".")[1])
                stage = number // each
                short = name.replace(f"layers.{number}.", f"layers.{number % each}.")
            if not settings["adapt_hf"] and name.endswith("wqkv.weight"):
                value = to_pairs(config, value)
            axis = next((a for end, a in axes.items() if name.endswith(end)), None)
            parts = [value] * tensor if axis is None else value.tensor_split(tensor, axis)
            for rank, part in enumerate(parts):
                files[rank, stage][prefix + short] = part.clone()
        for (rank, stage), state in files.items():
            torch.save(state, tmp_path / file.format(rank, stage))
        torch.save(settings, tmp_path / "model_config.pt")
        return tmp_path

    return make


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("tensor", [1, 2])
@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("adapt_hf", [True, False])
@pytest.mark.parametrize("group", [1, 4, 6])
def test_shards_and_stages_are_joined(make_model, write, tensor, stages, adapt_hf, group):
    model = make_model(group=group)
    folder = write(model, tensor=tensor, stages=stages, adapt_hf=adapt_hf, prefix="model.")
    again = room.load_internevo(folder, max_position_embeddings=64)
    assert same(model, again)
    # InternEvo doesn't store the deviation of the first weights.
    assert again.config == model.config.model_copy(update={"initializer_range": 0.02})


def test_logits_differ_where_the_pairs_are_taken_for_halves(make_model, draw_ids, write):
    model, ids = make_model(), draw_ids(1, 30)
    folder = write(model, adapt_hf=False)
    right = room.load_internevo(folder, max_position_embeddings=64)
    torch.testing.assert_close(right(ids), model(ids))
    wrong = room.load_internevo(folder, max_position_embeddings=64, settings={"adapt_hf": True})
    assert (wrong(ids) - model(ids)).abs().max() > 0.1


@pytest.mark.parametrize("split", [True, False])
def test_embedding_is_split_by_width_or_by_vocabulary(make_model, write, split):
    model = make_model(vocab_size=100)
    folder = write(model, tensor=2, embed_split_hidden=split)
    assert same(model, room.load_internevo(folder, max_position_embeddings=64))


def test_normalised_head_is_baked_in_or_kept(make_model, draw_ids, write):
    model, ids = make_model(norm_head=True), draw_ids(1, 9)
    folder = write(model, tensor=2)
    baked = room.load_internevo(folder, max_position_embeddings=64)
    assert not baked.config.norm_head
    torch.testing.assert_close(
        baked.output.weight, functional.normalize(model.output.weight, dim=1)
    )
    torch.testing.assert_close(baked(ids), model(ids), atol=1e-5, rtol=0)
    kept = room.load_internevo(folder, max_position_embeddings=64, keep_norm_head=True)
    assert kept.config.norm_head
    assert same(kept, model)


def test_names_of_older_and_newer_files(make_model, write):
    model = make_model()
    folder = write(model, file="model_tp{}_wp0_pp{}.pt")
    path = folder / "model_tp0_wp0_pp0.pt"
    state = torch.load(path, weights_only=True)
    state["tok_embeddings.word_embeddings.weight"] = state.pop("tok_embeddings.weight")
    state["layers.0.attention.rotary_emb.inv_freq"] = torch.ones(4)
    torch.save(state, path)
    assert same(model, room.load_internevo(folder, max_position_embeddings=64))


@pytest.mark.parametrize("keys", [["rope_base"], ["adapt_hf", "norm_head"]])
def test_missing_settings_are_named_and_can_be_given(make_model, write, keys):
    model = make_model()
    folder = write(model)
    stored = settings_of(model.config)
    left = {key: stored.pop(key) for key in keys}
    torch.save(stored, folder / "model_config.pt")
    with pytest.raises(ModelError, match=f"missing {', '.join(keys)};"):
        room.load_internevo(folder, max_position_embeddings=64)
    assert same(model, room.load_internevo(folder, max_position_embeddings=64, settings=left))


class Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the pickle ran')",))


@pytest.mark.parametrize("name", ["model_config.pt", "model_tp0_pp0.pt"])
def test_code_in_a_pickle_is_never_run(make_model, write, name):
    folder = write(make_model())
    with (folder / name).open("wb") as file:
        pickle.dump({"a": Harmful()}, file, protocol=2)
    with pytest.raises(CheckpointError, match=rf"{name}.*code"):
        room.load_internevo(folder, max_position_embeddings=64)


def test_a_cut_file_is_named(make_model, write):
    folder = write(make_model())
    path = folder / "model_tp0_pp0.pt"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"model_tp0_pp0\.pt"):
        room.load_internevo(folder, max_position_embeddings=64)


@pytest.mark.parametrize("name", ["model_tp1_pp0.pt", "model_tp0_pp1.pt"])
def test_a_missing_rank_is_named(make_model, write, name):
    folder = write(make_model(), tensor=2, stages=2)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        room.load_internevo(folder, max_position_embeddings=64)


def test_what_is_not_supported_is_refused(make_model, write, tmp_path):
    with pytest.raises(CheckpointError, match="no model_tp0_pp0"):
        (tmp_path / "empty").mkdir()
        room.load_internevo(
            tmp_path / "empty",
            max_position_embeddings=64,
            settings=settings_of(make_model().config),
        )
    folder = write(make_model(), no_bias=False)
    with pytest.raises(ModelError, match="no_bias"):
        room.load_internevo(folder, max_position_embeddings=64)
    folder = write(make_model())
    with pytest.raises(ModelError, match="max_position_embeddings"):
        room.load_internevo(folder, max_position_embeddings=0)
    with pytest.raises(CheckpointError, match=r"layers\.0\.attention\.wqkv"):
        room.load_internevo(
            folder, max_position_embeddings=64, settings={"num_kv_attention_heads": 1}
        )
    torch.save({}, folder / "model_tp0_wp1_pp0.pt")
    with pytest.raises(CheckpointError, match="weight-parallel"):
        room.load_internevo(folder, max_position_embeddings=64)
