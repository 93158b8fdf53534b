"""The chatbot of Streamlit's own tutorial: streamed, its history in the session."""

import streamlit as st
from openai import OpenAI

client = OpenAI()
messages = st.session_state.setdefault("messages", [])
for message in messages:
    st.chat_message(message["role"]).markdown(message["content"])
if question := st.chat_input("What is up?"):
    messages.append({"role": "user", "content": question})
    st.chat_message("user").markdown(question)
    with st.chat_message("assistant"):
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)
        messages.append({"role": "assistant", "content": st.write_stream(stream)})
