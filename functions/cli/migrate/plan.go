package migrate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/keptn/go-utils/pkg/api/models"
)

// plan returns the ordered steps. Between the removal of the old subscriptions and the installation, events wait in
// Keptn, and the bridge picks them up. So each task runs exactly once.
func plan(input Input, o *overlay, u used) string {
	var text strings.Builder
	step := 0
	write := func(title, why string, commands ...string) {
		step++
		fmt.Fprintf(&text, "## %d. %s\n\n%s\n", step, title, why)
		if len(commands) > 0 {
			fmt.Fprintf(&text, "\n```sh\n%s\n```\n", strings.Join(commands, "\n"))
		}
		text.WriteString("\n")
	}
	fmt.Fprintf(&text, "# Move from job-executor-service to Job Executor\n\nKeptn is reached %s. Every step can be repeated. Up to step 5 nothing changes for Keptn.\n\n", o.describe())
	write("Create the namespaces", "The overlay contains them. Nothing else of it is applied yet.",
		"kubectl create namespace job-executor --dry-run=client --output yaml | kubectl apply -f -",
		"kubectl create namespace job-executor-jobs --dry-run=client --output yaml | kubectl apply -f -")
	var copies []string
	for _, name := range u.secrets {
		copies = append(copies, copying("secret", name, input.Namespace))
	}
	accounts := u.accounts
	if !o.ownAccount && o.account != "" && !slices.Contains(accounts, o.account) {
		accounts = append(slices.Clone(accounts), o.account)
	}
	for _, name := range accounts {
		copies = append(copies, copying("serviceaccount", name, input.Namespace))
	}
	why := "Tasks may use a Secret or account only with the label job-executor.github.io/allowed=true, which these commands add. "
	if len(accounts) > 0 {
		why += "Bind the roles of the accounts to their copies, too: `kubectl get rolebindings,clusterrolebindings --all-namespaces --output wide`. "
	}
	if len(input.Configurations) == 0 {
		why += "No job/config.yaml was read, so check which Secrets and accounts your tasks use."
	} else if len(copies) == 0 {
		why += "The tasks use none."
	}
	write("Copy the Secrets and accounts of tasks", strings.TrimSpace(why), copies...)
	switch {
	case o.isRemote() && o.isOAuth:
		write("Create the Secret for Keptn", "It has the client's secret of the identity provider.", keptnSecret("KEPTN_OAUTH_CLIENT_SECRET", "oauth.clientSecret", input))
	case o.isRemote():
		write("Create the Secret for Keptn", "It has Keptn's API token.", keptnSecret("KEPTN_API_TOKEN", "token", input))
	default:
		write("Create no Secret for Keptn", "Inside Keptn's cluster no token is needed.")
	}
	// With --dry-run=server, Knative's webhook creates a pod for each function as a trial, and refuses it without its account.
	write("Check the overlay", "kubectl checks the fields of every object, and changes nothing.", "kubectl apply --dry-run=client --validate=strict -k .")
	write("Remove the old subscriptions", "From now on, new tasks wait in Keptn. Keptn gives up on a task that nobody starts only after its own timeout (20 minutes by default), so go on.",
		unsubscribing(input)...)
	write("Wait until the old Jobs have ended", "The old service reads its subscriptions about every 10 seconds. Wait a minute, then until this prints nothing, and then another minute, in which Keptn counts the last results:",
		fmt.Sprintf("kubectl get jobs --namespace %s --selector app.kubernetes.io/managed-by=%s --output jsonpath='{range .items[?(@.status.active)]}{.metadata.name}{\"\\n\"}{end}'", input.Namespace, input.Release))
	write("Uninstall the old service", "Its finished Jobs expire on their own.", fmt.Sprintf("helm uninstall %s --namespace %s", input.Release, input.Namespace))
	write("Install Job Executor", "It registers with the subscriptions of the overlay. Within two minutes it runs the tasks that have waited.",
		"kubectl apply -k .", "kubectl rollout status --namespace job-executor deployment/bridge", "job-executor status")
	if hasFilters(input.Former) {
		write("Move the subscriptions with their filters", "The bridge has registered with a placeholder. Each command adds a subscription; the tasks that have waited run then.", subscribing(input)...)
	}
	fmt.Fprintf(&text, "## Back\n\nRemove Job Executor, and install the old service with its values:\n\n```sh\nkubectl delete -k .\nhelm install %s job-executor-service --namespace %s --values values.yaml\n```\n", input.Release, input.Namespace)
	return text.String()
}

// copying returns the command that copies an object of a task to the namespace of Jobs.
func copying(kind, name, from string) string {
	return fmt.Sprintf(`kubectl get %s %s --namespace %s --output json | kubectl patch --local --filename - --type merge --output yaml --patch '{"metadata": {"namespace": "job-executor-jobs", "uid": null, "resourceVersion": null, "creationTimestamp": null, "ownerReferences": null, "labels": {"job-executor.github.io/allowed": "true"}}}' | kubectl apply --filename -`,
		kind, name, from)
}

// keptnSecret returns the command that creates the Secret keptn from a value of the release.
func keptnSecret(setting, value string, input Input) string {
	return fmt.Sprintf(`kubectl create secret generic keptn --namespace job-executor --from-literal=%s="$(helm get values %s --namespace %s --all --output json | jq --raw-output .remoteControlPlane.api.%s)"`,
		setting, input.Release, input.Namespace, value)
}

// unsubscribing returns the commands that delete the subscriptions of the former integrations.
func unsubscribing(input Input) []string {
	var commands []string
	for _, integration := range input.Former {
		for _, subscription := range integration.Subscriptions {
			commands = append(commands, fmt.Sprintf(`curl --fail --request DELETE --header "x-token: $KEPTN_API_TOKEN" "$KEPTN_ENDPOINT/controlPlane/v1/uniform/registration/%s/subscription/%s" # %s`,
				integration.ID, subscription.ID, subscription.Event))
		}
	}
	switch {
	case len(input.Former) == 0:
		return []string{"# Keptn was not asked, or does not know job-executor-service. Delete its subscriptions in Keptn's page, under Integrations."}
	case len(commands) == 0:
		return []string{"# job-executor-service has no subscriptions in Keptn."}
	default:
		return commands
	}
}

// hasFilters reports whether a former subscription is only for some projects, stages or services.
func hasFilters(former []models.Integration) bool {
	return slices.ContainsFunc(former, func(integration models.Integration) bool {
		return slices.ContainsFunc(integration.Subscriptions, func(subscription models.EventSubscription) bool {
			filter := subscription.Filter
			return len(filter.Projects)+len(filter.Stages)+len(filter.Services) > 0
		})
	})
}

// subscribing returns the commands that subscribe job-executor like the former integrations.
func subscribing(input Input) []string {
	commands := []string{`integration="$(curl --fail --silent --header "x-token: $KEPTN_API_TOKEN" "$KEPTN_ENDPOINT/controlPlane/v1/uniform/registration?name=job-executor" | jq --raw-output '.[0].id')"`}
	for _, integration := range input.Former {
		for _, subscription := range integration.Subscriptions {
			body, _ := json.Marshal(map[string]any{"event": subscription.Event, "filter": subscription.Filter}) // plain text
			quoted := strings.ReplaceAll(string(body), "'", `\u0027`)                                           // for the shell
			commands = append(commands, fmt.Sprintf(`curl --fail --header "x-token: $KEPTN_API_TOKEN" --header "Content-Type: application/json" --data '%s' "$KEPTN_ENDPOINT/controlPlane/v1/uniform/registration/$integration/subscription"`, quoted))
		}
	}
	return commands
}
