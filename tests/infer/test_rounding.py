"""Rounded weights and rounded keys and values stay near what they stand for; AWQ's files load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from internlm_core._core import CpuMatrix
from internlm_core.errors import CheckpointError, InferError
from internlm_core.infer import Engine
from internlm_core.infer.quantize import GROUP, from_awq, quantize
from internlm_core.model import InternLM2, ModelConfig, load, save
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(5)


def model(**changes: object) -> InternLM2:
    config = ModelConfig(
        vocab_size=320,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=256,
        initializer_range=0.08,
        eos_token_id=None,
        max_position_embeddings=512,
        dtype="float32",
        **changes,
    )
    return InternLM2(config, seed=7)


def perplexity(engine: Engine, texts: list[list[int]]) -> float:
    return float(np.exp(-np.concatenate(engine.score(texts)).mean()))


def test_int8_keys_and_values_keep_the_perplexity() -> None:
    """Within 1 %, on text that the model itself finds likely: on noise nothing could get worse."""
    this = model()
    engine = Engine(this)
    drawn = engine.generate([[i] for i in range(6)], max_tokens=200, temperature=0.7, seed=1)
    texts = [[i, *answer.ids] for i, answer in enumerate(drawn)]
    exact = perplexity(engine, texts)
    assert exact < 200
    rounded = perplexity(Engine(this, kv_dtype="int8"), texts)
    assert rounded == pytest.approx(exact, rel=0.01)
    assert rounded != exact
    halves = perplexity(Engine(this, kv_dtype="bfloat16"), texts)
    assert halves == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("inputs", [64, GROUP, 300])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_product_is_that_of_the_rounded_weights(kind: str, inputs: int) -> None:
    weight = torch.from_numpy(RNG.normal(0.3, 1.0, (70, inputs)).astype(np.float32))
    found = quantize(weight, kind)
    dense = found.dense()
    step = {"int8": 1 / 127, "int4": 1 / 15}[kind]
    # Half a step of the largest range of a group.
    assert float((dense - weight).abs().max()) <= step * float(weight.max() - weight.min())
    x = RNG.normal(size=(5, inputs)).astype(np.float32)
    got = found.packed().product(x).reshape(5, 70)
    np.testing.assert_allclose(got, x @ dense.numpy().T, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("inputs", [1, 64, 301])
def test_a_bfloat16_product_rounds_its_inputs(inputs: int) -> None:
    weight = torch.from_numpy(RNG.normal(size=(70, inputs)).astype(np.float32)).bfloat16()
    matrix = CpuMatrix.bf16(weight.view(torch.int16).numpy().view(np.uint16))
    x = RNG.normal(size=(5, inputs)).astype(np.float32)
    rounded = torch.from_numpy(x).bfloat16().float().numpy()
    got = matrix.product(x)
    np.testing.assert_array_equal(got, matrix.product(rounded))
    wanted = rounded.astype(np.float64) @ weight.double().numpy().T
    np.testing.assert_allclose(got.reshape(5, 70), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("weights", "bound"), [("int8", 0.01), ("int4", 0.2)])
def test_an_engine_with_rounded_weights(tmp_path: Path, weights: str, bound: float) -> None:
    this = model()
    save(this, tmp_path)
    engine = Engine.from_folder(tmp_path, dtype=weights)
    texts = RNG.integers(0, 320, (4, 60)).tolist()
    exact = perplexity(Engine(this), texts)
    assert perplexity(engine, texts) == pytest.approx(exact, rel=bound)
    # It is the model of the rounded weights, exactly; the head is rounded to 8 bits, or not at all.
    with torch.no_grad():
        for name, parameter in this.named_parameters():
            if name.startswith("layers") and parameter.dim() == 2:
                parameter.copy_(quantize(parameter, weights).dense())
        kept = Engine.from_folder(tmp_path, dtype=weights, round_head=False)
        assert perplexity(kept, texts) == pytest.approx(perplexity(Engine(this), texts), rel=1e-4)
        assert perplexity(kept, texts) != pytest.approx(perplexity(engine, texts), rel=1e-6)
        head = this.get_parameter("output.weight")
        head.copy_(quantize(head, "int8").dense())
    assert perplexity(engine, texts) == pytest.approx(perplexity(Engine(this), texts), rel=1e-4)


def test_bfloat16_is_nearer_than_torchs(tmp_path: Path) -> None:
    """Only what goes into a matrix is rounded; the sums and what is between stay fp32."""
    this = model().bfloat16()
    save(this, tmp_path)
    texts = RNG.integers(0, 320, (8, 40)).tolist()
    ids = torch.tensor(texts)
    with torch.no_grad():
        scores = this(ids)[:, :-1].float().log_softmax(-1)
        torchs = scores.gather(-1, ids[:, 1:, None])[..., 0].flatten().numpy()
    found = np.concatenate(Engine.from_folder(tmp_path).score(texts))
    exact = np.concatenate(Engine(this.float()).score(texts))
    error = np.abs(found - exact).mean()
    assert 0 < error < 0.7 * np.abs(torchs - exact).mean()
    with pytest.raises(InferError, match="float16"):
        Engine.from_folder(tmp_path, dtype="float16")


def _pack(values: np.ndarray) -> torch.Tensor:
    """AutoAWQ's order of eight numbers in an int32, written out by hand."""
    packed = np.zeros((values.shape[0], values.shape[1] // 8), np.uint32)
    for place, column in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
        packed |= values[:, column::8].astype(np.uint32) << np.uint32(4 * place)
    return torch.from_numpy(packed.view(np.int32))


@pytest.mark.parametrize("naming", ["internlm2", "llama"])
def test_awq_folders(tmp_path: Path, naming: str) -> None:
    this = model()
    save(this, tmp_path / "plain", naming=naming)  # type: ignore[arg-type]
    folder = tmp_path / "awq"
    folder.mkdir()
    from internlm_core.model.checkpoint import read_state

    state, rounded = {}, {}
    for name, tensor in read_state(tmp_path / "plain").items():
        if tensor.dim() != 2 or "embed" in name or "output" in name or "lm_head" in name:
            state[name] = rounded[name] = tensor.bfloat16()
            continue
        stem, matrix = name.removesuffix(".weight"), quantize(tensor, "int4")
        assert matrix.zeros is not None
        state[f"{stem}.qweight"] = _pack(matrix.values.T)
        state[f"{stem}.qzeros"] = _pack(matrix.zeros.T)
        state[f"{stem}.scales"] = torch.from_numpy(matrix.scales.T.copy()).half()
        scales = matrix.scales.astype(np.float16).astype(np.float32)
        rounded[name] = type(matrix)(matrix.values, scales, matrix.zeros).dense()
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    settings = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "config.json").write_text(json.dumps(config))
    save_file({k: v.float().contiguous() for k, v in rounded.items()}, whole / "model.safetensors")
    texts = RNG.integers(0, 320, (3, 50)).tolist()
    wanted = Engine(load(whole), kv_dtype="bfloat16").score(texts)
    for one, other in zip(Engine.from_folder(folder).score(texts), wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-2)
    bad = settings | {"bits": 3}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": bad}))
    with pytest.raises(CheckpointError, match=r"quantization_config\.bits is 3"):
        Engine.from_folder(folder)


def test_awq_shapes_are_checked() -> None:
    zeros = torch.zeros(1, 4, dtype=torch.int32)
    with pytest.raises(CheckpointError, match="groups of 128"):
        from_awq(torch.zeros(256, 4, dtype=torch.int32), zeros, torch.zeros(1, 32).half(), name="x")


def test_packing_checks_shapes() -> None:
    with pytest.raises(InferError, match="not"):
        CpuMatrix.int8(np.zeros((2, 300), np.int8), np.zeros((2, 2), np.float32))
