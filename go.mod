module github.com/job-executor/job-executor

go 1.26.0

require (
	github.com/agnivade/levenshtein v1.2.2 // did you mean
	github.com/caarlos0/env/v11 v11.4.2 // configuration from the environment, in place of kelseyhightower/envconfig, which is abandoned
	github.com/cloudevents/sdk-go/v2 v2.16.2 // events
	github.com/distribution/reference v0.6.0 // names of images
	github.com/go-git/go-git/v5 v5.19.3 // tests: Keptn's Git repositories
	github.com/go-jose/go-jose/v4 v4.1.9 // grants, as JWT
	github.com/gobwas/glob v1.1.0 // patterns, in job/config.yaml as JES has them; maintained again since v1
	github.com/google/go-cmp v0.7.0 // tests: differences
	github.com/google/go-containerregistry v0.20.3 // tests: the cluster's registry
	github.com/google/uuid v1.6.0 // ids
	github.com/hashicorp/golang-lru/v2 v2.0.7 // memory that is bounded
	github.com/keptn/go-utils v0.20.4 // Keptn's types; archived as Keptn v1 itself is
	github.com/nats-io/jwt/v2 v2.8.3 // tests: credentials for NATS
	github.com/nats-io/nats-server/v2 v2.15.3 // tests: a real JetStream
	github.com/nats-io/nats.go v1.55.0 // Keptn's stream of events
	github.com/nats-io/nkeys v0.4.17 // credentials for NATS
	github.com/prometheus/client_golang v1.24.1 // metrics of what always runs
	github.com/prometheus/otlptranslator v1.0.0 // their names
	github.com/rickb777/date v1.13.0 // tests: periods, as Knative itself reads them with this version
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // tests: the JSON Schema of job/config.yaml
	github.com/secure-systems-lab/go-securesystemslib v0.11.1 // tests: signatures are DSSE's
	github.com/spdx/tools-golang v0.5.7 // tests: SBOMs of a release
	github.com/spf13/cobra v1.10.2 // command lines
	github.com/spf13/pflag v1.0.10 // the same
	github.com/theory/jsonpath v0.12.3 // JSONPath of RFC 9535, in place of PaesslerAG/jsonpath, whose evaluator has the linker keep every method in the image
	go.opentelemetry.io/otel v1.45.0 // traces and metrics, with the newest semantic conventions
	go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp v1.45.0 // the same
	go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp v1.45.0 // the same
	go.opentelemetry.io/otel/exporters/prometheus v0.67.0 // the same
	go.opentelemetry.io/otel/metric v1.45.0 // the same
	go.opentelemetry.io/otel/sdk v1.45.0 // the same
	go.opentelemetry.io/otel/sdk/metric v1.45.0 // the same
	go.opentelemetry.io/otel/trace v1.45.0 // the same
	go.uber.org/zap v1.27.1 // the logger of Knative's filters
	go.yaml.in/yaml/v4 v4.0.0 // YAML with the places of mistakes
	golang.org/x/net v0.62.0 // which texts may be headers
	golang.org/x/oauth2 v0.36.0 // tokens for Keptn's API
	golang.org/x/sync v0.24.0 // what runs at the same time
	golang.org/x/term v0.47.0 // the width of a terminal
	k8s.io/api v0.34.4 // Kubernetes, of the release that Knative has
	k8s.io/apimachinery v0.34.4 // the same
	k8s.io/cli-runtime v0.34.4 // flags and output like kubectl's
	k8s.io/client-go v0.34.4 // clients of Kubernetes
	k8s.io/klog/v2 v2.130.1 // what client-go logs comes into our log
	k8s.io/pod-security-admission v0.34.4 // what a namespace lets in, as Kubernetes itself decides it
	knative.dev/eventing v0.48.2 // tests: Knative's types and filters
	knative.dev/pkg v0.0.0-20260120122510-4a022ed9999a // tests: the same
	knative.dev/serving v0.48.0 // tests: the same
	sigs.k8s.io/json v0.0.0-20241014173422-cfa47c3a1cc8 // Kubernetes objects, strictly
	sigs.k8s.io/kustomize/api v0.20.1 // overlays, as kubectl builds them
	sigs.k8s.io/kustomize/kyaml v0.20.1 // the same
	sigs.k8s.io/yaml v1.6.0 // objects of Kubernetes as YAML
)

