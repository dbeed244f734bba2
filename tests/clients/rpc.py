"""A worker that is a user of PostgREST's Python client, unchanged but for its URL.

Takes MILLRACE_URL, a stored API key of the scopes work and tick (SERVICE_API_KEY), and a service-role TOKEN. There must be two emails to
send and no text message, one job of the type `ocr`, which is the only one, and one schedule that is due once.
"""

import os

from postgrest import APIError, SyncPostgrestClient

URL = os.environ["MILLRACE_URL"]
KEY = {"x-api-key": os.environ["SERVICE_API_KEY"]}
service = SyncPostgrestClient(URL, schema="service_api", headers=KEY)
jobs = SyncPostgrestClient(URL, schema="public", headers=KEY)
calls = 0


def answer(request):
    """What a call answers; an error of it fails the program."""
    global calls
    calls += 1
    return request.execute().data


def refusal(request):
    """The client's own error of a call: code, message, details, hint."""
    global calls
    calls += 1
    try:
        data = request.execute()
    except APIError as error:
        return error.code, error.message, error.details, error.hint
    raise AssertionError(f"not refused: {data}")


# service_api: a task from the queue to its result, and each word about it that is refused.
WORKER = "postgrest-py:1"
fetched = answer(service.rpc("fetch_next_task", {"worker_id": WORKER, "lease_seconds": 60, "task_type": "email"}))
job = fetched["job"]
assert (job["task_type"], fetched["payload"]["to_address"]) == ("email", "to@example.com"), fetched
lease = {"worker_id": WORKER, "job_id": job["job_id"], "lease_id": job["lease_id"]}
assert answer(service.rpc("extend_lease", {**lease, "lease_seconds": 600}))["lease_id"] == job["lease_id"]
report = {**lease, "succeeded": True}
FAILED = "Task Result Failed"
for wrong, details, hint in [
    ({"worker_id": "another"}, "Not Lease Owner", "not_lease_owner"),
    ({"lease_id": job["lease_id"] + 1000}, "Invalid Lease", "invalid_lease"),
]:
    assert refusal(service.rpc("report_task_result", {**report, **wrong})) == ("P0001", FAILED, details, hint)
assert answer(service.rpc("report_task_result", report))["completed"] is True
again = refusal(service.rpc("report_task_result", report))
assert again == ("P0001", FAILED, "Already Attempted", "already_attempted"), again
assert answer(service.rpc("fetch_next_task", {"worker_id": WORKER, "task_type": "sms"})) == {"job": None}

# A failure that is tried again, with a service-role token.
bearer = SyncPostgrestClient(f"{URL}/rest/v1", schema="service_api").auth(os.environ["TOKEN"])
second = answer(bearer.rpc("fetch_next_task", {"worker_id": WORKER}))["job"]
lease = {"worker_id": WORKER, "job_id": second["job_id"], "lease_id": second["lease_id"]}
retry = answer(bearer.rpc("report_task_result", {**lease, "succeeded": False, "error_code": "smtp"}))
assert (retry["scheduled_retry"], retry["next_job_id"]) == (True, second["job_id"]), retry

# The runbook: one job, or none; the parameters by either name.
UUID = "00000000-0000-4000-8000-000000000001"
claimed = answer(jobs.rpc("claim_next_job", {"worker_id": UUID}).single())
assert (claimed["job_type"], claimed["status"], claimed["payload"]) == ("ocr", "processing", {"page": 1}), claimed
assert answer(jobs.rpc("claim_next_job", {"p_worker": UUID, "p_job_type": "ocr"})) == []
assert answer(jobs.rpc("claim_next_job", {"worker_id": UUID}).select("*")) == []
none = refusal(jobs.rpc("claim_next_job", {"worker_id": UUID}).single())
assert (none[0], none[2]) == ("PGRST116", "The result contains 0 rows"), none
answer(jobs.rpc("resolve_job", {"p_job_id": claimed["id"], "p_worker": UUID, "p_success": True}))
assert refusal(jobs.rpc("resolve_job", {"job_id": claimed["id"], "worker_id": UUID, "success": True}))[0] == "PT409"
assert answer(jobs.rpc("enqueue_cron_tasks", {})) == 1
assert answer(jobs.rpc("enqueue_cron_tasks", {})) == 0

# What is no call, and who may not.
unknown = refusal(service.rpc("fetch_next_tasks", {"worker_id": WORKER}))
assert (unknown[0], unknown[3]) == ("PGRST202", "Perhaps you meant to call the function service_api.fetch_next_task"), unknown
argument = refusal(service.rpc("fetch_next_task", {"worker_id": WORKER, "nonsense": 1}))
assert argument[0] == "PGRST202", argument
type_error = refusal(jobs.rpc("claim_next_job", {"worker_id": "me"}))
assert type_error[:2] == ("22P02", 'invalid input syntax for type uuid: "me"'), type_error
schema = refusal(service.schema("private").rpc("fetch_next_task", {"worker_id": WORKER}))
assert schema[:2] == ("PGRST106", "Invalid schema: private"), schema
read = refusal(service.rpc("fetch_next_task", {"worker_id": WORKER}, get=True))
assert read[0] == "25006", read
for headers, hint in [({}, "missing_api_key"), ({"x-api-key": "wrong"}, "invalid_api_key")]:
    stranger = SyncPostgrestClient(URL, schema="service_api", headers=headers)
    refused = refusal(stranger.rpc("fetch_next_task", {"worker_id": WORKER}))
    assert (refused[0], refused[1], refused[3]) == ("PT401", "Service API Failed", hint), refused

print(f"{calls} calls of rpc")
