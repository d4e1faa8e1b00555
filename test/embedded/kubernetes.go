package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	batchclient "k8s.io/client-go/kubernetes/typed/batch/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	fakerest "k8s.io/client-go/rest/fake"
	clienttesting "k8s.io/client-go/testing"
)

var (
	jobsResource = batchv1.SchemeGroupVersion.WithResource("jobs")
	podsResource = corev1.SchemeGroupVersion.WithResource("pods")
)

// Kubernetes is client-go's fake clientset with the visible behaviour of the API server, the Job controller and
// the kubelet.
type Kubernetes struct {
	options KubernetesOptions
	client  *fake.Clientset
	tracker clienttesting.ObjectTracker

	// writes makes reading and writing a Job atomic.
	writes sync.Mutex

	mutex sync.Mutex
	jobs  map[types.UID]*managed
	logs  map[logKey]*containerLog
	// labelled has the names of Jobs and pods by indexed label and value.
	labelled map[string]map[types.NamespacedName]bool
	group    sync.WaitGroup
}

// KubernetesOptions are the settings of a Kubernetes.
type KubernetesOptions struct {
	// Context stops everything.
	Context context.Context
	// Runtime runs containers.
	Runtime Runtime
	// Directory has a directory for each pod's volume.
	Directory string
	// NewID creates uids and the random part of pods' names.
	NewID func() string
	// Delay returns the duration of a step of the control plane or the kubelet, such as "schedule"; nil is 0.
	Delay func(step, name string) time.Duration
	// Started is called for each started pod of a Job.
	Started func(job *batchv1.Job)
	// Fate returns the fate of a Job's pod; nil is Runs.
	Fate func(job *batchv1.Job) Fate
	// Reachable reports whether watches receive events; nil is always.
	Reachable func() bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Endless reports whether the log of a pod never ends, as if its container printed faster than
	// anybody reads. Nil means that all logs end.
	Endless func(pod string) bool
}

// Fate is the fate of a pod.
type Fate int

const (
	// Runs is a pod whose containers decide.
	Runs Fate = iota
	// Refused is a pod that is not admitted.
	Refused
	// Unschedulable is a pod without a suitable node.
	Unschedulable
	// Unpullable is a pod whose image does not exist.
	Unpullable
	// NodeLost is a pod on a lost node. Neither it nor its Job can end until the node is back.
	NodeLost
)

type logKey struct{ namespace, pod, container string }

