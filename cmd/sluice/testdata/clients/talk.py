"""Says what it is given and prints what it hears, a message a line, then how it
was closed; and first what was agreed on.

python3 talk.py ws://host/v1/ws MESSAGE…
"""

import asyncio
import sys

import websockets


async def talk(url, *say):
    async with websockets.connect(url) as ws:
        print("extensions", *(e.name for e in ws.protocol.extensions), flush=True)
        for message in say:
            await ws.send(message)
        try:
            while True:
                print(await ws.recv(), flush=True)
        except websockets.ConnectionClosed as closed:
            print("closed", closed.rcvd.code, closed.rcvd.reason, flush=True)


asyncio.run(talk(*sys.argv[1:]))
