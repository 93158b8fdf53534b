"""Feedback from the widgets of chat UIs: `ui.streamlit`, `ui.chainlit` and `ui.gradio`.

User and conversation need nothing of this: they come from the UI's own session.
"""
