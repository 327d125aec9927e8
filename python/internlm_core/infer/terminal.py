"""A conversation in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from internlm_core import chat
from internlm_core.errors import InferError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from internlm_core.infer.engine import Engine

__all__ = ["Conversation"]

HELP = """\
/reset         forget the conversation
/system TEXT   start anew with this system turn
/history       show the conversation
/help          show this
/exit          leave (also Ctrl-D)
A line that ends in \\ goes on; three quotes (\"\"\") open and close a longer text.
Ctrl-C stops an answer."""


class Conversation:
    """Reads lines, answers them, remembers both.

    Args:
        engine: Answers; it needs a tokenizer.
        read: Gives the next line for a prompt, as `input` does; EOFError ends.
        write: Shows text as it is, without a newline.
        system: First system turn.
        settings: Further arguments of `Engine.stream`.

    Raises:
        InferError: The engine has no tokenizer.
    """

    def __init__(
        self,
        engine: Engine,
        read: Callable[[str], str],
        write: Callable[[str], None],
        *,
        system: str | None = None,
        **settings: Any,
    ) -> None:
        if engine.tokenizer is None:
            raise InferError("there is no tokenizer.json in the model's folder: chat needs one")
        self._engine, self._tokenizer = engine, engine.tokenizer
        self._read, self._write = read, write
        self._settings = settings
        self._system = system
        self.messages: list[dict[str, Any]] = []
        self.reset()

    def reset(self) -> None:
        """Forget all but the system turn."""
        self.messages = [] if not self._system else [{"role": "system", "content": self._system}]

    def run(self) -> None:
        """Until the end of input or `/exit`."""
        while True:
            try:
                text = self._next()
            except EOFError:
                self._write("\n")
                return
            except KeyboardInterrupt:
                self._write("\n")
                continue
            if text.startswith("/"):
                if not self._command(text):
                    return
            elif text.strip():
                self._answer(text)

    def _next(self) -> str:
        line = self._read("> ")
        if line.strip() == '"""':
            lines = []
            while (line := self._read(". ")).strip() != '"""':
                lines.append(line)
            return "\n".join(lines)
        parts = []
        while line.endswith("\\"):
            parts.append(line[:-1])
            line = self._read(". ")
        return "\n".join([*parts, line])

    def _command(self, text: str) -> bool:
        """Do a command; False where it ends the conversation."""
        name, _, rest = text.partition(" ")
        if name == "/exit":
            return False
        if name == "/reset":
            self.reset()
            self._write("The conversation is forgotten.\n")
        elif name == "/system":
            self._system = rest.strip() or None
            self.reset()
            self._write("A new conversation with this system turn.\n")
        elif name == "/history":
            for message in self.messages:
                self._write(f"{message['role']}: {message['content']}\n")
                for call in message.get("calls", ()):
                    self._write(f"  [{call['kind']}] {call['body']}\n")
        else:
            known = name == "/help"
            self._write(HELP + "\n" if known else f"{name} is no command; /help lists them.\n")
        return True

    def _answer(self, text: str) -> None:
        asked = [*self.messages, {"role": "user", "content": text}]
        # Calls are shown, and remembered as what they are: there is nobody here to carry them out.
        parser = chat.ReplyParser(self._tokenizer)
        try:
            for chunk in self._engine.stream(asked, **self._settings):
                self._show(parser.push(chunk.ids))
            self._show(parser.finish())
        except KeyboardInterrupt:
            # What was said so far is kept: the next question may be about it.
            self._show(parser.finish())
            self._write(" [stopped]")
        except InferError as error:
            self._write(f"{error}; /reset starts anew\n")
            return
        self._write("\n")
        self.messages = [*asked, parser.reply.message()]

    def _show(self, events: Sequence[object]) -> None:
        for event in events:
            if isinstance(event, chat.TextDelta):
                self._write(event.text)
            elif isinstance(event, chat.Call):
                self._write(f"\n[{event.name}] {event.arguments}")