// NewKubernetes returns a cluster with these objects.
func NewKubernetes(options KubernetesOptions, objects ...runtime.Object) (*Kubernetes, error) {
	if options.Delay == nil {
		options.Delay = func(string, string) time.Duration { return 0 }
	}
	if options.Started == nil {
		options.Started = func(*batchv1.Job) {}
	}
	if options.Fate == nil {
		options.Fate = func(*batchv1.Job) Fate { return Runs }
	}
	if options.Reachable == nil {
		options.Reachable = func() bool { return true }
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Endless == nil {
		options.Endless = func(string) bool { return false }
	}
	// fake.NewClientset's field management would take most of a simulation's time, and nothing here applies
	// objects.
	tracker := clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	cluster := &Kubernetes{
		options: options, client: &fake.Clientset{}, tracker: tracker,
		jobs: map[types.UID]*managed{}, logs: map[logKey]*containerLog{}, labelled: map[string]map[types.NamespacedName]bool{},
	}
	for _, object := range objects {
		if err := tracker.Add(object); err != nil {
			return nil, fmt.Errorf("add an object: %w", err)
		}
	}
	cluster.client.AddReactor("create", "jobs", cluster.createJob)
	cluster.client.AddReactor("create", "pods/eviction", cluster.podEvicted)
	cluster.client.AddReactor("create", "pods", tryPod)
	cluster.client.AddReactor("list", "jobs", cluster.listLabelled)
	cluster.client.AddReactor("list", "pods", cluster.listLabelled)
	cluster.client.AddReactor("patch", "jobs", cluster.patchJob)
	cluster.client.AddReactor("delete", "jobs", cluster.deleteJob)
	cluster.client.AddReactor("delete", "pods", cluster.podDeleted)
	cluster.client.AddReactor("create", "secrets", cluster.dateSecret)
	cluster.client.AddReactor("update", "secrets", cluster.dateSecret)
	cluster.client.AddReactor("*", "*", clienttesting.ObjectReaction(tracker))
	cluster.client.AddWatchReactor("*", func(action clienttesting.Action) (bool, watch.Interface, error) {
		watcher, err := tracker.Watch(action.GetResource(), action.GetNamespace())
		if err != nil {
			return true, nil, err
		}
		return true, cluster.late(watcher, action.GetNamespace()), nil
	})
	return cluster, nil
}

// late is a watch with a delay, so that its view is never current. While the API server is unreachable it
// receives nothing, and afterwards only the current state, like a new list.
func (k *Kubernetes) late(watcher watch.Interface, namespace string) watch.Interface {
	events := make(chan watch.Event)
	proxy := watch.NewProxyWatcher(events)
	context.AfterFunc(k.options.Context, proxy.Stop)
	k.group.Go(func() {
		defer close(events)
		defer watcher.Stop()
		var queue []watch.Event
		var due <-chan time.Time
		for unreached := false; ; {
			select {
			case happened := <-watcher.ResultChan():
				queue = append(queue, happened)
				if due == nil {
					due = time.After(k.options.Delay("watch", namespace))
				}
				continue
			case <-proxy.StopChan():
				return
			case <-due:
			}
			if !k.options.Reachable() {
				unreached, due = true, time.After(unreachedPause)
				continue
			}
			if unreached {
				queue = latest(queue)
			}
			for _, happened := range queue {
				time.Sleep(k.options.Delay("event", namespace))
				select {
				case events <- happened:
				case <-proxy.StopChan():
					return
				}
			}
			queue, due, unreached = nil, nil, false
		}
	})
	return proxy
}

const unreachedPause = 100 * time.Millisecond

// latest is the latest event of each object.
func latest(queue []watch.Event) []watch.Event {
	first, last := map[string]watch.EventType{}, map[string]int{}
	nameOf := func(happened watch.Event) string {
		object, err := meta.Accessor(happened.Object)
		if err != nil {
			return ""
		}
		return object.GetNamespace() + "/" + object.GetName()
	}
	for index, happened := range queue {
		name := nameOf(happened)
		if _, ok := first[name]; !ok {
			first[name] = happened.Type
		}
		last[name] = index
	}
	var kept []watch.Event
	for index, happened := range queue {
		name := nameOf(happened)
		switch {
		case last[name] != index, first[name] == watch.Added && happened.Type == watch.Deleted:
			continue
		case first[name] == watch.Added:
			happened.Type = watch.Added
		case happened.Type == watch.Added:
			happened.Type = watch.Modified // deleted meanwhile and created again
		}
		kept = append(kept, happened)
	}
	return kept
}

// Wait waits until everything has ended after the context.
func (k *Kubernetes) Wait() { k.group.Wait() }

// React adds a reaction before the cluster's own, as in client-go's fakes.
func (k *Kubernetes) React(verb, resource string, reaction clienttesting.ReactionFunc) {
	k.client.PrependReactor(verb, resource, reaction)
}

func (k *Kubernetes) createJob(action clienttesting.Action) (bool, runtime.Object, error) {
	create, ok := action.(clienttesting.CreateActionImpl)
	job, isJob := create.Object.(*batchv1.Job)
	if !ok || !isJob {
		return false, nil, nil
	}
	if err := validate(job); err != nil {
		return true, nil, err
	}
	job.UID, job.Generation = types.UID(k.options.NewID()), 1
	job.CreationTimestamp = k.now()
	if job.Spec.BackoffLimit == nil {
		job.Spec.BackoffLimit = new(int32(defaultBackoffLimit))
	}
	for name, value := range map[string]string{batchv1.JobNameLabel: job.Name, batchv1.ControllerUidLabel: string(job.UID)} {
		metav1.SetMetaDataLabel(&job.Spec.Template.ObjectMeta, name, value)
	}
	if err := k.tracker.Create(jobsResource, job, job.Namespace); err != nil {
		return true, nil, err
	}
	k.index(&job.ObjectMeta, true)
	k.manage(job)
	return true, job.DeepCopy(), nil
}

// patchJob checks a patch like the API server: one with another uid is invalid.
func (k *Kubernetes) patchJob(action clienttesting.Action) (bool, runtime.Object, error) {
	patch, ok := action.(clienttesting.PatchActionImpl)
	if !ok {
		return false, nil, nil
	}
	var change struct {
		Metadata struct {
			UID types.UID `json:"uid"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(patch.Patch, &change); err != nil {
		return true, nil, apierrors.NewBadRequest(err.Error())
	}
	k.writes.Lock()
	defer k.writes.Unlock()
	job, err := k.job(patch.GetNamespace(), patch.GetName())
	if err != nil {
		return true, nil, err
	}
	if change.Metadata.UID != "" && change.Metadata.UID != job.UID {
		return true, nil, apierrors.NewInvalid(batchv1.SchemeGroupVersion.WithKind("Job").GroupKind(), job.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "uid"), change.Metadata.UID, "field is immutable"),
		})
	}
	handled, object, err := clienttesting.ObjectReaction(k.tracker)(action)
	if err == nil {
		k.changed(job.UID)
	}
	return handled, object, err
}

// dateSecret records when a Secret was created, or its data changed, like the API server.
func (k *Kubernetes) dateSecret(action clienttesting.Action) (bool, runtime.Object, error) {
	create, ok := action.(clienttesting.CreateActionImpl) // an update has the same structure
	if update, isUpdate := action.(clienttesting.UpdateActionImpl); isUpdate {
		create.Object, ok = update.Object, true
	}
	secret, isSecret := create.Object.(*corev1.Secret)
	if !ok || !isSecret {
		return false, nil, nil
	}
	now := k.now()
	if secret.CreationTimestamp.IsZero() {
		secret.CreationTimestamp = now
	}
	secret.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "others", Operation: metav1.ManagedFieldsOperationUpdate, Time: &now, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:data":{}}`)},
	}}
	return false, nil, nil
}

