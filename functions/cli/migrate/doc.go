// Package migrate turns an installation of keptn-contrib/job-executor-service into an overlay of Job Executor and an ordered plan. It
// decides about every value of the chart, and never writes a secret.
package migrate
