package cli

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// calm is how long a watch waits for further changes before it looks: a Job and its pods change together.
const calm = 200 * time.Millisecond

// watch calls look at once, after each change of a selected Job or pod in a namespace, and at an interval (0 for never). It
// returns when look is done or fails. The end of the context is not an error.
func watch(ctx context.Context, client kubernetes.Interface, namespace, selector string, interval time.Duration, look func(context.Context) (done bool, err error)) error {
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	note := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = selector }))
	handler := cache.ResourceEventHandlerFuncs{AddFunc: func(any) { note() }, UpdateFunc: func(any, any) { note() }, DeleteFunc: func(any) { note() }}
	for _, informer := range []cache.SharedIndexInformer{factory.Batch().V1().Jobs().Informer(), factory.Core().V1().Pods().Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer stop()
	var ticks <-chan time.Time
	if interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-ticks:
		}
		done, err := look(ctx)
		if done || err != nil && ctx.Err() == nil {
			return err
		}
		if err := pause(ctx, calm); err != nil {
			return nil
		}
	}
}

// pause waits, and returns the error of a context that ends first.
func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(length):
		return nil
	}
}
