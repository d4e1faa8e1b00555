package cluster

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// object is a pointer to a Kubernetes object.
type object[V any] interface {
	*V
	runtime.Object
	metav1.Object
}

// list is a pointer to a list of objects.
type list[V any] interface {
	*V
	runtime.Object
}

// objects implements Objects with a REST client, like client-go's typed clients. Their base,
// k8s.io/client-go/gentype, has its fakes in the same package, which would link OpenAPI and structured merge.
type objects[V, M any, T object[V], L list[M]] struct {
	client     rest.Interface
	parameters runtime.ParameterCodec
	resource   string
	// namespace is empty for objects without a namespace.
	namespace string
}

func newObjects[V, M any, T object[V], L list[M]](client rest.Interface, parameters runtime.ParameterCodec, resource, namespace string) *objects[V, M, T, L] {
	return &objects[V, M, T, L]{client, parameters, resource, namespace}
}

func (o *objects[V, M, T, L]) of(request *rest.Request, options runtime.Object) *rest.Request {
	return request.UseProtobufAsDefault().NamespaceIfScoped(o.namespace, o.namespace != "").
		Resource(o.resource).VersionedParams(options, o.parameters)
}

func (o *objects[V, M, T, L]) Create(ctx context.Context, created T, options metav1.CreateOptions) (T, error) {
	result := T(new(V))
	return result, o.of(o.client.Post(), &options).Body(created).Do(ctx).Into(result)
}

func (o *objects[V, M, T, L]) Update(ctx context.Context, updated T, options metav1.UpdateOptions) (T, error) {
	result := T(new(V))
	return result, o.of(o.client.Put(), &options).Name(updated.GetName()).Body(updated).Do(ctx).Into(result)
}

func (o *objects[V, M, T, L]) Delete(ctx context.Context, name string, options metav1.DeleteOptions) error {
	return o.of(o.client.Delete(), &metav1.DeleteOptions{}).Name(name).Body(&options).Do(ctx).Error()
}

func (o *objects[V, M, T, L]) Get(ctx context.Context, name string, options metav1.GetOptions) (T, error) {
	result := T(new(V))
	return result, o.of(o.client.Get(), &options).Name(name).Do(ctx).Into(result)
}

func (o *objects[V, M, T, L]) List(ctx context.Context, options metav1.ListOptions) (L, error) {
	result := L(new(M))
	return result, o.of(o.client.Get(), &options).Do(ctx).Into(result)
}

func (o *objects[V, M, T, L]) Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	return o.of(o.client.Get(), &options).Watch(ctx)
}

func (o *objects[V, M, T, L]) Patch(
	ctx context.Context, name string, patchType types.PatchType, data []byte, options metav1.PatchOptions, subresources ...string,
) (T, error) {
	result := T(new(V))
	return result, o.of(o.client.Patch(patchType), &options).Name(name).SubResource(subresources...).Body(data).Do(ctx).Into(result)
}

type pods struct {
	*objects[corev1.Pod, corev1.PodList, *corev1.Pod, *corev1.PodList]
}

func (p *pods) GetLogs(name string, options *corev1.PodLogOptions) *rest.Request {
	return p.client.Get().Namespace(p.namespace).Resource(p.resource).Name(name).SubResource("log").VersionedParams(options, p.parameters)
}
