"""The chatbot of Chainlit's own cookbook: streamed, its history in the session."""

import chainlit as cl
from openai import AsyncOpenAI

client = AsyncOpenAI()


@cl.on_chat_start
def start():
    """Begin with an empty history."""
    cl.user_session.set("history", [])


@cl.on_message
async def on_message(message: cl.Message):
    """Answer, piece by piece."""
    history = cl.user_session.get("history")
    history.append({"role": "user", "content": message.content})
    answer = cl.Message(content="")
    stream = await client.chat.completions.create(
        model="gpt-4o-mini", messages=history, stream=True
    )
    async for chunk in stream:
        if chunk.choices and (token := chunk.choices[0].delta.content):
            await answer.stream_token(token)
    history.append({"role": "assistant", "content": answer.content})
    await answer.update()
