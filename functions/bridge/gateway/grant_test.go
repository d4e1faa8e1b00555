package gateway

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/job-executor/job-executor/functions/keptn/api"
)

func newGrants(now func() time.Time) *Grants {
	return &Grants{Key: []byte(strings.Repeat("k", grantKeyBytes)), Lifetime: time.Hour, Now: now}
}

func TestGrantsAreGoodForWhatWasSignedUntilTheyExpire(t *testing.T) {
	scope := api.ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: "c"}
	at := func(later time.Duration) func() time.Time { return func() time.Time { return noon.Add(later) } }
	other := newGrants(at(0))
	other.Key = []byte(strings.Repeat("x", grantKeyBytes))
	tests := []struct {
		name   string
		signed *Grants
		change func(string) string
		when   time.Duration
		err    string
	}{
		{"at once", newGrants(at(0)), nil, 0, ""},
		{"shortly before the end", newGrants(at(0)), nil, time.Hour, ""},
		{"not after it", newGrants(at(0)), nil, time.Hour + 2*time.Minute, "it is not valid: go-jose/go-jose/jwt: validation failed, token is expired (exp)"},
		{"not if another signed it", other, nil, 0, "its signature is wrong"},
		{"not if it was changed", newGrants(at(0)), func(grant string) string { return grant[:len(grant)-4] + "AAAA" }, 0, "its signature is wrong"},
		{"not if it is something else", newGrants(at(0)), func(string) string { return "password" }, 0, "it is no grant"},
		{"not without a signature", newGrants(at(0)), func(string) string { return "eyJhbGciOiJub25lIn0.e30." }, 0, "it is no grant"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grant, err := test.signed.Sign(scope)
			if err != nil {
				t.Fatal(err)
			}
			if test.change != nil {
				grant = test.change(grant)
			}
			got, err := newGrants(at(test.when)).Check(grant)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != test.err || err == nil && got != scope {
				t.Errorf("got %+v, %q; want %q", got, message, test.err)
			}
		})
	}
}

func TestGrantKeyOutlivesRestarts(t *testing.T) {
	secrets := fake.NewClientset(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "job-executor", Name: "key"}}).CoreV1().Secrets("job-executor")
	first, err := LoadGrantKey(t.Context(), secrets, "key")
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadGrantKey(t.Context(), secrets, "key")
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != grantKeyBytes || string(first) != string(second) {
		t.Error("the key changed")
	}
}
