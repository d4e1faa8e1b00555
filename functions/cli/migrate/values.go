package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// rule decides about the values below a key of the chart (job-executor-service 0.3.0, chart/README.md).
type rule struct {
	// key is a key, or the beginning of keys if it ends in a dot.
	key string
	// isWhole is true if the value is a map or list that the rule decides about as a whole.
	isWhole bool
	// isSecret is true if the value must not be shown.
	isSecret bool
	decide   func(o *overlay, value any) (verdict string)
}

func notNeeded(why string) func(*overlay, any) string {
	return func(*overlay, any) string { return "not needed: " + why }
}

// set returns a rule's decision to write a setting of a ConfigMap, unless the value is empty.
func set(configMap, setting string) func(*overlay, any) string {
	return func(o *overlay, value any) string {
		text := textOf(value)
		if text == "" {
			return "not needed: empty is the default"
		}
		o.settings[configMap][setting] = text
		return fmt.Sprintf("applied as %s of ConfigMap %s", setting, configMap)
	}
}

func rules() []rule {
	return []rule{
		{key: "subscription.pubsubTopic", decide: func(o *overlay, value any) string {
			o.topics = strings.FieldsFunc(textOf(value), func(char rune) bool { return char == ',' || char == ' ' })
			return "applied as KEPTN_SUBSCRIPTIONS of ConfigMap keptn, unless Keptn's own list was read"
		}},
		{key: "remoteControlPlane.topicSubscription", decide: notNeeded("the chart itself reads subscription.pubsubTopic")},
		{key: "remoteControlPlane.autoDetect.enabled", decide: func(*overlay, any) string {
			return "applied: with a hostname Keptn is called over HTTP, and otherwise over NATS in its namespace"
		}},
		{key: "remoteControlPlane.autoDetect.namespace", decide: func(o *overlay, value any) string {
			o.keptnNamespace = textOf(value)
			return "applied as the namespace of Keptn's addresses and of NetworkPolicy bridge"
		}},
		{key: "remoteControlPlane.api.protocol", decide: func(o *overlay, value any) string {
			o.protocol = textOf(value)
			return "applied as a part of KEPTN_API_URL"
		}},
		{key: "remoteControlPlane.api.hostname", decide: func(o *overlay, value any) string {
			if o.host = textOf(value); o.host == "" {
				return "not needed: Keptn runs in the same cluster"
			}
			return "applied as KEPTN_API_URL of ConfigMap keptn, with KEPTN_TRANSPORT http"
		}},
		{key: "remoteControlPlane.api.token", isSecret: true, decide: func(*overlay, any) string {
			return "applied by the plan: you create the Secret keptn from the old one; the token is in no file"
		}},
		{key: "remoteControlPlane.api.apiValidateTls", decide: func(_ *overlay, value any) string {
			if textOf(value) == "false" {
				return "decide: certificates are always verified; put Keptn's authority into KEPTN_CA_CERTIFICATES of ConfigMap keptn"
			}
			return "not needed: certificates are always verified"
		}},
		{key: "remoteControlPlane.api.authMode", decide: func(o *overlay, value any) string {
			o.isOAuth = textOf(value) == "oauth"
			return "applied: the Secret keptn has the token, or the client's secret"
		}},
		{key: "remoteControlPlane.api.oauth.clientId", decide: set("keptn", "KEPTN_OAUTH_CLIENT_ID")},
		{key: "remoteControlPlane.api.oauth.clientSecret", isSecret: true, decide: notNeeded("you copy it into the Secret keptn by the plan; it is in no file")},
		{key: "remoteControlPlane.api.oauth.clientDiscovery", decide: set("keptn", "KEPTN_OAUTH_DISCOVERY_URL")},
		{key: "remoteControlPlane.api.oauth.scopes", decide: set("keptn", "KEPTN_OAUTH_SCOPES")},
		{key: "jobConfig.allowedImageList", decide: set("executor", "ALLOWED_IMAGES")},
		{key: "jobConfig.taskDeadlineSeconds", decide: set("executor", "TASK_DEADLINE_SECONDS")},
		{key: "jobConfig.labels", isWhole: true, decide: func(o *overlay, value any) string {
			labels, _ := value.(map[string]any)
			var pairs []string
			for _, name := range slices.Sorted(maps.Keys(labels)) {
				pairs = append(pairs, name+"="+textOf(labels[name]))
			}
			return set("executor", "JOB_LABELS")(o, strings.Join(pairs, ","))
		}},
		{key: "jobConfig.allowPrivilegedJobs", decide: func(o *overlay, value any) string {
			if textOf(value) != "true" {
				return "not needed: the namespace job-executor-jobs enforces baseline"
			}
			o.privileged = true
			return "applied as the label pod-security.kubernetes.io/enforce: privileged of namespace job-executor-jobs"
		}},
		{key: "jobConfig.serviceAccount.create", decide: func(o *overlay, value any) string {
			o.ownAccount = textOf(value) != "false"
			return "applied: with false, the plan copies the account; otherwise it is job-executor-job"
		}},
		{key: "jobConfig.serviceAccount.name", decide: func(o *overlay, value any) string {
			o.account = textOf(value)
			return "applied as JOB_SERVICE_ACCOUNT of ConfigMap executor if jobConfig.serviceAccount.create is false, and otherwise not needed"
		}},
		{key: "jobConfig.serviceAccount.annotations", isWhole: true, decide: func(o *overlay, value any) string {
			o.accountAnnotations, _ = value.(map[string]any)
			if len(o.accountAnnotations) == 0 {
				return "not needed: there are none"
			}
			return "applied as annotations of ServiceAccount job-executor-job"
		}},
		{key: "jobConfig.podSecurityContext", isWhole: true, decide: securityContext},
		{key: "jobConfig.jobSecurityContext", isWhole: true, decide: securityContext},
		{key: "jobConfig.networkPolicy.enabled", decide: func(o *overlay, value any) string {
			o.restricted = textOf(value) == "true"
			return "applied as NetworkPolicy jobs: Jobs reach what they reached before"
		}},
		{key: "jobConfig.networkPolicy.blockCIDRs", isWhole: true, decide: func(o *overlay, value any) string {
			switch blocks := value.(type) {
			case []any:
				for _, block := range blocks {
					o.blocked = append(o.blocked, textOf(block))
				}
			default:
				o.blocked = strings.FieldsFunc(textOf(value), func(char rune) bool { return char == ',' || char == ' ' })
			}
			return "applied as NetworkPolicy jobs, if jobConfig.networkPolicy.enabled is true"
		}},
		{key: "networkPolicy.", decide: notNeeded("config/800-network.yaml restricts the functions")},
		{key: "image.", decide: image},
		{key: "jobexecutorserviceinitcontainer.image.", decide: image},
		{key: "imagePullSecrets", isWhole: true, decide: func(_ *overlay, value any) string {
			if list, _ := value.([]any); len(list) == 0 {
				return "not needed: there are none"
			}
			return "decide: if your mirror of the images needs a login, add imagePullSecrets to the four ServiceAccounts of namespace job-executor"
		}},
		{key: "serviceAccount.", decide: notNeeded("each function has an account of its own")},
		{key: "resources", isWhole: true, decide: notNeeded("each function has measured requests and limits")},
		{key: "nodeSelector", isWhole: true, decide: placement},
		{key: "tolerations", isWhole: true, decide: placement},
		{key: "affinity", isWhole: true, decide: placement},
		{key: "podAnnotations", isWhole: true, decide: notNeeded("they are for the old service's pod; metrics are found by config/monitoring")},
		{key: "podLabels", isWhole: true, decide: notNeeded("they are for the old service's pod")},
		{key: "podSecurityContext", isWhole: true, decide: notNeeded("the functions comply with pod security's level restricted")},
		{key: "securityContext", isWhole: true, decide: notNeeded("the functions comply with pod security's level restricted")},
		{key: "nameOverride", decide: notNeeded("names are fixed")},
		{key: "fullnameOverride", decide: notNeeded("names are fixed; the label app.kubernetes.io/managed-by of Jobs is job-executor")},
		{key: "distributor.stageFilter", decide: distributorFilter},
		{key: "distributor.serviceFilter", decide: distributorFilter},
		{key: "distributor.projectFilter", decide: distributorFilter},
		{key: "distributor.", decide: notNeeded("there is no distributor")},
		{key: "replicaCount", decide: notNeeded("executors scale by load; the component high-availability adds a second bridge")},
	}
}

