"""A fast loopback sink that counts events of any client: `delivery_sink.py PORT_FILE`.

Each event holds the marker `evt-<number>-` once. `GET /count` answers with how many markers have
come; `GET /reset?pause=0.05&hang=0` forgets them and sets the mood.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

MARKER = b"evt-"


class Sink:
    """Counts, pauses, or hangs."""

    def __init__(self) -> None:
        self.count = 0
        self.requests = 0
        self.pause_s = 0.0
        self.hangs = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        method, target, _ = lines[0].split(b" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
        if method == b"GET":
            reply = self._control(target.decode())
        else:
            reply = b"{}"
            if self.hangs:
                await asyncio.sleep(3600)
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            self.count += body.count(MARKER)
            self.requests += 1
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(reply), reply)
        )
        await writer.drain()
        return headers.get(b"connection", b"").lower() != b"close"

    def _control(self, target: str) -> bytes:
        url = urlsplit(target)
        if url.path == "/reset":
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            self.count = self.requests = 0
            self.pause_s = float(query.get("pause", 0))
            self.hangs = query.get("hang") == "1"
        return str(self.count).encode()


async def main(port_file: Path) -> None:
    """Serve until killed; write the port to the file once it is known."""
    server = await asyncio.start_server(Sink().serve, "127.0.0.1", 0, limit=2**26)
    partial = port_file.with_suffix(".partial")
    partial.write_text(str(server.sockets[0].getsockname()[1]))
    partial.rename(port_file)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
