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

// ErrToken means that a token is invalid for the bridge.
var ErrToken = errors.New("it is not valid")

// Identity is the owner of a service account token.
type Identity struct {
	// User is the name of the account in Kubernetes.
	User string
	// Pod is the name of the pod to which the token is bound, if any.
	Pod string
}

// namespace returns the namespace of a service account, empty for other users.
func (i Identity) namespace() string {
	account, ok := strings.CutPrefix(i.User, "system:serviceaccount:")
	if !ok {
		return ""
	}
	namespace, _, _ := strings.Cut(account, ":")
	return namespace
}

// TokenReviewer asks Kubernetes for the owners of tokens. It caches valid tokens for a minute and invalid ones
// for ten seconds.
type TokenReviewer struct {
	client authenticationclient.TokenReviewInterface
	now    func() time.Time
	known  *lru.Cache[[sha256.Size]byte, reviewed]
	// refused has recent invalid tokens, apart from valid ones so as not to evict them.
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

// NewTokenReviewer returns a reviewer with empty caches.
func NewTokenReviewer(client authenticationclient.TokenReviewInterface, now func() time.Time) *TokenReviewer {
	known, _ := lru.New[[sha256.Size]byte, reviewed](reviewedTokens) // it only fails for a size that is not positive
	refused, _ := lru.New[[sha256.Size]byte, time.Time](reviewedTokens)
	return &TokenReviewer{client: client, now: now, known: known, refused: refused}
}

// podName is the field of a review with the name of a token's pod (Kubernetes, bound service account tokens).
const podName = "authentication.kubernetes.io/pod-name"

// Review returns the owner of a token, ErrToken if the token is invalid, and any other error if Kubernetes
// cannot be asked.
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
		return Identity{}, fmt.Errorf("review a token: %w", err)
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
