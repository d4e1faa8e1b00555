package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// images measures the size of the functions' images as a node pulls them: compressed, with their base.
func (b *bench) images(ctx context.Context) error {
	if _, err := b.sequences(ctx, 1); err != nil { // so that each function has a pod
		return err
	}
	pods, err := b.pods(ctx)
	if err != nil {
		return err
	}
	images := map[string]string{}
	for index := range pods {
		images[functionOf(&pods[index])] = pods[index].Spec.Containers[0].Image
	}
	for _, function := range slices.Sorted(maps.Keys(images)) {
		reference, err := name.ParseReference(images[function])
		if err != nil {
			return fmt.Errorf("read the name of an image: %w", err)
		}
		image, err := remote.Image(reference, remote.WithContext(ctx))
		if err != nil {
			return fmt.Errorf("ask the registry for %s: %w", reference, err)
		}
		manifest, err := image.Manifest()
		if err != nil {
			return fmt.Errorf("read the manifest of %s: %w", reference, err)
		}
		var size int64
		for _, layer := range manifest.Layers {
			size += layer.Size
		}
		const megabyte = 1e6
		b.report.add("image of "+function+", compressed", "MB", "", float64(size)/megabyte)
	}
	return nil
}
