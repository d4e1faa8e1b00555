package jobconfig

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// pullSecret is a name, or as Kubernetes has it, {name: …}.
func pullSecret() kind[string] {
	name := required("a Secret")
	of := object([]property[string]{
		key("name", "Its name.", name, func(s *string) *string { return s }),
	}, func(d *decoder, at yamlValue, given members, _ *string) {
		if given["name"].node == nil {
			d.wrong(at, "needs the name of a Secret")
		}
	}, func() schema { return schema{"type": "object", "required": []string{"name"}} })
	return kind[string]{func() schema { return schema{"anyOf": []schema{name.schema(), of.schema()}} }, func(d *decoder, at yamlValue, into *string) {
		if at.node.Kind == yaml.MappingNode {
			of.read(d, at, into)
		} else {
			name.read(d, at, into)
		}
	}}
}

func tolerationsOf(task *Task) *[]corev1.Toleration { return &task.Tolerations }

func affinityOf(task *Task) **corev1.Affinity { return &task.Affinity }

func tolerations() kind[[]corev1.Toleration] {
	return list(kubernetes(func(d *decoder, at yamlValue, toleration *corev1.Toleration) {
		d.refused(at, ValidateToleration(toleration, nil))
	}))
}

func affinity() kind[*corev1.Affinity] {
	return kubernetes(func(d *decoder, at yamlValue, affinity **corev1.Affinity) {
		if *affinity != nil {
			d.refused(at, ValidateAffinity(*affinity, nil))
		}
	})
}

// refused adds the API server's objections as mistakes.
func (d *decoder) refused(at yamlValue, wrong field.ErrorList) {
	slices.SortStableFunc(wrong, func(one, other *field.Error) int { return cmp.Compare(one.Field, other.Field) }) // the same message again
	for _, problem := range wrong {
		place := strings.Trim(strings.TrimPrefix(problem.Field, "<nil>"), ".")
		d.wrong(at, "would be rejected by Kubernetes: %s: %s", place, problem.ErrorBody())
	}
}

func volumes() kind[[]Volume] {
	of := list(volume())
	return kind[[]Volume]{of.schema, func(d *decoder, at yamlValue, into *[]Volume) {
		of.read(d, at, into)
		paths := map[string]bool{}
		for index, volume := range *into {
			if clean := path.Clean(volume.MountPath); volume.MountPath != "" && paths[clean] {
				d.wrong(at.item(index), "is mounted at %s, which another volume already uses", clean)
			} else {
				paths[clean] = true
			}
		}
	}}
}

func volume() kind[Volume] {
	const root = `^(/+\.)*/*(keptn(/+\.)*/*)?$`
	isRoot := []schema{{"not": schema{"type": "string", "pattern": root}}, {"not": schema{"type": "string", "pattern": `(^|/)\.\.(/|$)`}}}
	return object([]property[Volume]{
		key("claim", "Name of the claim.", required("a PersistentVolumeClaim"), func(v *Volume) *string { return &v.Claim }, example("maven-cache")),
		key("mountPath", "Absolute path in the container; not / or /keptn.", text(), func(v *Volume) *string { return &v.MountPath },
			schema{"type": "string", "pattern": "^/[^:]*$", "allOf": isRoot}, message("must be an absolute path without : and .., and not / or /keptn"), example("/cache")),
		key("subPath", "Folder of the volume to mount.", text(), func(v *Volume) *string { return &v.SubPath },
			schema{"allOf": []schema{below()}}, message("must be a relative path without .."), example("team")),
		key("readOnly", "Mounts the volume read-only.", toggle(), func(v *Volume) *bool { return &v.ReadOnly }, example(true)),
	}, func(d *decoder, at yamlValue, _ members, volume *Volume) {
		switch mount := path.Clean(volume.MountPath); {
		case volume.Claim == "" || !path.IsAbs(volume.MountPath) || strings.Contains(mount, ":"):
			d.wrong(at, "needs a claim and a mountPath, for example /data")
		case mount == "/" || mount == "/keptn":
			d.wrong(at, "cannot be mounted at %s", mount)
		case climbs(volume.MountPath):
			d.wrong(at, "has a mountPath with ..: %q", cut(volume.MountPath))
		case !isBelow(volume.SubPath):
			d.wrong(at, "has a subPath outside of the volume: %q", cut(volume.SubPath))
		}
	}, func() schema { return schema{"type": "object", "required": []string{"claim", "mountPath"}} })
}

// isBelow reports whether a path stays below the folder that it is relative to, as Kubernetes requires.
func isBelow(relative string) bool {
	return !strings.HasPrefix(relative, "/") && !climbs(relative)
}

// climbs reports whether a path contains the parent of a folder.
func climbs(name string) bool { return strings.Contains("/"+name+"/", "/../") }

func below() schema { return schema{"not": schema{"type": "string", "pattern": `^/|(^|/)\.\.(/|$)`}} }
