from __future__ import annotations

import json

import pytest
from internlm_core.errors import ModelError
from internlm_core.model import InternLM2, ModelConfig, published
from pydantic import ValidationError

# The published 7B configuration (technical report Table 3; InternLM2's config.json).
PUBLISHED = {
    "model_type": "internlm2",
    "architectures": ["InternLM2ForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"},
    "vocab_size": 92544,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "rms_norm_eps": 1e-05,
    "initializer_range": 0.02,
    "bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def test_published_file_is_read():
    config = ModelConfig.from_hf_dict(PUBLISHED)
    assert config.group_size == 4
    assert config.head_width == 128
    assert config.rope_scaling is not None
    assert config.rope_scaling.factor == 2.0
    assert config.stop_ids == (2,)
    assert config.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("layers", "hidden", "heads", "ffn", "count"),
    [
        (24, 2048, 16, 8192, 1_889_110_016),
        (32, 4096, 32, 14336, 7_737_708_544),
        (48, 6144, 48, 16384, 19_861_149_696),
    ],
)
def test_parameter_counts_of_the_published_models(layers, hidden, heads, ffn, count):
    config = ModelConfig.from_hf_dict(
        PUBLISHED
        | {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "intermediate_size": ffn,
        }
    )
    assert config.parameter_count == count


BIASES = [
    {"bias": bias, "qkv_bias": qkv, "mlp_bias": mlp}
    for bias in (False, True)
    for qkv in (None, not bias)
    for mlp in (False, True)
]


@pytest.mark.parametrize("biases", BIASES, ids=str)
def test_parameter_count_is_that_of_the_module(make_config, biases):
    config = make_config(head_dim=6, **biases)
    assert config.parameter_count == InternLM2(config).parameter_count


# InternLM3-8B's configuration.
INTERNLM3 = PUBLISHED | {
    "model_type": "internlm3",
    "vocab_size": 128512,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 10240,
    "rope_theta": 50000000,
    "rope_scaling": {"rope_type": "dynamic", "factor": 6.0},
    "qkv_bias": False,
}


def test_internlm3_is_read():
    config = ModelConfig.from_hf_dict(INTERNLM3)
    assert config.group_size == 16
    assert (config.wqkv_bias, config.bias, config.mlp_bias) == (False, False, False)
    assert config.rope_scaling is not None
    assert config.rope_scaling.factor == 6.0
    assert config.parameter_count == 8_804_241_408


@pytest.mark.parametrize(("bias", "qkv"), [(False, True), (True, False), (True, True)])
def test_internlm3_has_three_places_for_biases(bias, qkv):
    config = ModelConfig.from_hf_dict(INTERNLM3 | {"bias": bias, "qkv_bias": qkv})
    assert (config.wqkv_bias, config.bias, config.mlp_bias) == (qkv, bias, bias)


def test_internlm3_without_qkv_bias_is_refused():
    values = {key: value for key, value in INTERNLM3.items() if key != "qkv_bias"}
    with pytest.raises(ModelError, match="missing qkv_bias"):
        ModelConfig.from_hf_dict(values)


@pytest.mark.parametrize("biases", BIASES, ids=str)
@pytest.mark.parametrize("naming", ["internlm2", "llama"])
def test_biases_survive_the_file_or_are_refused(make_config, naming, biases):
    config = make_config(**biases)
    places = (config.wqkv_bias, config.bias, config.mlp_bias)
    if naming == "llama" and places[0] != places[1] != places[2]:
        with pytest.raises(ModelError, match="qkv_bias"):
            config.to_hf_dict(naming)
        return
    again = ModelConfig.from_hf_dict(json.loads(json.dumps(config.to_hf_dict(naming))))
    assert (again.wqkv_bias, again.bias, again.mlp_bias) == places


@pytest.mark.parametrize(
    ("name", "group", "count"),
    [
        ("internlm2-1.8b", 2, 1_889_110_016),
        ("internlm2-7b", 4, 7_737_708_544),
        ("internlm2-20b", 6, 19_861_149_696),
        ("internlm2.5-7b", 4, 7_737_708_544),
        ("internlm2.5-7b-1m", 4, 7_737_708_544),
        ("internlm3-8b", 16, 8_804_241_408),
    ],
)
def test_published_models_by_name(name, group, count):
    config = published(name)
    assert (config.group_size, config.parameter_count) == (group, count)
    assert config.head_width == 128


def test_an_unknown_model_is_refused_with_those_there_are():
    with pytest.raises(ModelError, match=r"internlm9.*internlm2-7b"):
        published("internlm9")


@pytest.mark.parametrize(
    "key", ["bias", "rms_norm_eps", "rope_theta", "vocab_size", "num_key_value_heads", "qkv_bias"]
)
def test_one_missing_key_is_named(key):
    values = {name: value for name, value in INTERNLM3.items() if name != key}
    with pytest.raises(ModelError, match=f"missing {key};"):
        ModelConfig.from_hf_dict(values)


def test_missing_keys_are_named_and_never_filled_in():
    keys = ("bias", "rms_norm_eps", "rope_theta", "vocab_size", "num_key_value_heads")
    values = {key: value for key, value in PUBLISHED.items() if key not in keys}
    with pytest.raises(ModelError) as error:
        ModelConfig.from_hf_dict(values, origin="a/config.json")
    for key in keys:
        assert key in str(error.value)
    assert "a/config.json" in str(error.value)
    assert "hidden_size" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_attention_heads": 30}, "num_attention_heads=30"),
        ({"num_key_value_heads": 0}, "num_key_value_heads"),
        ({"hidden_size": 4100}, "hidden_size=4100"),
        ({"max_position_embeddings": 0}, "max_position_embeddings"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "yarn"),
        ({"rope_scaling": {"type": "dynamic"}}, "factor"),
        ({"rope_scaling": {"type": "dynamic", "factor": 0.5}}, "factor"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"model_type": "bert"}, "bert"),
        ({"torch_dtype": "int8"}, "dtype"),
    ],
)
def test_impossible_values_are_refused_by_name(changes, named):
    with pytest.raises(ModelError, match=named):
        ModelConfig.from_hf_dict(PUBLISHED | changes)


def test_direct_construction_checks_too(make_config):
    with pytest.raises(ValidationError, match="multiple"):
        make_config(num_attention_heads=5)
    with pytest.raises(ValidationError, match="even"):
        make_config(width=7)


@pytest.mark.parametrize("naming", ["internlm2", "llama"])
def test_round_trip_through_hf_keys(make_config, naming):
    config = make_config(
        bias=True,
        eos_token_id=(2, 92542),
        rope_scaling={"type": "dynamic", "factor": 2.0},
        dtype="bfloat16",
    )
    values = json.loads(json.dumps(config.to_hf_dict(naming)))
    again = ModelConfig.from_hf_dict(values)
    assert again.model_copy(update={"head_dim": None}) == config


def test_transformers_5_gathers_rope_keys():
    values = {key: value for key, value in PUBLISHED.items() if "rope" not in key}
    values["rope_parameters"] = {"rope_theta": 5e7, "rope_type": "dynamic", "factor": 2.5}
    config = ModelConfig.from_hf_dict(values)
    assert config.rope_theta == 5e7
    assert config.rope_scaling is not None
    assert config.rope_scaling.factor == 2.5


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_broken_file_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        ModelConfig.from_folder(tmp_path)


def test_absent_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json.*model folder"):
        ModelConfig.from_folder(tmp_path)
