package console

// AttributesOfATask are the Attributes of the spans of a sequence dev.pipeline with one task test,
// whose one Job is Greet and has the file a.txt.
const AttributesOfATask = "" +
	"Greet: cicd.pipeline.action.name cicd.pipeline.name cicd.pipeline.run.id cicd.pipeline.task.name " +
	"cicd.pipeline.task.run.id cicd.pipeline.task.run.result k8s.job.name k8s.job.uid k8s.namespace.name " +
	"keptn.context keptn.project keptn.service keptn.stage keptn.task vcs.ref.head.revision\n" +
	"RUN dev.pipeline: cicd.pipeline.name cicd.pipeline.result cicd.pipeline.run.id keptn.context keptn.project " +
	"keptn.service keptn.stage\n" +
	"RUN test: cicd.pipeline.name cicd.pipeline.run.id cicd.pipeline.task.name cicd.pipeline.task.run.id " +
	"cicd.pipeline.task.run.result cicd.pipeline.task.run.url.full keptn.context keptn.project keptn.service keptn.stage keptn.task " +
	"vcs.ref.head.revision\n" +
	"create Jobs: job_executor.jobs\n" +
	"fetch files: k8s.node.name k8s.pod.name process.exit.code\n" +
	"pending: \n" +
	"process io.github.job-executor.job.completed: cloudevents.event_id cloudevents.event_source " +
	"cloudevents.event_type faas.coldstart messaging.message.id messaging.operation.type messaging.system\n" +
	"process sh.keptn.event.test.finished: cloudevents.event_id cloudevents.event_source cloudevents.event_type " +
	"faas.coldstart messaging.message.id messaging.operation.type messaging.system\n" +
	"process sh.keptn.event.test.started: cloudevents.event_id cloudevents.event_source cloudevents.event_type " +
	"faas.coldstart messaging.message.id messaging.operation.type messaging.system\n" +
	"process sh.keptn.event.test.triggered: cloudevents.event_id cloudevents.event_source cloudevents.event_type " +
	"faas.coldstart messaging.message.id messaging.operation.type messaging.system\n" +
	"read a.txt: job_executor.file.level\n" +
	"read job/config.yaml: job_executor.file.bytes job_executor.file.level vcs.ref.head.revision\n" +
	"read logs: \n" +
	"run: k8s.node.name k8s.pod.name process.exit.code\n" +
	"send io.github.job-executor.job.completed: cicd.pipeline.name cicd.pipeline.run.id cicd.pipeline.task.name " +
	"cicd.pipeline.task.run.id cloudevents.event_id cloudevents.event_source cloudevents.event_type k8s.job.name " +
	"k8s.namespace.name keptn.context keptn.project keptn.service keptn.stage keptn.task messaging.message.id " +
	"messaging.operation.type messaging.system vcs.ref.head.revision\n" +
	"send sh.keptn.event.test.finished: cicd.pipeline.name cicd.pipeline.run.id cicd.pipeline.task.name " +
	"cicd.pipeline.task.run.id cloudevents.event_id cloudevents.event_source cloudevents.event_type keptn.context " +
	"keptn.project keptn.service keptn.stage keptn.task messaging.message.id messaging.operation.type " +
	"messaging.system vcs.ref.head.revision\n" +
	"send sh.keptn.event.test.started: cicd.pipeline.name cicd.pipeline.run.id cicd.pipeline.task.name " +
	"cicd.pipeline.task.run.id cloudevents.event_id cloudevents.event_source cloudevents.event_type keptn.context " +
	"keptn.project keptn.service keptn.stage keptn.task messaging.message.id messaging.operation.type " +
	"messaging.system vcs.ref.head.revision\n" +
	"send sh.keptn.event.test.triggered: cicd.pipeline.name cicd.pipeline.run.id cicd.pipeline.task.name " +
	"cicd.pipeline.task.run.id cloudevents.event_id cloudevents.event_source cloudevents.event_type keptn.context " +
	"keptn.project keptn.service keptn.stage keptn.task messaging.message.id messaging.operation.type " +
	"messaging.system vcs.ref.head.revision\n"
