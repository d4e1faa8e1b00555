package outward

import (
	"time"

	"github.com/job-executor/job-executor/functions/keptn"
)

// reported is what is remembered of a task and its answers.
type reported struct {
	started, finished sent
	// heard says that an answer was delivered here, whatever came of it.
	heard bool
	// held says that it was logged why an answer is held back.
	held bool
	// settled says that Keptn has what it needs, or no longer waits for the task.
	settled bool
	// aborted says that it is settled since the task's sequence was aborted.
	aborted bool
	// unknownSince is since when Keptn has known nothing of the task.
	unknownSince time.Time
	// triggeredAt and endedAt are before which time nobody can have sent a started and
	// a finished event; zero if that is not known. A run has not ended before its task was
	// triggered.
	triggeredAt, endedAt time.Time
}

// sent is what this process has sent of one kind, or may have.
type sent struct {
	times int
	// before is how many Keptn had counted before the first.
	before int
	// first and last are when.
	first, last time.Time
	// failed says that the last one may not have arrived.
	failed bool
	// lost is how often Keptn accepted it without counting it.
	lost int
	// refusal says why a minimal event is sent in its place; empty if it is sent itself.
	refusal string
}

// maxLost is how often an event is sent that Keptn accepts and does not count, before a minimal
// one is, and how often that is: over NATS Keptn accepts what it cannot decode.
const maxLost = 3

// refuse has a minimal event sent from now on. It returns false if one was sent already.
func (s *sent) refuse(why string) bool {
	if s.refusal != "" {
		return false
	}
	*s = sent{before: s.before, refusal: why}
	return true
}

// learn takes over what an answer tells.
func (entry *reported) learn(answer keptn.Answer) {
	entry.heard = true
	if entry.triggeredAt.IsZero() {
		entry.triggeredAt = answer.Task.TriggeredAt
	}
	if entry.endedAt.IsZero() || answer.EndedAt.Before(entry.endedAt) && !answer.EndedAt.IsZero() {
		entry.endedAt = answer.EndedAt
	}
}

// note takes over what Keptn says.
func (entry *reported) note(count keptn.Count, now time.Time) {
	switch {
	case count.Standing != keptn.Unknown:
		entry.unknownSince = time.Time{}
	case entry.unknownSince.IsZero():
		entry.unknownSince = now
	}
}

// step is what a task needs next.
type step int

const (
	wait step = iota
	sendStarted
	sendFinished
	// enough says that Keptn has counted what it is given.
	enough
	// over says that Keptn needs nothing any more.
	over
)

// known is what is known of a task: what was sent, what Keptn has counted, and since
// when this process has been at work.
type known struct {
	reported
	count      keptn.Count
	timing     Timing
	begun, now time.Time
}

// clockSkew is how much the clocks of Keptn, of the nodes and of this process may
// differ.
const clockSkew = 5 * time.Second

// next says what a task needs next, if there is a started or a finished event to give.
func next(known known, given keptn.Phase) step {
	count := known.count
	switch count.Standing {
	case keptn.Completed, keptn.Aborted:
		return over
	case keptn.Unknown:
		if !known.unknownSince.IsZero() && known.now.Sub(known.unknownSince) > known.timing.Loss {
			return over // it was deleted, with its project or with all of Keptn
		}
		return wait
	case keptn.Pending:
		return wait
	}
	switch {
	case count.Started == 0 && known.isUnderWay(known.started, 0, known.triggeredAt):
		return wait
	case count.Started == 0:
		return sendStarted
	case given == keptn.Started:
		return enough
	case count.Finished >= count.Started:
		return over
	case known.isUnderWay(known.finished, count.Finished, known.since()):
		return wait
	default:
		return sendFinished
	}
}

// since returns the earliest time at which anybody can have sent a finished event.
func (known known) since() time.Time {
	if known.endedAt.Before(known.triggeredAt) {
		return known.triggeredAt
	}
	return known.endedAt
}

// isUncertain reports whether an event may have been sent without this process knowing: a request of
// its own failed, or the process before it sent the event.
func (known known) isUncertain(sent sent, since time.Time) bool {
	if sent.times > 0 {
		return sent.failed
	}
	return !known.isOurs(since)
}

// isOurs reports whether only this process can have sent an event that was sent at a time or later.
func (known known) isOurs(since time.Time) bool { return since.After(known.begun.Add(clockSkew)) }

// isUnderWay says whether an event may still be counted that was sent: by this
// process, or by one before it, which can't have been before since.
func (known known) isUnderWay(sent sent, counted int, since time.Time) bool {
	deduplication, ours := known.timing.Deduplication, known.isOurs(since)
	recognised := func(first time.Time) bool { return known.now.Sub(first)+clockSkew < deduplication }
	if sent.times > 0 {
		first := sent.first
		if !ours {
			first = since // the process before this one may have sent it first
		}
		switch {
		case counted >= sent.before+sent.times: // all of them were counted
			return false
		case sent.failed && deduplication > 0 && recognised(first): // the transport drops it if it has it
			return false
		default:
			return known.now.Sub(sent.last) < known.timing.Loss
		}
	}
	switch {
	case counted > 0, known.now.Sub(known.begun) >= known.timing.Loss:
		return false
	case since.IsZero():
		return true
	default:
		return !ours && !recognised(since)
	}
}
