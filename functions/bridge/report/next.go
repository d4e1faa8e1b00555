package report

import (
	"time"

	"github.com/job-executor/job-executor/functions/keptn"
	"github.com/job-executor/job-executor/functions/protocol"
)

// reported is the reporter's memory of a task.
type reported struct {
	started, finished sent
	// heard is true once an answer was delivered here, whatever its outcome.
	heard bool
	// heldUntil is how long an answer is held back because an earlier bridge may have sent it; zero if it is not.
	heldUntil time.Time
	// isSlow is true after a delivery whose event Keptn did not count in time. Later deliveries ask Keptn once, unless they
	// send something.
	isSlow bool
	// settled is true once Keptn has counted everything that it needs, or no longer waits.
	settled bool
	// aborted is true if the task is settled because its sequence was aborted.
	aborted bool
	// unknownSince is when Keptn was first found to know nothing about the task; zero if it does.
	unknownSince time.Time
	// triggeredAt and endedAt bound the times of events from earlier bridges: no started event is older
	// than triggeredAt, and no finished event is older than endedAt. Zero if unknown.
	triggeredAt, endedAt time.Time
}

// sent is what this process has sent, or may have sent, for one phase of a task.
type sent struct {
	times int
	// before is how many events Keptn had counted before the first one.
	before int
	// first and last are the times of the first and the last try. The first is zero if an earlier bridge sent it.
	first, last time.Time
	// failed is true if the last one may not have arrived.
	failed bool
	// lost is how often Keptn accepted the event without counting it.
	lost int
	// refusal is why a minimal event replaces the event; empty if it does not.
	refusal string
}

// maxLost is how many times an event is sent that Keptn accepts but does not count, before a minimal
// event replaces it. Over NATS, Keptn accepts events that it cannot decode.
const maxLost = 3

// refuse makes a minimal event replace the event. It returns false if one already does.
func (s *sent) refuse(why string) bool {
	if s.refusal != "" {
		return false
	}
	*s = sent{before: s.before, refusal: why}
	return true
}

// learn records the times of an answer.
func (r *reported) learn(answer protocol.Answer) {
	r.heard = true
	if r.triggeredAt.IsZero() {
		r.triggeredAt = answer.Task.TriggeredAt
	}
	if r.endedAt.IsZero() || answer.EndedAt.Before(r.endedAt) && !answer.EndedAt.IsZero() {
		r.endedAt = answer.EndedAt
	}
}

// note records whether Keptn knows the task.
func (r *reported) note(count keptn.Count, now time.Time) {
	switch {
	case count.Standing != keptn.Unknown:
		r.unknownSince = time.Time{}
	case r.unknownSince.IsZero():
		r.unknownSince = now
	}
}

// step is what a task needs next.
type step int

const (
	wait step = iota
	sendStarted
	sendFinished
	// enough: Keptn has counted the answer.
	enough
	// over: Keptn needs nothing else for the task.
	over
)

// known is the basis of a decision: sent events, counted events, and the start of this process.
type known struct {
	reported
	count      keptn.Count
	timing     Timing
	begun, now time.Time
	// handled is when the latest of our events was sent that Keptn counted long ago.
	handled time.Time
}

// reordering is how much later an event must have been sent for Keptn to fetch it later.
const reordering = 10 * time.Second

// clockSkew is how far the clocks of Keptn, the nodes and this process may be apart.
const clockSkew = 5 * time.Second

// next returns what a task needs next, if its started or finished answer is to be delivered.
func next(k known, given keptn.Phase) step {
	count := k.count
	switch count.Standing {
	case keptn.Completed, keptn.Aborted:
		return over
	case keptn.Unknown:
		if !k.unknownSince.IsZero() && k.now.Sub(k.unknownSince) > k.timing.Loss {
			return over // it was deleted, with its project or with Keptn
		}
		return wait
	case keptn.Pending:
		return wait
	}
	switch {
	case count.Started == 0 && k.isUnderWay(k.started, 0, k.triggeredAt):
		return wait
	case count.Started == 0:
		return sendStarted
	case given == keptn.Started:
		return enough
	case count.Finished >= count.Started:
		return over
	case k.isUnderWay(k.finished, count.Finished, k.since()):
		return wait
	default:
		return sendFinished
	}
}

// since returns the earliest possible time of a finished event.
func (k known) since() time.Time {
	if k.endedAt.Before(k.triggeredAt) {
		return k.triggeredAt
	}
	return k.endedAt
}

// isUncertain reports whether an event may have been sent without this process knowing: a request of
// its own failed, or an earlier process may have sent it. In the first minutes clocks are not trusted.
func (k known) isUncertain(s sent, since time.Time) bool {
	if s.times > 0 {
		return s.failed
	}
	return !k.isOurs(since) || k.now.Sub(k.begun) < k.timing.Loss
}

// isOurs reports whether an event that is not older than since can only be from this process.
func (k known) isOurs(since time.Time) bool { return since.After(k.begun.Add(clockSkew)) }

// needsProof reports whether an event may only be sent if it is proven that nobody has published it: Keptn
// could still count it, and its transport would not recognise the second one.
func (k known) needsProof(s sent, counted int, since time.Time) bool {
	ours := k.isOurs(since)
	recognised := func(first time.Time) bool { return k.now.Sub(first)+clockSkew < k.timing.Deduplication }
	if s.times > 0 {
		first := s.first
		if !ours {
			first = since // an earlier process may have sent it first
		}
		isDropped := s.failed && recognised(first) // the transport drops the second one
		return counted < s.before+s.times && k.now.Sub(s.last) < k.timing.Loss && !isDropped
	}
	return counted == 0 && k.now.Sub(k.begun) < k.timing.Loss && (since.IsZero() || !ours && !recognised(since))
}

// isUnderWay reports whether Keptn may still count an event that this process has sent, or that an
// earlier one may have sent after since. If it is uncertain that the event was sent, this ends once its
// request must have reached Keptn's archive; otherwise once Keptn must have fetched it.
func (k known) isUnderWay(s sent, counted int, since time.Time) bool {
	if !k.needsProof(s, counted, since) {
		return false
	}
	switch {
	case s.times == 0:
		return k.now.Sub(k.begun) < k.timing.Flight
	case s.failed:
		return k.now.Sub(s.last) < k.timing.Flight
	default:
		isRecognised := k.now.Sub(s.last) < 2*k.timing.Deduplication // a second one would be dropped
		return isRecognised || k.handled.Sub(s.last) < reordering
	}
}
