package system

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// right is a permission of an account for a resource or one of its objects.
type right struct {
	account, verb, group, resource, namespace, name string
}

func (r right) String() string {
	text := fmt.Sprintf("%s may %s %s", r.account, r.verb, r.resource)
	if r.name != "" {
		text += " " + r.name
	}
	if r.namespace != "" {
		text += " in " + r.namespace
	}
	return text
}

// UnusedRights returns the rights in manifests that no account has used, by the API server's audit log.
func UnusedRights(manifests []byte, audit io.Reader) ([]string, error) {
	rights, err := rightsOf(manifests)
	if err != nil {
		return nil, err
	}
	err = eachLine(audit, func(line []byte) error {
		used, err := usedBy(line)
		maps.DeleteFunc(rights, func(r right, _ bool) bool { return err == nil && r.covers(used) })
		return err
	})
	if err != nil {
		return nil, err
	}
	var unused []string
	for right := range rights {
		unused = append(unused, right.String())
	}
	slices.Sort(unused)
	return unused, nil
}

// eachLine calls a function for each line of the audit log, until it fails.
func eachLine(audit io.Reader, do func(line []byte) error) error {
	for lines := bufio.NewReader(audit); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // the last line may be incomplete
		}
		if err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		if err := do(line); err != nil {
			return err
		}
	}
}

// covers reports whether a request needed a right.
func (r right) covers(used right) bool {
	if r.name == "" {
		used.name = ""
	}
	if r.namespace == "" {
		used.namespace = ""
	}
	return r == used
}

// usedBy returns the right that a request needed.
func usedBy(line []byte) (right, error) {
	var request struct {
		Verb      string
		User      struct{ Username string }
		ObjectRef struct{ Resource, Subresource, APIGroup, Namespace, Name string }
	}
	if err := json.Unmarshal(line, &request); err != nil {
		return right{}, fmt.Errorf("decode the audit log: %w", err)
	}
	object := request.ObjectRef
	resource := object.Resource
	if object.Subresource != "" {
		resource += "/" + object.Subresource
	}
	return right{
		account: strings.TrimPrefix(request.User.Username, "system:serviceaccount:"), verb: request.Verb,
		group: object.APIGroup, resource: resource, namespace: object.Namespace, name: object.Name,
	}, nil
}

// rightsOf returns the rights of service accounts from roles and their bindings.
func rightsOf(manifests []byte) (map[right]bool, error) {
	type object struct {
		rbacv1.RoleBinding
		Rules []rbacv1.PolicyRule `json:"rules"`
	}
	rules, bindings := map[string][]rbacv1.PolicyRule{}, []object{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 1<<16)
	for {
		var decoded object
		if err := decoder.Decode(&decoded); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("decode the accounts: %w", err)
		}
		switch decoded.Kind {
		case "Role", "ClusterRole":
			rules[decoded.Kind+decoded.Namespace+"/"+decoded.Name] = decoded.Rules
		case "RoleBinding", "ClusterRoleBinding":
			bindings = append(bindings, decoded)
		}
	}
	rights := map[right]bool{}
	for _, binding := range bindings {
		for _, subject := range binding.Subjects {
			for _, rule := range rules[binding.RoleRef.Kind+binding.Namespace+"/"+binding.RoleRef.Name] {
				add(rights, rule, right{account: subject.Namespace + ":" + subject.Name, namespace: binding.Namespace})
			}
		}
	}
	return rights, nil
}

func add(rights map[right]bool, rule rbacv1.PolicyRule, of right) {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, of.verb = range rule.Verbs {
		for _, of.group = range rule.APIGroups {
			for _, of.resource = range rule.Resources {
				for _, of.name = range names {
					rights[of] = true
				}
			}
		}
	}
}

// UnusedRights returns the rights of the functions' accounts that nobody has used since the cluster started.
func (i *Installation) UnusedRights() ([]string, error) {
	manifests, err := os.ReadFile(filepath.Join(i.repository, "config", "200-accounts.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	audit, err := openAudit()
	if err != nil {
		return nil, err
	}
	defer func() { _ = audit.Close() }()
	return UnusedRights(manifests, audit)
}

// ToKeptn is the name of the requests that Keptn gets.
const ToKeptn = "Keptn"

// Requests returns the number of API requests of each function's account since the cluster started, with those
// for Leases apart as "leases", and of all requests to Keptn, whose faults it resets, as ToKeptn.
func (i *Installation) Requests(ctx context.Context) (map[string]int, error) {
	audit, err := openAudit()
	if err != nil {
		return nil, err
	}
	defer func() { _ = audit.Close() }()
	requests := map[string]int{}
	err = eachLine(audit, func(line []byte) error {
		var entry struct {
			User      struct{ Username string }
			ObjectRef struct{ Resource string }
			Stage     string
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			return fmt.Errorf("decode the audit log: %w", err)
		}
		if entry.Stage != "ResponseComplete" {
			return nil // long requests are logged twice
		}
		name := strings.TrimPrefix(entry.User.Username, "system:serviceaccount:"+Namespace+":")
		if entry.ObjectRef.Resource == "leases" {
			name = entry.ObjectRef.Resource
		}
		requests[name]++
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	requests[ToKeptn], err = i.SetFaults(ctx, 0, 0)
	return requests, err
}

func openAudit() (*os.File, error) {
	audit, err := os.Open(filepath.Join(filepath.Dir(os.Getenv("KUBECONFIG")), "log", "audit.json"))
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return audit, nil
}
