"""Model folders in Hugging Face's form: `config.json` and safetensors, whole or sharded.

Only safetensors are read: nothing in a folder is ever executed.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
import torch
from torch.nn import functional

from internlm_core._files import atomic_path, read_json, remove_leftovers, write_json
from internlm_core._optional import require
from internlm_core.errors import CheckpointError, ModelError
from internlm_core.model.config import ModelConfig
from internlm_core.model.manifest import MANIFEST, verify_manifest, write_manifest
from internlm_core.model.modules import InternLM2
from internlm_core.model.naming import from_llama, is_llama, to_llama

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["assemble", "load", "read_state", "save"]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
)


def load(
    folder: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    *,
    verify: bool = True,
) -> InternLM2:
    """Load a model under InternLM2's or LLaMA's names.

    Args:
        folder: A Hugging Face model folder.
        dtype: Type of the weights ("float32", torch.bfloat16, …); as `config.json` says when None.
        device: Where they go.
        verify: Compare the weights with `manifest.json` where the folder has one.

    Raises:
        ModelError: `config.json` can't be used.
        CheckpointError: Weights are missing, cut, altered, or don't fit the configuration.
    """
    folder = Path(folder)
    config = ModelConfig.from_folder(folder)
    wanted = _dtype(config.dtype if dtype is None else dtype)
    files = _weight_files(folder)
    if verify and (folder / MANIFEST).is_file():
        verify_manifest(folder, [file.name for file in files])
    state: dict[str, Tensor] = {}
    for file in files:
        state.update(_read(file, wanted, str(device)))
    if is_llama(state):
        state = from_llama(config, state)
    else:
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    if wanted == torch.float16 and config.dtype == "bfloat16":
        warnings.warn(
            f"{folder}: trained in bfloat16; in float16 what lies beyond 65,504 becomes infinite."
            " bfloat16 is as small and has no such limit",
            stacklevel=2,
        )
    return assemble(folder, config, state)


def read_state(folder: str | Path, *, verify: bool = True) -> dict[str, Tensor]:
    """The tensors of a folder under the names and in the types they are stored in.

    Raises:
        CheckpointError: Weights are missing, cut or altered.
    """
    folder = Path(folder)
    files = _weight_files(folder)
    if verify and (folder / MANIFEST).is_file():
        verify_manifest(folder, [file.name for file in files])
    return {name: tensor for file in files for name, tensor in _read(file, None, "cpu").items()}


def assemble(folder: Path, config: ModelConfig, state: dict[str, Tensor]) -> InternLM2:
    """A model that holds the tensors of `state`, under our names, as they are.

    Raises:
        CheckpointError: One is missing, unknown or of another shape; `folder` is named.
    """
    with torch.device("meta"):
        model = InternLM2(config, seed=None)
    _compare(folder, model.state_dict(), state)
    model.load_state_dict(state, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def save(
    model: InternLM2,
    folder: str | Path,
    naming: Literal["internlm2", "llama"] = "internlm2",
    tokenizer: str | Path | None = None,
    *,
    max_shard_bytes: int = 5 << 30,
) -> None:
    """Write `config.json`, the weights and `manifest.json`; each file is whole or absent.

    Args:
        model: The model; its weights keep their dtype.
        folder: Made if need be. An older model in it stops being loadable until this one is whole.
        naming: Names of the parameters. Under `llama`, wqkv is split and a normalised head is
            written as it is used, so that transformers' LlamaForCausalLM gives the same logits.
            Biases that only InternLM3 has make it an `internlm3` folder.
        tokenizer: A tokenizer file, or a folder whose tokenizer files are copied as they are.
        max_shard_bytes: Weights beyond this go to several files with an index.

    Raises:
        ModelError: `tokenizer` is not there, or no architecture under these names has such biases.
        OSError: The folder can't be written; nothing half-written is left.
    """
    folder = Path(folder)
    copies = [] if tokenizer is None else _tokenizer_files(Path(tokenizer))
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if naming == "llama":
        if model.config.norm_head:
            state["output.weight"] = functional.normalize(state["output.weight"], dim=1)
        state = to_llama(model.config, state)
    else:
        state = {
            name if name == "output.weight" else f"model.{name}": tensor
            for name, tensor in state.items()
        }
    values = model.config.to_hf_dict(naming)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    for stale in (folder / MANIFEST, folder / "config.json", *folder.glob("model*.safetensors*")):
        stale.unlink(missing_ok=True)
    _write(folder, state, max_shard_bytes)
    for path in copies:
        with atomic_path(folder / path.name) as partial:
            shutil.copyfile(path, partial)
    values["torch_dtype"] = str(model.dtype).removeprefix("torch.")
    write_json(folder / "config.json", values)
    write_manifest(folder)


def _dtype(name: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, name, None) if isinstance(name, str) else name
    if found not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise ModelError(f"dtype {name!r}: expected float32, bfloat16, float16 or float64")
    return found


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
        except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
            raise CheckpointError(f"{folder / INDEX}: broken; fetch or save it again") from None
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(f"{folder}: missing {', '.join(missing)}, listed in {INDEX}")
        return [folder / name for name in names]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    hint = ""
    if any(folder.glob("*.bin")):
        hint = "; its .bin files are pickles, which are not read: convert them to safetensors"
    raise CheckpointError(f"{folder}: no {WEIGHTS} or {INDEX}{hint}")


def _read(file: Path, dtype: torch.dtype | None, device: str) -> dict[str, Tensor]:
    safetensors: Any = require("safetensors", extra="train")
    try:
        with safetensors.safe_open(str(file), framework="pt", device=device) as opened:
            return {name: opened.get_tensor(name).to(dtype) for name in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: cut or not safetensors: {error}") from None


def _compare(folder: Path, wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name in wanted.keys() - found.keys():
        raise CheckpointError(f"{folder}: tensor {name!r} is missing")
    for name in found.keys() - wanted.keys():
        raise CheckpointError(f"{folder}: tensor {name!r} is not part of the model in config.json")
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise CheckpointError(
                f"{folder}: tensor {name!r} is {tuple(found[name].shape)}, config.json makes it"
                f" {tuple(tensor.shape)}"
            )


def _write(folder: Path, state: dict[str, Tensor], limit: int) -> None:
    save_file: Any = require("safetensors.torch", extra="train").save_file
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in state.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor.contiguous()
        filled += size
    names = [WEIGHTS]
    if len(shards) > 1:
        names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for shard, name in zip(shards, names, strict=True):
        with atomic_path(folder / name) as partial:
            save_file(shard, str(partial), metadata={"format": "pt"})
    if len(shards) > 1:
        total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        place = {key: name for shard, name in zip(shards, names, strict=True) for key in shard}
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": place})


def _tokenizer_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = [source / name for name in _TOKENIZER_FILES if (source / name).is_file()]
    if not found:
        raise ModelError(f"{source}: no tokenizer file to copy")
    return found
