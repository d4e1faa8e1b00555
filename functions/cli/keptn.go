package cli

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/job-executor/job-executor/functions/keptn/api"
)

// The variables of Keptn's own documentation for its command line.
const (
	endpointVariable = "KEPTN_ENDPOINT"
	tokenVariable    = "KEPTN_API_TOKEN" //nolint:gosec // the name of a variable
)

// keptnFlags are the caller's access to Keptn. The token comes from the environment, because other users of the machine can list
// flags.
type keptnFlags struct{ endpoint string }

func (k *keptnFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&k.endpoint, "keptn-endpoint", "", "Keptn's API, such as https://keptn.example.com/api; default "+endpointVariable+". The token comes from "+tokenVariable)
}

// keptnTimeout bounds a request to Keptn.
const keptnTimeout = 30 * time.Second

var errNoKeptn = errors.New("set " + endpointVariable + " and " + tokenVariable + " to Keptn's API and your token, as for keptn auth")

// keptnClient returns a client of Keptn. It returns errNoKeptn if the caller sets no address or token.
func (c *commander) keptnClient() (*api.Client, error) {
	endpoint, token := c.keptn.endpoint, c.Getenv(tokenVariable)
	if endpoint == "" {
		endpoint = c.Getenv(endpointVariable)
	}
	if endpoint == "" || token == "" {
		return nil, errNoKeptn
	}
	endpoint = strings.TrimSuffix(endpoint, "/")
	if !strings.HasSuffix(endpoint, "/api") {
		endpoint += "/api"
	}
	return &api.Client{
		Endpoints: api.GatewayEndpoints(endpoint), HTTP: api.NewHTTPClient(c.Transport, keptnTimeout), Source: "job-executor-cli",
		Token: func() string { return token },
	}, nil
}
