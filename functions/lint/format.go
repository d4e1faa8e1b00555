package lint

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// formats are the output formats by name.
var formats = map[string]func(io.Writer, []Finding) error{
	"text": writeText, "json": writeJSON, "github": writeGitHub, "sarif": writeSARIF,
}

func writeText(writer io.Writer, findings []Finding) error {
	for _, finding := range findings {
		severity := ""
		if finding.Severity == Warning {
			severity = "warning: "
		}
		if _, err := fmt.Fprintf(writer, "%s:%d:%d: %s%s\n", finding.File, finding.Line, finding.Column, severity, finding.Message); err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(writer io.Writer, findings []Finding) error {
	if findings == nil {
		findings = []Finding{}
	}
	return encode(writer, findings)
}

func encode(writer io.Writer, value any) error {
	encoder := json.NewEncoder(writer)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// escaped escapes text for a workflow command of GitHub. In a property, comma and colon are special, too.
func escaped(text string, isProperty bool) string {
	pairs := []string{"%", "%25", "\r", "%0D", "\n", "%0A"}
	if isProperty {
		pairs = append(pairs, ":", "%3A", ",", "%2C")
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// writeGitHub writes workflow commands, which GitHub shows next to the lines.
func writeGitHub(writer io.Writer, findings []Finding) error {
	for _, finding := range findings {
		if _, err := fmt.Fprintf(writer, "::%s file=%s,line=%d,col=%d::%s\n", finding.Severity,
			escaped(finding.File, true), finding.Line, finding.Column, escaped(finding.Message, false)); err != nil {
			return err
		}
	}
	return nil
}

// uriOf returns a file's name as a URI reference (RFC 3986), relative to the working directory if
// the file is below it.
func uriOf(name string) string {
	if name == stdin {
		return "stdin"
	}
	if filepath.IsAbs(name) {
		directory, err := os.Getwd()
		relative, relErr := filepath.Rel(directory, name)
		if err != nil || relErr != nil || !filepath.IsLocal(relative) {
			return (&url.URL{Scheme: "file", Path: filepath.ToSlash(name)}).String()
		}
		name = relative
	}
	return (&url.URL{Path: filepath.ToSlash(name)}).String()
}

// writeSARIF writes the Static Analysis Results Interchange Format, version 2.1.0.
func writeSARIF(writer io.Writer, findings []Finding) error {
	type text struct {
		Text string `json:"text"`
	}
	type region struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
	type artifact struct {
		URI string `json:"uri"`
	}
	type physical struct {
		ArtifactLocation artifact `json:"artifactLocation"`
		Region           region   `json:"region"`
	}
	type location struct {
		PhysicalLocation physical `json:"physicalLocation"`
	}
	type result struct {
		RuleID    string     `json:"ruleId"`
		Level     Severity   `json:"level"`
		Message   text       `json:"message"`
		Locations []location `json:"locations"`
	}
	results := []result{}
	for _, finding := range findings {
		results = append(results, result{
			RuleID: "job-config", Level: finding.Severity, Message: text{finding.Message},
			Locations: []location{{physical{artifact{uriOf(finding.File)}, region{finding.Line, finding.Column}}}},
		})
	}
	return encode(writer, map[string]any{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []any{map[string]any{
			"tool": map[string]any{"driver": map[string]any{
				"name": tool, "rules": []any{map[string]any{"id": "job-config", "shortDescription": text{"job/config.yaml is valid"}}},
			}},
			"results": results,
		}},
	})
}
