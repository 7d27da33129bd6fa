"""A chat with Claude as vizro-experimental's documentation shows it: a new client for each message."""

from collections.abc import Iterator

import vizro.models as vm
from anthropic import Anthropic
from vizro import Vizro
from vizro_experimental.chat import Chat, Message, StreamingChatAction


class ClaudeChat(StreamingChatAction):
    model: str = "claude-haiku-5-5"

    def generate_response(self, messages: list[Message]) -> Iterator[str]:
        client = Anthropic()
        turns = [{"role": message["role"], "content": message["content"]} for message in messages]
        with client.messages.stream(model=self.model, max_tokens=1024, messages=turns) as stream:
            yield from stream.text_stream


page = vm.Page(title="Chat", components=[Chat(id="chat", actions=ClaudeChat())])
app = Vizro().build(vm.Dashboard(pages=[page]))
