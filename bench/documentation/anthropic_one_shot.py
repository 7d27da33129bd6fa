"""A chat with Claude as vizro-experimental's documentation shows it, with answers that appear whole."""

import vizro.models as vm
from anthropic import Anthropic
from vizro import Vizro
from vizro_experimental.chat import Chat, ChatAction, Message


class ClaudeChat(ChatAction):
    model: str = "claude-haiku-5-5"

    def generate_response(self, messages: list[Message]) -> str:
        client = Anthropic()
        turns = [{"role": message["role"], "content": message["content"]} for message in messages]
        answer = client.messages.create(model=self.model, max_tokens=1024, messages=turns)
        return answer.content[0].text


page = vm.Page(title="Chat", components=[Chat(id="chat", actions=ClaudeChat())])
app = Vizro().build(vm.Dashboard(pages=[page]))
