"""A user of the Chainlit app, as its page in a browser talks to it."""

import asyncio
import sys
import uuid
from datetime import datetime, timezone

import socketio


async def main(port, questions):
    """Ask one question after the other in one session."""
    client = socketio.AsyncClient()
    answered = asyncio.Event()

    @client.on("update_message")
    def updated(message):
        """Take note of an answer that is whole."""
        if message["type"] == "assistant_message":
            answered.set()

    auth = {
        "clientType": "webapp",
        "sessionId": str(uuid.uuid4()),
        "threadId": "",
        "userEnv": "{}",
        "chatProfile": "",
    }
    await client.connect(
        f"http://127.0.0.1:{port}",
        socketio_path="/ws/socket.io",
        auth=auth,
        transports=["websocket"],
    )
    await client.emit("connection_successful")
    for question in questions:
        answered.clear()
        message = {
            "id": str(uuid.uuid4()),
            "threadId": "",
            "name": "User",
            "type": "user_message",
            "output": question,
            "createdAt": datetime.now(timezone.utc).isoformat(),
        }
        await client.emit("client_message", {"message": message, "fileReferences": []})
        await asyncio.wait_for(answered.wait(), 60)
    await client.disconnect()


asyncio.run(main(sys.argv[1], sys.argv[2:]))
