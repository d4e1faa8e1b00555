package scene

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// namespace is where Jobs run if their tasks name no other.
const namespace = "job-executor-jobs"

// Options describe a user's own project. They are all empty for the default one.
type Options struct {
	// Config, Event, Files and Shipyard are paths.
	Config, Event, Files, Shipyard string
	Secrets, Accounts              List
	Timeout                        time.Duration
}

// List is an option that may be repeated.
type List []string

// String returns all values.
func (l *List) String() string { return strings.Join(*l, " ") }

// Set adds a value.
func (l *List) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// AddTo adds the options to flags.
func (o *Options) AddTo(flags *flag.FlagSet) {
	flags.StringVar(&o.Config, "config", "", "your own job/config.yaml, to be tried before it is committed")
	flags.StringVar(&o.Event, "event", "", "a file with the triggered event of a task, as Keptn sends it (JSON); without it one is made from --config")
	flags.StringVar(&o.Files, "files", "", "a directory with the files that the tasks name")
	flags.StringVar(&o.Shipyard, "shipyard", "", "your own shipyard.yaml, with --config; its first stage's first sequence is triggered")
	flags.Var(&o.Secrets, "secret", "a Secret for your tasks, as name=KEY=value,OTHER=value; may be repeated")
	flags.Var(&o.Accounts, "service-account", "a service account for your tasks; may be repeated")
	flags.DurationVar(&o.Timeout, "timeout", 5*time.Minute, "how long the sequence may take")
}

// Parse parses the flags of the command line. It ends the process if there are other arguments.
func Parse() {
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: unknown argument %q; --help lists the options\n", flag.Arg(0))
		os.Exit(2) //nolint:mnd // of a wrong call
	}
}

// Objects returns the Secrets and service accounts of the options. Tasks may use them.
func (o Options) Objects() (objects []runtime.Object, err error) {
	allowed := map[string]string{"job-executor.github.io/allowed": "true"}
	for _, secret := range o.Secrets {
		name, keys, _ := strings.Cut(secret, "=")
		data, err := Pairs(strings.Split(keys, ","))
		if err != nil {
			return nil, fmt.Errorf("--secret %s: %w", name, err)
		}
		created := &corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: allowed}, Data: map[string][]byte{},
		}
		for key, value := range data {
			created.Data[key] = []byte(value)
		}
		objects = append(objects, created)
	}
	for _, account := range o.Accounts {
		objects = append(objects, &corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account, Labels: allowed},
		})
	}
	return objects, nil
}

// Pairs splits each KEY=value.
func Pairs(texts []string) (map[string]string, error) {
	pairs := map[string]string{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=value", key)
		}
		pairs[key] = value
	}
	return pairs, nil
}
