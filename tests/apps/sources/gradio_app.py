"""The chatbot of Gradio's own guide: streamed, with its history."""

import gradio as gr
from openai import OpenAI

client = OpenAI()


def predict(message, history):
    """Answer, piece by piece."""
    messages = [{"role": one["role"], "content": _text(one["content"])} for one in history]
    messages.append({"role": "user", "content": message})
    stream = client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)
    so_far = ""
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            so_far += chunk.choices[0].delta.content
            yield so_far


def _text(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


gr.ChatInterface(predict, api_name="chat").launch()
