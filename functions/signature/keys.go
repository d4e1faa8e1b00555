package signature

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/job-executor/job-executor/functions/cluster"
	"github.com/job-executor/job-executor/functions/function"
	"github.com/job-executor/job-executor/functions/telemetry"
)

// Name is the name of a function and of its key.
type Name string

// The functions that send events.
const (
	Bridge    Name = "bridge"
	Executor  Name = "executor"
	Jobsource Name = "jobsource"
	Watcher   Name = "watcher"
)

// Names returns all of them.
func Names() []Name { return []Name{Bridge, Executor, Jobsource, Watcher} }

// Keys are a function's private key and the public keys of all functions.
type Keys struct {
	Own     Name
	Private ed25519.PrivateKey
	Public  map[Name]ed25519.PublicKey
}

// Source returns the current keys.
type Source interface {
	Keys() (Keys, error)
}

// Keys returns the keys, so that constant keys are a Source.
func (k Keys) Keys() (Keys, error) { return k, nil }

// PublicKeys is the name of the ConfigMap with the public keys. Each has the function's name and Suffix as its
// key.
const PublicKeys = "signing-keys"

// Suffix ends the name of a key. A private key is the field PrivateField of the Secret SecretOf.
const (
	Suffix       = ".pem"
	PrivateField = "key" + Suffix
)

// SecretOf returns the name of the Secret with a function's private key.
func SecretOf(name Name) string { return string(name) + "-signing-key" }

const (
	privateBlock = "PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
)

// Settings are the files with a function's keys, which Kubernetes replaces when keys change.
type Settings struct {
	// PrivateFile has the private key as PEM.
	PrivateFile string `env:"SIGNING_KEY_FILE" envDefault:"/etc/signing-key/key.pem"`
	// PublicDirectory has the public keys of all functions as PEM.
	PublicDirectory string `env:"SIGNING_KEYS_DIRECTORY" envDefault:"/etc/signing-keys"`
	// Version is as in Party.
	Version int
}

// Party returns a function that signs and verifies with these keys.
func (s Settings) Party(own Name, now func() time.Time, signals *telemetry.Signals) *Party {
	return &Party{Keys: &Files{Settings: s, Own: own, Now: now}, Version: s.Version, Now: now, Events: signals.Events, Log: signals.Log}
}

// Files is a Source of key files that may change.
type Files struct {
	Settings
	Own Name
	Now func() time.Time

	mutex sync.Mutex
	keys  Keys
	read  time.Time
}

// freshFor is how long keys are used before they are read again.
const freshFor = 10 * time.Second

// Keys returns the keys in the files. A missing file is no error: only its key is missing.
func (f *Files) Keys() (Keys, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	now := f.Now()
	if !f.read.IsZero() && now.Sub(f.read) < freshFor {
		return f.keys, nil
	}
	keys := Keys{Own: f.Own, Public: map[Name]ed25519.PublicKey{}}
	content, err := optional(f.PrivateFile)
	if err == nil && content != nil {
		keys.Private, err = parsePrivate(content)
	}
	if err != nil {
		return Keys{}, fmt.Errorf("the key of %s in %s: %w", f.Own, f.PrivateFile, err)
	}
	for _, name := range Names() {
		path := filepath.Join(f.PublicDirectory, string(name)+Suffix)
		if content, err = optional(path); err == nil && content != nil {
			keys.Public[name], err = parsePublic(content)
		}
		if err != nil {
			return Keys{}, fmt.Errorf("the public key in %s: %w", path, err)
		}
	}
	if keys.Private != nil && len(keys.Public) == len(Names()) {
		f.keys, f.read = keys, now
	}
	return keys, nil
}

// optional reads a file, and returns nothing if it does not exist.
func optional(path string) ([]byte, error) {
	content, err := os.ReadFile(path) //nolint:gosec // the operator's
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// Make creates the missing keys of all functions in a namespace, private keys in Secrets and public keys in a
// ConfigMap, and returns the bridge's. An emptied Secret gets a new key. It returns a permanent error for an
// invalid key, and a retriable one if Kubernetes cannot be reached or another bridge was faster.
func Make(ctx context.Context, client cluster.Client, namespace string) (Keys, error) {
	keys := Keys{Own: Bridge, Public: map[Name]ed25519.PublicKey{}}
	public, err := client.ConfigMaps(namespace).Get(ctx, PublicKeys, metav1.GetOptions{})
	if err != nil {
		return Keys{}, fmt.Errorf("read the public keys: %w", err)
	}
	changed := false
	for _, name := range Names() {
		private, err := makeOne(ctx, client.Secrets(namespace), name)
		if err != nil {
			return Keys{}, err
		}
		if name == Bridge {
			keys.Private = private
		}
		keys.Public[name] = private.Public().(ed25519.PublicKey)
		encoded, err := x509.MarshalPKIXPublicKey(keys.Public[name])
		if err != nil {
			return Keys{}, fmt.Errorf("encode the public key of %s: %w", name, err)
		}
		content := string(pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: encoded}))
		if public.Data[string(name)+Suffix] != content {
			if public.Data == nil {
				public.Data = map[string]string{}
			}
			public.Data[string(name)+Suffix], changed = content, true
		}
	}
	if changed {
		if _, err := client.ConfigMaps(namespace).Update(ctx, public, metav1.UpdateOptions{}); err != nil {
			return Keys{}, fmt.Errorf("store the public keys: %w", err)
		}
	}
	return keys, nil
}

// makeOne returns a function's private key, and creates a missing one.
func makeOne(ctx context.Context, secrets cluster.Objects[*corev1.Secret, *corev1.SecretList], name Name) (ed25519.PrivateKey, error) {
	secret, err := secrets.Get(ctx, SecretOf(name), metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the key of %s: %w", name, err)
	}
	if content := secret.Data[PrivateField]; len(content) > 0 {
		private, err := parsePrivate(content)
		if err != nil {
			return nil, function.Permanent(fmt.Errorf("the key of %s in Secret %s: %w", name, secret.Name, err))
		}
		return private, nil
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create a key for %s: %w", name, err)
	}
	return private, store(ctx, secrets, secret, private)
}

// store stores a private key. It returns an error if another bridge was faster.
func store(ctx context.Context, secrets cluster.Objects[*corev1.Secret, *corev1.SecretList], secret *corev1.Secret, private ed25519.PrivateKey) error {
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	secret.Data = map[string][]byte{PrivateField: pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: encoded})}
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("store a key in Secret %s: %w", secret.Name, err)
	}
	return nil
}

var errNoKey = errors.New("it is no Ed25519 key in PEM")

func parsePrivate(content []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(content)
	if block == nil || block.Type != privateBlock {
		return nil, errNoKey
	}
	parsed, _ := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errNoKey // the parser's error may quote the key
	}
	return private, nil
}

func parsePublic(content []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(content)
	if block == nil || block.Type != publicBlock {
		return nil, errNoKey
	}
	parsed, _ := x509.ParsePKIXPublicKey(block.Bytes)
	public, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, errNoKey
	}
	return public, nil
}
