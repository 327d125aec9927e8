"""What clients may send, field by field; anything else is an error that names it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ChatRequest", "CompletionRequest", "ResponseFormat", "TokenizeRequest", "Tool"]

_SEED = 2**63


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FunctionTool(_Strict):
    """A function the model may call."""

    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    """A function, or the interpreter (`{"type": "code_interpreter"}`)."""

    type: Literal["function", "code_interpreter"]
    function: FunctionTool | None = None

    @model_validator(mode="after")
    def _has_its_function(self) -> Tool:
        if (self.type == "function") != (self.function is not None):
            raise ValueError("a tool of type 'function', and only such, has a 'function'")
        return self


class NamedFunction(_Strict):
    """The name in a tool choice."""

    name: str


class NamedChoice(_Strict):
    """A tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(_Strict):
    """A schema the answer must follow."""

    name: str = "answer"
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Strict):
    """Text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("the type 'json_schema', and only it, has a 'json_schema'")
        return self


class StreamOptions(_Strict):
    """What a stream holds besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_Id = Annotated[int, Field(ge=0, lt=2**31)]
_Stop = Annotated[str, Field(min_length=1, max_length=1024)]


class _Common(_Strict):
    model: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    # Beyond OpenAI's API, under the names that other servers use.
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    stop_token_ids: Annotated[list[_Id], Field(max_length=64)] | None = None
    ignore_eos: bool | None = None
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=10)
    n: int | None = Field(default=None, ge=1, le=16)
    stop: _Stop | Annotated[list[_Stop], Field(max_length=16)] | None = None
    seed: int | None = Field(default=None, ge=-_SEED, lt=_SEED)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Taken and not used: it changes no answer.
    user: str | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(_Common):
    """Body of `/v1/chat/completions`."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    # Taken and not used: they change no answer.
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None


class CompletionRequest(_Common):
    """Body of `/v1/completions`."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=64)]
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)]
    )
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=5)


class TokenizeRequest(_Strict):
    """Body of `/tokenize`: a text, or a conversation as it is rendered for the model."""

    text: str | None = None
    messages: list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _has_one(self) -> TokenizeRequest:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either 'text' or 'messages'")
        return self