func (k *Kubernetes) deleteJob(action clienttesting.Action) (bool, runtime.Object, error) {
	deletion, ok := action.(clienttesting.DeleteActionImpl)
	if !ok {
		return false, nil, nil
	}
	job, err := k.job(deletion.GetNamespace(), deletion.GetName())
	if err != nil {
		return true, nil, err
	}
	if preconditions := deletion.DeleteOptions.Preconditions; preconditions != nil && preconditions.UID != nil && *preconditions.UID != job.UID {
		return true, nil, apierrors.NewConflict(jobsResource.GroupResource(), job.Name, fmt.Errorf("the UID in the precondition is not the object's"))
	}
	k.remove(job)
	return true, nil, nil
}

// podDeleted tells a pod's Job that the pod is being deleted.
func (k *Kubernetes) podDeleted(action clienttesting.Action) (bool, runtime.Object, error) {
	removed, ok := action.(clienttesting.DeleteActionImpl)
	if !ok {
		return false, nil, nil
	}
	return true, nil, k.removePod(removed.GetNamespace(), removed.GetName(), deletion)
}

// podEvicted tells a pod's Job that the pod is evicted, for example by a drain.
func (k *Kubernetes) podEvicted(action clienttesting.Action) (bool, runtime.Object, error) {
	create, ok := action.(clienttesting.CreateActionImpl)
	evicted, isEviction := create.Object.(*policyv1.Eviction)
	if !ok || !isEviction {
		return false, nil, nil
	}
	return true, evicted, k.removePod(evicted.Namespace, evicted.Name, eviction)
}

func (k *Kubernetes) removePod(namespace, name string, how removal) error {
	object, err := k.tracker.Get(podsResource, namespace, name)
	if err != nil {
		return err
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if handle := k.jobs[metav1.GetControllerOf(object.(*corev1.Pod)).UID]; handle != nil {
		select {
		case handle.podDeleted <- how:
		default:
		}
	}
	return nil
}

// remove deletes a Job with its pods.
func (k *Kubernetes) remove(job *batchv1.Job) {
	_ = k.tracker.Delete(jobsResource, job.Namespace, job.Name) // it existed a moment ago
	k.index(&job.ObjectMeta, false)
	k.changed(job.UID)
}

func (k *Kubernetes) job(namespace, name string) (*batchv1.Job, error) {
	object, err := k.tracker.Get(jobsResource, namespace, name)
	if err != nil {
		return nil, err
	}
	return object.(*batchv1.Job).DeepCopy(), nil
}

// indexedLabels are the labels by which functions list Jobs and pods.
var indexedLabels = []string{"keptn.sh/event-id", batchv1.JobNameLabel, "app.kubernetes.io/managed-by"}

func (k *Kubernetes) index(object *metav1.ObjectMeta, present bool) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for _, label := range indexedLabels {
		value, ok := object.Labels[label]
		if !ok {
			continue
		}
		key, name := label+"="+value, types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
		switch {
		case !present:
			delete(k.labelled[key], name)
			if len(k.labelled[key]) == 0 {
				delete(k.labelled, key)
			}
		case k.labelled[key] == nil:
			k.labelled[key] = map[types.NamespacedName]bool{name: true}
		default:
			k.labelled[key][name] = true
		}
	}
}

