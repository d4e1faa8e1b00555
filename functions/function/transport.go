package function

import "net/http"

// Transport returns a transport for HTTP that keeps idle connections of a burst. Go's default keeps two for each host,
// but a function calls few hosts, the Broker's for example with a hundred events at a time.
func Transport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns
	return transport
}
