package gateway

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/job-executor/job-executor/functions/files"
	"github.com/job-executor/job-executor/functions/keptn/api"
)

func newGrants(now func() time.Time) *Grants {
	return &Grants{Key: []byte(strings.Repeat("k", grantKeyBytes)), Lifetime: time.Hour, Now: now}
}

func TestGrantsAreGoodForWhatWasSignedUntilTheyExpire(t *testing.T) {
	says := Grant{Scope: api.ResourceScope{Project: "p", Stage: "s", Service: "v", GitCommitID: "c"}, RunID: "1", Namespaces: []string{"a", "b"}}
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
		{name: "at once", signed: newGrants(at(0))},
		{name: "valid shortly before its expiry", signed: newGrants(at(0)), when: time.Hour},
		{
			name:   "invalid after its expiry",
			signed: newGrants(at(0)),
			when:   time.Hour + 2*time.Minute,
			err:    "it is not valid: go-jose/go-jose/jwt: validation failed, token is expired (exp)",
		},
		{name: "invalid with another key", signed: other, err: "invalid signature"},
		{
			name:   "invalid after a change",
			signed: newGrants(at(0)),
			change: func(grant string) string { return grant[:len(grant)-4] + "AAAA" },
			err:    "invalid signature",
		},
		{name: "invalid as another token", signed: newGrants(at(0)), change: func(string) string { return "password" }, err: "it is no grant"},
		{
			name:   "invalid without a signature",
			signed: newGrants(at(0)),
			change: func(string) string { return "eyJhbGciOiJub25lIn0.e30." },
			err:    "it is no grant",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			grant, err := test.signed.Sign(says)
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
			if message != test.err || err == nil && !cmp.Equal(got, says) {
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

// A token for another purpose, or without expiry, is not accepted as a grant even if the key has signed it.
func TestGrantsAreNothingElse(t *testing.T) {
	grants := newGrants(func() time.Time { return noon })
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: grants.Key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	soon := jwt.NewNumericDate(noon.Add(time.Minute))
	tests := []struct {
		name   string
		claims jwt.Claims
		valid  bool
	}{
		{name: "a grant", claims: jwt.Claims{Issuer: grantIssuer, Audience: jwt.Audience{grantAudience}, Expiry: soon}, valid: true},
		{name: "for another audience", claims: jwt.Claims{Issuer: grantIssuer, Audience: jwt.Audience{"others"}, Expiry: soon}},
		{name: "for no audience", claims: jwt.Claims{Issuer: grantIssuer, Expiry: soon}},
		{name: "of another issuer", claims: jwt.Claims{Issuer: "others", Audience: jwt.Audience{grantAudience}, Expiry: soon}},
		{name: "without an expiry", claims: jwt.Claims{Issuer: grantIssuer, Audience: jwt.Audience{grantAudience}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, err := jwt.Signed(signer).Claims(test.claims).Serialize()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := grants.Check(token); (err == nil) != test.valid {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTokensForOthersAreNotTaken(t *testing.T) {
	for name, test := range map[string]struct {
		token  string
		status authenticationv1.TokenReviewStatus
		valid  bool
	}{
		"ours": {token: "t", status: authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: []string{"others", files.TokenAudience},
		}, valid: true},
		"for others":         {token: "t", status: authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{"others"}}},
		"for whom is unsaid": {token: "t", status: authenticationv1.TokenReviewStatus{Authenticated: true}},
		"not valid":          {token: "t", status: authenticationv1.TokenReviewStatus{Audiences: []string{files.TokenAudience}}},
		"none":               {status: authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{files.TokenAudience}}},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			client.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
				review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
				if difference := cmp.Diff(
					authenticationv1.TokenReviewSpec{Token: "t", Audiences: []string{files.TokenAudience}},
					review.Spec,
				); difference != "" {
					t.Errorf("asked (-want +got):\n%s", difference)
				}
				review.Status = test.status
				review.Status.User.Username = "executor"
				review.Status.User.Extra = map[string]authenticationv1.ExtraValue{podName: {"pod"}}
				return true, review, nil
			})
			identity, err := NewTokenReviewer(client.AuthenticationV1().TokenReviews(), time.Now).Review(t.Context(), test.token)
			if test.valid && (err != nil || identity != Identity{User: "executor", Pod: "pod"}) || !test.valid && !errors.Is(err, ErrToken) {
				t.Errorf("got %+v, %v", identity, err)
			}
		})
	}
}

// A valid token is reviewed once a minute, and an invalid one after ten seconds.
func TestTokensAreReviewedOnceAMinute(t *testing.T) {
	client, asked, now, isValid := fake.NewClientset(), 0, noon, true
	client.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		asked++
		if asked == 1 {
			return true, nil, errDown
		}
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: isValid, Audiences: review.Spec.Audiences}
		return true, review, nil
	})
	reviewer := NewTokenReviewer(client.AuthenticationV1().TokenReviews(), func() time.Time { return now })
	for _, step := range []struct {
		later time.Duration
		valid bool
		want  error
		asked int
	}{
		{valid: true, want: errDown, asked: 1},
		{valid: true, asked: 2},
		{later: reviewedFor - time.Second, valid: false, asked: 2},
		{later: time.Second, valid: false, want: ErrToken, asked: 3},
		{later: refusedFor - time.Second, valid: true, want: ErrToken, asked: 3},
		{later: time.Second, valid: true, asked: 4},
	} {
		now, isValid = now.Add(step.later), step.valid
		if _, err := reviewer.Review(t.Context(), "t"); !errors.Is(err, step.want) || asked != step.asked {
			t.Errorf("got %v after %d questions, want %v after %d", err, asked, step.want, step.asked)
		}
	}
}
