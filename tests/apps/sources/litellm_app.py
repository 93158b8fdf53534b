"""One question whole, one streamed (litellm)."""

import litellm

messages = [{"role": "user", "content": "When do you open?"}]
answer = litellm.completion(model="openai/gpt-4o-mini", messages=messages)
messages.append({"role": "assistant", "content": answer.choices[0].message.content})
messages.append({"role": "user", "content": "What is the fare?"})
for chunk in litellm.completion(model="openai/gpt-4o-mini", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="")