func distributorFilter(_ *overlay, value any) string {
	if textOf(value) == "" {
		return "not needed: empty"
	}
	return "decide: filters belong to subscriptions; set them in Keptn's page, under Integrations, when you move the subscriptions"
}

func securityContext(_ *overlay, value any) string {
	if fields, _ := value.(map[string]any); len(fields) == 0 {
		return "not needed: empty"
	}
	return "decide: set securityContext of the tasks that need it; for all tasks, only the namespace's level applies"
}

func image(_ *overlay, value any) string {
	if text := textOf(value); strings.Contains(text, ".") && strings.Contains(text, "/") && !strings.HasPrefix(text, "docker.io/") && !strings.HasPrefix(text, "ghcr.io/keptn") {
		return "decide: if your cluster reaches no public registry, copy the images and add the component mirror"
	}
	return "not needed: images are named by digest in the release"
}

func placement(_ *overlay, value any) string {
	switch placed := value.(type) {
	case map[string]any:
		if len(placed) == 0 {
			return "not needed: empty"
		}
	case []any:
		if len(placed) == 0 {
			return "not needed: empty"
		}
	}
	return "decide: it placed the old service only; patch the Deployments and Services of namespace job-executor if they need it, too"
}

// decide applies the rules to all values, in the order of their keys.
func (o *overlay) decide(values map[string]any) []Decision {
	var decisions []Decision
	o.walk("", values, &decisions)
	slices.SortStableFunc(decisions, func(one, other Decision) int { return strings.Compare(one.Key, other.Key) })
	return decisions
}

func (o *overlay) walk(prefix string, values map[string]any, decisions *[]Decision) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		key, value := prefix+name, values[name]
		found := ruleOf(key)
		if nested, isMap := value.(map[string]any); isMap && (found == nil || !found.isWhole) {
			o.walk(key+".", nested, decisions)
			continue
		}
		decision := Decision{Key: key, Value: textOf(value), Verdict: "decide: job-executor migrate does not know this value"}
		if found != nil {
			decision.Verdict = found.decide(o, value)
			if found.isSecret && decision.Value != "" {
				decision.Value = "(secret)"
			}
		}
		*decisions = append(*decisions, decision)
	}
}

// ruleOf returns the rule for a key; nil for an unknown one.
func ruleOf(key string) *rule {
	all := rules()
	index := slices.IndexFunc(all, func(candidate rule) bool {
		return candidate.key == key || strings.HasSuffix(candidate.key, ".") && strings.HasPrefix(key, candidate.key)
	})
	if index < 0 {
		return nil
	}
	return &all[index]
}

// textOf returns a value as a setting has it.
func textOf(value any) string {
	switch typed := value.(type) {
	case nil:
		return ""
	case string:
		return strings.TrimSpace(typed)
	case map[string]any, []any:
		content, _ := yaml.Marshal(typed) // what was read can be written
		return strings.TrimSpace(string(content))
	case float64:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%f", typed), "0"), ".")
	default:
		return fmt.Sprint(typed)
	}
}
