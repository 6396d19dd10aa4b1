"""Runs the guide's handler, which is named on the command line, with what it takes
for granted. Prints the port it listens on, then a JSON line for each event."""
import json
import os
import runpy
import sys

import flask


class Request:
    def __getattr__(self, name):
        return getattr(flask.request, name)


def handle(event_type, data):
    print(json.dumps({"eventType": event_type, "data": data}), flush=True)


given = Request()
names = runpy.run_path(sys.argv[1], init_globals={"os": os, "handle_webhook_event": handle})
names["handle_webhook"].__globals__["request"] = given
names["app"].run()
