package podsecurity

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestRefusal(t *testing.T) {
	privileged := &corev1.SecurityContext{Privileged: new(true)}
	admin := &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}}}
	tests := []struct {
		name, level string
		context     *corev1.SecurityContext
		want        string
	}{
		{name: "baseline admits an ordinary pod", level: "baseline"},
		{
			name: "baseline rejects a privileged pod", level: "baseline", context: privileged,
			want: `violates PodSecurity "baseline:latest": privileged (container "task" must not set securityContext.privileged=true)`,
		},
		{name: "privileged admits a privileged pod", level: "privileged", context: privileged},
		{
			name: "a forbidden capability is named", level: "baseline", context: admin,
			want: `violates PodSecurity "baseline:latest": non-default capabilities (container "task" must not include "SYS_ADMIN" in securityContext.capabilities.add)`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			level, err := ParseLevel(test.level)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Refusal(level, &corev1.PodSpec{Containers: []corev1.Container{{Name: "task", SecurityContext: test.context}}})
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(test.want, got); difference != "" {
				t.Errorf("(-want +got):\n%s", difference)
			}
		})
	}
	if _, err := ParseLevel("strict"); err == nil {
		t.Error("there is no such level")
	}
}

func TestLevelsAreThoseOfKubernetes(t *testing.T) {
	if difference := cmp.Diff([]string{"restricted", "baseline", "privileged"}, Levels()); difference != "" {
		t.Errorf("(-want +got):\n%s", difference)
	}
	for _, name := range Levels() {
		if _, err := ParseLevel(name); err != nil {
			t.Error(err)
		}
	}
}
