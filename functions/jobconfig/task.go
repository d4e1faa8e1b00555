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
		key("name", "Name in messages.", text(), func(t *Task) *string { return &t.Name }, example("Run locust")),
		key("files", "Files and folders of the Git repository to copy to /keptn. / copies all of them. Wildcards are not supported.", list(file()), func(t *Task) *[]string { return &t.Files },
			example([]string{"locust"})),
		key("image", "Image of the container.", image(), func(t *Task) *string { return &t.Image }, example("locustio/locust:2.32.4")),
		key("imagePullPolicy", "When Kubernetes pulls the image.", oneOf("Always", "IfNotPresent", "Never"), func(t *Task) *string { return &t.ImagePullPolicy }, example("Always")),
		key("cmd", "Command that replaces the image's entrypoint: a list of words, or one word.", words(), func(t *Task) *[]string { return &t.Cmd }, example([]string{"locust"})),
		key("args", "Arguments of the command: a list of words, or one word. $(NAME) inserts a variable of env.", words(), func(t *Task) *[]string { return &t.Args }, example([]string{"--headless", "--run-time=2m"})),
		key("workingDir", "Directory in which the command runs.", text(), func(t *Task) *string { return &t.WorkingDir }, example("/keptn")),
		key("env", "Environment variables.", list(defined("env", env())), func(t *Task) *[]Env { return &t.Env },
			example([]schema{{"name": "LEVEL", "value": "debug", "valueFrom": ValueFromString}})),
		key("resources", "Limits and requests of the container. They replace all of the installation's defaults.", optional(resources()), func(t *Task) **Resources { return &t.Resources }),
		key("maxPollDuration", "Time limit of the task, in seconds. Then its container is stopped.", integer(1, maxSeconds, " of seconds"), func(t *Task) **int64 { return &t.MaxPollDuration },
			otherwise(defaultPollDuration), example(900)),
		key("namespace", "Namespace of the Job. The installation must allow it (JOB_NAMESPACES).", nameOf("a namespace", labelNaming()), func(t *Task) *string { return &t.Namespace },
			example("keptn-jobs")),
		key("ttlSecondsAfterFinished", "How long the Job is kept after its result was reported, in seconds; at least 60.", seconds(math.MinInt32), func(t *Task) **int32 { return &t.TTLSecondsAfterFinished },
			otherwise(defaultTTL), example(3600)),
		key("securityContext", "Security context of the container. Other fields keep the installation's defaults.", securityContext(),
			func(t *Task) *SecurityContext { return &t.SecurityContext }),
		key("serviceAccount", "Service account of the pod. An empty text means default.", optional(nameOf("a service account", subdomainNaming())), func(t *Task) **string { return &t.ServiceAccount },
			example("helm")),
		key("annotations", "Annotations of the Job and its pods: a map, or a list of maps.", annotations(), func(t *Task) *map[string]string { return &t.Annotations }, example(schema{"example.com/team": "shop"})),
		key("labels", "Labels of the Job and its pods. (Extension.)", labels(reservedLabels()...), func(t *Task) *map[string]string { return &t.Labels }, example(schema{"team": "shop"})),
		key("imagePullSecrets", "Secrets for the image's registry: names, or maps like {name: …}. (Extension.)", list(pullSecret()), func(t *Task) *[]string { return &t.ImagePullSecrets },
			example([]string{"registry"})),
		key("nodeSelector", "Labels of the nodes that may run the task. (Extension.)", labels(), func(t *Task) *map[string]string { return &t.NodeSelector },
			example(schema{"kubernetes.io/arch": "amd64"})),
		key("tolerations", "Tolerations of the pod, as in Kubernetes. (Extension.)", tolerations(), tolerationsOf,
			example([]schema{{"key": "dedicated", "operator": "Exists"}})),
		key("affinity", "Affinity of the pod, as in Kubernetes. (Extension.)", affinity(), affinityOf,
			example(schema{"podAntiAffinity": schema{"requiredDuringSchedulingIgnoredDuringExecution": []schema{{"topologyKey": "kubernetes.io/hostname"}}}})),
		key("volumes", "Existing PersistentVolumeClaims to mount. (Extension.)", volumes(), func(t *Task) *[]Volume { return &t.Volumes }),
		key("retries", "How often a failed task is retried, at most 10. Each attempt has the full time limit. An evicted pod is not a failure. (Extension.)", integer(0, maxRetries, ""), func(t *Task) **int64 { return &t.Retries },
			otherwise(0), example(1)),
		key("volumeSize", "Size limit of the volume at /keptn. (Extension.)", quantity(), func(t *Task) *string { return &t.VolumeSize }, otherwise(defaultVolumeSize), example("200Mi")),
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
		key("cpu", "CPUs, or thousandths of a CPU.", quantity(), func(l *ResourceList) *string { return &l.CPU }, example("500m")),
		key("memory", "Memory in bytes.", quantity(), func(l *ResourceList) *string { return &l.Memory }, example("256Mi")),
	}, nil, nil)
	return object([]property[Resources]{
		key("limits", "Highest amounts that the container may use.", amounts, func(r *Resources) *ResourceList { return &r.Limits }),
		key("requests", "Amounts that must be free on a node.", amounts, func(r *Resources) *ResourceList { return &r.Requests }),
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
