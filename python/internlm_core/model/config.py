"""What a model is: the numbers of a Hugging Face `config.json`, typed and checked. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import Field, model_validator

from internlm_core._config import Config, load_config
from internlm_core._files import read_json
from internlm_core.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

__all__ = ["ModelConfig", "RopeScaling"]

DType = Literal["float32", "bfloat16", "float16"]

# The class defaults of published configuration code contradict the published models (bias true,
# eps 1e-6, base 10,000), so a file that leaves one of these out is refused.
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "max_position_embeddings",
    "rms_norm_eps",
)
_OPTIONAL = ("initializer_range", "norm_head", "bos_token_id", "eos_token_id", "pad_token_id")


class RopeScaling(Config):
    """How RoPE reaches beyond the trained length."""

    type: Literal["dynamic", "linear"]
    """`dynamic`: NTK-aware base from the declared length; `linear`: positions divided by factor."""
    factor: float = Field(ge=1.0)


class ModelConfig(Config):
    """The architecture of one InternLM2 model, under Hugging Face's names.

    Made directly, a wrong value is pydantic's `ValidationError`; read from a file or a mapping of
    Hugging Face keys, it is a `ModelError` that names the file and the key.
    """

    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    head_dim: int | None = Field(default=None, gt=0)
    """Width of a head; hidden_size / num_attention_heads when None."""
    max_position_embeddings: int = Field(default=32_768, gt=0)  # published InternLM2 files
    rope_theta: float = Field(default=1_000_000.0, gt=0)  # after the long phase; 50,000 before it
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = Field(default=1e-5, gt=0)
    initializer_range: float = Field(default=0.02, gt=0)
    bias: bool = False
    """Biases on wo, and on wqkv unless `qkv_bias` says otherwise."""
    qkv_bias: bool | None = None
    """Biases on wqkv; as `bias` when None."""
    mlp_bias: bool = False
    """Biases on w1, w3 and w2."""
    norm_head: bool = False
    """Use the output head with L2-normalised rows, as the 1.8B model was trained."""
    tie_word_embeddings: Literal[False] = False
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2
    pad_token_id: int | None = 2
    dtype: DType = "bfloat16"
    """Type the weights are stored in."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if heads % kv_heads:
            raise ValueError(
                f"num_attention_heads={heads} must be a multiple of num_key_value_heads={kv_heads}"
            )
        if self.head_dim is None and self.hidden_size % heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of num_attention_heads={heads},"
                " or head_dim be given"
            )
        if self.head_width % 2:
            raise ValueError(f"head width {self.head_width} must be even: RoPE turns pairs")
        return self

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def group_size(self) -> int:
        """Query heads that share a key/value head (G)."""
        return self.num_attention_heads // self.num_key_value_heads

    @property
    def wqkv_bias(self) -> bool:
        """Whether wqkv has a bias."""
        return self.bias if self.qkv_bias is None else self.qkv_bias

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Every id that ends a generation."""
        eos = self.eos_token_id
        return () if eos is None else (eos,) if isinstance(eos, int) else eos

    @property
    def parameter_count(self) -> int:
        """Trainable numbers of the model."""
        d, rows = self.hidden_size, self.num_attention_heads * self.head_width
        kv_rows = 2 * self.num_key_value_heads * self.head_width
        attention = (rows + kv_rows) * d + d * rows
        attention += (rows + kv_rows) * self.wqkv_bias + d * self.bias
        feed_forward = 3 * d * self.intermediate_size
        feed_forward += (2 * self.intermediate_size + d) * self.mlp_bias
        layer = attention + feed_forward + 2 * d
        return 2 * self.vocab_size * d + self.num_hidden_layers * layer + d

    @classmethod
    def from_folder(cls, folder: str | Path) -> ModelConfig:
        """Read `config.json` of a model folder.

        Raises:
            ModelError: The file is missing, not JSON, incomplete or contradictory.
        """
        path = Path(folder) / "config.json"
        try:
            values = read_json(path)
        except OSError as error:
            raise ModelError(
                f"{path}: can't be read ({error.strerror}); is this a model folder?"
            ) from None
        except orjson.JSONDecodeError as error:
            raise ModelError(f"{path}: not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise ModelError(f"{path}: expected an object of keys")
        return cls.from_hf_dict(values, origin=str(path))

    @classmethod
    def from_hf_dict(cls, values: Mapping[str, Any], *, origin: str = "config.json") -> ModelConfig:
        """Read the keys of an internlm2, internlm3 or llama `config.json`; others are passed over.

        Raises:
            ModelError: Missing keys (all are named), unsupported features, contradictions.
        """
        kind = values.get("model_type", "internlm2")
        bias_key = {"internlm2": "bias", "internlm3": "bias", "llama": "attention_bias"}.get(kind)
        if bias_key is None:
            raise ModelError(
                f"{origin}: model_type={kind!r} is not supported; expected internlm2, internlm3 or llama"
            )
        rope = values.get("rope_parameters") or {}  # transformers 5 gathers theta and scaling here
        theta = values.get("rope_theta", rope.get("rope_theta"))
        wanted_keys = (*_REQUIRED, bias_key, *(("qkv_bias",) if kind == "internlm3" else ()))
        missing = [key for key in wanted_keys if values.get(key) is None]
        missing += ["rope_theta"] if theta is None else []
        if missing:
            raise ModelError(
                f"{origin}: missing {', '.join(missing)}; add the values the model was trained with"
                " (they are never guessed)"
            )
        _refuse_unsupported(values, origin)
        wanted = {key: values[key] for key in _REQUIRED}
        wanted |= {key: values[key] for key in _OPTIONAL if key in values}
        wanted |= {"rope_theta": theta, "bias": values[bias_key]}
        # InternLM3's `bias` is on the feed-forward too; its `qkv_bias` stands alone.
        own = "bias" if kind == "internlm3" else "mlp_bias"
        wanted["mlp_bias"] = values.get(own) or False
        if values.get("qkv_bias", values[bias_key]) != values[bias_key]:
            wanted["qkv_bias"] = values["qkv_bias"]
        wanted["head_dim"] = values.get("head_dim")
        wanted["rope_scaling"] = _scaling(values.get("rope_scaling") or rope, origin)
        if stored := values.get("dtype", values.get("torch_dtype")):
            wanted["dtype"] = stored
        try:
            return load_config(cls, wanted)
        except ConfigError as error:
            raise ModelError(f"{origin}: {str(error).removeprefix('configuration: ')}") from None

    def to_hf_dict(self, naming: Literal["internlm2", "llama"] = "internlm2") -> dict[str, Any]:
        """The keys of a `config.json` that transformers and others read.

        Under LLaMA's names the file says `llama`, or `internlm3` where only that has such biases.

        Raises:
            ModelError: Neither has them.
        """
        biases = ("bias", "qkv_bias", "mlp_bias")
        left_out = {"dtype", "norm_head", "head_dim", *biases}
        values = self.model_dump(mode="json", exclude=left_out)
        values["torch_dtype"] = self.dtype
        values |= {"hidden_act": "silu", "use_cache": True, "model_type": naming}
        if self.head_dim is not None or naming == "llama":
            values["head_dim"] = self.head_width
        scaling = self.rope_scaling
        if scaling is not None:  # both spellings: readers differ
            values["rope_scaling"] |= {"rope_type": scaling.type}
        if naming == "internlm2":
            values |= {"architectures": ["InternLM2ForCausalLM"], "bias": self.bias}
            # Not keys of the published code, which has no such models.
            more = {"norm_head": self.norm_head, "mlp_bias": self.mlp_bias}
            values |= {key: True for key, there in more.items() if there}
            if self.wqkv_bias != self.bias:
                values["qkv_bias"] = self.wqkv_bias
        elif self.wqkv_bias == self.bias:
            values |= {"architectures": ["LlamaForCausalLM"], "mlp_bias": self.mlp_bias}
            values["attention_bias"] = self.bias
        elif self.mlp_bias == self.bias:
            values |= {"architectures": ["InternLM3ForCausalLM"], "model_type": "internlm3"}
            values |= {"bias": self.bias, "qkv_bias": self.wqkv_bias}
        else:
            raise ModelError(
                f"qkv_bias={self.wqkv_bias}, bias={self.bias}, mlp_bias={self.mlp_bias}: no published"
                " architecture under LLaMA's names has these biases; save under internlm2"
            )
        return values


def _refuse_unsupported(values: Mapping[str, Any], origin: str) -> None:
    faults = {
        "tie_word_embeddings=true": values.get("tie_word_embeddings", False),
        f"hidden_act={values.get('hidden_act')!r}": values.get("hidden_act", "silu") != "silu",
    }
    if found := [name for name, there in faults.items() if there]:
        raise ModelError(f"{origin}: not supported: {', '.join(found)}")


def _scaling(scaling: Mapping[str, Any], origin: str) -> dict[str, Any] | None:
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return None
    if kind not in ("dynamic", "linear"):
        raise ModelError(f"{origin}: rope_scaling type {kind!r}: expected dynamic, linear or null")
    if "factor" not in scaling:
        raise ModelError(f"{origin}: rope_scaling: missing factor")
    return {"type": kind, "factor": scaling["factor"]}
