"""A user of the Streamlit app, as its page in a browser talks to it."""

import sys

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect


def run_script(page, chat_input, said):
    """Have the script run, with what was said; return the id of its chat input."""
    asked = BackMsg()
    asked.rerun_script.query_string = ""
    if said:
        state = asked.rerun_script.widget_states.widgets.add()
        state.id = chat_input
        state.chat_input_value.data = said
    page.send(asked.SerializeToString())
    while True:
        told = ForwardMsg()
        told.ParseFromString(page.recv(timeout=60))
        element = told.delta.new_element
        if element.HasField("chat_input"):
            chat_input = element.chat_input.id
        if told.HasField("script_finished"):
            return chat_input


port, *questions = sys.argv[1:]
with connect(f"ws://127.0.0.1:{port}/_stcore/stream") as page:
    chat_input = run_script(page, "", "")
    for question in questions:
        chat_input = run_script(page, chat_input, question)
