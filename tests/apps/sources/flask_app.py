"""A chatbot without memory behind a web server."""

from flask import Flask, request
from openai import OpenAI

app = Flask(__name__)
client = OpenAI()


@app.post("/ask")
def ask():
    """Answer one question."""
    messages = [{"role": "user", "content": request.get_json()["question"]}]
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
    return {"answer": answer.choices[0].message.content}
