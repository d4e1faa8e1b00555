package migrate

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keptn/go-utils/pkg/api/models"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// defaults are the chart's values.
const defaults = `
image: {repository: ghcr.io/keptn-contrib/job-executor-service, pullPolicy: IfNotPresent, tag: ""}
jobexecutorserviceinitcontainer: {image: {repository: ghcr.io/keptn-contrib/job-executor-service-initcontainer, pullPolicy: IfNotPresent, tag: ""}}
subscription: {pubsubTopic: "sh.keptn.event.remote-task.triggered"}
remoteControlPlane:
  autoDetect: {enabled: false, namespace: ""}
  topicSubscription: ""
  api: {protocol: http, hostname: "", token: "", apiValidateTls: true, authMode: token, oauth: {clientId: "",
        clientSecret: "", clientDiscovery: "", scopes: ""}}
jobConfig:
  serviceAccount: {create: true, annotations: {}, name: ""}
  allowedImageList: ""
  labels: {}
  allowPrivilegedJobs: false
  podSecurityContext: {}
  jobSecurityContext: {}
  taskDeadlineSeconds: 0
  networkPolicy: {enabled: false, blockCIDRs: ""}
networkPolicy: {ingress: {enabled: false}, egress: {enabled: false, k8sMasterCIDR: "", k8sMasterPort: 443}}
serviceAccount: {create: true, annotations: {}, name: ""}
imagePullSecrets: []
nameOverride: ""
fullnameOverride: ""
podAnnotations: {}
podSecurityContext: {}
securityContext: {}
resources: {limits: {cpu: 1, memory: 512Mi}, requests: {cpu: 50m, memory: 128Mi}}
nodeSelector: {}
tolerations: []
affinity: {}
`

