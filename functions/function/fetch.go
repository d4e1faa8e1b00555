package function

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Fetch makes a request, identified by a bearer token, and returns
// the answer's content, status and header, whatever that is. It reads one byte more than
// maxBytes, so that the caller can tell that there is more.
func Fetch(ctx context.Context, client *http.Client, method, address string, body []byte, bearer string, maxBytes int64) (content []byte, status int, header http.Header, err error) {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, 0, nil, fmt.Errorf("making a request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(bearer))
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("making a request: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err = io.ReadAll(io.LimitReader(response.Body, maxBytes+1))
	if err != nil {
		return nil, 0, nil, fmt.Errorf("reading the answer: %w", err)
	}
	return content, response.StatusCode, response.Header, nil
}
