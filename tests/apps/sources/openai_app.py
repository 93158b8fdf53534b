"""A chatbot on the bare client, with its history."""

from openai import OpenAI

messages = []
with OpenAI() as client:
    for question in ("When do you open?", "What is the fare?"):
        messages.append({"role": "user", "content": question})
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