require (
	dario.cat/mergo v1.0.0 // indirect
	github.com/Azure/go-ansiterm v0.0.0-20230124172434-306776ec8161 // indirect
	github.com/Microsoft/go-winio v0.6.2 // indirect
	github.com/ProtonMail/go-crypto v1.1.6 // indirect
	github.com/anchore/go-struct-converter v0.1.0 // indirect
	github.com/antithesishq/antithesis-sdk-go v0.9.0-default-no-op // indirect
	github.com/antlr/antlr4/runtime/Go/antlr v1.4.10 // indirect
	github.com/avast/retry-go v3.0.0+incompatible // indirect
	github.com/benbjohnson/clock v1.3.5 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/blang/semver/v4 v4.0.0 // indirect
	github.com/blendle/zapdriver v1.3.1 // indirect
	github.com/cenkalti/backoff/v5 v5.0.3 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cloudevents/sdk-go/observability/opentelemetry/v2 v2.16.1 // indirect
	github.com/cloudevents/sdk-go/sql/v2 v2.0.0-20240712172937-3ce6b2f1f011 // indirect
	github.com/cloudflare/circl v1.6.3 // indirect
	github.com/containerd/stargz-snapshotter/estargz v0.16.3 // indirect
	github.com/cyphar/filepath-securejoin v0.6.1 // indirect
	github.com/davecgh/go-spew v1.1.2-0.20180830191138-d8f796af33cc // indirect
	github.com/docker/cli v29.0.0+incompatible // indirect
	github.com/docker/distribution v2.8.3+incompatible // indirect
	github.com/docker/docker-credential-helpers v0.9.3 // indirect
	github.com/emicklei/go-restful/v3 v3.12.2 // indirect
	github.com/emirpasic/gods v1.18.1 // indirect
	github.com/evanphx/json-patch/v5 v5.9.11 // indirect
	github.com/felixge/httpsnoop v1.0.4 // indirect
	github.com/fxamacker/cbor/v2 v2.9.0 // indirect
	github.com/go-errors/errors v1.4.2 // indirect
	github.com/go-git/gcfg v1.5.1-0.20230307220236-3a3c6141e376 // indirect
	github.com/go-git/go-billy/v5 v5.9.2 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/go-openapi/jsonpointer v0.21.0 // indirect
	github.com/go-openapi/jsonreference v0.21.0 // indirect
	github.com/go-openapi/swag v0.23.0 // indirect
	github.com/gogo/protobuf v1.3.2 // indirect
	github.com/golang/groupcache v0.0.0-20241129210726-2c02b8208cf8 // indirect
	github.com/google/btree v1.1.3 // indirect
	github.com/google/gnostic-models v0.7.0 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/gregjones/httpcache v0.0.0-20190611155906-901d90724c79 // indirect
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.29.0 // indirect
	github.com/hashicorp/golang-lru v1.0.2 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jbenet/go-context v0.0.0-20150711004518-d14ea06fba99 // indirect
	github.com/josharian/intern v1.0.0 // indirect
	github.com/json-iterator/go v1.1.12 // indirect
	github.com/kelseyhightower/envconfig v1.4.0 // indirect
	github.com/kevinburke/ssh_config v1.2.0 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
	github.com/liggitt/tabwriter v0.0.0-20181228230101-89fcab3d43de // indirect
	github.com/mailru/easyjson v0.9.0 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/mitchellh/go-homedir v1.1.0 // indirect
	github.com/moby/term v0.5.0 // indirect
	github.com/modern-go/concurrent v0.0.0-20180306012644-bacd9c7ef1dd // indirect
	github.com/modern-go/reflect2 v1.0.3-0.20250322232337-35a7c28c31ee // indirect
	github.com/monochromegane/go-gitignore v0.0.0-20200626010858-205db1a8cc00 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/peterbourgon/diskv v2.0.1+incompatible // indirect
	github.com/pjbgf/sha1cd v0.7.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/pmezard/go-difflib v1.0.1-0.20181226105442-5d4384ee4fb2 // indirect
	github.com/prometheus/client_model v0.6.2 // indirect
	github.com/prometheus/common v0.70.1 // indirect
	github.com/prometheus/procfs v0.21.1 // indirect
	github.com/rickb777/plural v1.2.1 // indirect
	github.com/robfig/cron/v3 v3.0.1 // indirect
	github.com/sergi/go-diff v1.3.2-0.20230802210424-5b0b94c5c0d3 // indirect
	github.com/sirupsen/logrus v1.9.4 // indirect
	github.com/skeema/knownhosts v1.3.1 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	github.com/vbatts/tar-split v0.11.6 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	github.com/xanzy/ssh-agent v0.3.3 // indirect
	github.com/xlab/treeprint v1.2.0 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp v0.64.0 // indirect
	go.opentelemetry.io/otel/exporters/otlp/otlptrace v1.45.0 // indirect
	go.opentelemetry.io/proto/otlp v1.11.0 // indirect
	go.uber.org/atomic v1.10.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.yaml.in/yaml/v2 v2.4.4 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/time v0.16.0 // indirect
	gomodules.xyz/jsonpatch/v2 v2.5.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20260803160001-6ac0973c030d // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260803160001-6ac0973c030d // indirect
	google.golang.org/grpc v1.83.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	gopkg.in/evanphx/json-patch.v4 v4.12.0 // indirect
	gopkg.in/inf.v0 v0.9.1 // indirect
	gopkg.in/warnings.v0 v0.1.2 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
	gotest.tools/v3 v3.5.2 // indirect
	k8s.io/component-base v0.34.4 // indirect
	k8s.io/kube-openapi v0.0.0-20250710124328-f3f2b991d03b // indirect
	k8s.io/utils v0.0.0-20250604170112-4c0f3b243397 // indirect
	knative.dev/networking v0.0.0-20260120131110-a7cdca238a0d // indirect
	sigs.k8s.io/randfill v1.0.0 // indirect
	sigs.k8s.io/structured-merge-diff/v6 v6.3.0 // indirect
)