// built returns the objects of an overlay on config/ by kind and name.
func built(t *testing.T, migration Migration) map[string]map[string]any {
	t.Helper()
	directory := t.TempDir()
	err := os.CopyFS(filepath.Join(directory, "config"), os.DirFS("../../../config"))
	for name, content := range migration.Overlay {
		err = errors.Join(err, os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		t.Fatalf("%v\n%s", err, migration.Overlay["kustomization.yaml"])
	}
	found := map[string]map[string]any{}
	for _, resource := range resources.Resources() {
		content, err := resource.AsYAML()
		var object map[string]any
		if err == nil {
			err = yaml.Unmarshal(content, &object)
		}
		if err != nil {
			t.Fatal(err)
		}
		found[resource.GetKind()+" "+resource.GetName()] = object
	}
	return found
}

// at returns a field of an object as text.
func at(object any, path ...any) string {
	for _, step := range path {
		switch key := step.(type) {
		case string:
			fields, _ := object.(map[string]any)
			object = fields[key]
		case int:
			list, _ := object.([]any)
			if key < 0 {
				key += len(list)
			}
			if key < 0 || key >= len(list) {
				return "(none)"
			}
			object = list[key]
		}
	}
	return textOf(object)
}

func subscribed(name, eventType string, projects ...string) models.Integration {
	return models.Integration{ID: "id-of-" + name, Name: name, Subscriptions: []models.EventSubscription{
		{ID: "1", Event: eventType, Filter: models.EventSubscriptionFilter{Projects: projects}},
	}}
}

type settings map[string]string

func TestMigration(t *testing.T) {
	const everything = "cidr: 0.0.0.0/0"
	tests := []struct {
		name, values string
		former       []models.Integration
		files        map[string][]byte
		// keptn, executor, and others are what the objects of the overlay must have.
		keptn, executor settings
		reach, level    string
		// port is the port of Keptn's API that the bridge may reach.
		port string
		// decide are the keys that a person must decide about, and plan parts of the plan.
		decide, plan []string
	}{
		{
			name: "the chart's defaults", values: defaults, reach: everything, level: "baseline",
			keptn: settings{"KEPTN_TRANSPORT": "nats", "KEPTN_SUBSCRIPTIONS": "sh.keptn.event.remote-task.triggered",
				"KEPTN_NATS_URL": "nats://keptn-nats.keptn.svc.cluster.local:4222"},
			plan: []string{"over NATS in namespace keptn", "helm uninstall job-executor-service --namespace keptn", "No job/config.yaml was read"},
		},
		{name: "no values at all", values: "", reach: everything, level: "baseline", keptn: settings{"KEPTN_TRANSPORT": "nats"}},
		{
			name: "Keptn elsewhere, with a token",
			values: "remoteControlPlane: {api: {protocol: https, hostname: keptn.example.com, token: s3cr3t, apiValidateTls: false}}\n" +
				"subscription: {pubsubTopic: 'sh.keptn.event.test.triggered,sh.keptn.event.deployment.triggered'}",
			keptn: settings{
				"KEPTN_TRANSPORT": "http", "KEPTN_API_URL": "https://keptn.example.com/api", "KEPTN_NATS_URL": "",
				"KEPTN_SUBSCRIPTIONS": "sh.keptn.event.deployment.triggered,sh.keptn.event.test.triggered",
			},
			reach: everything, level: "baseline", port: "443", decide: []string{"remoteControlPlane.api.apiValidateTls"},
			plan: []string{"over HTTP at https://keptn.example.com/api", "--from-literal=KEPTN_API_TOKEN=\"$(helm get values"},
		},
		{
			name: "Keptn at a port", values: "remoteControlPlane: {api: {protocol: http, hostname: 'keptn.example.com:8080'}}",
			keptn: settings{"KEPTN_API_URL": "http://keptn.example.com:8080/api"}, reach: everything, level: "baseline", port: "8080",
		},
		{
			name: "Keptn without TLS", values: "remoteControlPlane: {api: {protocol: http, hostname: keptn.example.com}}",
			reach: everything, level: "baseline", port: "80",
		},
		{
			name: "Keptn behind an identity provider",
			values: "remoteControlPlane: {api: {protocol: https, hostname: keptn.example.com/api, authMode: oauth, oauth: {clientId: jes, clientSecret: s3cr3t, " +
				"clientDiscovery: 'https://login/.well-known/openid-configuration', scopes: 'openid,keptn'}}}",
			keptn: settings{
				"KEPTN_API_URL": "https://keptn.example.com/api", "KEPTN_OAUTH_CLIENT_ID": "jes", "KEPTN_OAUTH_SCOPES": "openid,keptn",
				"KEPTN_OAUTH_DISCOVERY_URL": "https://login/.well-known/openid-configuration",
			},
			reach: everything, level: "baseline", port: "443", plan: []string{"KEPTN_OAUTH_CLIENT_SECRET"},
		},
		{
			name: "Keptn in another namespace of the cluster", values: "remoteControlPlane: {autoDetect: {enabled: true, namespace: delivery}}",
			keptn: settings{"KEPTN_TRANSPORT": "nats", "KEPTN_NATS_URL": "nats://keptn-nats.delivery.svc.cluster.local:4222",
				"KEPTN_DATASTORE_URL": "http://mongodb-datastore.delivery.svc.cluster.local:8080"},
			reach: everything, level: "baseline", plan: []string{"over NATS in namespace delivery"},
		},
		{
			name:   "rules for tasks",
			values: "jobConfig: {allowedImageList: 'docker.io/busybox*,registry/*', taskDeadlineSeconds: 600, labels: {team: shop, cost-center: 7}}",
			executor: settings{"ALLOWED_IMAGES": "docker.io/busybox*,registry/*", "TASK_DEADLINE_SECONDS": "600",
				"JOB_LABELS": "cost-center=7,team=shop"}, reach: everything, level: "baseline",
		},
		{name: "privileged Jobs", values: "jobConfig: {allowPrivilegedJobs: true}", reach: everything, level: "privileged"},
		{
			name: "an account that existed before", values: "jobConfig: {serviceAccount: {create: false, name: runner}}",
			executor: settings{"JOB_SERVICE_ACCOUNT": "runner"}, reach: everything, level: "baseline",
			plan: []string{"kubectl get serviceaccount runner --namespace keptn", "Bind the roles"},
		},
		{
			name:     "an account of the chart with a role of the cloud",
			values:   "jobConfig: {serviceAccount: {create: true, name: runner, annotations: {eks.amazonaws.com/role-arn: 'arn:aws:1'}}}",
			executor: settings{"JOB_SERVICE_ACCOUNT": "job-executor-job"}, reach: everything, level: "baseline",
		},
		{
			name: "blocked networks", values: "jobConfig: {networkPolicy: {enabled: true, blockCIDRs: '10.0.0.0/8, 169.254.0.0/16'}}",
			reach: "cidr: 0.0.0.0/0\nexcept:\n- 10.0.0.0/8\n- 169.254.0.0/16", level: "baseline",
		},
		{
			name: "blocked networks of a policy that is off", values: "jobConfig: {networkPolicy: {enabled: false, blockCIDRs: '10.0.0.0/8'}}",
			reach: everything, level: "baseline",
		},
		{
			name: "a list of blocked networks", values: "jobConfig: {networkPolicy: {enabled: true, blockCIDRs: [10.0.0.0/8]}}",
			reach: "cidr: 0.0.0.0/0\nexcept:\n- 10.0.0.0/8", level: "baseline",
		},
		{
			name: "what is not in the chart, or has no counterpart",
			values: "distributor: {projectFilter: shop, stageFilter: '', logLevel: debug}\nfoo: {bar: 1}\nnodeSelector: {pool: ci}\n" +
				"jobConfig: {jobSecurityContext: {runAsUser: 1000}}\n" +
				"image: {repository: registry.example.com/jes}\nimagePullSecrets: [{name: registry}]",
			reach: everything, level: "baseline",
			decide: []string{"distributor.projectFilter", "foo.bar", "image.repository", "imagePullSecrets", "jobConfig.jobSecurityContext", "nodeSelector"},
		},
		{
			name: "what Keptn and the files say", values: defaults, former: []models.Integration{subscribed(former, "sh.keptn.event.test.triggered")},
			files: map[string][]byte{
				"shop/dev/cart": []byte("apiVersion: v2\nactions:\n- {name: A, event: test.triggered, image: i, serviceAccount: deployer, " +
					"env: [{name: aws, valueFrom: secret}, " +
					"{name: X, valueFrom: string, value: x}], imagePullSecrets: [registry], namespace: shop-jobs}\n"),
				"bank": []byte("apiVersion: v2\nactions:\n- {name: A, event: test.triggered, imag: i}\n"),
			},
			keptn: settings{"KEPTN_SUBSCRIPTIONS": "sh.keptn.event.test.triggered"}, reach: everything, level: "baseline",
			decide: []string{"job/config.yaml", "bank"},
			plan: []string{
				"kubectl get secret aws --namespace keptn", "kubectl get secret registry", "kubectl get serviceaccount deployer",
				"/controlPlane/v1/uniform/registration/id-of-job-executor-service/subscription/1\" # sh.keptn.event.test.triggered",
			},
		},
		{
			name: "subscriptions with filters", values: defaults, former: []models.Integration{subscribed(former, "sh.keptn.event.test.triggered", "shop", "it's")},
			keptn: settings{"KEPTN_SUBSCRIPTIONS": placeholder}, reach: everything, level: "baseline",
			plan: []string{"## 9. Move the subscriptions with their filters",
				`--data '{"event":"sh.keptn.event.test.triggered","filter":{"projects":["shop","it\u0027s"],"stages":null,"services":null}}'`},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			migration, err := Of(Input{
				Values: []byte(test.values), Namespace: "keptn", Release: former, Base: "config", Former: test.former, Configurations: test.files,
			})
			if err != nil {
				t.Fatal(err)
			}
			objects := built(t, migration)
			for name, wanted := range map[string]settings{"keptn": test.keptn, "executor": test.executor} {
				for key, value := range wanted {
					if got := at(objects["ConfigMap "+name], "data", key); got != value {
						t.Errorf("%s is %q, not %q", key, got, value)
					}
				}
			}
			if rules := objects["NetworkPolicy jobs"]["spec"].(map[string]any)["egress"].([]any); len(rules) != 5 {
				t.Errorf("the policy has %d rules", len(rules))
			}
			if got := at(objects["NetworkPolicy jobs"], "spec", "egress", -1, "to", 0, "ipBlock"); got != test.reach {
				t.Errorf("Jobs reach %q, not %q", got, test.reach)
			}
			if got := at(objects["NetworkPolicy bridge"], "spec", "egress", -1, "ports", 0, "port"); test.port != "" && got != test.port {
				t.Errorf("the bridge reaches port %s, not %s", got, test.port)
			}
			if got := at(objects["Namespace job-executor-jobs"], "metadata", "labels", "pod-security.kubernetes.io/enforce"); got != test.level {
				t.Errorf("the namespace enforces %s, not %s", got, test.level)
			}
			var decide []string
			for _, decision := range migration.Decisions {
				if strings.HasPrefix(decision.Verdict, "decide: ") {
					decide = append(decide, decision.Key)
				} else if !strings.HasPrefix(decision.Verdict, "applied") && !strings.HasPrefix(decision.Verdict, "not needed: ") {
					t.Errorf("the verdict on %s is %q", decision.Key, decision.Verdict)
				}
				if strings.Contains(decision.Value, "s3cr3t") {
					t.Errorf("%s is shown", decision.Key)
				}
			}
			if difference := cmp.Diff(test.decide, decide); difference != "" {
				t.Errorf("to decide (-want +got):\n%s", difference)
			}
			for _, part := range test.plan {
				if !strings.Contains(migration.Plan, part) {
					t.Errorf("the plan lacks %q:\n%s", part, migration.Plan)
				}
			}
			if strings.Contains(migration.Plan+migration.Overlay["kustomization.yaml"], "s3cr3t") {
				t.Error("a secret is written")
			}
			checkShell(t, migration.Plan)
		})
	}
}