// listLabelled lists by label with an index. The fake clientset would read everything.
func (k *Kubernetes) listLabelled(action clienttesting.Action) (bool, runtime.Object, error) {
	list, ok := action.(clienttesting.ListActionImpl)
	if !ok {
		return false, nil, nil
	}
	requirements, _ := list.GetListRestrictions().Labels.Requirements()
	for _, label := range indexedLabels {
		for _, requirement := range requirements {
			if requirement.Key() != label || requirement.Values().Len() != 1 {
				continue
			}
			value, _ := requirement.Values().PopAny()
			return true, k.listed(list.GetResource(), list.GetNamespace(), label+"="+value, list.GetListRestrictions().Labels), nil
		}
	}
	return false, nil, nil
}

func (k *Kubernetes) listed(resource schema.GroupVersionResource, namespace, key string, selector labels.Selector) runtime.Object {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	jobs, pods := &batchv1.JobList{}, &corev1.PodList{}
	for _, name := range slices.SortedFunc(maps.Keys(k.labelled[key]), func(one, other types.NamespacedName) int {
		return strings.Compare(one.String(), other.String()) // as the API server does
	}) {
		if namespace != "" && name.Namespace != namespace {
			continue
		}
		object, err := k.tracker.Get(resource, name.Namespace, name.Name)
		if err != nil {
			continue // of the other kind
		}
		switch found := object.(type) {
		case *batchv1.Job:
			if selector.Matches(labels.Set(found.Labels)) {
				jobs.Items = append(jobs.Items, *found.DeepCopy())
			}
		case *corev1.Pod:
			if selector.Matches(labels.Set(found.Labels)) {
				pods.Items = append(pods.Items, *found.DeepCopy())
			}
		}
	}
	if resource == podsResource {
		return pods
	}
	return jobs
}

// Call makes one call of the Kubernetes API. It may call do, or fail before or
// after it did.
type Call func(ctx context.Context, operation string, do func() error) error

// Client returns the cluster as one program sees it. Each call of Jobs and pods, but not watches, goes through
// call; a nil call does nothing.
func (k *Kubernetes) Client(call Call) kubernetes.Interface {
	if call == nil {
		call = func(_ context.Context, _ string, do func() error) error { return do() }
	}
	return &client{Interface: k.client, cluster: k, call: call}
}

type client struct {
	kubernetes.Interface
	cluster *Kubernetes
	call    Call
}

func (c *client) BatchV1() batchclient.BatchV1Interface {
	return &batch{c.Interface.BatchV1(), c}
}

func (c *client) CoreV1() coreclient.CoreV1Interface {
	return &core{c.Interface.CoreV1(), c}
}

type batch struct {
	batchclient.BatchV1Interface
	client *client
}

func (b *batch) Jobs(namespace string) batchclient.JobInterface {
	return &jobs{b.BatchV1Interface.Jobs(namespace), b.client, namespace}
}

// jobs passes each call that functions make through the client's; the informer's
// list is one of all Jobs.
type jobs struct {
	batchclient.JobInterface
	client    *client
	namespace string
}

func result[Object any](ctx context.Context, c *client, operation string, do func() (Object, error)) (object Object, err error) {
	err = c.call(ctx, operation, func() (err error) {
		object, err = do()
		return err
	})
	return object, err
}

func (j *jobs) Get(ctx context.Context, name string, options metav1.GetOptions) (*batchv1.Job, error) {
	return result(ctx, j.client, "get job "+name, func() (*batchv1.Job, error) { return j.JobInterface.Get(ctx, name, options) })
}

func (j *jobs) List(ctx context.Context, options metav1.ListOptions) (*batchv1.JobList, error) {
	return result(ctx, j.client, "list jobs "+options.LabelSelector+" in "+j.namespace, func() (*batchv1.JobList, error) { return j.JobInterface.List(ctx, options) })
}

