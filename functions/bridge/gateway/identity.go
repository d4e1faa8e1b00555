package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/job-executor/job-executor/functions/files"
)

// ErrToken says that a token is not valid for us.
var ErrToken = errors.New("it is not valid")

// Identity is whose a service account token is.
type Identity struct {
	// User is the name that Kubernetes gives the account.
	User string
	// Pod is the name of the pod to which the token is bound; empty if it is to none.
	Pod string
}

// namespace is the account's; empty if it is no service account.
func (i Identity) namespace() string {
	account, ok := strings.CutPrefix(i.User, "system:serviceaccount:")
	if !ok {
		return ""
	}
	namespace, _, _ := strings.Cut(account, ":")
	return namespace
}

// TokenReviewer asks Kubernetes whose token it is, and keeps what it said for a minute, of a token
// that is not valid for ten seconds.
type TokenReviewer struct {
	client authenticationclient.TokenReviewInterface
	now    func() time.Time
	known  *lru.Cache[[sha256.Size]byte, reviewed]
	// refused are tokens that were not valid just now; they do not displace valid ones.
	refused *lru.Cache[[sha256.Size]byte, time.Time]
}

type reviewed struct {
	identity Identity
	at       time.Time
}

const (
	reviewedTokens = 1024
	reviewedFor    = time.Minute
	refusedFor     = 10 * time.Second
)

// NewTokenReviewer returns a reviewer that has been asked nothing yet.
func NewTokenReviewer(client authenticationclient.TokenReviewInterface, now func() time.Time) *TokenReviewer {
	known, _ := lru.New[[sha256.Size]byte, reviewed](reviewedTokens) // it fails only for a size that is not positive
	refused, _ := lru.New[[sha256.Size]byte, time.Time](reviewedTokens)
	return &TokenReviewer{client: client, now: now, known: known, refused: refused}
}

// podName is where a review has the name of a token's pod (Kubernetes, bound service account
// tokens).
const podName = "authentication.kubernetes.io/pod-name"

// Review returns whose a token is, ErrToken if it is not valid for us, and any other error if
// Kubernetes could not be asked.
func (t *TokenReviewer) Review(ctx context.Context, token string) (Identity, error) {
	if token == "" {
		return Identity{}, fmt.Errorf("%w: there is none", ErrToken)
	}
	key := sha256.Sum256([]byte(token))
	if known, ok := t.known.Get(key); ok && t.now().Sub(known.at) < reviewedFor {
		return known.identity, nil
	}
	if at, ok := t.refused.Get(key); ok && t.now().Sub(at) < refusedFor {
		return Identity{}, ErrToken
	}
	review, err := t.client.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{files.TokenAudience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return Identity{}, fmt.Errorf("asking Kubernetes whose a token is: %w", err)
	}
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, files.TokenAudience) {
		t.refused.Add(key, t.now())
		return Identity{}, ErrToken
	}
	identity := Identity{User: review.Status.User.Username}
	if pods := review.Status.User.Extra[podName]; len(pods) == 1 {
		identity.Pod = pods[0]
	}
	t.known.Add(key, reviewed{identity, t.now()})
	return identity, nil
}
