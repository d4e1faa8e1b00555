package clientset

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/job-executor/job-executor/functions/cluster"
)

// Of adapts a clientset.
func Of(whole kubernetes.Interface) cluster.Client { return client{whole} }

type client struct{ whole kubernetes.Interface }

func (c client) Jobs(namespace string) cluster.Objects[*batchv1.Job, *batchv1.JobList] {
	return c.whole.BatchV1().Jobs(namespace)
}

func (c client) Pods(namespace string) cluster.Pods {
	return c.whole.CoreV1().Pods(namespace)
}

func (c client) Events(namespace string) cluster.Objects[*corev1.Event, *corev1.EventList] {
	return c.whole.CoreV1().Events(namespace)
}

func (c client) Secrets(namespace string) cluster.Objects[*corev1.Secret, *corev1.SecretList] {
	return c.whole.CoreV1().Secrets(namespace)
}

func (c client) ConfigMaps(namespace string) cluster.Objects[*corev1.ConfigMap, *corev1.ConfigMapList] {
	return c.whole.CoreV1().ConfigMaps(namespace)
}

func (c client) ServiceAccounts(namespace string) cluster.Objects[*corev1.ServiceAccount, *corev1.ServiceAccountList] {
	return c.whole.CoreV1().ServiceAccounts(namespace)
}

func (c client) Namespaces() cluster.Objects[*corev1.Namespace, *corev1.NamespaceList] {
	return c.whole.CoreV1().Namespaces()
}
