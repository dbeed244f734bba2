// What the page offers to begin with: each operation of the schema once.

export const EXAMPLES = [
  {
    name: "Tasks",
    query: `# Ctrl+Enter runs the operation that the cursor is in.
query Tasks($filters: TaskFilters) {
  tasks(filters: $filters) {
    tasks {
      id
      type
      status
      priority
      createdAt
    }
    total
  }
}
`,
    variables: { filters: { limit: 10 } },
  },
  {
    name: "One task",
    query: `query Task {
  task(taskId: "1") {
    id
    type
    status
    payload
    result
    error
  }
}
`,
  },
  {
    name: "Create a task",
    query: `mutation CreateTask {
  createTask(input: { type: "email", payload: {}, priority: NORMAL }) {
    id
    type
    status
  }
}
`,
  },
  {
    name: "Retry or cancel a task",
    query: `mutation RetryTask($taskId: ID!) {
  retryTask(taskId: $taskId, resetAttempts: true) {
    id
    status
  }
}

mutation CancelTask($taskId: ID!) {
  cancelTask(taskId: $taskId)
}
`,
    variables: { taskId: "1" },
  },
  {
    name: "Watch a task",
    query: `subscription Watch($taskId: ID!) {
  taskChanged(taskId: $taskId) {
    id
    status
    attempts
    result
    error
  }
}
`,
    variables: { taskId: "1" },
  },
  {
    name: "Jobs",
    query: `query Jobs {
  jobs {
    id
    name
    schedule
    status
    lastRun
    nextRun
  }
}
`,
  },
  {
    name: "Create a job",
    query: `mutation CreateJob {
  createJob(input: { name: "Daily Backup", type: "backup", schedule: "0 0 * * *", payload: {} }) {
    id
    name
    status
    nextRun
  }
}
`,
  },
  {
    name: "Pause, resume or delete a job",
    query: `mutation PauseJob($jobId: ID!) {
  pauseJob(jobId: $jobId)
}

mutation ResumeJob($jobId: ID!) {
  resumeJob(jobId: $jobId)
}

mutation DeleteJob($jobId: ID!) {
  deleteJob(jobId: $jobId)
}
`,
    variables: { jobId: "1" },
  },
];
