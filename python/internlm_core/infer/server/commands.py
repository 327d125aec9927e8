"""`internlm-core serve DIR`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("folder", type=Path, help="model folder, or a training run")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 answers other machines too")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model-name", help="what clients ask for; the folder's name if not given")
    parser.add_argument(
        "--api-key", help="clients must send it; read from INTERNLM_API_KEY if not given"
    )
    parser.add_argument("--dialect", help="written form; the checkpoint's own if not given")
    parser.add_argument("--dtype", help="float32 or bfloat16; as stored if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--session-length", type=int, help="most tokens of a prompt and its answer")
    parser.add_argument("--max-prompt-tokens", type=int, help="longest prompt")
    parser.add_argument("--max-body-bytes", type=int, help="largest request (413)")
    parser.add_argument("--max-running", type=int, help="answers written at the same time")
    parser.add_argument("--max-waiting", type=int, help="answers that may wait; then 429")
    parser.add_argument("--deadline", type=float, help="seconds until a request is given up (408)")
    parser.add_argument("--drain", type=float, help="seconds to end running requests on SIGTERM")
    parser.set_defaults(run=_run)


_LIMITS = (
    "max_prompt_tokens",
    "max_body_bytes",
    "max_running",
    "max_waiting",
    "deadline",
    "drain",
)


def _run(options: argparse.Namespace) -> int:
    from internlm_core._config import load_config
    from internlm_core._optional import require
    from internlm_core._progress import console
    from internlm_core.infer.engine import Engine
    from internlm_core.model.runs import model_folder

    for module in ("fastapi", "prometheus_client", "uvicorn"):
        require(module, extra="serve")
    from internlm_core.infer.server import ServerSettings, create_app, serve

    folder = model_folder(options.folder)
    given = {name: getattr(options, name) for name in _LIMITS}
    settings = load_config(
        ServerSettings,
        {
            "model_name": options.model_name or options.folder.resolve().name,
            **{name: value for name, value in given.items() if value is not None},
        },
    )
    key = options.api_key or os.environ.get("INTERNLM_API_KEY") or None
    engine = Engine.from_folder(
        folder,
        options.dtype,
        options.device,
        dialect=options.dialect,
        session_length=options.session_length,
        max_batch=settings.max_running,
    )
    app = create_app(engine, settings.model_copy(update={"api_key": key}))
    where = f"http://{options.host}:{options.port}"
    console.print(f"{settings.model_name} answers at {where}/v1, and in a browser at {where}/")
    serve(app, options.host, options.port)
    return 0
