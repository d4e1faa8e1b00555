package system

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnusedRights(t *testing.T) {
	const manifests = `apiVersion: v1
kind: ServiceAccount
metadata: {name: a, namespace: system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r, namespace: jobs}
rules:
  - {apiGroups: [batch], resources: [jobs], verbs: [list, patch]}
  - {apiGroups: [""], resources: [secrets], resourceNames: [one, two], verbs: [get]}
  - {apiGroups: [""], resources: [pods/log], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: r, namespace: jobs}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
subjects: [{kind: ServiceAccount, name: a, namespace: system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: c}
rules: [{apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: c}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: c}
subjects: [{kind: ServiceAccount, name: a, namespace: system}]
`
	const audit = `{"verb":"list","user":{"username":"system:serviceaccount:system:a"},"objectRef":{"resource":"jobs","apiGroup":"batch","namespace":"jobs"}}
{"verb":"patch","user":{"username":"system:serviceaccount:system:a"},"objectRef":{"resource":"jobs","apiGroup":"batch","namespace":"other","name":"x"}}
{"verb":"get","user":{"username":"system:serviceaccount:system:a"},"objectRef":{"resource":"secrets","namespace":"jobs","name":"two"}}
{"verb":"get","user":{"username":"system:serviceaccount:system:a"},"objectRef":{"resource":"pods","subresource":"log","namespace":"jobs","name":"x"}}
{"verb":"create","user":{"username":"system:serviceaccount:system:b"},"objectRef":{"resource":"tokenreviews","apiGroup":"authentication.k8s.io"}}
{"verb":"half a li`
	unused, err := UnusedRights([]byte(manifests), strings.NewReader(audit))
	want := []string{"system:a may create tokenreviews", "system:a may get secrets one in jobs", "system:a may patch jobs in jobs"}
	if difference := cmp.Diff(want, unused); difference != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, difference)
	}
	if _, err := UnusedRights([]byte(manifests), strings.NewReader("no JSON\n")); err == nil {
		t.Error("there is no error")
	}
}
