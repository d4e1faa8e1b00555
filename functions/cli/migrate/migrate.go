package migrate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keptn/go-utils/pkg/api/models"
	"sigs.k8s.io/yaml"

	"github.com/job-executor/job-executor/functions/jobconfig"
)

// Input is what is known of an installation of the job-executor-service.
type Input struct {
	// Values are those of the Helm release (helm get values --output yaml); empty for the chart's defaults.
	Values []byte
	// Namespace is the release's namespace, where its Jobs run, and Release its name.
	Namespace, Release string
	// Base is the base of the overlay: a release's manifest next to it, or config/ of a repository.
	Base string
	// Configurations are the job/config.yaml files of all projects by a name for people.
	Configurations map[string][]byte
	// Former are the integrations named job-executor-service in Keptn, and Own those named job-executor; nil if Keptn was not asked.
	Former, Own []models.Integration
}

// Decision is about one value of the chart.
type Decision struct{ Key, Value, Verdict string }

// Migration is the result.
type Migration struct {
	Decisions []Decision
	// Overlay are the files of the overlay by name.
	Overlay map[string]string
	// Plan is Markdown with ordered steps.
	Plan string
}

// ErrBothActive means that both integrations have a subscription to the same events: each task would run twice.
var ErrBothActive = errors.New("job-executor-service and job-executor are subscribed to the same events, so each task runs twice; remove one of the subscriptions in Keptn's page, under Integrations")

// maxValuesBytes bounds the values of a release.
const maxValuesBytes = 1 << 20

// Of returns the plan for moving an installation. It returns an error for values that cannot be read, and ErrBothActive.
func Of(input Input) (Migration, error) {
	if len(input.Values) > maxValuesBytes {
		return Migration{}, fmt.Errorf("the values have %d bytes; the limit is %d", len(input.Values), maxValuesBytes)
	}
	var values map[string]any
	if err := yaml.Unmarshal(input.Values, &values); err != nil {
		return Migration{}, fmt.Errorf("read the values: %w", err)
	}
	if both := activeInBoth(input.Former, input.Own); len(both) > 0 {
		return Migration{}, fmt.Errorf("%w: %s", ErrBothActive, strings.Join(both, ", "))
	}
	o := newOverlay(input.Base)
	migration := Migration{Decisions: o.decide(values)}
	o.subscribe(input.Former)
	used := usedBy(input.Configurations)
	for _, namespace := range used.namespaces {
		migration.Decisions = append(migration.Decisions, Decision{
			jobconfig.Path, "namespace: " + namespace,
			"decide: tasks run in this namespace; add it like shop-jobs in test/examples/overlays/several-namespaces",
		})
	}
	migration.Decisions = append(migration.Decisions, used.mistakes...)
	migration.Overlay, migration.Plan = o.files(), plan(input, o, used)
	return migration, nil
}

// activeInBoth returns the event types to which both integrations are subscribed.
func activeInBoth(former, own []models.Integration) []string {
	types := func(integrations []models.Integration) map[string]bool {
		found := map[string]bool{}
		for _, integration := range integrations {
			for _, subscription := range integration.Subscriptions {
				found[subscription.Event] = true
			}
		}
		return found
	}
	ours := types(own)
	both := types(former)
	maps.DeleteFunc(both, func(eventType string, _ bool) bool { return !ours[eventType] })
	return slices.Sorted(maps.Keys(both))
}

// used is what tasks reference.
type used struct {
	secrets, accounts, namespaces []string
	// mistakes are files that Job Executor would refuse.
	mistakes []Decision
}

// usedBy returns what the tasks of all files reference, sorted.
func usedBy(configurations map[string][]byte) used {
	secrets, accounts, namespaces := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var found used
	for _, name := range slices.Sorted(maps.Keys(configurations)) {
		config := jobconfig.Parse(configurations[name])
		if mistakes := config.All(); len(mistakes) > 0 {
			found.mistakes = append(found.mistakes, Decision{name, "", fmt.Sprintf("decide: Job Executor refuses this file: %s; see job-executor lint", mistakes[0])})
		}
		for _, action := range config.Actions {
			for _, task := range action.Tasks {
				if task.ServiceAccount != nil {
					accounts[*task.ServiceAccount] = true
				}
				if task.Namespace != "" {
					namespaces[task.Namespace] = true
				}
				for _, pull := range task.ImagePullSecrets {
					secrets[pull] = true
				}
				for _, variable := range task.Env {
					if variable.ValueFrom == "secret" {
						secrets[variable.Name] = true
					}
					if variable.SecretKeyRef != nil {
						secrets[variable.SecretKeyRef.Name] = true
					}
				}
			}
		}
	}
	found.secrets, found.accounts, found.namespaces = slices.Sorted(maps.Keys(secrets)), slices.Sorted(maps.Keys(accounts)), slices.Sorted(maps.Keys(namespaces))
	return found
}
