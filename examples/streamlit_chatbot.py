"""A chatbot in Streamlit, with thumbs for each answer. User and conversation need no code.

OPENAI_API_KEY=... TRUBRICS_API_KEY=... streamlit run examples/streamlit_chatbot.py
"""

# Streamlit may not be installed where types are checked:
# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-call,no-any-return"
# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false
# pyright: reportUntypedFunctionDecorator=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
from typing import Any

import streamlit as st
from openai import OpenAI

import trubrics_instrument
from trubrics_instrument.ui.streamlit import feedback

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")

trubrics_instrument.patch_openai()
st.title("City help desk")
messages: list[dict[str, Any]] = st.session_state.setdefault("messages", [])
question = st.chat_input("Ask about trams, bikes and the weather")
if question:
    messages.append({"role": "user", "content": question})
    history: list[Any] = [{"role": one["role"], "content": one["content"]} for one in messages]
    with OpenAI() as client:
        answer = client.chat.completions.create(model=MODEL, messages=history)
    content = answer.choices[0].message.content
    messages.append({"role": "assistant", "content": content, "id": answer.id})
for message in messages:
    with st.chat_message(message["role"]):
        st.markdown(message["content"])
        if "id" in message:
            feedback(message["id"])
