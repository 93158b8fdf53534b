"""An answer as a model of one's own (instructor)."""

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Answer(BaseModel):
    """What the desk says."""

    text: str


# By itself it forces a tool call; a host that knows JSON schemas can do without.
for mode, question in (
    (instructor.Mode.TOOLS, "When do you open?"),
    (instructor.Mode.JSON_SCHEMA, "What is the fare?"),
):
    with OpenAI() as client:
        answer = instructor.from_openai(client, mode=mode).chat.completions.create(
            model="gpt-4o-mini",
            response_model=Answer,
            messages=[{"role": "user", "content": question}],
        )
        print(answer.text)
