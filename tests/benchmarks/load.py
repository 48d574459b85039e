"""A small HTTP load generator: keep-alive connections on loopback, one request at a time on each."""

import asyncio
import json
import sys
import time


async def _connection(port: int, request: bytes, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    done = 0
    while time.monotonic() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 201"):
            raise SystemExit(f"unexpected reply: {head[:80]!r}")
        marker = head.lower().index(b"content-length:") + 15
        await reader.readexactly(int(head[marker : head.index(b"\r\n", marker)]))
        done += 1
    writer.close()
    return done


async def _run(port: int, connections: int, seconds: float, path: str, body: bytes) -> float:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    began = time.monotonic()
    tasks = [_connection(port, head.encode() + body, began + seconds) for _ in range(connections)]
    return sum(await asyncio.gather(*tasks)) / (time.monotonic() - began)


if __name__ == "__main__":
    _port, _connections, _seconds, _path = sys.argv[1:5]
    _body = sys.stdin.buffer.read()
    _rate = asyncio.run(_run(int(_port), int(_connections), float(_seconds), _path, _body))
    print(json.dumps({"per_second": _rate}))
