// Package simulation runs thousands of tasks through the real functions on a
// virtual clock (testing/synctest), while a seed decides everything that is not
// theirs to decide: how long each call takes, which one fails before or after it
// had its effect, which event is delivered twice, when a process dies and where in
// its work, when Keptn is down or drops an event. What must hold all the same is
// checked at every step and at the end. `make simulate` runs it.
package simulation
