package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/job-executor/job-executor/functions/keptn/api"
	"github.com/job-executor/job-executor/functions/run"
)

// grantIssuer and grantAudience distinguish grants from other tokens.
const (
	grantIssuer   = "job-executor-bridge"
	grantAudience = "keptn-files"
)

// Grants signs and verifies grants. A grant allows executors and the pods of one run to read the files of one
// project, stage, service and commit until it expires.
type Grants struct {
	Key      []byte
	Lifetime time.Duration
	Now      func() time.Time
}

// Grant is the content of a grant.
type Grant struct {
	// Scope is the readable files.
	Scope api.ResourceScope `json:"scope"`
	// RunID is the run whose pods may read them, in any of Namespaces.
	RunID      string   `json:"run"`
	Namespaces []string `json:"namespaces,omitempty"`
}

// isFor reports whether the owner of a token is a pod of the grant's run.
func (g Grant) isFor(asker Identity) bool {
	return slices.Contains(g.Namespaces, asker.namespace()) && run.IsPodOf(asker.Pod, g.RunID)
}

// Sign returns a signed grant.
func (g *Grants) Sign(says Grant) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: g.Key}, nil)
	if err != nil {
		return "", fmt.Errorf("create a signer: %w", err)
	}
	now := g.Now()
	grant, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: grantIssuer, Audience: jwt.Audience{grantAudience},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(g.Lifetime)),
	}).Claims(says).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign a grant: %w", err)
	}
	return grant, nil
}

// Check verifies a grant and returns its content.
func (g *Grants) Check(grant string) (Grant, error) {
	token, err := jwt.ParseSigned(grant, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return Grant{}, errors.New("it is no grant")
	}
	var claims jwt.Claims
	var says Grant
	if err := token.Claims(g.Key, &claims, &says); err != nil {
		return Grant{}, errors.New("invalid signature")
	}
	if claims.Expiry == nil {
		return Grant{}, errors.New("it never expires")
	}
	err = claims.ValidateWithLeeway(jwt.Expected{Issuer: grantIssuer, AnyAudience: jwt.Audience{grantAudience}, Time: g.Now()}, time.Minute)
	if err != nil {
		return Grant{}, fmt.Errorf("it is not valid: %w", err)
	}
	return says, nil
}

const (
	grantKeyField = "key"
	grantKeyBytes = 32
)

// LoadGrantKey returns the key in a Secret, and creates the key if the Secret is empty. The Secret itself is
// part of the installation.
func LoadGrantKey(ctx context.Context, secrets coreclient.SecretInterface, name string) ([]byte, error) {
	secret, err := secrets.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the key for grants: %w", err)
	}
	if key := secret.Data[grantKeyField]; len(key) == grantKeyBytes {
		return key, nil
	}
	key := make([]byte, grantKeyBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("create a key for grants: %w", err)
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[grantKeyField] = key
	// The update fails if another replica was faster. Its key is read the next time.
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("store the key for grants: %w", err)
	}
	return key, nil
}
