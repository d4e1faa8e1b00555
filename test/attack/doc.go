// Package attack has requests of an attacker who can run containers next to a task's and knows everything about
// the task and its Job. None may have an effect. The embedded system and a pod on a real cluster try them.
package attack
