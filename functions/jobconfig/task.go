package jobconfig

import (
	"math"

	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	// maxRetries bounds the retries of a task.
	maxRetries = 10
	// defaultPollDuration, defaultTTL and defaultVolumeSize are the defaults of an installation.
	defaultPollDuration, defaultTTL, defaultVolumeSize = 300, 21600, "20Mi"
)

func taskFields() []property[Task] {
	return []property[Task]{
		key("name", "The task's name in messages.", text(), func(t *Task) *string { return &t.Name }, example("Run locust")),
		key("files", "Files and folders of the project's repository that are copied to /keptn; / is all of them.", list(file()), func(t *Task) *[]string { return &t.Files },
			example([]string{"locust"})),
		key("image", "The container's image.", image(), func(t *Task) *string { return &t.Image }, example("locustio/locust:2.32.4")),
		key("imagePullPolicy", "When the image is pulled.", oneOf("Always", "IfNotPresent", "Never"), func(t *Task) *string { return &t.ImagePullPolicy }),
		key("cmd", "The command in place of the image's own: a list of words, or one word.", words(), func(t *Task) *[]string { return &t.Cmd }, example([]string{"locust"})),
		key("args", "Its arguments: a list of words, or one word.", words(), func(t *Task) *[]string { return &t.Args }, example([]string{"--headless", "--run-time=2m"})),
		key("workingDir", "The directory in which the command runs.", text(), func(t *Task) *string { return &t.WorkingDir }, example("/keptn")),
		key("env", "Environment variables.", list(defined("env", env())), func(t *Task) *[]Env { return &t.Env }),
		key("resources", "The container's limits and requests. They replace the installation's defaults as a whole.", optional(resources()), func(t *Task) **Resources { return &t.Resources }),
		key("maxPollDuration", "How long the task may take, in seconds.", integer(1, maxSeconds, " of seconds"), func(t *Task) **int64 { return &t.MaxPollDuration },
			otherwise(defaultPollDuration), example(900)),
		key("namespace", "The namespace of its Job: one of those that the installation allows.", nameOf("a namespace", labelNaming()), func(t *Task) *string { return &t.Namespace },
			example("keptn-jobs")),
		key("ttlSecondsAfterFinished", "How long its Job is kept once it was reported, in seconds; at least 60.", seconds(math.MinInt32), func(t *Task) **int32 { return &t.TTLSecondsAfterFinished },
			otherwise(defaultTTL), example(3600)),
		key("securityContext", "The container's security context. What it leaves out keeps the installation's default.", securityContext(),
			func(t *Task) *SecurityContext { return &t.SecurityContext }),
		key("serviceAccount", "The service account of its pod.", optional(nameOf("a service account", subdomainNaming())), func(t *Task) **string { return &t.ServiceAccount },
			example("helm")),
		key("annotations", "Annotations of its Job and pods.", annotations(), func(t *Task) *map[string]string { return &t.Annotations }, example(schema{"example.com/team": "shop"})),
		key("labels", "Labels of its Job and pods. (Extension.)", labels(reservedLabels()...), func(t *Task) *map[string]string { return &t.Labels }, example(schema{"team": "shop"})),
		key("imagePullSecrets", "Secrets for the image's registry, as names or as {name: …}. (Extension.)", list(pullSecret()), func(t *Task) *[]string { return &t.ImagePullSecrets },
			example([]string{"registry"})),
		key("nodeSelector", "Labels of the nodes on which it may run. (Extension.)", labels(), func(t *Task) *map[string]string { return &t.NodeSelector },
			example(schema{"kubernetes.io/arch": "amd64"})),
		key("tolerations", "Tolerations of its pod, as Kubernetes has them. (Extension.)", tolerations(), tolerationsOf),
		key("affinity", "The affinity of its pod, as Kubernetes has it. (Extension.)", affinity(), affinityOf),
		key("volumes", "PersistentVolumeClaims to mount. (Extension.)", volumes(), func(t *Task) *[]Volume { return &t.Volumes }),
		key("retries", "How often the task is tried again if it fails; a drained node does not count. (Extension.)", integer(0, maxRetries, ""), func(t *Task) **int64 { return &t.Retries },
			otherwise(0), example(1)),
		key("volumeSize", "The size limit of the volume at /keptn. (Extension.)", quantity(), func(t *Task) *string { return &t.VolumeSize }, otherwise(defaultVolumeSize), example("200Mi")),
	}
}

func task() kind[Task] {
	of := object(taskFields(), (*decoder).checkTask, func() schema {
		return schema{"type": "object", "required": []string{"image"}, "description": "One container, as a Kubernetes Job."}
	})
	return kind[Task]{of.schema, func(d *decoder, at yamlValue, into *Task) {
		into.line = at.node.Line
		of.read(d, at, into)
	}}
}

// checkTask adds a mistake for each required key that a task lacks.
func (d *decoder) checkTask(at yamlValue, _ members, task *Task) {
	if d.tasks++; d.tasks == maxTasks+1 {
		d.wrong(at, "exceeds the limit: the file has more than %d tasks", maxTasks)
	}
	if isMapOrNothing(at) && task.Image == "" && !d.hasMistake(at.path+".image") {
		d.wrong(at, "needs an image: image must be specified")
	}
}

func resources() kind[Resources] {
	amounts := object([]property[ResourceList]{
		key("cpu", "CPUs, or thousandths of one.", quantity(), func(l *ResourceList) *string { return &l.CPU }, example("500m")),
		key("memory", "Bytes.", quantity(), func(l *ResourceList) *string { return &l.Memory }, example("256Mi")),
	}, nil, nil)
	return object([]property[Resources]{
		key("limits", "The highest amounts that it may use.", amounts, func(r *Resources) *ResourceList { return &r.Limits }),
		key("requests", "The amounts that a node must have free.", amounts, func(r *Resources) *ResourceList { return &r.Requests }),
	}, (*decoder).compareResources, nil)
}

// compareResources refuses requests above the limits, as the API server does.
func (d *decoder) compareResources(at yamlValue, _ members, wanted *Resources) {
	for _, of := range []struct{ name, request, limit string }{
		{"cpu", wanted.Requests.CPU, wanted.Limits.CPU}, {"memory", wanted.Requests.Memory, wanted.Limits.Memory},
	} {
		request, requestErr := resource.ParseQuantity(of.request)
		limit, limitErr := resource.ParseQuantity(of.limit)
		if requestErr == nil && limitErr == nil && request.Cmp(limit) > 0 {
			d.wrong(at, "requests %s of %s, which exceeds its limit of %s", of.request, of.name, of.limit)
		}
	}
}
