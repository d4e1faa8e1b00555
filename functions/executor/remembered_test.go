package executor

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/job-executor/job-executor/functions/executor/plan"
)

// counting is a cluster with every object except "none". It counts requests.
type counting struct {
	plan.Cluster
	asked []string
	err   error
}

func (c *counting) answer(kind, namespace, name string) (*plan.Object, error) {
	c.asked = append(c.asked, kind+" "+namespace+"/"+name)
	if name == "none" || c.err != nil {
		return nil, c.err
	}
	return answered(kind), nil
}

func answered(kind string) *plan.Object {
	return &plan.Object{Labels: map[string]string{}, Keys: []string{kind}}
}

func (c *counting) Secret(_ context.Context, namespace, name string) (*plan.Object, error) {
	return c.answer("Secret", namespace, name)
}

func (c *counting) ServiceAccount(_ context.Context, namespace, name string) (*plan.Object, error) {
	return c.answer("ServiceAccount", namespace, name)
}

func TestWhatTasksNameIsReadOnceInAFewSeconds(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	asked := &counting{}
	cluster := &RememberingCluster{
		Cluster: asked,
		Allowed: func(string, map[string]string) bool { return true },
		Listed:  func(account string) bool { return account == "listed" },
		Now:     func() time.Time { return now },
	}
	read := func(kind func(context.Context, string, string) (*plan.Object, error), namespace, name string) *plan.Object {
		object, err := kind(t.Context(), namespace, name)
		if !errors.Is(err, asked.err) {
			t.Errorf("got %v", err)
		}
		return object
	}
	all := []string{"Secret a/x", "Secret b/x", "ServiceAccount a/x", "ServiceAccount a/listed", "Secret a/none"}
	tests := []struct {
		name  string
		after time.Duration
		err   error
		want  []string
	}{
		{name: "each is read", want: all},
		{name: "an existing object is not read again", after: time.Second, want: []string{"Secret a/none"}},
		{
			name: "an old object is read again, but no account that is allowed by its name", after: 2 * time.Second,
			want: []string{"Secret a/x", "Secret b/x", "ServiceAccount a/x", "Secret a/none"},
		},
		{name: "an error is returned", after: time.Minute, err: errors.New("away"), want: all},
		{name: "an error is not remembered", want: all},
	}
	for _, test := range tests {
		now = now.Add(test.after)
		asked.asked, asked.err = nil, test.err
		objects := []*plan.Object{
			read(cluster.Secret, "a", "x"), read(cluster.Secret, "b", "x"), read(cluster.ServiceAccount, "a", "x"),
			read(cluster.ServiceAccount, "a", "listed"), read(cluster.Secret, "a", "none"),
		}
		if difference := cmp.Diff(test.want, asked.asked); difference != "" {
			t.Errorf("%s: asked (-want +got):\n%s", test.name, difference)
		}
		secret, account := answered("Secret"), answered("ServiceAccount")
		want := []*plan.Object{secret, secret, account, account, nil}
		if test.err != nil {
			want = make([]*plan.Object, len(want))
		}
		if difference := cmp.Diff(want, objects); difference != "" {
			t.Errorf("%s: objects (-want +got):\n%s", test.name, difference)
		}
	}
	asked.err = nil
	for index := range 3 * maxRemembered {
		read(cluster.Secret, "a", fmt.Sprint(index))
	}
	if len(cluster.known) > maxRemembered {
		t.Errorf("%d are remembered", len(cluster.known))
	}
}
