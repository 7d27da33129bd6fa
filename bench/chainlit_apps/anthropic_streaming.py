"""A chat with Claude as Chainlit's documentation shows it."""

import chainlit as cl
from anthropic import AsyncAnthropic

client = AsyncAnthropic()


@cl.on_message
async def on_message(message: cl.Message) -> None:
    turns = cl.chat_context.to_openai()
    answer = cl.Message(content="")
    async with client.messages.stream(
        model="claude-haiku-5-5", max_tokens=1024, messages=turns
    ) as stream:
        async for text in stream.text_stream:
            await answer.stream_token(text)
    await answer.update()