func (j *jobs) Create(ctx context.Context, job *batchv1.Job, options metav1.CreateOptions) (*batchv1.Job, error) {
	return result(ctx, j.client, "create job "+job.Name, func() (*batchv1.Job, error) {
		return j.JobInterface.Create(ctx, job.DeepCopy(), options)
	})
}

func (j *jobs) Patch(ctx context.Context, name string, kind types.PatchType, change []byte, options metav1.PatchOptions, subresources ...string) (*batchv1.Job, error) {
	return result(ctx, j.client, "patch job "+name, func() (*batchv1.Job, error) {
		return j.JobInterface.Patch(ctx, name, kind, change, options, subresources...)
	})
}

func (j *jobs) Delete(ctx context.Context, name string, options metav1.DeleteOptions) error {
	return j.client.call(ctx, "delete job "+name, func() error { return j.JobInterface.Delete(ctx, name, options) })
}

type core struct {
	coreclient.CoreV1Interface
	client *client
}

func (c *core) Pods(namespace string) coreclient.PodInterface {
	return &pods{c.CoreV1Interface.Pods(namespace), c.client, namespace}
}

type pods struct {
	coreclient.PodInterface
	client    *client
	namespace string
}

func (p *pods) List(ctx context.Context, options metav1.ListOptions) (*corev1.PodList, error) {
	return result(ctx, p.client, "list pods "+options.LabelSelector, func() (*corev1.PodList, error) { return p.PodInterface.List(ctx, options) })
}

func (c *core) Events(namespace string) coreclient.EventInterface {
	return &events{c.CoreV1Interface.Events(namespace), c.client}
}

type events struct {
	coreclient.EventInterface
	client *client
}

func (e *events) List(ctx context.Context, options metav1.ListOptions) (*corev1.EventList, error) {
	return result(ctx, e.client, "list events "+options.FieldSelector, func() (*corev1.EventList, error) { return e.EventInterface.List(ctx, options) })
}

func (c *core) Secrets(namespace string) coreclient.SecretInterface {
	return &secrets{c.CoreV1Interface.Secrets(namespace), c.client}
}

type secrets struct {
	coreclient.SecretInterface
	client *client
}

func (s *secrets) Get(ctx context.Context, name string, options metav1.GetOptions) (*corev1.Secret, error) {
	return result(ctx, s.client, "get secret "+name, func() (*corev1.Secret, error) { return s.SecretInterface.Get(ctx, name, options) })
}

// GetLogs returns a request for a container's output so far.
func (p *pods) GetLogs(name string, options *corev1.PodLogOptions) *rest.Request {
	read := func(request *http.Request) (*http.Response, error) {
		content, err := result(request.Context(), p.client, "log "+name+" "+options.Container, func() ([]byte, error) {
			return p.client.cluster.log(logKey{p.namespace, name, options.Container})
		})
		if err != nil {
			return nil, err
		}
		if content == nil {
			refusal, err := json.Marshal(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonBadRequest, Code: http.StatusBadRequest})
			return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(refusal))}, err
		}
		var body io.Reader = bytes.NewReader(content)
		if p.client.cluster.options.Endless(name) {
			body = io.MultiReader(body, endless{request.Context()})
		}
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(body)}, nil
	}
	return (&fakerest.RESTClient{
		Client: fakerest.CreateHTTPClient(read), NegotiatedSerializer: scheme.Codecs.WithoutConversion(), GroupVersion: corev1.SchemeGroupVersion,
		VersionedAPIPath: "/api/v1/namespaces/" + p.namespace + "/pods/" + name + "/log",
	}).Request()
}

// endless is a log to which a line is added every second.
type endless struct{ ctx context.Context }

// Read waits for the next line, or returns why the context ended.
func (e endless) Read(into []byte) (int, error) {
	select {
	case <-e.ctx.Done():
		return 0, context.Cause(e.ctx)
	case <-time.After(time.Second):
		return copy(into, "still at work\n"), nil
	}
}

// now returns Kubernetes' time, in whole seconds.
func (k *Kubernetes) now() metav1.Time {
	return metav1.Time{Time: k.options.Now().Truncate(time.Second)}
}

// until returns the duration until a time, by the cluster's clock.
func (k *Kubernetes) until(at time.Time) time.Duration { return at.Sub(k.options.Now()) }
