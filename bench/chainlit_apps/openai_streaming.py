"""A chat with GPT as Chainlit's documentation shows it."""

import chainlit as cl
from openai import AsyncOpenAI

client = AsyncOpenAI()


@cl.on_message
async def on_message(message: cl.Message) -> None:
    turns = cl.chat_context.to_openai()
    answer = cl.Message(content="")
    events = await client.responses.create(
        model="gpt-6-luna", input=turns, store=False, stream=True
    )
    async for event in events:
        if event.type == "response.output_text.delta":
            await answer.stream_token(event.delta)
    await answer.update()