const former = "job-executor-service"

// checkShell has a shell parse the plan's commands.
func checkShell(t *testing.T, plan string) {
	t.Helper()
	blocks := strings.Split(plan, "```sh\n")[1:]
	if len(blocks) < 5 {
		t.Errorf("the plan has %d blocks of commands", len(blocks))
	}
	for _, block := range blocks {
		commands, _, _ := strings.Cut(block, "```")
		if output, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", commands).CombinedOutput(); err != nil {
			t.Errorf("%v, %s in\n%s", err, output, commands)
		}
	}
}

// Only in this order does each task run exactly once.
func TestOrderOfThePlan(t *testing.T) {
	migration, err := Of(Input{Namespace: "keptn", Release: former, Base: "config",
		Former: []models.Integration{subscribed(former, "sh.keptn.event.test.triggered", "shop")}})
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, part := range []string{"kubectl apply --dry-run=client", "--request DELETE", "kubectl get jobs", "helm uninstall", "kubectl apply -k .", "--data"} {
		at := strings.Index(migration.Plan, part)
		if at <= last {
			t.Errorf("%q is at %d, after %d", part, at, last)
		}
		last = at
	}
}

func TestNothingIsPlannedWhileBothAreActive(t *testing.T) {
	const eventType = "sh.keptn.event.test.triggered"
	_, err := Of(Input{Former: []models.Integration{subscribed(former, eventType)}, Own: []models.Integration{subscribed("job-executor", eventType)}})
	if !errors.Is(err, ErrBothActive) || !strings.HasSuffix(err.Error(), ": "+eventType) {
		t.Errorf("got %v", err)
	}
	if _, err := Of(Input{Former: []models.Integration{subscribed(former, eventType)},
		Own: []models.Integration{subscribed("job-executor", "sh.keptn.event.other.triggered")}}); err != nil {
		t.Errorf("with different events: %v", err)
	}
}

func TestValuesThatCannotBeRead(t *testing.T) {
	for _, values := range []string{"a: [", "- a", strings.Repeat("#", maxValuesBytes+1)} {
		if _, err := Of(Input{Values: []byte(values)}); err == nil {
			t.Errorf("%.20q is accepted", values)
		}
	}
}

// Every value of the chart has a rule of its own or of its group.
func TestEveryRuleIsReachable(t *testing.T) {
	var keys []string
	for _, candidate := range rules() {
		if slices.Contains(keys, candidate.key) {
			t.Errorf("%s has two rules", candidate.key)
		}
		keys = append(keys, candidate.key)
		if found := ruleOf(candidate.key); found == nil || found.key != candidate.key {
			t.Errorf("%s is decided by another rule", candidate.key)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add(defaults)
	f.Add("jobConfig: {labels: [a], networkPolicy: {blockCIDRs: {a: b}}, serviceAccount: x}\nsubscription: null")
	f.Fuzz(func(t *testing.T, values string) {
		migration, err := Of(Input{Values: []byte(values), Base: "config"})
		if err == nil && migration.Overlay["kustomization.yaml"] == "" {
			t.Error("there is no overlay")
		}
	})
}
