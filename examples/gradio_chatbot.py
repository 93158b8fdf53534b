"""A chatbot in Gradio, with thumbs for each answer. User and conversation need no code.

OPENAI_API_KEY=... TRUBRICS_API_KEY=... python examples/gradio_chatbot.py
"""

# Gradio may not be installed where types are checked:
# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-call,no-any-return"
# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false
# pyright: reportUntypedFunctionDecorator=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import gradio as gr
from openai import OpenAI

import trubrics_instrument
from trubrics_instrument.ui.gradio import on_like

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")


def respond(question: str, history: list[dict[str, Any]]) -> Iterator[str]:
    """Stream the answer to the last question."""
    messages: list[Any] = [{"role": one["role"], "content": _text(one)} for one in history]
    messages.append({"role": "user", "content": question})
    text = ""
    with OpenAI() as client:
        for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True):
            text += chunk.choices[0].delta.content or ""
            yield text


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def build() -> gr.Blocks:
    """Return the app."""
    trubrics_instrument.patch_openai()
    chatbot = gr.Chatbot()
    with gr.Blocks() as app:
        gr.ChatInterface(respond, chatbot=chatbot, title="City help desk", api_name="chat")
        chatbot.like(on_like, None, None, api_name="like")
    return app


if __name__ == "__main__":
    build().launch()
