#!/usr/bin/env bash
# Walks through tasks and jobs of a running Millrace over REST and GraphQL, and through its health, as a user would with curl: each status, and what
# the answer says. It cancels the tasks and deletes the jobs that it makes, so it may be run at any time and as often as one likes. Cancelled tasks
# stay in the lists for as long as the application keeps them.
#
#   MILLRACE_URL     where it is (http://localhost:3000)
#   COLLAB_API_KEY   an API key; none is needed where it was started with --open
#
# Exits with 0 if everything passed, with 1 if something did not, and then names it again.
set -uo pipefail

url=${MILLRACE_URL:-http://localhost:3000}
url=${url%/}
run="integration-test-$$-$RANDOM"      # in the names of this run's jobs, which are unique in an application
queue=integration-test                 # no worker takes its tasks away
absent=999999999999999                 # an id that no task and no job has
failed=()
passed=0
made_tasks=()
made_jobs=()

folder=$(mktemp -d) || exit 1          # for its owner alone
headers="$folder/headers"              # not on curl's command line, where everybody could read the key
{
  echo 'Content-Type: application/json'
  if [ -n "${COLLAB_API_KEY:-}" ]; then echo "x-api-key: $COLLAB_API_KEY"; fi
} > "$headers"

# request METHOD PATH [BODY]: sets status (000 without an answer) and body.
request() {
  local options=(--silent --show-error --max-time 30 --output "$folder/body" --write-out '%{http_code}' --request "$1" --header "@$headers")
  if [ $# -gt 2 ]; then options+=(--data "$3"); fi
  : > "$folder/body"
  status=$(curl "${options[@]}" "$url$2" 2> "$folder/complaint")
  body=$(cat "$folder/body")
}

# graphql DOCUMENT: the same with a query or a mutation, whose lines are joined.
graphql() {
  local document
  document=$(printf '%s' "$1" | tr '\n' ' ' | sed 's/\\/\\\\/g; s/"/\\"/g')
  request POST /graphql "{\"query\":\"$document\"}"
}

# expect NAME STATUS [PATTERN…]: whether the last answer has that status, and each pattern (an extended regular expression) in its body.
expect() {
  local name=$1 expected=$2 pattern missing=
  shift 2
  for pattern in "$@"; do
    grep -Eq -- "$pattern" <<< "$body" || missing="$missing, without $pattern"
  done
  if [ "$status" = "$expected" ] && [ -z "$missing" ]; then
    passed=$((passed + 1))
    echo "✓ $name"
  else
    failed+=("$name")
    echo "✗ $name: $status instead of $expected$missing: $(head -c 300 <<< "$body")$(cat "$folder/complaint")"
  fi
}

# The first value of a field of texts in the last answer.
field() {
  grep -Eo "\"$1\": *\"[^\"]*\"" <<< "$body" | head -n 1 | cut -d '"' -f 4
}

# is FIELD VALUE: the pattern of a field with a value, which is JSON.
is() {
  printf '"%s": *%s' "$1" "$2"
}

health() {
  echo "Health"
  request GET /health
  if [ "$status" = 000 ]; then
    echo "nothing answers at $url (cargo xtask up --open): $(cat "$folder/complaint")"
    exit 1
  fi
  expect "health" 200 "$(is status '"ok"')"
  request GET /api/health
  expect "health under /api" 200 "$(is status '"ok"')"
  request GET /health/ready
  expect "readiness" 200 "$(is status '"ready"')"
}

tasks() {
  echo "Tasks over REST"
  local task
  request POST /api/tasks "{\"type\":\"$run\",\"payload\":{\"to\":\"user@example.com\"},\"priority\":5,\"queue\":\"$queue\"}"
  expect "create a task" 201 "$(is status '"pending"')" "$(is priority 5)" "$(is type "\"$run\"")" "$(is payload '\{"to": *"user@example.com"\}')"
  task=$(field id)
  made_tasks+=("$task")
  request GET "/api/tasks?status=pending&type=$run&limit=10"
  expect "list pending tasks" 200 "$(is id "\"$task\"")" "$(is total 1)" "$(is limit 10)" "$(is offset 0)"
  request GET "/api/tasks/$task"
  expect "get a task" 200 "$(is id "\"$task\"")" "$(is attempts 0)"
  request GET "/api/tasks/$task/logs?limit=100"
  expect "get a task's logs" 200 "$(is taskId "\"$task\"")" "$(is total 1)"
  request POST "/api/tasks/$task/retry" '{"resetAttempts":false}'
  expect "a pending task is not retried" 400 "Task with status pending cannot be retried"
  request POST "/api/tasks/$task/cancel"
  expect "cancel a task" 201 "$(is status '"cancelled"')"
  request POST "/api/tasks/$task/cancel"
  expect "a cancelled task is not cancelled" 400 "Task with status cancelled cannot be cancelled"
  request POST "/api/tasks/$task/retry" '{"resetAttempts":false}'
  expect "retry a task" 201 "$(is id "\"$task\"")"
  request GET /api/tasks/stats/summary
  expect "statistics" 200 "$(is byStatus '\{')" "$(is byPriority '\{')"
  request GET "/api/tasks/$absent"
  expect "no such task" 404 "$(is message "\"Task with ID $absent not found\"")" "$(is statusCode 404)" "$(is error '"Not Found"')"
  request POST /api/tasks '{"payload":{}}'
  expect "a task without a type" 400 "$(is statusCode 400)" "type"
  request POST /api/tasks '{"type":"t","priority":21}'
  expect "a task of no priority that there is" 400 "$(is statusCode 400)" "priority"
  request GET '/api/tasks?limit=none'
  expect "a limit that is none" 400 "$(is statusCode 400)" "limit"
}

