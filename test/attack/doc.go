// Package attack has what somebody may try who can run containers beside a task's, and knows
// all of the task and of its Job: each of these requests is to have no effect. They are tried in
// the embedded system and, from a pod, on a real cluster.
package attack
