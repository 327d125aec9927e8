"""llama.cpp, through llama-cpp-python, on a LLaMA folder of ours: written as GGUF, then read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.worker import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TYPES", "llama_cpp"]

TYPES = {"float32": "F32", "bfloat16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}
"""Ours to GGUF's; its rounded types share a scale over 32 inputs."""

_OUTER = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def llama_cpp(folder: str, dtype: str, prompt: list[int], new: int) -> Job:
    """One greedy answer of `new` ids on one thread."""
    import llama_cpp as library
    import numpy as np

    path = Path(folder) / f"{dtype}.gguf"
    if not path.exists():
        _write(Path(folder) / "llama", path, TYPES[dtype])
    quiet = library.llama_log_callback(lambda *_: None)
    library.llama_log_set(quiet, None)
    library.llama_backend_init()
    model = library.llama_model_load_from_file(
        str(path).encode(), library.llama_model_default_params()
    )
    settings = library.llama_context_default_params()
    settings.n_ctx, settings.n_batch = 1024, 512
    settings.n_threads = settings.n_threads_batch = 1
    if dtype == "float32":
        settings.type_k = settings.type_v = library.GGML_TYPE_F32
    context = library.llama_init_from_model(model, settings)
    if not context:
        raise RuntimeError(f"llama.cpp can't read {path}")
    vocabulary = json.loads((Path(folder) / "llama" / "config.json").read_text())["vocab_size"]

    def step(ids: list[int]) -> int:
        array = (library.llama_token * len(ids))(*ids)  # the batch holds its address only
        if code := library.llama_decode(context, library.llama_batch_get_one(array, len(ids))):
            raise RuntimeError(f"llama_decode gave {code}")
        logits = library.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, (vocabulary,)).argmax())

    def run(_: Any) -> list[int]:
        library.llama_memory_clear(library.llama_get_memory(context), True)
        found = [step(prompt)]
        while len(found) < new:
            found.append(step(found[-1:]))
        return found

    # `quiet` must live as long as the library calls it.
    return Job(run=run, result=lambda ids: {"ids": [ids]}, prepare=lambda: quiet and None)


def _write(folder: Path, path: Path, kind: str) -> None:
    import gguf

    config = json.loads((folder / "config.json").read_text())
    heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(keys)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    wanted = gguf.GGMLQuantizationType[kind]
    for name, tensor in _tensors(folder / "model.safetensors"):
        stem = name.removesuffix(".weight")
        if stem in _OUTER:
            short = _OUTER[stem]
        else:
            number, inner = stem.removeprefix("model.layers.").split(".", 1)
            short = f"blk.{number}.{_INNER[inner]}"
        # Rotated channels are neighbours there, half a head apart here.
        if count := {"attn_q": heads, "attn_k": keys}.get(short.rpartition(".")[2]):
            rows, inputs = tensor.shape
            halves = tensor.reshape(count, 2, rows // count // 2, inputs)
            tensor = halves.swapaxes(1, 2).reshape(rows, inputs)
        use = wanted if tensor.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(f"{short}.weight", gguf.quantize(tensor, use), raw_dtype=use)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(path: Path) -> Iterator[tuple[str, Any]]:
    """Of an fp32 safetensors file: a length, JSON, then the numbers."""
    import numpy as np

    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is {entry['dtype']}, not F32")
        start, end = entry["data_offsets"]
        whole = np.memmap(path, np.float32, "r", 8 + size + start, ((end - start) // 4,))
        yield name, np.ascontiguousarray(whole.reshape(entry["shape"]))
