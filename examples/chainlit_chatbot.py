"""A chatbot in Chainlit, with thumbs for each answer. User and conversation need no code.

OPENAI_API_KEY=... TRUBRICS_API_KEY=... chainlit run examples/chainlit_chatbot.py
"""

# Chainlit may not be installed where types are checked:
# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-call,no-any-return"
# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false
# pyright: reportUntypedFunctionDecorator=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
from typing import Any

import chainlit as cl
from openai import AsyncOpenAI

import trubrics_instrument
from trubrics_instrument.ui import chainlit as trubrics_chainlit

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")

trubrics_instrument.patch_openai()
cl.on_feedback(trubrics_chainlit.on_feedback)


@cl.on_message
async def respond(_: cl.Message) -> None:
    """Answer the last question, which is in the context already."""
    history: list[Any] = cl.chat_context.to_openai()
    async with AsyncOpenAI() as client:
        answer = await client.chat.completions.create(model=MODEL, messages=history)
    reply = cl.Message(answer.choices[0].message.content or "")
    trubrics_chainlit.link(reply, answer)
    await reply.send()
