package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// Client accesses the kinds of objects that functions need. client-go's clientset, and each of its typed
// clients, would link the types of all Kubernetes APIs: a third of a program that must start fast. Package
// clientset adapts a clientset to this interface.
type Client interface {
	Jobs(namespace string) Objects[*batchv1.Job, *batchv1.JobList]
	Pods(namespace string) Pods
	Events(namespace string) Objects[*corev1.Event, *corev1.EventList]
	Secrets(namespace string) Objects[*corev1.Secret, *corev1.SecretList]
	ConfigMaps(namespace string) Objects[*corev1.ConfigMap, *corev1.ConfigMapList]
	ServiceAccounts(namespace string) Objects[*corev1.ServiceAccount, *corev1.ServiceAccountList]
	Namespaces() Objects[*corev1.Namespace, *corev1.NamespaceList]
}

// Objects accesses the objects of a kind like client-go's typed clients. Its errors are those of
// k8s.io/apimachinery/pkg/api/errors.
type Objects[T, L any] interface {
	Create(ctx context.Context, object T, options metav1.CreateOptions) (T, error)
	Update(ctx context.Context, object T, options metav1.UpdateOptions) (T, error)
	Delete(ctx context.Context, name string, options metav1.DeleteOptions) error
	Get(ctx context.Context, name string, options metav1.GetOptions) (T, error)
	List(ctx context.Context, options metav1.ListOptions) (L, error)
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
	Patch(ctx context.Context, name string, patchType types.PatchType, data []byte, options metav1.PatchOptions, subresources ...string) (T, error)
}

// Pods accesses pods and the logs of their containers.
type Pods interface {
	Objects[*corev1.Pod, *corev1.PodList]
	// GetLogs returns the request for a container's log.
	GetLogs(name string, options *corev1.PodLogOptions) *rest.Request
}

// Connect returns a client of this pod's cluster. The timeout bounds each call; 0 is unlimited, for watches.
func Connect(timeout time.Duration) (Client, error) {
	config, err := Config(timeout)
	if err != nil {
		return nil, err
	}
	return New(config)
}

// New returns a client for a configuration.
func New(config *rest.Config) (Client, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	if err := errors.Join(corev1.AddToScheme(scheme), batchv1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register Kubernetes' types: %w", err)
	}
	shared, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("create a client of Kubernetes' API: %w", err)
	}
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = rest.CodecFactoryForGeneratedClient(scheme, serializer.NewCodecFactory(scheme)).WithoutConversion()
	core, coreErr := connect(config, shared, corev1.SchemeGroupVersion, "/api")
	batch, batchErr := connect(config, shared, batchv1.SchemeGroupVersion, "/apis")
	return &client{core: core, batch: batch, parameters: runtime.NewParameterCodec(scheme)}, errors.Join(coreErr, batchErr)
}

func connect(config *rest.Config, shared *http.Client, version schema.GroupVersion, path string) (rest.Interface, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion, config.APIPath = &version, path
	connected, err := rest.RESTClientForConfigAndClient(config, shared)
	if err != nil {
		return nil, fmt.Errorf("create a client of Kubernetes' API %s: %w", version, err)
	}
	return connected, nil
}

type client struct {
	core, batch rest.Interface
	parameters  runtime.ParameterCodec
}

func (c *client) Jobs(namespace string) Objects[*batchv1.Job, *batchv1.JobList] {
	return newObjects[batchv1.Job, batchv1.JobList](c.batch, c.parameters, "jobs", namespace)
}

func (c *client) Pods(namespace string) Pods {
	return &pods{newObjects[corev1.Pod, corev1.PodList](c.core, c.parameters, "pods", namespace)}
}

func (c *client) Events(namespace string) Objects[*corev1.Event, *corev1.EventList] {
	return newObjects[corev1.Event, corev1.EventList](c.core, c.parameters, "events", namespace)
}

func (c *client) Secrets(namespace string) Objects[*corev1.Secret, *corev1.SecretList] {
	return newObjects[corev1.Secret, corev1.SecretList](c.core, c.parameters, "secrets", namespace)
}

func (c *client) ConfigMaps(namespace string) Objects[*corev1.ConfigMap, *corev1.ConfigMapList] {
	return newObjects[corev1.ConfigMap, corev1.ConfigMapList](c.core, c.parameters, "configmaps", namespace)
}

func (c *client) ServiceAccounts(namespace string) Objects[*corev1.ServiceAccount, *corev1.ServiceAccountList] {
	return newObjects[corev1.ServiceAccount, corev1.ServiceAccountList](c.core, c.parameters, "serviceaccounts", namespace)
}

func (c *client) Namespaces() Objects[*corev1.Namespace, *corev1.NamespaceList] {
	return newObjects[corev1.Namespace, corev1.NamespaceList](c.core, c.parameters, "namespaces", "")
}
