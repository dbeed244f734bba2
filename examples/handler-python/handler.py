"""A handler in Python: it greets whoever a job names. componentize-py makes a component of it, as README.md says."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.handler import (
    Failure,
    Job,
    Readiness,
    Readiness_Idle,
    Readiness_Ready,
    Receipt,
    Verdict_Dead,
)
from wit_world.imports import variables


class Handler(exports.Handler):
    async def check(self) -> Readiness:
        """Looks at the configuration, without calling anybody. Jobs wait in their queue until it is ready."""
        if not await variables.get("greeting"):
            return Readiness_Idle("set the variable greeting")
        return Readiness_Ready("greets in Python")

    async def handle(self, job: Job) -> Receipt:
        """Runs one attempt of one job. An exception that is no Err ends all that this instance has in hand."""
        try:
            name = json.loads(job.payload)["name"]
        except (ValueError, KeyError, TypeError):
            message = 'the payload is not of the form {"name": "..."}'
            raise Err(Failure(Verdict_Dead(), "bad_payload", message))
        greeting = await variables.get("greeting")
        return Receipt(id=None, details=json.dumps({"said": f"{greeting}, {name}!"}))
