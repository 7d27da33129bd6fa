"""A chat with GPT as vizro-experimental's documentation shows it: a new client for each message."""

from collections.abc import Iterator

import vizro.models as vm
from openai import OpenAI
from vizro import Vizro
from vizro_experimental.chat import Chat, Message, StreamingChatAction


class OpenAIChat(StreamingChatAction):
    model: str = "gpt-6-luna"

    def generate_response(self, messages: list[Message]) -> Iterator[str]:
        client = OpenAI()
        turns = [{"role": message["role"], "content": message["content"]} for message in messages]
        events = client.responses.create(model=self.model, input=turns, store=False, stream=True)
        for event in events:
            if event.type == "response.output_text.delta":
                yield event.delta


page = vm.Page(title="Chat", components=[Chat(id="chat", actions=OpenAIChat())])
app = Vizro().build(vm.Dashboard(pages=[page]))
