package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"strings"
)

// minBytes is the length of the shortest redacted value: shorter ones are part of
// ordinary text.
const minBytes = 6

// forms returns the texts by which a value may appear in a log: itself, its lines, and each of
// them in the encodings of base64, URLs, JSON, shells and XML. Programs print Secrets in these
// forms by accident; someone who wants to print one in disguise can always do so.
func forms(value string) []string {
	var found []string
	add := func(text string) {
		if text = strings.TrimSpace(text); len(text) >= minBytes {
			found = append(found, text)
		}
	}
	for _, part := range append([]string{value, Clean(value)}, strings.Split(value, "\n")...) {
		part = strings.TrimSpace(part)
		if len(part) < minBytes {
			continue
		}
		add(part)
		for _, encoded := range percentEncoded(part) {
			add(encoded)
		}
		for _, encoded := range jsonEscaped(part) {
			add(encoded)
		}
		add(strings.ReplaceAll(part, `'`, `'\''`))
		add(strings.ReplaceAll(part, `'`, `'"'"'`))
		add(html.EscapeString(part))
		for _, encoded := range base64Encoded(part) {
			add(encoded)
		}
	}
	for _, encoded := range base64Encoded(value) {
		add(encoded)
	}
	return found
}

// percentEncoded returns a value as parts of URLs, in upper and lower case.
func percentEncoded(value string) []string {
	query := url.QueryEscape(value)
	encoded := []string{query, strings.ReplaceAll(query, "+", "%20"), url.PathEscape(value), url.UserPassword("", value).String()[1:]}
	for _, text := range encoded {
		encoded = append(encoded, lowerEscapes(text))
	}
	return encoded
}

// lowerEscapes writes the digits of percent-encoded bytes in lower case.
func lowerEscapes(text string) string {
	lower := []byte(text)
	const escaped = 2
	for index := range lower {
		if lower[index] == '%' && index+escaped < len(lower) {
			copy(lower[index:], bytes.ToLower(lower[index:index+escaped+1]))
		}
	}
	return string(lower)
}

// jsonEscaped returns a value as text in JSON, as Go, Java and JavaScript write it, and as such
// text in JSON once more.
func jsonEscaped(value string) []string {
	inner := func(text string, escapeHTML bool) string {
		var encoded strings.Builder
		encoder := json.NewEncoder(&encoded)
		encoder.SetEscapeHTML(escapeHTML)
		_ = encoder.Encode(text) // text always encodes
		quoted := strings.TrimSuffix(encoded.String(), "\n")
		return quoted[1 : len(quoted)-1]
	}
	plain := inner(value, false)
	encoded := []string{plain, inner(value, true), strings.ReplaceAll(plain, "/", `\/`)}
	for _, text := range encoded {
		encoded = append(encoded, inner(text, false), inner(text, true))
	}
	return encoded
}

// base64Encoded returns what is certain to appear of a value in base64, wherever the value
// begins in the encoded text, with both alphabets; long ones also line by line, as tools wrap
// them.
func base64Encoded(value string) []string {
	var encoded []string
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		encoded = append(encoded, encoding.EncodeToString([]byte(value)))
		const group = 3
		for before := range group {
			text := encoding.EncodeToString(append(make([]byte, before), value...))
			// The first characters depend on what comes before the value, and the last on
			// what follows it.
			first := (before*8 + 5) / 6
			last := (before + len(value)) * 8 / 6
			if first < last {
				encoded = append(encoded, text[first:last])
			}
		}
	}
	for _, width := range []int{76, 64} { // base64 and openssl
		for text := encoded[0]; len(text) > width; text = text[width:] {
			encoded = append(encoded, text[:width])
		}
		if rest := len(encoded[0]) % width; len(encoded[0]) > width && rest > 0 {
			encoded = append(encoded, encoded[0][len(encoded[0])-rest:])
		}
	}
	return encoded
}
