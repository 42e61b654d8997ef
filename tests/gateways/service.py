"""The service behind a gateway: tells what it was asked, streams, and speaks WebSocket."""

import asyncio

from aiohttp import WSMsgType, web

from monitor.broker.port import LOOPBACK


class Service:
    """On a port of its own, on the running loop."""

    def __init__(self) -> None:
        self.asked = 0
        """Requests that came through."""
        self._release = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/socket", self._socket)
        app.router.add_route("*", "/{rest:.*}", self._tell)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _tell(self, request: web.Request) -> web.Response:
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
        self.asked += request.path != "/"  # which is asked to see whether the gateway is up
        if request.path == "/release":
            self._release.set()
        told = {"method": request.method, "target": request.raw_path, "body": size, "headers": {}}
        for name, value in request.headers.items():
            told["headers"].setdefault(name.lower(), []).append(value)
        return web.json_response(told, status=401 if request.path == "/own-401" else 200)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """One event at once, another when `/release` is asked for."""
        self._release.clear()
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: first\n\n")
        await self._release.wait()
        await answer.write(b"data: second\n\n")
        return answer

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(f"{request.headers.get('x-session-id')} {message.data}")
        return socket