jobs() {
  echo "Jobs over REST"
  local job name="$run REST"
  request POST /api/jobs "{\"name\":\"$name\",\"type\":\"backup\",\"schedule\":\"0 0 1 1 *\",\"payload\":{},\"queue\":\"$queue\"}"
  expect "create a job" 201 "$(is status '"active"')" "$(is name "\"$name\"")" "$(is nextRun '"[0-9]{4}-01-01T00:00:00')"
  job=$(field id)
  made_jobs+=("$job")
  request POST /api/jobs "{\"name\":\"$name\",\"type\":\"backup\",\"schedule\":\"0 0 1 1 *\"}"
  expect "a job's name is its own" 409 "$(is message "\"Job with name $name already exists\"")"
  request POST /api/jobs "{\"name\":\"$name again\",\"type\":\"backup\",\"schedule\":\"0 0 32 1 *\"}"
  expect "a job without a possible schedule" 400 "schedule"
  request GET /api/jobs
  expect "list jobs" 200 '^\[' "$(is name "\"$name\"")"
  request GET "/api/jobs/$job"
  expect "get a job" 200 "$(is id "\"$job\"")" "$(is schedule '"0 0 1 1 \*"')"
  request POST "/api/jobs/$job/pause"
  expect "pause a job" 201 "$(is status '"paused"')" "$(is nextRun null)"
  request POST "/api/jobs/$job/pause"
  expect "a paused job is not paused" 400 "$(is message '"Job is already paused"')"
  request POST "/api/jobs/$job/resume"
  expect "resume a job" 201 "$(is status '"active"')"
  request POST "/api/jobs/$job/resume"
  expect "an active job is not resumed" 400 "$(is message '"Job is not paused"')"
  request DELETE "/api/jobs/$job"
  expect "delete a job" 200 "$(is message "\"Job $job deleted successfully\"")"
  request GET "/api/jobs/$job"
  expect "no such job" 404 "$(is message "\"Job with ID $job not found\"")"
}

tasks_by_graphql() {
  echo "Tasks over GraphQL"
  local task
  graphql "mutation { createTask(input: { type: \"$run\" payload: { to: \"user@example.com\" } priority: HIGH queue: \"$queue\" }) { id type status priority payload } }"
  expect "createTask" 200 "$(is type "\"$run\"")" "$(is status '"PENDING"')" "$(is priority 10)" "$(is payload '\{"to": *"user@example.com"\}')"
  task=$(field id)
  made_tasks+=("$task")
  graphql "query { tasks(filters: { type: \"$run\", status: PENDING, limit: 1 }) { tasks { id type status createdAt } total } }"
  expect "tasks" 200 "$(is id "\"$task\"")" "$(is total '[12]')"
  graphql "query { task(taskId: \"$task\") { id attempts error result kind: __typename } }"
  expect "task" 200 "$(is id "\"$task\"")" "$(is error null)" "$(is kind '"Task"')"
  graphql "mutation { cancelTask(taskId: \"$task\") }"
  expect "cancelTask" 200 "$(is cancelTask true)"
  graphql "mutation { retryTask(taskId: \"$task\", resetAttempts: true) { id status } }"
  expect "retryTask" 200 "$(is id "\"$task\"")"
  graphql "query { task(taskId: \"$absent\") { id } }"
  expect "task that is not there" 200 "$(is code '"NOT_FOUND"')" "$(is task null)"
  graphql "mutation { cancelTask(taskId: \"$absent\") }"
  expect "cancelTask of none" 200 "$(is code '"NOT_FOUND"')"
}

jobs_by_graphql() {
  echo "Jobs over GraphQL"
  local job name="$run GraphQL"
  graphql "mutation { createJob(input: { name: \"$name\" type: \"backup\" schedule: \"0 0 1 1 *\" payload: {} queue: \"$queue\" }) { id name status } }"
  expect "createJob" 200 "$(is name "\"$name\"")" "$(is status '"ACTIVE"')"
  job=$(field id)
  made_jobs+=("$job")
  graphql "query { jobs { id name schedule status nextRun } }"
  expect "jobs" 200 "$(is id "\"$job\"")"
  graphql "mutation { pauseJob(jobId: \"$job\") }"
  expect "pauseJob" 200 "$(is pauseJob true)"
  graphql "query { job(jobId: \"$job\") { id status lastRun nextRun } }"
  expect "job" 200 "$(is status '"PAUSED"')" "$(is lastRun null)" "$(is nextRun null)"
  graphql "mutation { resumeJob(jobId: \"$job\") }"
  expect "resumeJob" 200 "$(is resumeJob true)"
  graphql "mutation { deleteJob(jobId: \"$job\") }"
  expect "deleteJob" 200 "$(is deleteJob true)"
  graphql "query { job(jobId: \"$job\") { id } }"
  expect "job that is not there" 200 "$(is code '"NOT_FOUND"')" "$(is job null)"
}

# What of this run is still there: tasks that wait, and jobs if a check of their deletion failed.
clean_up() {
  local id
  for id in ${made_tasks[@]+"${made_tasks[@]}"}; do
    [ -z "$id" ] || request POST "/api/tasks/$id/cancel"
  done
  for id in ${made_jobs[@]+"${made_jobs[@]}"}; do
    [ -z "$id" ] || request DELETE "/api/jobs/$id"
  done
  rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

echo "$url"
health
tasks
jobs
tasks_by_graphql
jobs_by_graphql

echo
if [ ${#failed[@]} -gt 0 ]; then
  echo "$passed passed, ${#failed[@]} failed:"
  printf '✗ %s\n' "${failed[@]}"
  exit 1
fi
echo "$passed checks"
echo "All tests passing ✅"
