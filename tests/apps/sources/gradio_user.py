"""A user of the Gradio app: one session, one question after the other."""

import sys

from gradio_client import Client

port, *questions = sys.argv[1:]
client = Client(f"http://127.0.0.1:{port}", verbose=False)
for question in questions:
    print(client.predict(question, api_name="/chat"))
