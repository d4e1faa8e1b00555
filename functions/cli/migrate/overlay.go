package migrate

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keptn/go-utils/pkg/api/models"
	"sigs.k8s.io/yaml"
)

// overlay collects what the values and Keptn say.
type overlay struct {
	base string
	// settings are those of each ConfigMap.
	settings map[string]map[string]any

	topics                         []string
	keptnNamespace, protocol, host string
	isOAuth                        bool
	privileged, ownAccount         bool
	account                        string
	accountAnnotations             map[string]any
	restricted                     bool
	blocked                        []string
}

func newOverlay(base string) *overlay {
	return &overlay{base: base, settings: map[string]map[string]any{"keptn": {}, "executor": {}, "jobs": {}}, ownAccount: true}
}

// placeholder is the type of an event that nobody sends: a new integration needs a subscription.
const placeholder = "sh.keptn.event.job-executor-migration.triggered"

// isRemote reports whether Keptn is called over HTTP.
func (o *overlay) isRemote() bool { return o.host != "" }

// subscribe takes the event types from the former integration, or from the values.
func (o *overlay) subscribe(former []models.Integration) {
	types := map[string]bool{}
	for _, integration := range former {
		for _, subscription := range integration.Subscriptions {
			types[subscription.Event] = true
		}
	}
	if len(types) == 0 {
		for _, topic := range o.topics {
			types[topic] = true
		}
	}
	if hasFilters(former) {
		// With the real types but without filters, tasks of other projects would run, too.
		types = map[string]bool{placeholder: true}
	}
	if len(types) > 0 {
		o.settings["keptn"]["KEPTN_SUBSCRIPTIONS"] = strings.Join(slices.Sorted(maps.Keys(types)), ",")
	}
}

// files returns the overlay's files.
func (o *overlay) files() map[string]string {
	o.connect()
	if !o.ownAccount && o.account != "" {
		o.settings["executor"]["JOB_SERVICE_ACCOUNT"] = o.account
	}
	patches := []any{}
	add := func(kind, name string, patch any) {
		content, _ := yaml.Marshal(patch) // plain values can be written
		patches = append(patches, map[string]any{"target": map[string]any{"kind": kind, "name": name}, "patch": string(content)})
	}
	for _, name := range slices.Sorted(maps.Keys(o.settings)) {
		if len(o.settings[name]) > 0 {
			add("ConfigMap", name, object("v1", "ConfigMap", name, map[string]any{"data": o.settings[name]}))
		}
	}
	if o.privileged {
		add("Namespace", "job-executor-jobs", []any{operation("replace", "/metadata/labels/pod-security.kubernetes.io~1enforce", "privileged")})
	}
	if len(o.accountAnnotations) > 0 {
		add("ServiceAccount", "job-executor-job", []any{operation("add", "/metadata/annotations", o.accountAnnotations)})
	}
	add("NetworkPolicy", "jobs", []any{operation("replace", addresses, o.reach())})
	if egress := o.bridgeEgress(); egress != nil {
		add("NetworkPolicy", "bridge", []any{operation("add", "/spec/egress/-", egress)})
	}
	content, _ := yaml.Marshal(map[string]any{
		"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": []string{o.base}, "patches": patches,
	})
	return map[string]string{"kustomization.yaml": "# Written by job-executor migrate, without secrets.\n" + string(content)}
}

func object(apiVersion, kind, name string, rest map[string]any) map[string]any {
	created := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name}}
	maps.Copy(created, rest)
	return created
}

func operation(name, path string, value any) map[string]any {
	return map[string]any{"op": name, "path": path, "value": value}
}

// connect sets Keptn's addresses.
func (o *overlay) connect() {
	keptn := o.settings["keptn"]
	if o.isRemote() {
		address := cmp.Or(o.protocol, "https") + "://" + strings.TrimSuffix(strings.TrimSuffix(o.host, "/"), "/api") + "/api"
		keptn["KEPTN_TRANSPORT"], keptn["KEPTN_API_URL"] = "http", address
		for _, name := range []string{"KEPTN_NATS_URL", "KEPTN_CONTROL_PLANE_URL", "KEPTN_RESOURCE_SERVICE_URL", "KEPTN_DATASTORE_URL"} {
			keptn[name] = nil
		}
		return
	}
	if namespace := o.keptnNamespace; namespace != "" && namespace != "keptn" {
		keptn["KEPTN_NATS_URL"] = "nats://keptn-nats." + namespace + ".svc.cluster.local:4222"
		keptn["KEPTN_CONTROL_PLANE_URL"] = "http://shipyard-controller." + namespace + ".svc.cluster.local:8080/v1"
		keptn["KEPTN_RESOURCE_SERVICE_URL"] = "http://resource-service." + namespace + ".svc.cluster.local:8080/v1"
		keptn["KEPTN_DATASTORE_URL"] = "http://mongodb-datastore." + namespace + ".svc.cluster.local:8080"
	}
}

// bridgeEgress is what the bridge must reach besides the base's namespaces; nil for nothing.
func (o *overlay) bridgeEgress() any {
	switch {
	case o.isRemote():
		return map[string]any{"ports": []any{map[string]any{"protocol": "TCP", "port": o.port()}}}
	case o.keptnNamespace != "" && o.keptnNamespace != "keptn":
		selector := map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": o.keptnNamespace}}
		return map[string]any{"to": []any{map[string]any{"namespaceSelector": selector}}}
	default:
		return nil
	}
}

// port returns the port of Keptn's API.
func (o *overlay) port() int {
	address, err := url.Parse(fmt.Sprint(o.settings["keptn"]["KEPTN_API_URL"]))
	if err == nil {
		if port, err := strconv.Atoi(address.Port()); err == nil {
			return port
		}
	}
	if o.protocol == "http" {
		return 80
	}
	return 443
}

// addresses is the rule about addresses in NetworkPolicy jobs of config/800-network.yaml.
const addresses = "/spec/egress/4"

// reach is what Jobs reached before: everything, but for blocked networks.
func (o *overlay) reach() any {
	block := map[string]any{"cidr": "0.0.0.0/0"}
	if o.restricted && len(o.blocked) > 0 {
		block["except"] = o.blocked
	}
	return map[string]any{"to": []any{map[string]any{"ipBlock": block}}}
}

// describe returns a sentence on how the bridge will reach Keptn.
func (o *overlay) describe() string {
	if o.isRemote() {
		return fmt.Sprint("over HTTP at ", o.settings["keptn"]["KEPTN_API_URL"])
	}
	return "over NATS in namespace " + cmp.Or(o.keptnNamespace, "keptn")
}
